"""The networks in float64 NumPy, one input and one step at a time, written from the equations alone.

The judge of cells, networks, graphs and traces: it shares no code with any of them. Weights are read from torch's
parameters by torch's documented layout: an LSTM's rows are i, f, g, o and a GRU's r, z, n, each block `units` high.

    lstm    f = σ(W_f [h, x] + b_f), i and o alike, C~ = tanh(W_C [h, x] + b_C), C' = f * C + i * C~, h' = o * tanh(C')
    gru     z = σ(W_z [h, x] + b_z), r alike, h~ = tanh(W x + b + r * (R h + c)), h' = (1 - z) * h + z * h~

torch's GRU weights are those of the complement of z: 1 - σ(a) = σ(-a), so their signs are turned around here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from service.equations import CellName, Direction
from training.networks import Network

Array = NDArray[np.float64]
Key = tuple[int, Direction, str]


@dataclass(frozen=True)
class Answer:
    """Logits [labels], or [time, labels] under a tagging head; every gate [time, units]."""

    logits: Array
    gates: dict[Key, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm(kernel: nn.RNNBase, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last."""
    w, r, b, c = _parameters(kernel)
    units = kernel.hidden_size
    blocks = {name: slice(n * units, (n + 1) * units) for n, name in enumerate(("i", "f", "g", "o"))}

    def product(name: str, x: Array, h: Array) -> Array:
        rows = blocks[name]
        return w[rows] @ x + b[rows] + r[rows] @ h + c[rows]

    hidden = state = np.zeros(units)
    steps = []
    for x in inputs:
        f, i, o = (sigmoid(product(name, x, hidden)) for name in ("f", "i", "o"))
        candidate = np.tanh(product("g", x, hidden))
        state = f * state + i * candidate
        hidden = o * np.tanh(state)
        steps.append({"forget": f, "input": i, "output": o, "candidate": candidate, "cell": state, "hidden": hidden})
    return {gate: np.array([step[gate] for step in steps]) for gate in steps[0]}


def gru(kernel: nn.RNNBase, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last; the reset gate is applied after the matrix product."""
    w, r, b, c = _parameters(kernel)
    units = kernel.hidden_size
    blocks = {name: slice(n * units, (n + 1) * units) for n, name in enumerate(("r", "z", "n"))}

    def product(name: str, x: Array, h: Array) -> tuple[Array, Array]:
        rows = blocks[name]
        return w[rows] @ x + b[rows], r[rows] @ h + c[rows]

    hidden = np.zeros(units)
    steps = []
    for x in inputs:
        reset = sigmoid(sum(product("r", x, hidden)))
        update = sigmoid(-sum(product("z", x, hidden)))
        now, past = product("n", x, hidden)
        candidate = np.tanh(now + reset * past)
        hidden = (1 - update) * hidden + update * candidate
        steps.append({"update": update, "reset": reset, "candidate": candidate, "hidden": hidden})
    return {gate: np.array([step[gate] for step in steps]) for gate in steps[0]}


CELLS = {"lstm": lstm, "gru": gru}


def read(cell: CellName, kernel: nn.RNNBase, inputs: Array, direction: Direction) -> dict[str, Array]:
    """One direction of one layer; row t belongs to token t, whichever way it was read."""
    if direction == "forward":
        return CELLS[cell](kernel, inputs)
    return {gate: rows[::-1] for gate, rows in CELLS[cell](kernel, inputs[::-1]).items()}


def answer(network: Network, row: NDArray[np.int32]) -> Answer:
    """What a network makes of one input, int32 [tokens, features]."""
    shape = network.architecture
    tables = [_wide(table.weight) for table in network.embeddings.values()]
    states = np.concatenate([table[ids] for table, ids in zip(tables, row.T, strict=True)], axis=1)
    gates: dict[Key, Array] = {}
    for number in range(shape.layers):
        outputs = []
        for way, direction in enumerate(shape.directions):
            kernel = network.layers[number].cells[way].kernel
            found = read(shape.cell, kernel, states, direction)
            gates |= {(number, direction, gate): rows for gate, rows in found.items()}
            outputs.append(found["hidden"])
        states = np.concatenate(outputs, axis=1)
    pooled = {
        "tagger": states,
        "max": states.max(axis=0),
        "mean": states.mean(axis=0),
        "last": np.concatenate([states[-1, : shape.hidden], states[0, shape.hidden :]]),
    }[shape.head]
    return Answer(pooled @ _wide(network.head.weight).T + _wide(network.head.bias), gates)


def _parameters(kernel: nn.RNNBase) -> list[Array]:
    return [_wide(getattr(kernel, name)) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]


def _wide(parameter: nn.Parameter) -> Array:
    return parameter.detach().cpu().double().numpy()
