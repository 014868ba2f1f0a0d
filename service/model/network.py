"""A bundle's weights as float32 arrays, ready for a run in NumPy: embeddings, recurrent layers and head.

`service.model.weights_layout` describes the file. Float32 matrices stay views of its content, so that a network costs
no memory of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model import windows
from service.model.activations import Number, sigmoid, softmax
from service.model.bundle import Feature, Manifest
from service.model.equations import MINIMAL, one_graph
from service.model.weights_layout import (
    CHARACTER_BIAS,
    CHARACTERS,
    HEAD_BIAS,
    HEAD_QUERY,
    HEAD_WEIGHT,
    INT8_BOUNDS,
    PEEPHOLES,
    STACKING,
    WORDS,
    fine_name,
    layer_name,
    scale_name,
    table_name,
)

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """One recurrent layer's parameters by part of the stack: a gate's, or ``keep``.

    `w` [directions, units, inputs], `r` [directions, units, units], `bias` [directions, units] (both biases, unless
    `second` has the state's own), `peephole` [directions, units], or [directions, units, units] if it is full.
    """

    w: Mapping[str, Array]
    r: Array
    """[directions, blocks * units, units]: multiplied by the state in one product; no rows if no gate sees it."""
    bias: Mapping[str, Array]
    second: Mapping[str, Array]
    peephole: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Network:
    """A network as its manifest describes it, with the arrays of its weights file."""

    manifest: Manifest
    arrays: Mapping[str, NDArray[np.generic]]

    def read(self, tokens: NDArray[np.int32]) -> Array:
        """The first layer's inputs for one text: tokens [tokens, columns] → [tokens, inputs], the vectors of all words
        of the window."""
        return windows.widen(self.embed(tokens), *self.manifest.window)

    def embed(self, tokens: NDArray[np.int32]) -> Array:
        """tokens [rows, columns of all features] → [rows, numbers of all features]."""
        found, at = [], 0
        for feature in self.manifest.features:
            found.append(self._feature(feature, tokens[:, at : at + feature.columns]))
            at += feature.columns
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    @property
    def numbers(self) -> int:
        """Numbers of a word's vector: those of all features."""
        return int(self._matrix(f"{layer_name(0)}.W").shape[2]) // self.manifest.window_words

    def layer(self, number: int) -> Layer:
        """The recurrent layer of this number."""
        name, units = layer_name(number), self.manifest.hidden
        order = STACKING[self.manifest.cell]
        w, biases = self._matrix(f"{name}.W"), self._float(f"{name}.B")
        ways = len(w)
        r = self._matrix(f"{name}.R") if f"{name}.R" in self.arrays else np.zeros((ways, 0, units), np.float32)
        if one_graph(self.manifest.cell, self.manifest.form):  # without an operator of ONNX: one bias a gate
            biases = np.concatenate([biases, np.zeros_like(biases)], axis=1)
        first, second = (self._narrow(half) for half in np.split(biases, 2, axis=1))
        apart = {"candidate"} if self.manifest.gru_reset == "after" else set()
        blocks = {gate: slice(at * units, (at + 1) * units) for at, gate in enumerate(order)}
        peepholes = self._float(f"{name}.P") if f"{name}.P" in self.arrays else np.zeros((ways, 0), np.float32)
        seeing = order if peepholes.ndim == 3 else PEEPHOLES
        seen = {gate: peepholes[:, at * units : (at + 1) * units] for at, gate in enumerate(seeing)}
        return Layer(
            w={gate: w[:, rows] for gate, rows in blocks.items()},
            r=r,
            bias={
                gate: first[:, rows] if gate in apart else first[:, rows] + second[:, rows]
                for gate, rows in blocks.items()
            },
            second={gate: second[:, blocks[gate]] for gate in apart},
            peephole={gate: rows for gate, rows in seen.items() if rows.size},
        )

    def unknown(self) -> str | None:
        """Why the equations here cannot follow the network: it has arrays of no known use. None when they can."""
        manifest = self.manifest
        known = {table_name(each.name) for each in manifest.features} | {HEAD_WEIGHT, HEAD_BIAS}
        known |= {scale_name(WORDS), fine_name(WORDS)}
        layers = [layer_name(layer) for layer in range(manifest.layers)]
        parts = "WB" if manifest.cell in MINIMAL else "WRBP"
        known |= {f"{layer}.{part}" for layer in layers for part in parts}
        if manifest.precision == "int8":
            known |= {f"{layer}.{part}.{what}" for layer in layers for part in "WR" for what in ("scale", "zero")}
        if manifest.head == "attention":
            known.add(HEAD_QUERY)
        if manifest.characters is not None:
            known |= {f"{CHARACTERS}.{part}" for part in ("W", "R", "B", "bias")}
        extra = sorted(self.arrays.keys() - known)
        return f"the network has parts that have no reference here: {', '.join(extra)}" if extra else None

    def logits(self, states: Array) -> Array:
        """The head's logits from one input's top states [tokens, units of all directions]: [labels], or a tagger's
        [tokens, labels]."""
        query = self._float(HEAD_QUERY) if self.manifest.head == "attention" else None
        vector = pooled(self.manifest, states, query)
        found: Array = vector @ self._float(HEAD_WEIGHT).T + self._float(HEAD_BIAS)
        return found

    def _float(self, name: str) -> Array:
        return self.arrays[name].astype(np.float32, copy=False)

    def _matrix(self, name: str) -> Array:
        """[directions, blocks * units, columns], of integers the numbers that they stand for, without their bounds."""
        if scale_name(name) not in self.arrays:
            return self._float(name)
        whole = self._float(name) * self._float(scale_name(name))[:, None]  # [directions, columns, rows]
        return self._narrow(whole.transpose(0, 2, 1)[..., :-INT8_BOUNDS])

    def _narrow(self, rows: Array) -> Array:
        """[directions, blocks * stacked units, …] → the same without the units that only fix a range."""
        if self.manifest.precision != "int8":
            return rows
        blocks, units = len(STACKING[self.manifest.cell]), self.manifest.hidden
        apart = rows.reshape(len(rows), blocks, units + INT8_BOUNDS, *rows.shape[2:])
        return apart[:, :, :units].reshape(len(rows), blocks * units, *rows.shape[2:])

    def _feature(self, feature: Feature, columns: NDArray[np.int32]) -> Array:
        name = table_name(feature.name)
        if feature.name == "character":
            return self._convolved(columns) if self.manifest.characters == "cnn" else self._spelt(columns)
        rows = columns[:, 0]
        vectors = self.arrays[name][rows].astype(np.float32)
        if fine_name(name) in self.arrays:
            vectors = self._halves(name, rows)
        if scale_name(name) in self.arrays:
            vectors *= self.arrays[scale_name(name)][rows].astype(np.float32)
        return vectors

    def _halves(self, name: str, rows: NDArray[np.int32]) -> Array:
        """Numbers in two halves: the upper four bits of each row; the lower four of the first rows, the rest share the
        last of these."""
        lower = self.arrays[fine_name(name)]
        fine = _nibbles(lower[np.minimum(rows, len(lower) - 1)])
        return 16 * _nibbles(self.arrays[name][rows]) + fine - 128

    def _convolved(self, characters: NDArray[np.int32]) -> Array:
        """Convolution and maximum over each token's characters: [rows, width]."""
        bias = self._float(CHARACTER_BIAS)
        tables = self._float(table_name("character")).reshape(len(self.arrays[table_name("character")]), -1, len(bias))
        reach, places = tables.shape[1], np.arange(characters.shape[1])
        padded = np.pad(characters, ((0, 0), (reach // 2, reach // 2)))
        total = np.zeros((*characters.shape, len(bias)), np.float32)
        for offset in range(reach):
            total += tables[padded[:, places + offset], offset]
        found: Array = total.max(axis=1) + bias
        return found

    def _spelt(self, characters: NDArray[np.int32]) -> Array:
        """The last states of an LSTM that reads each token's characters forward, and of one that reads backward."""
        w, r, biases = (self._float(f"{CHARACTERS}.{part}") for part in "WRB")
        table, units, lengths = self._float(table_name("character")), r.shape[2], (characters > 0).sum(axis=1)
        ends = []
        for way in range(2):
            hidden, cell = np.zeros((2, len(characters), units), np.float32)
            for place in range(int(lengths.max(initial=0))):
                there = lengths > place
                read = characters[there, lengths[there] - 1 - place if way else place]
                sums = table[read] @ w[way].T + hidden[there] @ r[way].T + biases[way].reshape(2, -1).sum(axis=0)
                i, o, f, candidate = np.split(sums, 4, axis=1)
                cell[there] = sigmoid(f) * cell[there] + sigmoid(i) * np.tanh(candidate)
                hidden[there] = sigmoid(o) * np.tanh(cell[there])
            ends.append(hidden)
        return np.concatenate(ends, axis=1)


def pooled(manifest: Manifest, states: NDArray[Number], query: NDArray[Number] | None) -> NDArray[Number]:
    """The head's input from one input's top states [tokens, units of all directions]: one vector of all units, or a
    tagger's states. `query` [units of all directions] is that of an attention head."""
    units = manifest.hidden
    match manifest.head:
        case "tagger":
            return states
        case "max":
            found: NDArray[Number] = states.max(axis=0)
        case "mean":
            found = states.mean(axis=0)
        case "last":
            found = np.concatenate([states[-1, :units], states[0, units:]])
        case "attention":
            assert query is not None
            found = softmax(states @ query) @ states
    return found


def _nibbles(packed: NDArray[np.generic]) -> Array:
    """Bytes [rows, n] → their lower four bits, then their upper ones: [rows, 2n]."""
    whole = packed.astype(np.int64)
    return np.concatenate([whole & 15, whole >> 4], axis=1).astype(np.float32)
