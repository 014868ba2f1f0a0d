"""A model's head over all states so far: a pooling, as a running statistic of each stream, and the linear layer.

Shapes: states [rows, units], statistics float64 [rows, size], logits [rows][labels]. A mean of
states has the mean of their logits, so its statistics are sums of logits and not of states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Array = NDArray[np.float32]
Logits = list[list[float]]


class Last:
    """The newest state. The other heads keep more."""

    start: Sequence[float] = ()
    """The statistics before a text's first state."""

    def __init__(self, weight: Array, bias: Array) -> None:
        """`weight` [labels, units], `bias` [labels]."""
        self._weight_t, self._bias = np.ascontiguousarray(weight.T), bias

    def add(self, states: Array, statistics: Floats) -> Logits:
        """Add one state to each row. Updates the statistics, and returns the logits of the text so far."""
        found: Logits = (states.dot(self._weight_t) + self._bias).tolist()
        return found


class Mean(Last):
    """Keeps the number of states and the sum of their logits."""

    def __init__(self, weight: Array, bias: Array) -> None:
        super().__init__(weight, bias)
        self.start = [0.0] * (1 + len(bias))

    def add(self, states: Array, statistics: Floats) -> Logits:
        statistics[:, 0] += 1
        statistics[:, 1:] += states.dot(self._weight_t)
        found: Logits = (statistics[:, 1:] / statistics[:, :1] + self._bias).tolist()
        return found


class Max(Last):
    """Keeps the largest state."""

    def __init__(self, weight: Array, bias: Array) -> None:
        super().__init__(weight, bias)
        self.start = [-math.inf] * weight.shape[1]

    def add(self, states: Array, statistics: Floats) -> Logits:
        np.maximum(statistics, states, out=statistics)
        return super().add(statistics.astype(np.float32), statistics)


class Attention(Last):
    """The mean of the states, weighted by the softmax of their products with a query. Keeps the largest product, the
    sum of the weights relative to it, and the weighted sum of the states' logits."""

    def __init__(self, weight: Array, bias: Array, query: Array) -> None:
        super().__init__(np.concatenate([query[None], weight]), bias)
        self._biases: list[float] = bias.tolist()
        self.start = [-math.inf, *[0.0] * (1 + len(bias))]

    def add(self, states: Array, statistics: Floats) -> Logits:
        both = states.dot(self._weight_t)  # the product with the query, and the logits
        if len(states) == 1:
            return [self._add_one(both[0].tolist(), statistics[0])]
        products, before = both[:, 0].astype(np.float64), statistics[:, 0]
        largest = np.maximum(before, products)
        both[:, 0] = 1
        sums = statistics[:, 1:] * np.exp(before - largest)[:, None]
        sums += np.exp(products - largest)[:, None] * both
        statistics[:, 0], statistics[:, 1:] = largest, sums
        found: Logits = (sums[:, 1:] / sums[:, :1] + self._bias).tolist()
        return found

    def _add_one(self, both: list[float], statistics: Floats) -> list[float]:
        # Plain Python: for one stream an array's overhead is many times the arithmetic.
        before, total, *sums = statistics.tolist()
        product, *logits = both
        largest = max(before, product)
        kept, weight = math.exp(before - largest), math.exp(product - largest)
        total = total * kept + weight
        sums = [number * kept + weight * logit for number, logit in zip(sums, logits, strict=True)]
        statistics[:] = [largest, total, *sums]
        return [number / total + bias for number, bias in zip(sums, self._biases, strict=True)]


def pool(head: str, weight: Array, bias: Array, query: Array | None) -> Last:
    """The head of this name. A tagger's uses each token's own state."""
    if head == "attention":
        assert query is not None
        return Attention(weight, bias, query)
    if head == "mean":
        return Mean(weight, bias)
    return Max(weight, bias) if head == "max" else Last(weight, bias)
