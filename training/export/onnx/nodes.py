"""One step of each recurrent cell as ONNX nodes: the body of the trace graph's Scan.

Both directions of a layer step together. Their states are stacked, [rows, units]: the forward reader's rows of the
batch, then the backward reader's. With a batch of one row, each node here costs about as much as its arithmetic, and
Split and Concat cost several times that. So there are as few as possible, and everything that needs no state stands
outside the Scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from service.model.equations import CellName, Form
from training.export.onnx.builder import Builder

Gates = dict[str, str]
"""Gate name → the name of its value in the graph."""


class Block(NamedTuple):
    """The gates start to stop in ONNX's order. Their products with the input (W x + B) arrive together: as one array
    [batch, …] for each direction, to be added to the recurrent product, or `stacked`, as a single [rows, …]."""

    start: int
    stop: int
    stacked: bool = False


class Recurrent:
    """A layer's recurrent weights, inside a Scan's body; gates are counted in ONNX's order.

    Values of the outer graph are `peepholes` [rows, units] by number of the gate, if they are diagonal; `early` [all
    gates' units, units] by direction, if they are matrices, the weights of the cell before; and `floats` [units, all
    gates' units] by direction, if the weights file has integers in place of R.
    """

    def __init__(
        self,
        body: Builder,
        name: str,
        directions: int,
        units: int,
        peepholes: Sequence[str] = (),
        floats: Sequence[str] = (),
        early: Sequence[str] = (),
    ) -> None:
        self._body, self._name, self._directions, self._units = body, name, directions, units
        self._peepholes, self._floats, self._early = peepholes, floats, early
        self._parts: dict[str, list[str]] = {}

    def product(self, states: str, addends: Sequence[str], start: int, stop: int) -> str:
        """R[start:stop] h + addend, each direction with its own weights and its own addend [batch, …]: states
        [rows, units] → [rows, (stop - start) * units]."""
        products = []
        for way, (part, addend) in enumerate(zip(self._apart(states), addends, strict=True)):
            if self._floats:
                products.append(self._body.node("Gemm", part, self._floats[way], addend))
            else:
                products.append(self._body.node("Gemm", part, self._weight("R", way, start, stop), addend, transB=1))
        return self._body.node("Concat", *products, axis=0) if self._directions > 1 else products[0]

    def seeing(self, states: str, cell: str, addends: Sequence[str]) -> str:
        """R h + P C + addend of all gates, P being a matrix: states and cell [rows, units] → [rows, all gates' units].
        The output gate sees nothing of this cell."""
        products = [
            self._body.node(
                "Gemm", of_cell, early, self._body.node("Gemm", h, self._whole("R", way), addend, transB=1), transB=1
            )
            for way, (h, of_cell, early, addend) in enumerate(
                zip(self._apart(states), self._apart(cell), self._early, addends, strict=True)
            )
        ]
        return self._body.node("Concat", *products, axis=0) if self._directions > 1 else products[0]

    def late(self, cell: str, addend: str, number: int) -> str:
        """P[number] C + addend, P being a matrix: [rows, units]."""
        products = [
            self._body.node("Gemm", of_cell, self._weight("P", way, number, number + 1), part, transB=1)
            for way, (of_cell, part) in enumerate(zip(self._apart(cell), self._apart(addend), strict=True))
        ]
        return self._body.node("Concat", *products, axis=0) if self._directions > 1 else products[0]

    def biases(self, start: int, stop: int) -> list[str]:
        """B[start:stop] of each direction."""
        return [self._weight("B", way, start, stop) for way in range(self._directions)]

    def peephole(self, number: int, cell: str, addend: str) -> str:
        """P[number] * cell + addend: [rows, units]."""
        return self._body.node("Add", self._body.node("Mul", self._peepholes[number], cell), addend)

    def _apart(self, states: str) -> list[str]:
        """The rows of each direction."""
        if self._directions == 1:
            return [states]
        if states not in self._parts:
            self._parts[states] = self._body.nodes_out("Split", self._directions, states, axis=0)
        return self._parts[states]

    def _whole(self, part: str, way: int) -> str:
        return self._body.matrix(f"{self._name}.{part}", way)

    def _weight(self, part: str, way: int, start: int, stop: int) -> str:
        return self._body.matrix(f"{self._name}.{part}", way, start * self._units, stop * self._units)


def _unchanged(builder: Builder, emitted: Gates) -> Gates:
    return emitted


@dataclass(frozen=True, slots=True)
class Step:
    """The state that a Scan carries from step to step, and the equations of one step.

    `equations` take the body, the recurrent weights, the input product of each of `blocks`, and the previous states.
    They give the value to emit for every gate. `afterwards` completes the emitted values for all steps at once.
    """

    states: tuple[str, ...]
    blocks: tuple[Block, ...]
    equations: Callable[[Builder, Recurrent, list[list[str]], Gates], Gates]
    afterwards: Callable[[Builder, Gates], Gates] = _unchanged


def _rnn(body: Builder, recurrent: Recurrent, inputs: list[list[str]], before: Gates) -> Gates:
    return {"hidden": body.node("Tanh", recurrent.product(before["hidden"], inputs[0], 0, 1))}


def _lstm(body: Builder, recurrent: Recurrent, inputs: list[list[str]], before: Gates) -> Gates:
    sums = body.nodes_out("Split", 4, recurrent.product(before["hidden"], inputs[0], 0, 4), axis=1)
    i, o, f = (body.node("Sigmoid", each) for each in sums[:3])
    candidate = body.node("Tanh", sums[3])
    cell = body.node("Add", body.node("Mul", f, before["cell"]), body.node("Mul", i, candidate))
    hidden = body.node("Mul", o, body.node("Tanh", cell))
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def _peephole(body: Builder, recurrent: Recurrent, inputs: list[list[str]], before: Gates) -> Gates:
    sums = body.nodes_out("Split", 4, recurrent.product(before["hidden"], inputs[0], 0, 4), axis=1)
    i, f = (body.node("Sigmoid", recurrent.peephole(number, before["cell"], sums[number])) for number in (0, 2))
    candidate = body.node("Tanh", sums[3])
    cell = body.node("Add", body.node("Mul", f, before["cell"]), body.node("Mul", i, candidate))
    o = body.node("Sigmoid", recurrent.peephole(1, cell, sums[1]))
    hidden = body.node("Mul", o, body.node("Tanh", cell))
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def _full_peephole(body: Builder, recurrent: Recurrent, inputs: list[list[str]], before: Gates) -> Gates:
    all_ = recurrent.seeing(before["hidden"], before["cell"], inputs[0])
    sums = body.nodes_out("Split", 4, all_, axis=1)
    i, f = (body.node("Sigmoid", sums[number]) for number in (0, 2))
    candidate = body.node("Tanh", sums[3])
    cell = body.node("Add", body.node("Mul", f, before["cell"]), body.node("Mul", i, candidate))
    o = body.node("Sigmoid", recurrent.late(cell, sums[1], 1))
    hidden = body.node("Mul", o, body.node("Tanh", cell))
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def _gru(body: Builder, recurrent: Recurrent, inputs: list[list[str]], before: Gates) -> Gates:
    """Reset after."""
    keep, reset = _keep_and_reset(body, recurrent, inputs, before)
    past = recurrent.product(before["hidden"], recurrent.biases(5, 6), 2, 3)
    candidate = body.node("Tanh", body.node("Add", inputs[1][0], body.node("Mul", reset, past)))
    return _renewed(body, keep, reset, candidate, before["hidden"])


def _gru_before(body: Builder, recurrent: Recurrent, inputs: list[list[str]], before: Gates) -> Gates:
    """Reset before."""
    keep, reset = _keep_and_reset(body, recurrent, inputs, before)
    left = body.node("Mul", reset, before["hidden"])
    candidate = body.node("Tanh", recurrent.product(left, inputs[1], 2, 3))
    return _renewed(body, keep, reset, candidate, before["hidden"])


def _keep_and_reset(body: Builder, recurrent: Recurrent, inputs: list[list[str]], before: Gates) -> tuple[str, str]:
    gates = body.node("Sigmoid", recurrent.product(before["hidden"], inputs[0], 0, 2))
    keep, reset = body.nodes_out("Split", 2, gates, axis=1)
    return keep, reset


def _renewed(body: Builder, keep: str, reset: str, candidate: str, hidden: str) -> Gates:
    """A GRU's gates and its new state, h~_t + keep * (h_{t-1} - h~_t). The entry `update` holds keep = 1 - z_t, which
    ONNX calls z; `_update` later replaces it with z_t."""
    after = body.node("Add", candidate, body.node("Mul", keep, body.node("Sub", hidden, candidate)))
    return {"update": keep, "reset": reset, "candidate": candidate, "hidden": after}


def _update(builder: Builder, emitted: Gates) -> Gates:
    one = builder.constant(np.array(1.0, np.float32))
    return emitted | {"update": builder.node("Sub", one, emitted["update"])}


STEPS: dict[tuple[CellName, Form | None], Step] = {
    ("rnn", None): Step(("hidden",), (Block(0, 1),), _rnn),
    ("lstm", None): Step(("hidden", "cell"), (Block(0, 4),), _lstm),
    ("peephole", "diagonal"): Step(("hidden", "cell"), (Block(0, 4),), _peephole),
    ("peephole", "full"): Step(("hidden", "cell"), (Block(0, 4),), _full_peephole),
    ("gru", "after"): Step(("hidden",), (Block(0, 2), Block(2, 3, stacked=True)), _gru, _update),
    ("gru", "before"): Step(("hidden",), (Block(0, 2), Block(2, 3)), _gru_before, _update),
}
