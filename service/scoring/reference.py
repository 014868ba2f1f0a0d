"""A bundle's network in float64 NumPy, read from its file of weights in ONNX's layout: the judge of its graphs.

Slow, and independent of the graphs' operators. It reads the files of `training.export.onnx.graph` and
`training.export.onnx.embedding`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model import reference
from service.model.activations import softmax
from service.model.bundle import WEIGHTS, Bundle, Feature, Manifest
from service.model.engine import GateKey
from service.model.equations import MINIMAL, CellName
from service.model.reference import Cell, Float64, Gates, GateWeights
from service.model.weights import arrays
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

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Reference:
    """A network as its manifest describes it, with its arrays as the file has them."""

    manifest: Manifest
    arrays: Arrays

    @classmethod
    def read(cls, bundle: Bundle) -> Reference:
        return cls(bundle.manifest, arrays(bundle.content(WEIGHTS)))

    def unknown(self) -> str | None:
        """Why this module cannot follow the network: it has arrays of no known use. None when it can."""
        known = {table_name(each.name) for each in self.manifest.features} | {HEAD_WEIGHT, HEAD_BIAS}
        known |= {scale_name(WORDS), fine_name(WORDS)}
        layers = [layer_name(layer) for layer in range(self.manifest.layers)]
        parts = "WB" if self.manifest.cell in MINIMAL else "WRBP"
        known |= {f"{layer}.{part}" for layer in layers for part in parts}
        if self.manifest.precision == "int8":
            known |= {f"{layer}.{part}.{what}" for layer in layers for part in "WR" for what in ("scale", "zero")}
        if self.manifest.head == "attention":
            known.add(HEAD_QUERY)
        if self.manifest.characters is not None:
            known |= {f"{CHARACTERS}.{part}" for part in ("W", "R", "B", "bias")}
        extra = sorted(self.arrays.keys() - known)
        return f"the network has parts that have no reference here: {', '.join(extra)}" if extra else None

    def deviation(
        self, row: NDArray[np.int32], traced: Mapping[GateKey, NDArray[np.floating]]
    ) -> tuple[float, Float64]:
        """How far the trace of one input [tokens, columns] is from the equations, and the top layer's traced states:
        see `service.model.reference.deviation`."""
        shape = self.manifest
        cells = [self._layer(layer_name(layer)) for layer in range(shape.layers)]

        def expected(layer: int, number: int, x: Float64, before: Gates) -> Gates:
            return reference.step(shape.cell, shape.form, cells[layer][number], x, before)

        return reference.deviation(expected, shape.layers, shape.directions, self._read(row), traced)

    def logits(self, states: Float64) -> Float64:
        """The head: states of the top layer [tokens, units of all directions] → logits [labels], for a tagger [tokens,
        labels]."""
        units = self.manifest.hidden
        match self.manifest.head:
            case "tagger":
                pooled = states
            case "max":
                pooled = states.max(axis=0)
            case "mean":
                pooled = states.mean(axis=0)
            case "last":
                pooled = np.concatenate([states[-1, :units], states[0, units:]])
            case "attention":
                pooled = softmax(states @ self._wide(HEAD_QUERY)) @ states
        found: Float64 = pooled @ self._wide(HEAD_WEIGHT).T + self._wide(HEAD_BIAS)
        return found

    def _wide(self, name: str) -> Float64:
        return self.arrays[name].astype(np.float64)

    def _layer(self, name: str) -> list[Cell]:
        """The cells of a layer, one a direction."""
        int8 = self.manifest.precision == "int8"
        w = self._whole(f"{name}.W") if int8 else self._wide(f"{name}.W")
        r, p = (self._optional(f"{name}.{part}", len(w)) for part in "RP")
        if int8:
            r = self._whole(f"{name}.R")
        units = self.manifest.hidden
        stacked = units + INT8_BOUNDS if int8 else units
        biases = self._wide(f"{name}.B")
        return [_cell(self.manifest.cell, units, stacked, w[way], r[way], biases[way], p[way]) for way in range(len(w))]

    def _optional(self, name: str, ways: int) -> Float64 | Sequence[None]:
        """An array that not every cell has, by direction."""
        return self._wide(name) if name in self.arrays else (None,) * ways

    def _whole(self, name: str) -> Float64:
        """A matrix kept as integers [directions, columns, rows], as [directions, rows, columns] without bounds."""
        scaled = self._wide(name) * self._wide(scale_name(name))[:, None]
        return scaled.transpose(0, 2, 1)[..., :-INT8_BOUNDS]

    def _read(self, row: NDArray[np.int32]) -> Float64:
        """Each step's input: the vectors of the words from `before` ahead of the token to `after` behind it, zeros
        past the text's ends."""
        vectors = self._embed(row)
        before, after = self.manifest.window
        steps = []
        for token in range(len(vectors)):
            inside = [
                vectors[at] if 0 <= at < len(vectors) else 0 * vectors[0]
                for at in range(token - before, token + after + 1)
            ]
            steps.append(np.concatenate(inside))
        return np.stack(steps)

    def _embed(self, row: NDArray[np.int32]) -> Float64:
        """Each token's vector: [tokens, sum of the features' sizes]."""
        found, at = [], 0
        for feature in self.manifest.features:
            columns = row[:, at : at + feature.columns]
            found.append(self._feature(feature, columns))
            at += feature.columns
        return np.concatenate(found, axis=1)

    def _feature(self, feature: Feature, columns: NDArray[np.int32]) -> Float64:
        name = table_name(feature.name)
        if feature.name == "character":
            return self._convolved(columns) if self.manifest.characters == "cnn" else self._spelt(columns)
        rows = columns[:, 0]
        if fine_name(name) in self.arrays:
            vectors = self._halves(name, rows)
        else:
            vectors = self.arrays[name][rows].astype(np.float64)
        if scale_name(name) in self.arrays:
            vectors = vectors * self.arrays[scale_name(name)][rows].astype(np.float64)
        return vectors

    def _halves(self, name: str, rows: NDArray[np.int32]) -> Float64:
        """Numbers in two halves: the upper four bits of every row, the lower four of the first ones, and the last of
        them for all that follow."""
        lower = self.arrays[fine_name(name)]
        upper = _nibbles(self.arrays[name][rows])
        whole: Float64 = 16 * upper + _nibbles(lower[np.minimum(rows, len(lower) - 1)]) - 128
        return whole

    def _convolved(self, characters: NDArray[np.int32]) -> Float64:
        """The largest of the sums of three neighbours, each with a table of its own, [tokens, width]."""
        bias = self._wide(CHARACTER_BIAS)
        tables = self._wide(table_name("character")).reshape(
            self.arrays[table_name("character")].shape[0], -1, len(bias)
        )
        reach = tables.shape[1]
        padded = np.pad(characters, ((0, 0), (reach // 2, reach // 2)))
        places = np.arange(characters.shape[1])
        sums = np.sum([tables[padded[:, places + offset], offset] for offset in range(reach)], axis=0)
        found: Float64 = sums.max(axis=1) + bias
        return found

    def _spelt(self, characters: NDArray[np.int32]) -> Float64:
        """Last states of an LSTM over a token's characters, forward and backward."""
        w, r, biases = (self._wide(f"{CHARACTERS}.{part}") for part in "WRB")
        table, units = self._wide(table_name("character")), r.shape[2]
        lengths = (characters > 0).sum(axis=1)
        ends = []
        for way in range(2):
            cell = _cell("lstm", units, units, w[way], r[way], biases[way], None)
            states = {name: np.zeros((len(characters), units)) for name in ("hidden", "cell")}
            for place in range(int(lengths.max(initial=0))):
                there = lengths > place
                read = characters[there, lengths[there] - 1 - place if way else place]
                made = reference.step("lstm", None, cell, table[read], {k: v[there] for k, v in states.items()})
                for name, state in states.items():
                    state[there] = made[name]
            ends.append(states["hidden"])
        return np.concatenate(ends, axis=1)


def _cell(
    cell: CellName,
    units: int,
    stacked: int,
    w: Float64,
    r: Float64 | None,
    biases: Float64,
    peepholes: Float64 | None,
) -> Cell:
    """A direction's parameters by gate: each gate has the first `units` of `stacked` rows. The recurrent
    biases are missing if ONNX has no operator for the cell."""
    order = STACKING[cell]
    both = np.concatenate([biases, np.zeros_like(biases)]) if len(biases) == len(order) * stacked else biases
    first, second = both.reshape(2, -1)
    seen: dict[str, Float64] = {}
    if peepholes is not None:
        seeing = order if peepholes.ndim == 2 else PEEPHOLES
        seen = dict(zip(seeing, np.split(peepholes, len(seeing)), strict=True))
    found = {}
    for number, gate in enumerate(order):
        at = slice(number * stacked, number * stacked + units)
        found[gate] = GateWeights(w[at], None if r is None else r[at], first[at], second[at], seen.get(gate))
    return found


def _nibbles(packed: NDArray[np.generic]) -> Float64:
    """Bytes [rows, n] → [rows, 2n]: the lower four bits of all n bytes, then the upper four bits of all."""
    whole = packed.astype(np.int64)
    return np.concatenate([whole & 15, whole >> 4], axis=1).astype(np.float64)
