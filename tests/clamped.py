"""Runs with values set by hand, in float64: one token, one direction and one gate after the other, no batches.

Weights come from `service.scoring.reference`, the equations are written out here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import Bundle
from service.model.engine import GateKey
from service.model.interventions import Setting
from service.model.reference import GateWeights
from service.scoring import reference

Array = NDArray[np.float64]
Set = Callable[[str, Array], Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def total(gate: GateWeights, x: Array, h: Array) -> Array:
    assert gate.r is not None
    found: Array = gate.w @ x + gate.w_bias + gate.r @ h + gate.r_bias
    return found


def step(bundle: Bundle, cell: dict[str, GateWeights], x: Array, h: Array, c: Array, put: Set) -> dict[str, Array]:
    """One token's gates; `put` gives a gate's values back with what is set in their place."""
    manifest = bundle.manifest
    if manifest.cell == "rnn":
        return {"hidden": put("hidden", np.tanh(total(cell["hidden"], x, h)))}
    if manifest.cell == "gru":
        z = put("update", 1 - sigmoid(total(cell["keep"], x, h)))
        r = put("reset", sigmoid(total(cell["reset"], x, h)))
        last = cell["candidate"]
        assert last.r is not None
        before = manifest.gru_reset == "before"
        past = last.r @ (r * h) + last.r_bias if before else r * (last.r @ h + last.r_bias)
        new = put("candidate", np.tanh(last.w @ x + last.w_bias + past))
        return {"update": z, "reset": r, "candidate": new, "hidden": put("hidden", (1 - z) * h + z * new)}
    if manifest.cell in ("mingru", "minlstm"):
        sums = {gate: part.w @ x + part.w_bias for gate, part in cell.items()}
        if manifest.cell == "mingru":
            z = put("update", sigmoid(sums["update"]))
            found, kept = {"update": z}, 1 - z
        else:
            f, i = sigmoid(sums["forget"]), sigmoid(sums["input"])
            kept, z = put("forget", f / (f + i)), put("input", i / (f + i))
            found = {"forget": kept, "input": z}
        new = put("candidate", np.tanh(sums["candidate"]))
        return {**found, "candidate": new, "hidden": put("hidden", kept * h + z * new)}

    def seen(gate: str, state: Array) -> Array:
        peephole = cell[gate].peephole
        if peephole is None:
            return np.zeros_like(state)
        return peephole @ state if peephole.ndim == 2 else peephole * state

    f = put("forget", sigmoid(total(cell["forget"], x, h) + seen("forget", c)))
    i = put("input", sigmoid(total(cell["input"], x, h) + seen("input", c)))
    new = put("candidate", np.tanh(total(cell["candidate"], x, h) + seen("candidate", c)))
    state = put("cell", f * c + i * new)
    o = put("output", sigmoid(total(cell["output"], x, h) + seen("output", state)))
    hidden = put("hidden", o * np.tanh(state))
    return {"forget": f, "input": i, "output": o, "candidate": new, "cell": state, "hidden": hidden}


def run(bundle: Bundle, row: NDArray[np.int32], settings: Sequence[Setting]) -> tuple[Array, dict[GateKey, Array]]:
    """The logits and every gate [tokens, units] of one row."""
    network, manifest = reference.read(bundle), bundle.manifest
    states, gates, units = network.read(row).astype(np.float64), {}, manifest.hidden
    for layer in range(manifest.layers):
        outputs = []
        for cell, direction in zip(reference.cells(network, layer), manifest.directions, strict=True):
            found: dict[int, dict[str, Array]] = {}
            h = c = np.zeros(units)
            order = range(len(row)) if direction == "forward" else reversed(range(len(row)))
            for token in order:

                def put(gate: str, values: Array, token: int = token, direction: str = direction) -> Array:
                    values = values.copy()
                    for each in settings:
                        here = (each.layer, each.direction, each.gate) == (layer, direction, gate)  # noqa: B023  # called in this turn of the loop
                        if here and (each.tokens is None or token in each.tokens):
                            values[list(range(units) if each.units is None else each.units)] = each.value
                    return values

                found[token] = step(bundle, dict(cell), states[token], h, c, put)
                h, c = found[token]["hidden"], found[token].get("cell", c)
            rows = [found[token] for token in range(len(row))]
            for gate in rows[0]:
                gates[layer, direction, gate] = np.array([each[gate] for each in rows])
            outputs.append(gates[layer, direction, "hidden"])
        states = np.concatenate(outputs, axis=1)
    return reference.logits(network, states), gates
