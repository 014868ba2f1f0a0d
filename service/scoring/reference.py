"""A bundle's equations and head in float64 NumPy, with the weights of its file: the judge of its graphs.

Slow, and independent of the graphs' operators. `service.model.network` reads the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.model import reference
from service.model.bundle import WEIGHTS, Bundle
from service.model.engine import GateKey
from service.model.network import Network, pooled
from service.model.reference import Cell, Float64, Gates, GateWeights
from service.model.weights import arrays
from service.model.weights_layout import HEAD_BIAS, HEAD_QUERY, HEAD_WEIGHT, STACKING


def read(bundle: Bundle) -> Network:
    """The network of a bundle's weights file."""
    return Network(bundle.manifest, arrays(bundle.content(WEIGHTS)))


def deviation(
    network: Network, row: NDArray[np.int32], traced: Mapping[GateKey, NDArray[np.floating]]
) -> tuple[float, Float64]:
    """How far the trace of one input [tokens, columns] is from the equations, and the top layer's traced states:
    see `service.model.reference.deviation`."""
    shape = network.manifest
    by_layer = [cells(network, layer) for layer in range(shape.layers)]

    def expected(layer: int, number: int, x: Float64, before: Gates) -> Gates:
        return reference.step(shape.cell, shape.form, by_layer[layer][number], x, before)

    inputs = network.read(row).astype(np.float64)
    return reference.deviation(expected, shape.layers, shape.directions, inputs, traced)


def cells(network: Network, number: int) -> list[Cell]:
    """The parameters of a layer by gate, one cell a direction."""
    layer, units = network.layer(number), network.manifest.hidden

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

    order = STACKING[network.manifest.cell]
    ways = range(len(network.manifest.directions))
    return [{gate: weights(gate, at, way) for at, gate in enumerate(order)} for way in ways]


def logits(network: Network, states: Float64) -> Float64:
    """The head: states of the top layer [tokens, units of all directions] → logits [labels], for a tagger [tokens,
    labels]."""
    arrays = network.arrays
    query = _wide(arrays[HEAD_QUERY]) if HEAD_QUERY in arrays else None
    found: Float64 = pooled(network.manifest, states, query) @ _wide(arrays[HEAD_WEIGHT]).T
    return found + _wide(arrays[HEAD_BIAS])


def _wide(array: NDArray[np.generic]) -> Float64:
    return array.astype(np.float64)
