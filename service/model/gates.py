"""Gate activations: those that a request asks for, cut out of a trace, and reduced if it wants summaries.

Row t of every array belongs to token t, in both directions. Arrays are views, not copies, if possible.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import FieldProblem, InvalidField
from service.model.bundle import Manifest
from service.model.engine import GateKey
from service.model.equations import Direction, gate_names, keeper
from service.model.unit_statistics import ABOVE, BELOW, horizon, kept, of_gate

Reduce = Literal["none", "summary"]

STATISTICS = ("mean", "std", "below", "above")
"""A summary's numbers: mean and population standard deviation, the shares under `BELOW` and over `ABOVE`."""
HORIZON = "horizon"
UNIT_STATISTICS = 4
"""Numbers that `service.model.unit_statistics.of_gate` has of one unit of one gate, at most."""

_NOT_FINITE = "a traced number is not finite"
_Item = TypeVar("_Item", str, int)


@dataclass(frozen=True, slots=True)
class Selection:
    """A choice of a model's activations: all that lie in every one of the four lists.

    `gates` and `units` keep the order asked for; layers ascend and forward comes before backward.
    """

    gates: tuple[str, ...]
    layers: tuple[int, ...]
    directions: tuple[Direction, ...]
    units: Sequence[int]
    reduce: Reduce
    statistics: bool = False

    @property
    def columns(self) -> slice | list[int]:
        """The units as an index of an array's columns."""
        return slice(self.units.start, self.units.stop) if isinstance(self.units, range) else list(self.units)

    def numbers(self, tokens: int, inputs: int = 1) -> int:
        """The number of numbers in a trace of `tokens` tokens in `inputs` inputs."""
        per_token = len(STATISTICS) if self.reduce == "summary" else len(self.units)
        per_input = len(self.units) * (len(self.gates) * UNIT_STATISTICS + 1) if self.statistics else 0
        sides = len(self.layers) * len(self.directions)
        return sides * (tokens * len(self.gates) * per_token + inputs * per_input)


NO_GATES = Selection((), (), (), (), "none")


@dataclass(frozen=True, slots=True)
class LayerGates:
    """One direction of one layer, for one input.

    `gates` holds by gate name a float32 array [tokens, units], or, reduced, the `STATISTICS` by name, each [tokens].
    `statistics`, if asked for, holds those of each selected unit over the text, float32 [units], by names such as
    ``forget.mean``, and `HORIZON` if the cell has a gate that keeps.
    """

    layer: int
    direction: Direction
    gates: dict[str, NDArray[np.float32]] | dict[str, dict[str, NDArray[np.float32]]]
    statistics: dict[str, NDArray[np.float32]] | None = None

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """All arrays by flat names: ``forget``, or, reduced, ``forget.mean``, ``forget.std``, …"""
        flat = {}
        for gate, value in self.gates.items():
            if isinstance(value, dict):
                flat.update({f"{gate}.{statistic}": array for statistic, array in value.items()})
            else:
                flat[gate] = value
        return flat


def select(
    manifest: Manifest,
    gates: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    directions: Sequence[str] | None = None,
    units: Sequence[int] | None = None,
    reduce: Reduce = "none",
    statistics: bool = False,
) -> Selection:
    """Resolve a request's lists against a model; None means all.

    Raises `InvalidField`, with the first problem of each list: an empty list, an item twice, one that is not there.
    """
    names = gate_names(manifest.cell)
    problems = [
        *_name_problem("gates", gates, names, f"{manifest.cell} has no gate"),
        *number_problem("/layers", "layer", layers, manifest.layers),
        *_name_problem("directions", directions, manifest.directions, "the model has no direction"),
        *number_problem("/units", "unit", units, manifest.hidden),
    ]
    if problems:
        raise InvalidField(problems[0].pointer, problems[0].detail, *problems[1:])
    return Selection(
        gates=names if gates is None else tuple(gates),
        layers=tuple(range(manifest.layers)) if layers is None else tuple(sorted(layers)),
        directions=tuple(name for name in manifest.directions if directions is None or name in directions),
        units=range(manifest.hidden) if units is None else _as_range(units),
        reduce=reduce,
        statistics=statistics,
    )


def extract(manifest: Manifest, gates: Mapping[GateKey, NDArray[np.float32]], selection: Selection) -> list[LayerGates]:
    """The selected ones of all gates of one input, layer by layer, forward before backward."""
    columns = selection.columns
    rule = keeper(manifest.cell)
    found = []
    for layer in selection.layers:
        for direction in selection.directions:
            arrays = {gate: gates[layer, direction, gate][:, columns] for gate in selection.gates}
            statistics = None
            if selection.statistics:
                keeping = gates[layer, direction, rule.gate][:, columns] if rule is not None else None
                statistics = _of_units(manifest, arrays, keeping)
            summary = selection.reduce == "summary"
            shown = {gate: summarise(array) for gate, array in arrays.items()} if summary else arrays
            found.append(LayerGates(layer, direction, shown, statistics))
    return found


