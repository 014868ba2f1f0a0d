"""A unit over a text: its mean, its change from step to step, its share of saturated steps, its memory in steps.

Saturation is Karpathy, Johnson and Li's (2015, arXiv:1506.02078): the shares of time that a gate spends under 0.1 and
over 0.9. The horizon is the forgetting time of Tallec and Ollivier (2018, arXiv:1804.11188): a state that keeps the
factor k of itself at each step has decayed to 1/e after -1 / ln k steps. Over a text the product of the factors
counts, so ln k is the mean of their logarithms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.model.equations import CellName, gates, keeper

BELOW, ABOVE = 0.1, 0.9
"""A gate is saturated under the one and over the other."""
LONGEST = 1e6
"""The longest horizon, in steps. A unit with factors of 1 in float32 forgets nothing, and JSON has no infinity."""

Array = NDArray[np.float32]


def saturates(cell: CellName, gate: str) -> bool:
    """True if a gate lies in 0..1, so that it can be shut or open; states and candidates lie around 0."""
    return any(each.name == gate and each.low == 0.0 for each in gates(cell))


def saturation(activations: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shares of time of each unit of [tokens, units] under `BELOW` and over `ABOVE`: each [units]."""
    return (activations < BELOW).mean(axis=0), (activations > ABOVE).mean(axis=0)


def change(activations: Array) -> NDArray[np.float64]:
    """How much each unit of [tokens, units] moves from one token to the next, in the mean: [units]; 0 for one token."""
    if len(activations) < 2:
        return np.zeros(activations.shape[1])
    moves: NDArray[np.float64] = np.abs(np.diff(activations.astype(np.float64), axis=0)).mean(axis=0)
    return moves


def horizon(kept: Array) -> NDArray[np.float64]:
    """The horizon of each unit, in steps: [units], from 0 to `LONGEST`. `kept` [tokens, units] in 0..1 is the factor
    of its state that a unit keeps at each token."""
    with np.errstate(divide="ignore"):
        decay = -np.log(kept.astype(np.float64)).mean(axis=0)
        steps: NDArray[np.float64] = np.minimum(1 / np.maximum(decay, 1 / LONGEST), LONGEST)
    return steps


def kept(cell: CellName, activations: Array) -> Array:
    """From the activations of a cell's `keeper`, the factor of its state that each unit keeps."""
    rule = keeper(cell)
    assert rule is not None
    return 1 - activations if rule.complement else activations


def of_gate(cell: CellName, gate: str, activations: Array) -> dict[str, Array]:
    """The statistics of each unit of one gate, each float32 [units]: ``mean``, ``change`` and, for a gate in 0..1,
    ``below`` and ``above``. `activations` is [tokens, units], one row at least."""
    found = {"mean": activations.mean(axis=0, dtype=np.float64), "change": change(activations)}
    if saturates(cell, gate):
        found["below"], found["above"] = saturation(activations)
    return {name: value.astype(np.float32) for name, value in found.items()}
