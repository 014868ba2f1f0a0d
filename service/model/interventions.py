"""Interventions: a run in which chosen gates, states or units are set to values, at chosen tokens.

The cell's equations run step by step in float32, all rows of a batch and both directions of a layer together. A value
that is set stands in the trace as it was set, and everything after it follows from it. Without interventions nothing
of this module runs: the graphs answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from service.errors import FieldProblem, InvalidField
from service.model.activations import sigmoid
from service.model.bundle import Manifest
from service.model.engine import GateKey, Trace, pad, padded
from service.model.equations import CellName, Direction, Form, Gate, gates
from service.model.gates import number_problem, numbered
from service.model.network import Array, Layer, Network
from service.model.tokenizer import Encoded
from service.model.windows import widen

LARGEST_STATE = 1e6
"""The largest value, either way, of a state that has no range of its own: with it no product leaves float32."""
MAX_SETTINGS = 1_000
"""Entries of one request's `set`."""
_STATES = ("hidden", "cell")
Rows = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Setting:
    """One gate of one direction of one layer held at `value`. `units` and `tokens` None mean all."""

    layer: int
    direction: Direction
    gate: str
    value: float
    units: tuple[int, ...] | None = None
    tokens: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Interventions:
    """The changes that a request makes to its inputs' runs. Token numbers are those of the text as sent."""

    settings: tuple[Setting, ...] = ()
    dropped: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.settings or self.dropped)


# Checking a request


def check_settings(manifest: Manifest, settings: Sequence[Setting]) -> None:
    """Hold settings against a model. Raises `InvalidField`, with the first problem of each of the first few entries."""
    table = {gate.name: gate for gate in gates(manifest.cell, manifest.form)}
    problems: list[FieldProblem] = []
    for number, setting in enumerate(settings):
        problems += _problems(manifest, table, setting, f"/set/{number}")[:1]
        if len(problems) == _SHOWN:
            break
    if problems:
        raise InvalidField(problems[0].pointer, problems[0].detail, *problems[1:])


_SHOWN = 16
"""Wrong entries that one answer lists."""


def _problems(manifest: Manifest, table: Mapping[str, Gate], setting: Setting, entry: str) -> list[FieldProblem]:
    """The problems of one entry of `set`, at the JSON pointer `entry`."""
    found = []
    if not 0 <= setting.layer < manifest.layers:
        has = numbered("layer", manifest.layers)
        found.append(FieldProblem(f"{entry}/layer", f"layer {setting.layer} is out of range: the model has {has}."))
    if setting.direction not in manifest.directions:
        why = f"the model has no direction {setting.direction!r}; it has {', '.join(manifest.directions)}."
        found.append(FieldProblem(f"{entry}/direction", why))
    gate = table.get(setting.gate)
    if gate is None:
        why = f"{manifest.cell} has no gate {setting.gate!r}; it has {', '.join(table)}."
        found.append(FieldProblem(f"{entry}/gate", why))
    else:
        low, high = max(gate.low, -LARGEST_STATE), min(gate.high, LARGEST_STATE)
        if not low <= setting.value <= high:
            why = f"{_shown(setting.value)} is out of range: {gate.name} lies in {low:g} to {high:g}."
            found.append(FieldProblem(f"{entry}/value", why))
    found += number_problem(f"{entry}/units", "unit", setting.units, manifest.hidden)
    return found + number_problem(f"{entry}/tokens", "token", setting.tokens, None)


