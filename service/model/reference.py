"""The cells' equations in float64 NumPy: slow, and the judge of the rest.

Independent of torch's kernels, of ONNX's operators and of the trace graph: weights are taken by gate name only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model.activations import normalised, sigmoid
from service.model.equations import CellName, Direction, Form

Float64 = NDArray[np.float64]
Gates = Mapping[str, Float64]


@dataclass(frozen=True, slots=True)
class GateWeights:
    """One gate's parameters: W [units, inputs]; R [units, units] if it sees the state; the two biases [units], of the
    input's product and of the state's; its peephole, if it has one, [units] or a matrix [units, units]. A GRU's update
    gate is stored as ``keep``, 1 minus it, as in torch and ONNX."""

    w: Float64
    r: Float64 | None
    w_bias: Float64
    r_bias: Float64
    peephole: Float64 | None = None

    def of_input(self, x: Float64) -> Float64:
        """W x + its bias: [rows, units] of x [rows, inputs]."""
        product: Float64 = x @ self.w.T + self.w_bias
        return product

    def of_state(self, h: Float64) -> Float64:
        """R h + its bias: [rows, units] of h [rows, units]."""
        assert self.r is not None
        product: Float64 = h @ self.r.T + self.r_bias
        return product

    def of_cell(self, cell: Float64) -> Float64:
        """The peephole's product with the cell state [rows, units]; 0 without a peephole."""
        if self.peephole is None:
            return np.zeros_like(cell)
        return cell @ self.peephole.T if self.peephole.ndim == 2 else cell * self.peephole


Cell = Mapping[str, GateWeights]
"""A cell's parameters by gate."""


def step(cell: CellName, form: Form | None, weights: Cell, x: Float64, before: Gates) -> dict[str, Float64]:
    """Every gate after one step of any number of independent rows: x [rows, inputs], states before [rows, units]."""
    if cell == "gru":
        return _gru(weights, x, before["hidden"], form)
    return _STEPS[cell](weights, x, before)


def deviation(
    expected: Callable[[int, int, Float64, Gates], Gates],
    layers: int,
    directions: Sequence[Direction],
    inputs: Float64,
    traced: Mapping[tuple[int, Direction, str], NDArray[np.floating]],
) -> tuple[float, Float64]:
    """How far a trace of one sequence is from its equations, and the top layer's traced states [time, units of all
    directions].

    The largest difference of any gate. It is relative to values over 1, because the cell state has no bound and float32
    has seven digits. NaN if any difference is NaN.

    ``expected(layer, number of the direction, x, states before)`` is the cell's step, `inputs` the embedded tokens
    [time, inputs], `traced` every gate [time, units]. Row t's gates are computed from row t's input and from the traced
    states of the row before, so that errors do not add up over time.
    """
    worst = 0.0
    for layer in range(layers):
        outputs = []
        for number, direction in enumerate(directions):
            found = {gate: a.astype(np.float64) for (n, d, gate), a in traced.items() if (n, d) == (layer, direction)}
            before: Gates = {s: _before(found[s], direction) for s in ("hidden", "cell") if s in found}
            with np.errstate(invalid="ignore"):  # the answer says that there was a NaN
                wanted = expected(layer, number, inputs, before)
            worst = float(np.max([worst, *(difference(wanted[gate], rows) for gate, rows in found.items())]))
            outputs.append(found["hidden"])
        inputs = np.concatenate(outputs, axis=1)
    return worst, inputs


def difference(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """The largest difference, relative to values over 1; NaN if one is NaN."""
    return float((np.abs(expected - found) / np.maximum(1, np.abs(expected))).max())


def _before(states: Float64, direction: Direction) -> Float64:
    """The states that each row started from: those of the row that was read before it, zero for the first."""
    shifted = np.zeros_like(states)
    if direction == "forward":
        shifted[1:] = states[:-1]
    else:
        shifted[:-1] = states[1:]
    return shifted


def _rnn(weights: Cell, x: Float64, before: Gates) -> dict[str, Float64]:
    gate = weights["hidden"]
    return {"hidden": np.tanh(gate.of_input(x) + gate.of_state(before["hidden"]))}


def _lstm(weights: Cell, x: Float64, before: Gates) -> dict[str, Float64]:
    """With or without peepholes: the output gate's sees the new cell, the others' the old one."""

    def sums(name: str, seen: Float64) -> Float64:
        gate = weights[name]
        return gate.of_input(x) + gate.of_state(before["hidden"]) + gate.of_cell(seen)

    f, i = (sigmoid(sums(gate, before["cell"])) for gate in ("forget", "input"))
    candidate = np.tanh(sums("candidate", before["cell"]))
    cell = f * before["cell"] + i * candidate
    o = sigmoid(sums("output", cell))
    hidden = o * np.tanh(cell)
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def _gru(weights: Cell, x: Float64, h: Float64, where: Form | None) -> dict[str, Float64]:
    keep, reset = (sigmoid(weights[name].of_input(x) + weights[name].of_state(h)) for name in ("keep", "reset"))
    last = weights["candidate"]
    past = last.of_state(reset * h) if where == "before" else reset * last.of_state(h)
    candidate = np.tanh(last.of_input(x) + past)
    update = 1 - keep
    return {"update": update, "reset": reset, "candidate": candidate, "hidden": (1 - update) * h + update * candidate}


def _mingru(weights: Cell, x: Float64, before: Gates) -> dict[str, Float64]:
    update = sigmoid(weights["update"].of_input(x))
    candidate = np.tanh(weights["candidate"].of_input(x))
    hidden = (1 - update) * before["hidden"] + update * candidate
    return {"update": update, "candidate": candidate, "hidden": hidden}


def _minlstm(weights: Cell, x: Float64, before: Gates) -> dict[str, Float64]:
    forget, taken = normalised(weights["forget"].of_input(x), weights["input"].of_input(x))
    candidate = np.tanh(weights["candidate"].of_input(x))
    hidden = forget * before["hidden"] + taken * candidate
    return {"forget": forget, "input": taken, "candidate": candidate, "hidden": hidden}


_STEPS: Mapping[CellName, Callable[[Cell, Float64, Gates], dict[str, Float64]]] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "peephole": _lstm,
    "mingru": _mingru,
    "minlstm": _minlstm,
}
