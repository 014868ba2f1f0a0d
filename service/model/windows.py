"""A window of words: the first recurrent layer of a minimal cell may read several words' vectors at each step.

The gates of a minimal cell see one input alone. With a window of n words that input is the vectors of n neighbouring
words, one behind the other: ``x_t = [e_{t-2}, e_{t-1}, e_t]`` for a model that reads forward, which so needs no later
word, and ``x_t = [e_{t-1}, e_t, e_{t+1}]`` for one that reads in both directions. Before the first word and after the
last one the vectors are zero. A window is a convolution of that width whose weights are the cell's own W.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.model.equations import Direction

MAX_WORDS = 9
"""Words of the widest window."""

_Number = TypeVar("_Number", bound=np.floating)


def reach(words: int, directions: Sequence[Direction]) -> tuple[int, int]:
    """The number of words that a window holds before its own word, and after it."""
    after = (words - 1) // 2 if "backward" in directions else 0
    return words - 1 - after, after


def widen(vectors: NDArray[_Number], before: int, after: int) -> NDArray[_Number]:
    """Vectors [time, …, numbers] → the windows around them [time, …, numbers of all words], from the first word on."""
    if not before and not after:
        return vectors
    time = len(vectors)
    edges = [(before, after), *[(0, 0)] * (vectors.ndim - 1)]
    padded = np.pad(vectors, edges)
    return np.concatenate([padded[at : at + time] for at in range(before + 1 + after)], axis=-1)


def definition(before: int, after: int) -> str:
    """The definition of x_t in the first layer, for its printed equations: ``x_t = [e_{t-1}, e_t, e_{t+1}]``."""
    steps = (f"{{t{offset:+d}}}" if offset else "t" for offset in range(-before, after + 1))
    return f"x_t = [{', '.join(f'e_{step}' for step in steps)}]"