def _shown(value: float) -> str:
    """A number in few digits, or in all if few would be another number: 1.0000001 is not 1."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def check_tokens(interventions: Interventions, lengths: Sequence[int]) -> None:
    """Hold token numbers against the inputs' lengths. A number that one input has not is refused for all.

    Raises `InvalidField`: also for a setting at a token that is dropped, and for an input that keeps no token.
    """
    if wrong := number_problem("/drop", "token", interventions.dropped or None, None):
        raise InvalidField(wrong[0].pointer, wrong[0].detail)
    shortest = min(range(len(lengths)), key=lengths.__getitem__)
    _check_range("/drop", interventions.dropped, shortest, lengths[shortest])
    gone = set(interventions.dropped)
    if len(gone) >= lengths[shortest]:
        raise InvalidField("/drop", f"input {shortest} keeps no token: it has {lengths[shortest]}, all are dropped.")
    for number, setting in enumerate(interventions.settings):
        pointer = f"/set/{number}/tokens"
        _check_range(pointer, setting.tokens or (), shortest, lengths[shortest])
        for at, token in enumerate(setting.tokens or ()):
            if token in gone:
                raise InvalidField(f"{pointer}/{at}", f"token {token} is dropped: nothing of it can be set.")


def _check_range(pointer: str, numbers: Sequence[int], position: int, length: int) -> None:
    for at, number in enumerate(numbers):
        if number >= length:
            has = numbered("token", length)
            raise InvalidField(f"{pointer}/{at}", f"token {number} is out of range: input {position} has {has}.")


# Dropping tokens


def without(source: Encoded, dropped: Sequence[int]) -> tuple[Encoded, list[int]]:
    """An input without some of its tokens, and the numbers of those that are left.

    Spans stay those of the text as sent. Sentences keep their bounds; a sentence that loses all tokens is gone.
    """
    gone = set(dropped)
    kept = [number for number in range(len(source)) if number not in gone]
    spans = source.spans
    found = Encoded(source.text, [spans[number] for number in kept], source.rows[kept], source.truncated)
    if source.sentences is not None:
        places = np.searchsorted(kept, [edge for pair in source.sentences for edge in pair]).reshape(-1, 2).tolist()
        found.sentences = [(first, end) for first, end in places if first < end]
    return found, kept


def within(settings: Sequence[Setting], kept: Sequence[int]) -> tuple[Setting, ...]:
    """Settings for a row that holds the tokens `kept` alone, ascending: their tokens numbered as in that row.

    A setting that names only tokens outside of the row is left out.
    """
    places = {number: place for place, number in enumerate(kept)}
    found = []
    for setting in settings:
        if setting.tokens is None:
            found.append(setting)
        elif here := tuple(places[token] for token in setting.tokens if token in places):
            found.append(replace(setting, tokens=here))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Applied:
    """An input as it is run, without the dropped tokens. The settings and the explained token are numbered among the
    remaining tokens. `kept` has each token's number in the text as sent."""

    encoded: Encoded
    kept: Sequence[int]
    settings: tuple[Setting, ...]
    explain: int | None


def apply(source: Encoded, interventions: Interventions, explain: int | None = None) -> Applied:
    """Apply interventions that `check_tokens` has passed to one input. Raises `InvalidField` if `explain` is a dropped
    token."""
    if not interventions.dropped:
        return Applied(source, range(len(source)), interventions.settings, explain)
    if explain in interventions.dropped:
        raise InvalidField("/explain", f"token {explain} is dropped: it has no logits.")
    encoded, kept = without(source, interventions.dropped)
    place = None if explain is None else kept.index(explain)
    return Applied(encoded, kept, within(interventions.settings, kept), place)


def values_set(manifest: Manifest, settings: Sequence[Setting], length: int) -> dict[GateKey, NDArray[np.bool_]]:
    """The values of the top layer that are set, by (layer, direction, gate or state): [tokens, units]."""
    found: dict[GateKey, NDArray[np.bool_]] = {}
    for each in settings:
        if each.layer == manifest.layers - 1:
            key = (each.layer, each.direction, each.gate)
            mask = found.setdefault(key, np.zeros((length, manifest.hidden), np.bool_))
            tokens, units = each.tokens or range(length), each.units or range(manifest.hidden)
            mask[np.ix_(tokens, units)] = True
    return found


# The run


@dataclass(frozen=True, slots=True)
class _Reading:
    """A layer while it is read: the sums of its input, the settings, and the gates so far.

    `sums` are by part of the stack, `held` and `emitted` by gate, all [time, directions, batch, units] in reading
    order. `held` has NaN for a value that is not set.
    """

    layer: Layer
    recurrent: Array
    """R turned round: [directions, units, blocks * units]."""
    sums: Mapping[str, Array]
    held: Mapping[str, Array]
    emitted: Mapping[str, Array]

    def product(self, states: Array, *parts: str) -> dict[str, Array]:
        """R h of these neighbouring parts: each [directions, batch, units] of states of that shape."""
        order, units = list(self.sums), states.shape[-1]
        start, stop = order.index(parts[0]), order.index(parts[-1]) + 1
        found = np.matmul(states, self.recurrent[..., start * units : stop * units])
        return {part: found[..., at * units : (at + 1) * units] for at, part in enumerate(order[start:stop])}

    def settle(self, gate: str, step: int, values: Array) -> Array:
        """Record a gate's values at a step, after the settings have replaced some. Returns the recorded values."""
        kept: Array = self.emitted[gate][step]
        kept[:] = values
        if gate in self.held:
            values = self.held[gate][step]
            np.copyto(kept, values, where=~np.isnan(values))
        return kept


