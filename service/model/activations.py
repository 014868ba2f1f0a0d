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
