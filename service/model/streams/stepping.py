"""The network of one model, one step at a time, for many streams together.

A step costs the same at any place of a text. NumPy computes in float32. A row's result is the same in any batch, up to
the rounding of a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model.bundle import Manifest
from service.model.network import Network
from service.model.streams.cells import Array, Gates, layer
from service.model.streams.pooling import pool
from service.model.weights_layout import HEAD_BIAS, HEAD_QUERY, HEAD_WEIGHT


@dataclass(slots=True)
class State:
    """A network's memory of one text: the layers' states float32 [size], and the statistics of its pooling."""

    cells: Array
    pooled: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Job:
    """The next tokens of one stream, int32 [tokens, columns], and the state before them. `gates` requests the
    activations of each gate."""

    rows: NDArray[np.int32]
    state: State
    gates: bool = False


@dataclass(frozen=True, slots=True)
class Stepped:
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
        self._weight, self._bias = (np.asarray(weights[name], np.float32) for name in (HEAD_WEIGHT, HEAD_BIAS))
        query = weights.get(HEAD_QUERY)
        self._pool = pool(manifest.head, manifest.hidden, None if query is None else np.asarray(query, np.float32))
        self._units = manifest.hidden
        self._columns = sum(feature.columns for feature in manifest.features)
        self._size = sum(sum(each.sizes) for each in self._layers)

    @property
    def sizes(self) -> tuple[int, int]:
        """The sizes of both parts of a state."""
        return self._size, self._pool.size

    def start(self) -> State:
        """The state before the first token."""
        return State(np.zeros(self._size, np.float32), np.zeros(self._pool.size))

    def rows(self, rows: Sequence[bytes]) -> NDArray[np.int32]:
        """Tokens' feature rows as an array [tokens, columns]."""
        return np.frombuffer(b"".join(rows), np.int32).reshape(-1, self._columns)

    def run(self, jobs: Sequence[Job]) -> list[Stepped]:
        """Step many streams in lockstep: all first tokens, then all second ones, and so on."""
        order = sorted(range(len(jobs)), key=lambda number: -len(jobs[number].rows))
        placed = [jobs[number] for number in order]
        lengths = [len(job.rows) for job in placed]
        # Step t covers the first `going[t]` rows of the batch, which have a token there.
        going = [sum(length > step for length in lengths) for step in range(lengths[0])]
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        inputs = self._embed(np.concatenate([job.rows for job in placed]))  # [tokens of all, inputs]
        states = np.stack([job.state.cells for job in placed])  # [streams, size]
        pooled = np.stack([job.state.pooled for job in placed])
        wanted = any(job.gates for job in placed)
        traced: list[Gates] = []
        at = 0
        for each in self._layers:
            arrived = each.arrive(inputs)
            hidden = np.empty((len(inputs), self._units), np.float32)
            gates: Gates = {}
            parts = []  # views of this layer's states
            for size in each.sizes:
                parts.append(states[:, at : at + size])
                at += size
            for step, count in enumerate(going):
                where = offsets[:count] + step
                after, found = each.step(arrived[where], [part[:count] for part in parts])
                hidden[where] = after[0][:, : self._units]
                for part, new in zip(parts, after, strict=True):
                    part[:count] = new
                if wanted:
                    for name, activations in found.items():
                        if name not in gates:
                            gates[name] = np.empty((len(inputs), activations.shape[1]), np.float32)
                        gates[name][where] = activations
            traced.append(gates)
            inputs = hidden
        for step, count in enumerate(going):
            where = offsets[:count] + step
            inputs[where] = self._pool.add(inputs[where], pooled[:count])
        logits = inputs @ self._weight.T + self._bias
        results: list[Stepped | None] = [None] * len(jobs)
        for place, number in enumerate(order):
            own = slice(int(offsets[place]), int(offsets[place]) + lengths[place])
            shown = tuple({name: rows[own] for name, rows in each.items()} for each in traced)
            results[number] = Stepped(
                logits[own], State(states[place].copy(), pooled[place].copy()), shown if jobs[number].gates else None
            )
        return [each for each in results if each is not None]


def check(manifest: Manifest) -> None:
    """Raises `InvalidField` for a model that cannot read a text as it arrives."""
    if manifest.directions != ("forward",):
        raise InvalidField("/model", "The model reads backward too, and needs the whole text first.")