States = dict[str, Array]
_Step = Callable[[_Reading, int, States], None]


def _rnn(reading: _Reading, step: int, states: States) -> None:
    sums = reading.sums["hidden"][step] + reading.product(states["hidden"], "hidden")["hidden"]
    states["hidden"] = reading.settle("hidden", step, np.tanh(sums))


def _lstm(reading: _Reading, step: int, states: States) -> None:
    """With or without peepholes of either form: the output gate sees the new cell, the others see the old one."""
    products = reading.product(states["hidden"], "input", "output", "forget", "candidate")

    def sums(part: str, cell: Array) -> Array:
        total: Array = reading.sums[part][step] + products[part]
        peephole = reading.layer.peephole.get(part)
        if peephole is not None:
            total += peephole[:, None] * cell if peephole.ndim == 2 else np.matmul(cell, peephole.swapaxes(1, 2))
        return total

    before = states["cell"]
    f, i = (reading.settle(gate, step, sigmoid(sums(gate, before))) for gate in ("forget", "input"))
    candidate = reading.settle("candidate", step, np.tanh(sums("candidate", before)))
    states["cell"] = reading.settle("cell", step, f * before + i * candidate)
    o = reading.settle("output", step, sigmoid(sums("output", states["cell"])))
    states["hidden"] = reading.settle("hidden", step, o * np.tanh(states["cell"]))


def _gru(reading: _Reading, step: int, states: States, *, before: bool = False) -> None:
    """The stored part ``keep`` is 1 minus the update gate, so that the gate's sum is the negative of ``keep``'s."""
    h = states["hidden"]
    products = reading.product(h, "keep", "reset") if before else reading.product(h, "keep", "reset", "candidate")
    z = reading.settle("update", step, sigmoid(-(reading.sums["keep"][step] + products["keep"])))
    r = reading.settle("reset", step, sigmoid(reading.sums["reset"][step] + products["reset"]))
    if before:
        past = reading.product(r * h, "candidate")["candidate"]
    else:
        past = r * (products["candidate"] + reading.layer.second["candidate"][:, None])
    candidate = reading.settle("candidate", step, np.tanh(reading.sums["candidate"][step] + past))
    states["hidden"] = reading.settle("hidden", step, (1 - z) * h + z * candidate)


def _mingru(reading: _Reading, step: int, states: States) -> None:
    z = reading.settle("update", step, sigmoid(reading.sums["update"][step]))
    candidate = reading.settle("candidate", step, np.tanh(reading.sums["candidate"][step]))
    states["hidden"] = reading.settle("hidden", step, (1 - z) * states["hidden"] + z * candidate)


def _minlstm(reading: _Reading, step: int, states: States) -> None:
    """Both gates are normalised before either is set: the one that is not set stays as it was."""
    u_f, u_i = (1 + np.exp(-np.maximum(reading.sums[gate][step], _LEAST)) for gate in ("forget", "input"))
    f = reading.settle("forget", step, u_i / (u_f + u_i))
    i = reading.settle("input", step, u_f / (u_f + u_i))
    candidate = reading.settle("candidate", step, np.tanh(reading.sums["candidate"][step]))
    states["hidden"] = reading.settle("hidden", step, f * states["hidden"] + i * candidate)


_LEAST = np.float32(-80)
"""The least sum of a minLSTM's gate: two terms 1 + e^-x, which is 1 / sigmoid(x), add up within float32."""
_STEPS: Mapping[tuple[CellName, Form | None], _Step] = {
    ("rnn", None): _rnn,
    ("lstm", None): _lstm,
    ("peephole", "diagonal"): _lstm,
    ("peephole", "full"): _lstm,
    ("gru", "after"): _gru,
    ("gru", "before"): partial(_gru, before=True),
    ("mingru", None): _mingru,
    ("minlstm", None): _minlstm,
}


