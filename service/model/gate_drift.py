"""How a model's gates do over many texts: distributions that add up, and how far two of them are apart.

An observation is one unit over one text: its mean activation, its saturation, its horizon. Training stores their
distributions over its dev set in the bundle; the service keeps the same of the texts it samples from its traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import GateStatistics
from service.model.equations import CellName, Direction, keeper
from service.model.unit_statistics import horizon, kept, saturates, saturation

What = Literal["activation", "below", "above", "horizon"]
Key = tuple[int, Direction, str, What]
"""(layer, direction, gate, observed quantity)."""

_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
BOUNDS: dict[What, tuple[float, ...]] = {
    "activation": (-2.0, -1.0, -0.8, -0.6, -0.4, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0),
    "below": _SHARES,
    "above": _SHARES,
    "horizon": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0),
}
"""Upper bounds of the bins, each inclusive; one more bin, without bound, follows."""
ENOUGH_TEXTS = 30
"""Texts under which a drift says more of the few texts than of the model."""
_PRIOR = 0.5
"""Added to each bin before two distributions are compared: an empty bin must not make them infinitely far apart."""


@dataclass(slots=True)
class Counts:
    """A distribution: how many observations fell into each bin [bounds + 1], and their sum."""

    bins: NDArray[np.float64]
    sum: float = 0.0

    @property
    def mean(self) -> float | None:
        """The mean of all observations; None while there is none."""
        number = float(self.bins.sum())
        return self.sum / number if number else None


@dataclass(slots=True)
class Tally:
    """The distributions of everything that is observed, and over how many texts and tokens."""

    texts: int = 0
    tokens: int = 0
    counts: dict[Key, Counts] = field(default_factory=dict)

    def add(self, other: Mapping[Key, Counts], tokens: int) -> None:
        """Add one text's observations."""
        self.texts += 1
        self.tokens += tokens
        for key, counts in other.items():
            mine = self.counts.setdefault(key, Counts(np.zeros_like(counts.bins)))
            mine.bins += counts.bins
            mine.sum += counts.sum


def observe(cell: CellName, gates: Mapping[tuple[int, Direction, str], NDArray[np.float32]]) -> dict[Key, Counts]:
    """One text's observations, from every gate's activations [tokens, units] by (layer, direction, gate)."""
    rule = keeper(cell)
    found: dict[Key, Counts] = {}
    for (layer, direction, gate), array in gates.items():
        found[layer, direction, gate, "activation"] = _counts("activation", array.mean(axis=0, dtype=np.float64))
        if saturates(cell, gate):
            below, above = saturation(array)
            found[layer, direction, gate, "below"] = _counts("below", below)
            found[layer, direction, gate, "above"] = _counts("above", above)
        if rule is not None and gate == rule.gate:
            found[layer, direction, gate, "horizon"] = _counts("horizon", horizon(kept(cell, array)))
    return found


def _counts(what: What, values: NDArray[np.float64]) -> Counts:
    bounds = BOUNDS[what]
    bins = np.bincount(np.searchsorted(bounds, values, side="left"), minlength=len(bounds) + 1)
    return Counts(bins.astype(np.float64), float(values.sum()))


def drift(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """The population stability index of two distributions over the same bins: ``sum (p - q) ln (p / q)``.

    It is 0 for equal ones; by custom (Siddiqi 2006, Credit Risk Scorecards) under 0.1 nothing has changed, and over
    0.25 something has.
    """
    p, q = ((bins + _PRIOR) / (bins + _PRIOR).sum() for bins in (before, now))
    return float(((p - q) * np.log(p / q)).sum())


def restored(statistics: GateStatistics) -> Tally:
    """A tally from its form in a manifest."""
    counts = {
        (each.layer, each.direction, each.gate, what): Counts(np.array(spread.counts, np.float64), spread.sum)
        for each in statistics.gates
        for what in BOUNDS
        if (spread := getattr(each, what)) is not None and len(spread.counts) == len(BOUNDS[what]) + 1
    }
    return Tally(statistics.texts, statistics.tokens, counts)


def figures(tally: Tally) -> dict[str, Any]:
    """A tally for people: the means of the observed values, for each gate of each layer."""
    gates: dict[tuple[int, Direction, str], dict[str, object]] = {}
    for (layer, direction, gate, what), counts in tally.counts.items():
        mine = gates.setdefault((layer, direction, gate), {"layer": layer, "direction": direction, "gate": gate})
        mine[what] = counts.mean
    return {"texts": tally.texts, "tokens": tally.tokens, "gates": list(gates.values())}


def drifts(before: Tally, now: Tally) -> dict[tuple[int, Direction, str], float]:
    """The distance of each gate's activations from the earlier ones; empty while too few texts have been seen."""
    if min(before.texts, now.texts) < ENOUGH_TEXTS:
        return {}
    shared: Iterable[Key] = (key for key in before.counts if key in now.counts and key[3] == "activation")
    return {(key[0], key[1], key[2]): drift(before.counts[key].bins, now.counts[key].bins) for key in shared}
