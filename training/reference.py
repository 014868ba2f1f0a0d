"""The cells' equations in float64 NumPy: slow, and the judge of the rest.

Independent of torch's kernels, of ONNX's operators and of the trace graph: the weights are read by gate name only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from service.engine import GateKey
from service.equations import CellName, Direction, GruReset
from training.cells import GateWeights
from training.networks import Network

Float64 = NDArray[np.float64]
Gates = Mapping[str, Float64]


def deviation(network: Network, inputs: Float64, traced: Mapping[GateKey, NDArray[np.floating]]) -> float:
    """How far a trace of one sequence is from its equations: the largest difference of any gate.

    Relative to the value where that is over 1: the cell state has no bound, and float32 has seven digits.

    `inputs` are the embedded tokens [time, inputs], `traced` every gate [time, units]. Row t's gates are computed from
    row t's input and from the traced states of the row before, so that errors do not add up over time.
    """
    architecture = network.architecture
    worst = 0.0
    for number, layer in enumerate(network.recurrent()):
        outputs = []
        for direction, cell in zip(architecture.directions, layer.directions(), strict=True):
            found = {
                gate: rows.astype(np.float64) for (n, d, gate), rows in traced.items() if (n, d) == (number, direction)
            }
            before: Gates = {s: _before(found[s], direction) for s in ("hidden", "cell") if s in found}
            expected = step(architecture.cell, architecture.gru_reset, cell.weights(), inputs, before)
            worst = float(np.max([worst, *(_difference(expected[gate], rows) for gate, rows in found.items())]))
            outputs.append(found["hidden"])
        inputs = np.concatenate(outputs, axis=1)
    return worst


def _difference(expected: Float64, found: Float64) -> float:
    return float((np.abs(expected - found) / np.maximum(1, np.abs(expected))).max())


def step(
    cell: CellName, reset: GruReset | None, weights: Mapping[str, GateWeights], x: Float64, before: Gates
) -> dict[str, Float64]:
    """One step of a cell for any number of independent rows: x [rows, inputs], states before [rows, units]."""
    if cell == "gru":
        return _gru(weights, x, before["hidden"], reset)
    return {"rnn": _rnn, "lstm": _lstm, "peephole": _lstm}[cell](weights, x, before)


def _before(states: Float64, direction: Direction) -> Float64:
    """The states that each row started from: those of the row that was read before it, zero for the first."""
    shifted = np.zeros_like(states)
    if direction == "forward":
        shifted[1:] = states[:-1]
    else:
        shifted[:-1] = states[1:]
    return shifted


def _rnn(weights: Mapping[str, GateWeights], x: Float64, before: Gates) -> dict[str, Float64]:
    return {"hidden": np.tanh(_w(weights["hidden"], x) + _r(weights["hidden"], before["hidden"]))}


def _lstm(weights: Mapping[str, GateWeights], x: Float64, before: Gates) -> dict[str, Float64]:
    """With or without peepholes: the output gate's sees the new cell, the others' the old one."""

    def sums(gate: str, seen: Float64) -> Float64:
        peephole = weights[gate].peephole
        plain = _w(weights[gate], x) + _r(weights[gate], before["hidden"])
        return plain if peephole is None else plain + peephole.double().numpy() * seen

    f, i = (_sigmoid(sums(gate, before["cell"])) for gate in ("forget", "input"))
    candidate = np.tanh(sums("candidate", before["cell"]))
    cell = f * before["cell"] + i * candidate
    o = _sigmoid(sums("output", cell))
    hidden = o * np.tanh(cell)
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def _gru(weights: Mapping[str, GateWeights], x: Float64, h: Float64, where: GruReset | None) -> dict[str, Float64]:
    keep = _sigmoid(_w(weights["keep"], x) + _r(weights["keep"], h))
    reset = _sigmoid(_w(weights["reset"], x) + _r(weights["reset"], h))
    last = weights["candidate"]
    past = _r(last, reset * h) if where == "before" else reset * _r(last, h)
    candidate = np.tanh(_w(last, x) + past)
    update = 1 - keep
    return {"update": update, "reset": reset, "candidate": candidate, "hidden": (1 - update) * h + update * candidate}


def _w(gate: GateWeights, x: Float64) -> Float64:
    product: Float64 = x @ gate.w.double().numpy().T + gate.w_bias.double().numpy()
    return product


def _r(gate: GateWeights, h: Float64) -> Float64:
    product: Float64 = h @ gate.r.double().numpy().T + gate.r_bias.double().numpy()
    return product


def _sigmoid(x: Float64) -> Float64:
    # Through tanh, which does not overflow.
    return 0.5 * (1 + np.tanh(0.5 * x))
