"""The logistic function and the softmax. Both return the precision of their input."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.floating[Any])


def sigmoid(x: NDArray[Number]) -> NDArray[Number]:
    """The logistic function, of any shape; it never overflows."""
    found: NDArray[Any] = np.tanh(x * 0.5)
    found *= 0.5
    found += 0.5
    return found


def softmax(x: NDArray[Number]) -> NDArray[Number]:
    """Along the last axis: shares that sum to 1."""
    powers: NDArray[Any] = np.exp(x - x.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def normalised(forget: NDArray[Number], taken: NDArray[Number]) -> tuple[NDArray[Number], NDArray[Number]]:
    """A minLSTM's two gates from the sums of their sigmoids: f / (f + i) and i / (f + i). They are computed by the
    logarithms of both: far below 0 both sigmoids would be 0 and their quotient nothing."""
    apart: NDArray[Any] = np.logaddexp(0, -taken) - np.logaddexp(0, -forget)  # ln f - ln i
    return sigmoid(apart), sigmoid(-apart)
