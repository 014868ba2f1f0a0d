"""The networks in float64 NumPy, one input and one step at a time, written from the equations alone.

The judge of cells, networks, graphs and traces: it shares no code with any of them. Weights are read from torch's
parameters by torch's documented layout: an LSTM's rows are i, f, g, o and a GRU's r, z, n, each block `units` high.

    rnn     h' = tanh(W [h, x] + b)
    lstm    f = σ(W_f [h, x] + b_f), i and o alike, C~ = tanh(W_C [h, x] + b_C), C' = f * C + i * C~, h' = o * tanh(C')
    peephole  f = σ(W_f [h, x] + p_f * C + b_f), i alike, C' as the LSTM's, o = σ(W_o [h, x] + p_o * C' + b_o)
    gru     z = σ(W_z [h, x] + b_z), r alike, h~ = tanh(W x + b + r * (R h + c)), h' = (1 - z) * h + z * h~
    gru-before  the same with h~ = tanh(W [r * h, x] + b)
    peephole-full  f = σ(W_f [h, x, C] + b_f), i alike, C~ = tanh(W_C [h, x, C] + b_C), o = σ(W_o [h, x, C'] + b_o)
    mingru  z = σ(W x + b), h~ = tanh(W x + b), h' = (1 - z) * h + z * h~
    minlstm  f = σ(W x + b), i = σ(W x + b), h~ = tanh(W x + b), h' = f / (f + i) * h + i / (f + i) * h~

torch's GRU weights are those of the complement of z: 1 - σ(a) = σ(-a), so their signs are turned around here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from service.model.equations import Direction
from training.nets.cells import Cell, FullPeephole, Minimal, Peephole, ResetBeforeGRU, word_of
from training.nets.networks import Network, Table

Array = NDArray[np.float64]
Key = tuple[int, Direction, str]


@dataclass(frozen=True)
class Answer:
    """Logits [labels], or [time, labels] under a tagging head; every gate [time, units]."""

    logits: Array
    gates: dict[Key, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def rnn(cell: Cell, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last."""
    w, r, b, c = _parameters(cell)
    hidden = np.zeros(cell.units)
    steps = []
    for x in inputs:
        hidden = np.tanh(w @ x + b + r @ hidden + c)
        steps.append(hidden)
    return {"hidden": np.array(steps)}