def _of_units(
    manifest: Manifest, arrays: dict[str, NDArray[np.float32]], keeping: NDArray[np.float32] | None
) -> dict[str, NDArray[np.float32]]:
    """The statistics of each unit over a text; `keeping` holds the activations of the cell's keeper."""
    found = {
        f"{gate}.{name}": value
        for gate, array in arrays.items()
        for name, value in of_gate(manifest.cell, gate, array).items()
    }
    if keeping is not None:
        found[HORIZON] = horizon(kept(manifest.cell, keeping)).astype(np.float32)
    return found


def summarise(activations: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The `STATISTICS` of each row of [tokens, units], summed in float64: float32 arrays [tokens]."""
    units = activations.shape[1]
    below, above = (activations < BELOW).sum(axis=1) / units, (activations > ABOVE).sum(axis=1) / units
    centred = activations.astype(np.float64)
    mean = centred.sum(axis=1) / units
    centred -= mean[:, None]
    std = np.sqrt(np.einsum("tu,tu->t", centred, centred) / units)
    return {name: value.astype(np.float32) for name, value in zip(STATISTICS, (mean, std, below, above), strict=True)}


def rounded(values: NDArray[np.float32], decimals: int | None) -> NDArray[np.floating]:
    """Values for printing, C-contiguous; not rounded for None.

    They are rounded in float64, because 0.91 in float32 would be printed as 0.9100000262. Raises `ValueError` for a
    value that is not finite.
    """
    if decimals is None:
        check_finite(values)
        return np.ascontiguousarray(values)
    shown = values.astype(np.float64, order="C")
    round_in_place(shown, decimals)
    return shown


def round_in_place(values: NDArray[np.float64], decimals: int) -> None:
    """Round values that were float32, as `np.round` does but with half of its overhead. -0.0 becomes 0.0.

    Raises `ValueError` for a value that is not finite.
    """
    if not math.isfinite(np.vdot(values, values)):  # float32's squares do not overflow
        raise ValueError(_NOT_FINITE)
    power = np.float64(10**decimals)
    values *= power
    np.rint(values, values)
    values /= power
    values += 0.0


def check_finite(*arrays: NDArray[np.floating]) -> None:
    """Raises `ValueError` for a number that is not finite. JSON has no NaN, and the serialiser would write null."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(_NOT_FINITE)


def _as_range(units: Sequence[int]) -> Sequence[int]:
    """Units in a row as a range, which is cut as a view; others as a tuple."""
    run = range(units[0], units[0] + len(units))
    return run if all(unit == expected for unit, expected in zip(units, run, strict=True)) else tuple(units)


def _name_problem(field: str, asked: Sequence[str] | None, known: Sequence[str], missing: str) -> list[FieldProblem]:
    there = f"it has {', '.join(known)}"
    return _problem(f"/{field}", asked, known, lambda name: f"{missing} {name!r}; {there}.", there)


def number_problem(pointer: str, noun: str, asked: Sequence[int] | None, count: int | None) -> list[FieldProblem]:
    """The first thing wrong with a list of numbers, if any; `count` None for a text, whose length is not known yet."""
    there = f"{noun}s count from 0" if count is None else f"the model has {numbered(noun, count)}"
    known = range(sys.maxsize if count is None else count)
    return _problem(pointer, asked, known, lambda number: f"{noun} {number} is out of range: {there}.", there)


def numbered(noun: str, count: int) -> str:
    """``tokens 0 to 6``, or ``token 0 alone``."""
    return f"{noun}s 0 to {count - 1}" if count > 1 else f"{noun} 0 alone"


def _problem(
    pointer: str, asked: Sequence[_Item] | None, known: Sequence[_Item], missing: Callable[[_Item], str], there: str
) -> list[FieldProblem]:
    """The first thing wrong with a list, if any; one a field keeps the answer small, however long the list."""
    if asked is None:
        return []
    if not asked:
        return [FieldProblem(pointer, f"the list is empty; leave it out for all: {there}.")]
    seen: set[_Item] = set()
    for position, item in enumerate(asked):
        if item not in known:
            return [FieldProblem(f"{pointer}/{position}", missing(item))]
        if item in seen:
            return [FieldProblem(f"{pointer}/{position}", f"{item!r} is asked for twice.")]
        seen.add(item)
    return []
