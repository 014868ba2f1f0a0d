"""A classifier's pooling over all states so far, as a running statistic: one row of numbers for each stream.

Shapes: states [rows, units], statistics float64 [rows, size]. Statistics are zeros before a text's first state.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Array = NDArray[np.float32]


class Pool(Protocol):
    """A kind of pooling."""

    size: int
    """Numbers kept for a text."""

    def add(self, states: Array, statistics: Floats) -> Array:
        """Add one state to each row. Updates the statistics, and returns the pooled vector so far [rows, units]."""
        ...


class Last:
    """The newest state."""

    size = 0

    def add(self, states: Array, statistics: Floats) -> Array:
        return states


class Mean:
    """Keeps the number of states and their sum."""

    def __init__(self, units: int) -> None:
        self.size = 1 + units

    def add(self, states: Array, statistics: Floats) -> Array:
        statistics[:, 0] += 1
        statistics[:, 1:] += states
        return (statistics[:, 1:] / statistics[:, :1]).astype(np.float32)


class Max:
    """Keeps a flag for a first state, and the largest."""

    def __init__(self, units: int) -> None:
        self.size = 1 + units

    def add(self, states: Array, statistics: Floats) -> Array:
        largest = np.where(statistics[:, :1] > 0, np.maximum(statistics[:, 1:], states), states)
        statistics[:, 0], statistics[:, 1:] = 1, largest
        return largest.astype(np.float32)


class Attention:
    """The mean of the states, weighted by the softmax of their products with a query. Keeps the largest product, the
    sum of the weights relative to it, and the weighted sum of the states."""

    def __init__(self, query: Array) -> None:
        self._query = query
        self.size = 2 + len(query)

    def add(self, states: Array, statistics: Floats) -> Array:
        if len(states) == 1:
            return self._add_one(states[0], statistics[0])[None]
        products = (states @ self._query).astype(np.float64)
        largest = np.where(statistics[:, 1] > 0, np.maximum(statistics[:, 0], products), products)
        kept = np.exp(np.minimum(statistics[:, 0] - largest, 0))  # before the first state it multiplies a sum of 0
        weight = np.exp(products - largest)
        statistics[:, 0] = largest
        statistics[:, 1] = statistics[:, 1] * kept + weight
        weighted = states.astype(np.float64)  # a product of mixed types takes half as long again
        weighted *= weight[:, None]
        sums = statistics[:, 2:]
        sums *= kept[:, None]
        sums += weighted
        return (sums / statistics[:, 1:2]).astype(np.float32)

    def _add_one(self, state: Array, statistics: Floats) -> Array:
        # Plain Python: for one stream an array's overhead is many times the arithmetic.
        product, (largest, total) = float(state.dot(self._query)), statistics[:2].tolist()
        new = max(largest, product) if total > 0 else product
        kept, weight = math.exp(min(largest - new, 0.0)), math.exp(product - new)
        total = total * kept + weight
        statistics[:2] = new, total
        sums = statistics[2:]
        if kept != 1.0:
            sums *= kept
        sums += np.multiply(state, weight, dtype=np.float64)
        mean: Array = (sums / total).astype(np.float32)
        return mean


def pool(head: str, units: int, query: Array | None) -> Pool:
    """The pooling of a head. A tagger's head uses each token's own state."""
    if head == "attention":
        assert query is not None
        return Attention(query)
    if head == "mean":
        return Mean(units)
    return Max(units) if head == "max" else Last()
