"""The network of one model, one step at a time, for many streams together.

A step costs the same at any place of a text. NumPy computes in float32, and sums over a text in float64. A row's
result is the same in any batch, up to the rounding of a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

from service.model.network import Network
from service.model.streams.cells import Array, Gates, layer
from service.model.streams.pooling import Logits, pool
from service.model.weights_layout import HEAD_BIAS, HEAD_QUERY, HEAD_WEIGHT

MOST_KEPT = 512
"""Tokens whose part of the first layer's gates is kept: 1 MiB for an LSTM of 128 units. As many words are about two
thirds of an English text."""

State = bytes
"""The memory of one text: the statistics of its head in float64, then in float32 the states of all layers
and the vectors of the words that a window reads before its own word."""


class StepJob(NamedTuple):
    """The next tokens of one stream, each a feature row as bytes of an array int32 [columns], and the state before
    them, which stays as it is. `gates` requests the activations of each gate."""

    rows: Sequence[bytes]
    state: State
    gates: bool = False


class Stepped(NamedTuple):
    """The result of a job: logits [tokens][labels] after each token, and the state after the last. `gates`, if
    requested, are those of its batch: for each token and layer activations [streams, units], with its own in row
    `place`."""

    logits: Logits
    state: State
    gates: Sequence[Sequence[Gates]] | None = None
    place: int = 0


class Stepper:
    """Steps a model that reads forward only. Thread-safe."""

    def __init__(self, network: Network) -> None:
        manifest, weights = network.manifest, network.arrays
        self._embed = network.embed
        self._layers = [layer(manifest, weights, number) for number in range(manifest.layers)]
        weight, bias = (np.asarray(weights[name], np.float32) for name in (HEAD_WEIGHT, HEAD_BIAS))
        query = weights.get(HEAD_QUERY)
        self._head = pool(manifest.head, weight, bias, None if query is None else np.asarray(query, np.float32))
        self._numbers = network.numbers
        self._kept: tuple[dict[bytes, int], Array] = {}, np.empty((0, 0), np.float32)
        self._learning = Lock()
        sizes = [size for each in self._layers for size in each.sizes]
        self._window = manifest.window[0] > 0
        if self._window:
            sizes.append(manifest.window[0] * network.numbers)
        self._hidden = (slice(None), slice(manifest.hidden))
        self._pooled = len(self._head.start)
        ends: list[int] = (8 * self._pooled + 4 * np.cumsum([0, *sizes])).tolist()
        self._parts = list(zip(sizes, ends[:-1], strict=True))
        """The size of each layer's states, and with a window of the vectors, and their first byte in a `State`."""
        padding = ends[-1] % 8
        self.start: State = np.array(self._head.start).tobytes() + bytes(4 * sum(sizes) + padding)
        """The state before the first token."""

    def run(self, jobs: Sequence[StepJob]) -> list[Stepped]:
        """Step many streams in lockstep: all first tokens, then all second ones, and so on."""
        if len(jobs) == 1:
            return self._run(jobs, [len(jobs[0].rows)])
        lengths = [len(job.rows) for job in jobs]
        if max(lengths) == 1:
            return self._run(jobs, lengths)
        order = sorted(range(len(jobs)), key=lambda number: -lengths[number])
        found = self._run([jobs[number] for number in order], [lengths[number] for number in order])
        places = {number: place for place, number in enumerate(order)}
        return [found[places[number]] for number in range(len(jobs))]

    def _run(self, jobs: Sequence[StepJob], lengths: Sequence[int]) -> list[Stepped]:
        """Step streams whose jobs have these lengths, the longest first."""
        count, size = len(jobs), len(self.start)
        places, vectors = self._known(jobs)
        memory = bytearray().join([job.state for job in jobs])
        # Views [streams, size], which each step changes.
        pooled = np.ndarray((count, self._pooled), np.float64, memory, 0, (size, 8))
        parts = [np.ndarray((count, width), np.float32, memory, first, (size, 4)) for width, first in self._parts]
        wanted = any(job.gates for job in jobs)
        logits: list[Logits] = []  # of each token
        traced: list[list[Gates]] = []  # of each token and layer
        for token in range(lengths[0]):
            if lengths[-1] <= token:
                count = sum(length > token for length in lengths)
                parts, pooled = [part[:count] for part in parts], pooled[:count]
            if count == 1:
                place = places[jobs[0].rows[token]]
                inputs = vectors[place : place + 1]
            else:
                inputs = vectors.take([places[job.rows[token]] for job in jobs[:count]], 0)
            if self._window:
                inputs = self._widened(inputs, parts[-1])
            gates: list[Gates] = []
            at = 0
            for each in self._layers:
                own = parts[at : at + len(each.sizes)]
                at += len(own)
                gates.append(each.step(each.arrive(inputs) if gates else inputs, own))
                inputs = own[0][self._hidden]
            logits.append(self._head.add(inputs, pooled))
            if len(jobs[0].rows) > 1 and wanted:  # the next step changes the states
                gates = [{name: found.copy() for name, found in each.items()} for each in gates]
            traced.append(gates)
        content = bytes(memory)
        states = [content[at : at + size] for at in range(0, len(content), size)]
        if lengths[0] == 1 and not wanted:
            return list(map(Stepped, [[row] for row in logits[0]], states))
        return [
            Stepped([each[place] for each in logits[: len(job.rows)]], state, traced if job.gates else None, place)
            for place, (job, state) in enumerate(zip(jobs, states, strict=True))
        ]

    def _known(self, jobs: Sequence[StepJob]) -> tuple[dict[bytes, int], Array]:
        """The part of each token's gates that depends on the token alone: the input's part of the first layer's gates,
        or with a window the word's vector. Returns the place of each row, and all vectors [places, numbers]."""
        places, vectors = self._kept
        rows = [row for job in jobs for row in job.rows]
        if all(map(places.__contains__, rows)):
            return places, vectors
        with self._learning:
            (places, vectors), rows = self._kept, list(dict.fromkeys(rows))
            missing = [row for row in rows if row not in places]
            if not missing:  # another thread has learned them meanwhile
                return places, vectors
            if len(places) + len(missing) > len(vectors):  # replaced, because another thread may read them
                places, missing = {}, rows
            new = self._embed(np.frombuffer(b"".join(missing), np.int32).reshape(len(missing), -1))
            if not self._window:
                new = self._layers[0].arrive(new)
            if not places:
                vectors = np.empty((max(MOST_KEPT, len(missing)), new.shape[1]), np.float32)
                self._kept = places, vectors
            first = len(places)
            vectors[first : first + len(missing)] = new
            places.update((row, first + number) for number, row in enumerate(missing))
            return places, vectors

    def _widened(self, vectors: Array, before: Array) -> Array:
        """The first layer's inputs for the windows of words' vectors [streams, numbers]. `before` are the vectors of
        the words before [streams, size], and changes."""
        window = np.concatenate([before, vectors], axis=1)
        before[...] = window[:, self._numbers :]
        return self._layers[0].arrive(window)
