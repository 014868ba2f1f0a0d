"""A bundle's equations and head in float64 NumPy, with the weights of its file: the judge of its graphs.

Slow, and independent of the graphs' operators. `service.model.network` reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model import reference
from service.model.bundle import WEIGHTS, Bundle
from service.model.engine import GateKey
from service.model.equations import MINIMAL
from service.model.network import Network, pooled
from service.model.reference import Cell, Float64, Gates, GateWeights
from service.model.weights import arrays
from service.model.weights_layout import (
    CHARACTERS,
    HEAD_BIAS,
    HEAD_QUERY,
    HEAD_WEIGHT,
    STACKING,
    WORDS,
    fine_name,
    layer_name,
    scale_name,
    table_name,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A network, judged by its equations."""

    network: Network

    @classmethod
    def read(cls, bundle: Bundle) -> Reference:
        return cls(Network(bundle.manifest, arrays(bundle.content(WEIGHTS))))

    def unknown(self) -> str | None:
        """Why this module cannot follow the network: it has arrays of no known use. None when it can."""
        manifest = self.network.manifest
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
        extra = sorted(self.network.arrays.keys() - known)
        return f"the network has parts that have no reference here: {', '.join(extra)}" if extra else None

    def deviation(
        self, row: NDArray[np.int32], traced: Mapping[GateKey, NDArray[np.floating]]
    ) -> tuple[float, Float64]:
        """How far the trace of one input [tokens, columns] is from the equations, and the top layer's traced states:
        see `service.model.reference.deviation`."""
        shape = self.network.manifest
        cells = [self.cells(layer) for layer in range(shape.layers)]

        def expected(layer: int, number: int, x: Float64, before: Gates) -> Gates:
            return reference.step(shape.cell, shape.form, cells[layer][number], x, before)

        return reference.deviation(expected, shape.layers, shape.directions, self.inputs(row), traced)

    def inputs(self, row: NDArray[np.int32]) -> Float64:
        """The first layer's inputs for one text: tokens [tokens, columns] → [tokens, inputs]."""
        return self.network.read(row).astype(np.float64)

    def cells(self, number: int) -> list[Cell]:
        """The parameters of a layer by gate, one cell a direction."""
        layer, units = self.network.layer(number), self.network.manifest.hidden

        def weights(gate: str, at: int, way: int) -> GateWeights:
            r = layer.r[way, at * units : (at + 1) * units]  # [units, units]; no rows in a minimal cell
            bias = layer.bias[gate][way]
            second = layer.second.get(gate, np.zeros_like(layer.bias[gate]))[way]
            peephole = layer.peephole.get(gate)
            return GateWeights(
                _wide(layer.w[gate][way]),
                _wide(r) if r.size else None,
                _wide(bias),
                _wide(second),
                None if peephole is None else _wide(peephole[way]),
            )

        order = STACKING[self.network.manifest.cell]
        ways = range(len(self.network.manifest.directions))
        return [{gate: weights(gate, at, way) for at, gate in enumerate(order)} for way in ways]

    def logits(self, states: Float64) -> Float64:
        """The head: states of the top layer [tokens, units of all directions] → logits [labels], for a tagger [tokens,
        labels]."""
        arrays = self.network.arrays
        query = _wide(arrays[HEAD_QUERY]) if HEAD_QUERY in arrays else None
        found: Float64 = pooled(self.network.manifest, states, query) @ _wide(arrays[HEAD_WEIGHT]).T
        return found + _wide(arrays[HEAD_BIAS])


def _wide(array: NDArray[np.generic]) -> Float64:
    return array.astype(np.float64)
