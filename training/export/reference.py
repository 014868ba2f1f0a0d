"""A network's trace held against its cells' equations in float64, with the weights that torch has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.model import reference
from service.model.engine import GateKey
from service.model.reference import Float64, Gates
from training.nets.cells import Cell
from training.nets.networks import Network


def deviation(network: Network, inputs: Float64, traced: Mapping[GateKey, NDArray[np.floating]]) -> float:
    """How far a trace of one sequence is from its equations: see `service.model.reference.deviation`.

    `inputs` are the first layer's [time, inputs], `traced` every gate [time, units].
    """
    shape = network.architecture
    cells = [[weights(cell) for cell in layer.directions()] for layer in network.recurrent()]

    def expected(layer: int, number: int, x: Float64, before: Gates) -> Gates:
        return reference.step(shape.cell, shape.form, cells[layer][number], x, before)

    return reference.deviation(expected, shape.layers, shape.directions, inputs, traced)[0]


def weights(cell: Cell) -> dict[str, reference.GateWeights]:
    """A cell's parameters by gate, in float64."""
    return {
        name: reference.GateWeights(
            _wide(gate.w),
            None if gate.r is None else _wide(gate.r),
            _wide(gate.w_bias),
            _wide(gate.r_bias),
            None if gate.peephole is None else _wide(gate.peephole),
        )
        for name, gate in cell.weights().items()
    }


def _wide(parameter: Tensor) -> Float64:
    return parameter.double().numpy()