def lstm(cell: Cell, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last."""
    return _lstm(cell, inputs, np.zeros((3, cell.units)))


def peephole(cell: Cell, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last; the rows of the peepholes are i, f, o."""
    assert isinstance(cell, Peephole)
    return _lstm(cell, inputs, _wide(cell.peepholes))


def _lstm(cell: Cell, inputs: Array, peepholes: Array) -> dict[str, Array]:
    w, r, b, c = _parameters(cell)
    units = cell.units
    p_i, p_f, p_o = peepholes
    blocks = {name: slice(n * units, (n + 1) * units) for n, name in enumerate(("i", "f", "g", "o"))}

    def product(name: str, x: Array, h: Array) -> Array:
        rows = blocks[name]
        return w[rows] @ x + b[rows] + r[rows] @ h + c[rows]

    hidden = state = np.zeros(units)
    steps = []
    for x in inputs:
        f, i = sigmoid(product("f", x, hidden) + p_f * state), sigmoid(product("i", x, hidden) + p_i * state)
        candidate = np.tanh(product("g", x, hidden))
        state = f * state + i * candidate
        o = sigmoid(product("o", x, hidden) + p_o * state)
        hidden = o * np.tanh(state)
        steps.append({"forget": f, "input": i, "output": o, "candidate": candidate, "cell": state, "hidden": hidden})
    return {gate: np.array([step[gate] for step in steps]) for gate in steps[0]}


def full_peephole(cell: Cell, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last; the rows of all matrices are i, f, C~, o."""
    assert isinstance(cell, FullPeephole)
    # W [h, x, C] + b as it is drawn: one matrix over the three.
    w = np.hstack([_wide(cell.r), _wide(cell.w), _wide(cell.peepholes)])
    matrices = dict(zip("ifgo", np.split(w, 4), strict=True))
    biases = dict(zip("ifgo", np.split(_wide(cell.bias), 4), strict=True))

    def product(name: str, h: Array, x: Array, c: Array) -> Array:
        total: Array = matrices[name] @ np.concatenate([h, x, c]) + biases[name]
        return total

    hidden = state = np.zeros(cell.units)
    steps = []
    for x in inputs:
        f, i = (sigmoid(product(name, hidden, x, state)) for name in "fi")
        candidate = np.tanh(product("g", hidden, x, state))
        state = f * state + i * candidate
        o = sigmoid(product("o", hidden, x, state))
        hidden = o * np.tanh(state)
        steps.append({"forget": f, "input": i, "output": o, "candidate": candidate, "cell": state, "hidden": hidden})
    return {gate: np.array([step[gate] for step in steps]) for gate in steps[0]}


def minimal(cell: Cell, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last; rows are z, h~ of a minGRU and f, i, h~ of a minLSTM."""
    assert isinstance(cell, Minimal)
    sums = np.split(inputs @ _wide(cell.w).T + _wide(cell.bias), len(cell.blocks), axis=1)
    candidate = np.tanh(sums[-1])
    if len(sums) == 2:
        taken = sigmoid(sums[0])
        gates = {"update": taken}
    else:
        f, i = sigmoid(sums[0]), sigmoid(sums[1])
        taken = i / (f + i)
        gates = {"forget": f / (f + i), "input": taken}
    hidden = np.zeros(cell.units)
    steps = []
    for z, c in zip(taken, candidate, strict=True):
        hidden = (1 - z) * hidden + z * c
        steps.append(hidden)
    return {**gates, "candidate": candidate, "hidden": np.array(steps)}


def gru(cell: Cell, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last; the reset gate is applied after the matrix product."""
    return _gru(cell, inputs, before=False)


def gru_before(cell: Cell, inputs: Array) -> dict[str, Array]:
    """Read inputs [time, inputs] from first to last; the reset gate is applied before the matrix product."""
    return _gru(cell, inputs, before=True)


def _gru(cell: Cell, inputs: Array, *, before: bool) -> dict[str, Array]:
    w, r, b, c = _parameters(cell)
    units = cell.units
    blocks = {name: slice(n * units, (n + 1) * units) for n, name in enumerate(("r", "z", "n"))}

    def product(name: str, x: Array, h: Array) -> tuple[Array, Array]:
        rows = blocks[name]
        return w[rows] @ x + b[rows], r[rows] @ h + c[rows]

    hidden = np.zeros(units)
    steps = []
    for x in inputs:
        reset = sigmoid(np.add(*product("r", x, hidden)))
        update = sigmoid(-np.add(*product("z", x, hidden)))
        now, past = product("n", x, reset * hidden if before else hidden)
        candidate = np.tanh(now + (past if before else reset * past))
        hidden = (1 - update) * hidden + update * candidate
        steps.append({"update": update, "reset": reset, "candidate": candidate, "hidden": hidden})
    return {gate: np.array([step[gate] for step in steps]) for gate in steps[0]}


CELLS: dict[str, Callable[[Cell, Array], dict[str, Array]]] = {
    "rnn": rnn,
    "lstm": lstm,
    "peephole": peephole,
    "gru": gru,
    "gru-before": gru_before,
    "peephole-full": full_peephole,
    "mingru": minimal,
    "minlstm": minimal,
}


def read(kind: str, cell: Cell, inputs: Array, direction: Direction) -> dict[str, Array]:
    """One direction of one layer; row t belongs to token t, whichever way it was read."""
    if direction == "forward":
        return CELLS[kind](cell, inputs)
    return {gate: rows[::-1] for gate, rows in CELLS[kind](cell, inputs[::-1]).items()}


def answer(network: Network, row: NDArray[np.int32]) -> Answer:
    """What a network makes of one input, int32 [tokens, features]."""
    shape = network.architecture
    tables = [_wide(cast(Table, table).weight) for table in network.embeddings.values()]
    states = np.concatenate([table[ids] for table, ids in zip(tables, row.T, strict=True)], axis=1)
    gates: dict[Key, Array] = {}
    for number in range(shape.layers):
        outputs = []
        for way, direction in enumerate(shape.directions):
            cell = network.recurrent()[number].directions()[way]
            kind = word_of(shape.cell, shape.form)
            found = read(kind, cell, states, direction)
            gates |= {(number, direction, gate): rows for gate, rows in found.items()}
            outputs.append(found["hidden"])
        states = np.concatenate(outputs, axis=1)
    pooled = {
        "attention": _attended(network, states),
        "tagger": states,
        "max": states.max(axis=0),
        "mean": states.mean(axis=0),
        "last": np.concatenate([states[-1, : shape.hidden], states[0, shape.hidden :]]),
    }[shape.head]
    return Answer(pooled @ _wide(network.head.weight).T + _wide(network.head.bias), gates)


def _attended(network: Network, states: Array) -> Array:
    """The mean of states [time, width], weighted by the softmax of their products with the query."""
    if network.query is None:
        return states
    products = states @ _wide(network.query)
    weights = np.exp(products - products.max())
    mean: Array = weights @ states / weights.sum()
    return mean


def _parameters(cell: Cell) -> list[Array]:
    """W, R and two biases; cells on kernels of our own have one bias alone."""
    if isinstance(cell, Peephole | ResetBeforeGRU):
        return [_wide(cell.w), _wide(cell.r), _wide(cell.bias), np.zeros(len(cell.bias))]
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [_wide(getattr(cell.kernel, name)) for name in names]


def _wide(parameter: Tensor) -> Array:
    return parameter.detach().cpu().double().numpy()
