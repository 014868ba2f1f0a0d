"""The network of one model, one step at a time, for many streams together.

A step costs the same at any place of a text. NumPy computes in float32. A row's result is the same in any batch, up to
the rounding of a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model.bundle import Manifest
from service.model.network import Network
from service.model.streams.cells import Array, Gates, Layer, layer
from service.model.streams.pooling import pool
from service.model.weights_layout import HEAD_BIAS, HEAD_QUERY, HEAD_WEIGHT

MOST_ARRIVED = 512
"""Tokens whose part of the first layer's gates is kept: 1 MiB for an LSTM of 128 units. As many words are about two
thirds of an English text."""

_Step = tuple[slice | NDArray[np.intp], int]
"""The rows of a batch that step together, and their number."""


@dataclass(slots=True)
class State:
    """What a network remembers of one text: `cells`, the states of all layers in one vector float32 [size], and
    `pooled`, the sums or maxima of its pooling so far."""

    cells: Array
    pooled: NDArray[np.float64]


class Job(NamedTuple):
    """The next tokens of one stream, int32 [tokens, columns], and the state before them. `gates` requests the
    activations of each gate."""

    rows: NDArray[np.int32]
    state: State
    gates: bool = False


class Stepped(NamedTuple):
    """The result of a job: logits [tokens, labels] after each token, the state after the last, and, if requested, each
    layer's gates, activations [tokens, units]."""

    logits: Array
    state: State
    gates: tuple[Gates, ...] | None


class Stepper:
    """Steps a model that reads forward. Thread-safe.

    Raises `InvalidField` for a model that also reads backward.
    """

    def __init__(self, network: Network) -> None:
        manifest, weights = network.manifest, network.arrays
        check(manifest)
        self._embed = network.embed
        self._layers = [layer(manifest, weights, number) for number in range(manifest.layers)]
        weight, self._bias = (np.asarray(weights[name], np.float32) for name in (HEAD_WEIGHT, HEAD_BIAS))
        self._weight_t = weight.T
        query = weights.get(HEAD_QUERY)
        self._pool = pool(manifest.head, manifest.hidden, None if query is None else np.asarray(query, np.float32))
        self._units = manifest.hidden
        self._arrived: dict[bytes, Array] = {}
        self._columns = sum(feature.columns for feature in manifest.features)
        self._size = sum(sum(each.sizes) for each in self._layers)
        self._memory = manifest.window[0] * network.numbers
        """Numbers of the words' vectors that a window reads before its own word. They lie behind the layers' states."""

    @property
    def sizes(self) -> tuple[int, int]:
        """The sizes of both parts of a state."""
        return self._size + self._memory, self._pool.size

    def start(self) -> State:
        """The state before the first token."""
        return State(np.zeros(self._size + self._memory, np.float32), np.zeros(self._pool.size))

    def rows(self, rows: Sequence[bytes]) -> NDArray[np.int32]:
        """Tokens' feature rows as an array [tokens, columns]."""
        return np.frombuffer(b"".join(rows), np.int32).reshape(-1, self._columns)

    def run(self, jobs: Sequence[Job]) -> list[Stepped]:
        """Step many streams in lockstep: all first tokens, then all second ones, and so on."""
        lengths = [len(job.rows) for job in jobs]
        if max(lengths) == 1:
            return self._token_each(jobs)
        if len(jobs) == 1:
            return self._run(jobs, lengths)
        order = sorted(range(len(jobs)), key=lambda number: -len(jobs[number].rows))
        placed = [jobs[number] for number in order]
        found = self._run(placed, [len(job.rows) for job in placed])
        places = {number: place for place, number in enumerate(order)}
        return [found[places[number]] for number in range(len(jobs))]

    def _token_each(self, jobs: Sequence[Job]) -> list[Stepped]:
        """Step streams over one token each. Few arrays are copied: for one stream each copy is a share of the step."""
        streams = len(jobs)
        if streams == 1:
            cells, pooled = jobs[0].state.cells[None], jobs[0].state.pooled.copy()[None]
        else:
            cells = np.concatenate([job.state.cells for job in jobs]).reshape(streams, -1)  # [streams, size]
            pooled = np.concatenate([job.state.pooled for job in jobs]).reshape(streams, -1)
        rows = [job.rows for job in jobs]
        memory: list[Array] = []
        if self._memory:
            read = np.concatenate([cells[:, self._size :], self._embed(np.concatenate(rows))], axis=1)
            inputs, memory = self._layers[0].arrive(read), [read[:, -self._memory :]]
        else:
            inputs = self._first(rows)
        after: list[Array] = []
        traced: list[Gates] = []
        at = 0
        for number, each in enumerate(self._layers):
            states = []  # views [streams, size]; no cell writes to them
            for size in each.sizes:
                states.append(cells[:, at : at + size])
                at += size
            states, gates = each.step(each.arrive(inputs) if number else inputs, states)
            inputs = states[0][:, : self._units]
            after += states
            traced.append(gates)
        logits = self._pool.add(inputs, pooled) @ self._weight_t
        logits += self._bias
        cells = np.concatenate([*after, *memory], axis=1)
        if streams == 1:
            return [Stepped(logits, State(cells[0], pooled[0]), tuple(traced) if jobs[0].gates else None)]
        # Copies, because a view would keep the whole batch in memory.
        results = [
            Stepped(each, State(own.copy(), statistics.copy()), None)
            for each, own, statistics in zip(logits[:, None], cells, pooled, strict=True)
        ]
        for place, job in enumerate(jobs):
            if job.gates:
                results[place] = results[place]._replace(gates=_shown(traced, place))
        return results

    def _first(self, rows: Sequence[NDArray[np.int32]]) -> Array:
        """The input's part of the first layer's gates, for tokens [1, columns] each. It depends on the token alone."""
        kept = self._arrived
        try:
            found = [kept[row.tobytes()] for row in rows]
        except KeyError:
            found = [self._arrive(row) for row in rows]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _arrive(self, row: NDArray[np.int32]) -> Array:
        """The same for one token, which is kept if it is new."""
        key = row.tobytes()
        found = self._arrived.get(key)
        if found is None:
            if len(self._arrived) >= MOST_ARRIVED:
                self._arrived.clear()
            found = self._arrived[key] = self._layers[0].arrive(self._embed(row))
        return found

    def _run(self, placed: Sequence[Job], lengths: Sequence[int]) -> list[Stepped]:
        """Step streams whose jobs have these lengths, the longest first."""
        rows = np.concatenate([job.rows for job in placed])
        states = np.stack([job.state.cells for job in placed])  # [streams, size]
        pooled = np.stack([job.state.pooled for job in placed])
        inputs = self._embed(rows)  # [tokens of all, inputs]
        steps = _steps(lengths)
        if self._memory:
            inputs = _windows(inputs, states[:, self._size :], steps)
        wanted = any(job.gates for job in placed)
        traced: list[Gates] = []
        at = 0
        for each in self._layers:
            parts = []  # views of this layer's states
            for size in each.sizes:
                parts.append(states[:, at : at + size])
                at += size
            inputs, gates = self._through(each, inputs, parts, steps, wanted=wanted)
            traced.append(gates)
        for where, count in steps:
            inputs[where] = self._pool.add(inputs[where], pooled[:count])
        logits = inputs @ self._weight_t + self._bias
        results, first = [], 0
        for place, (job, length) in enumerate(zip(placed, lengths, strict=True)):
            own = slice(first, first + length)
            first += length
            shown = tuple({name: rows[own] for name, rows in each.items()} for each in traced) if job.gates else None
            results.append(Stepped(logits[own], State(states[place].copy(), pooled[place].copy()), shown))
        return results

    def _through(
        self, layer: Layer, inputs: Array, states: Sequence[Array], steps: Sequence[_Step], *, wanted: bool
    ) -> tuple[Array, Gates]:
        """Step one layer over its inputs [tokens, inputs]; `states` change in place. Returns the hidden states [tokens,
        units] and, if wanted, the gates."""
        arrived = layer.arrive(inputs)
        hidden = np.empty((len(inputs), self._units), np.float32)
        gates: Gates = {}
        for where, count in steps:
            after, found = layer.step(arrived[where], [part[:count] for part in states])
            hidden[where] = after[0][:, : self._units]
            for part, new in zip(states, after, strict=True):
                part[:count] = new
            if wanted:
                for name, activations in found.items():
                    if name not in gates:
                        gates[name] = np.empty((len(inputs), activations.shape[1]), np.float32)
                    gates[name][where] = activations
        return hidden, gates