def run(network: Network, rows: Sequence[Rows], settings: Sequence[Sequence[Setting]]) -> Trace:
    """Run a batch: rows int32 [tokens, columns of all features], and each row's settings, by token numbers of the row.

    The result is as the trace graph's, float32, with the values that were set in place.
    """
    manifest = network.manifest
    tokens, lengths = pad(rows)
    time = tokens.shape[1]
    states = _inputs(network, tokens.transpose(1, 0, 2), lengths)
    turn = _turn(lengths, time) if len(manifest.directions) == 2 else None
    emitted: dict[tuple[int, str], Array] = {}
    for number in range(manifest.layers):
        held = _held(manifest, number, lengths, time, settings)
        found = _read(manifest, network.layer(number), states, turn, held)
        emitted |= {(number, gate): values for gate, values in found.items()}
        ways = [found["hidden"][:, way] for way in range(len(manifest.directions))]
        if turn is not None:
            ways[1] = np.take_along_axis(ways[1], turn, axis=0)
        states = np.concatenate(ways, axis=2)
    logits = [network.logits(states[:length, row]) for row, length in enumerate(lengths)]
    together = padded(logits) if manifest.head == "tagger" else np.stack(logits)
    return Trace(together, lengths, manifest.directions, emitted)


def _inputs(network: Network, tokens: NDArray[np.int32], lengths: NDArray[np.int32]) -> Array:
    """The first layer's inputs [time, batch, inputs] of tokens [time, batch, columns]."""
    time, batch = tokens.shape[:2]
    vectors = network.embed(tokens.reshape(time * batch, -1)).reshape(time, batch, -1)
    before, after = network.manifest.window
    if after:
        vectors[np.arange(time)[:, None] >= lengths] = 0
    return widen(vectors, before, after)


def _read(
    manifest: Manifest, layer: Layer, inputs: Array, turn: NDArray[np.intp] | None, held: Mapping[str, Array]
) -> dict[str, Array]:
    """Every gate of a layer [time, directions, batch, units] from its inputs [time, batch, inputs]."""
    time, batch, units = *inputs.shape[:2], manifest.hidden
    readers = [inputs] if turn is None else [inputs, np.take_along_axis(inputs, turn, axis=0)]
    shape = (time, len(readers), batch, units)
    sums = {}
    for part, w in layer.w.items():
        total = np.empty(shape, np.float32)
        for way, reader in enumerate(readers):
            product = reader.reshape(time * batch, -1) @ w[way].T
            total[:, way] = (product + layer.bias[part][way]).reshape(time, batch, units)
        sums[part] = total
    names = [gate.name for gate in gates(manifest.cell, manifest.form)]
    emitted = {name: np.empty(shape, np.float32) for name in names}
    reading = _Reading(layer, np.swapaxes(layer.r, 1, 2), sums, held, emitted)
    states: States = {name: np.zeros(shape[1:], np.float32) for name in _STATES if name in names}
    step = _STEPS[manifest.cell, manifest.form]
    for number in range(time):
        step(reading, number, states)
    return emitted


def _held(
    manifest: Manifest, layer: int, lengths: NDArray[np.int32], time: int, settings: Sequence[Sequence[Setting]]
) -> dict[str, Array]:
    """A layer's settings by gate, NaN where none is. The later of two settings of one value counts."""
    shape = (time, len(manifest.directions), len(lengths), manifest.hidden)
    found: dict[str, Array] = {}
    for row, (length, entries) in enumerate(zip(lengths.tolist(), settings, strict=True)):
        for entry in entries:
            if entry.layer != layer:
                continue
            if entry.gate not in found:
                found[entry.gate] = np.full(shape, np.nan, np.float32)
            places = np.arange(length) if entry.tokens is None else np.array(entry.tokens)
            if entry.direction == "backward":
                places = length - 1 - places  # in the order in which it reads
            units = np.arange(manifest.hidden) if entry.units is None else np.array(entry.units)
            at = (places[:, None], manifest.directions.index(entry.direction), row, units)
            found[entry.gate][at] = entry.value
    return found


def _turn(lengths: NDArray[np.int32], time: int) -> NDArray[np.intp]:
    """Positions [time, batch, 1] that turn each row round within its length and leave its padding in place."""
    steps = np.arange(time)[:, None]
    mirrored = lengths[None].astype(np.intp) - 1 - steps
    return np.where(mirrored >= 0, mirrored, steps)[..., None]