def _shown(traced: Sequence[Gates], place: int) -> tuple[Gates, ...]:
    """A stream's gates [1, units] out of those of the batch."""
    return tuple({name: rows[place : place + 1] for name, rows in each.items()} for each in traced)


def _windows(vectors: Array, memory: Array, steps: Sequence[_Step]) -> Array:
    """Windows [tokens, numbers of all words] of words' vectors [tokens, numbers]. `memory` [streams, numbers of the
    words before] changes in place."""
    numbers = vectors.shape[1]
    found = np.empty((len(vectors), memory.shape[1] + numbers), np.float32)
    for where, count in steps:
        found[where] = np.concatenate([memory[:count], vectors[where]], axis=1)
        memory[:count] = found[where][:, numbers:]
    return found


def _steps(lengths: Sequence[int]) -> list[_Step]:
    """Each step's rows in the batch, and their number. `lengths` are in descending order.

    Step t has the t-th row of those streams that are long enough. Slices are views, and cheaper than an index.
    """
    if len(lengths) == 1:
        return [(slice(step, step + 1), 1) for step in range(lengths[0])]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    going = [sum(length > step for length in lengths) for step in range(lengths[0])]
    return [(offsets[:count] + step, count) for step, count in enumerate(going)]


def check(manifest: Manifest) -> None:
    """Raises `InvalidField` for a model that cannot read a text as it arrives."""
    if manifest.directions != ("forward",):
        raise InvalidField("/model", "The model reads backward too, and needs the whole text first.")
