"""A network's weights → the two ONNX graphs: fused operators for predictions, the cell step by step for gates.

Both are built node by node (nothing is traced) and read one file of weights. Inside the graphs time comes first,
[time, batch, …], as the recurrent operators want it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from service.bundle import MODEL_GRAPH, TRACE_GRAPH, WEIGHTS
from service.engine import gate_keys
from service.equations import CellName, GruReset, gate_names
from training.builder import Builder, Weights, value
from training.cells import GateWeights
from training.networks import Architecture, Network

# The order in which ONNX stacks the gates' rows in W, R and B.
_STACKING: dict[CellName, tuple[str, ...]] = {
    "rnn": ("hidden",),
    "lstm": ("input", "output", "forget", "candidate"),
    "peephole": ("input", "output", "forget", "candidate"),
    "gru": ("keep", "reset", "candidate"),
}


_OPERATORS: dict[CellName, str] = {"rnn": "RNN", "lstm": "LSTM", "peephole": "LSTM", "gru": "GRU"}


def write(network: Network, folder: Path) -> None:
    """Write ``weights.safetensors``, ``model.onnx`` and ``trace.onnx`` into a folder.

    Embeddings are stored as float16: a network whose tables are not rounded to it answers slightly differently.
    """
    weights = Weights(folder / WEIGHTS, _arrays(network))
    for name, build in ((MODEL_GRAPH, _fused), (TRACE_GRAPH, _stepwise)):
        (folder / name).write_bytes(build(Builder(weights), network.architecture))
        onnx.checker.check_model(str(folder / name), full_check=True)


def _arrays(network: Network) -> dict[str, NDArray[np.generic]]:
    """Every weight by its name in the file, in ONNX's layouts; recurrent ones are stacked by direction."""
    architecture = network.architecture
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, table in network.embeddings.items():
        assert isinstance(table, nn.Embedding)
        arrays[f"embedding.{name}"] = table.weight.detach().cpu().numpy().astype(np.float16)
    for number, layer in enumerate(network.recurrent()):
        ways = [_stack(architecture, cell.weights()) for cell in layer.directions()]
        for part in ways[0]:
            arrays[f"recurrent.{number}.{part}"] = np.stack([way[part] for way in ways])
    arrays["head.weight"] = network.head.weight.detach().cpu().numpy()
    arrays["head.bias"] = network.head.bias.detach().cpu().numpy()
    return arrays


def _stack(architecture: Architecture, weights: Mapping[str, GateWeights]) -> dict[str, NDArray[np.float32]]:
    """W [blocks * units, inputs], R [blocks * units, units] and B [2 * blocks * units], stacked as ONNX does; and P
    [3 * units] of a cell with peepholes.

    The two biases of a gate are added up in B's first half, so that the trace graph needs that half alone; only the
    candidate of a reset-after GRU keeps its recurrent bias apart, because the reset gate multiplies it.
    """
    stacking, after = _STACKING[architecture.cell], architecture.gru_reset == "after"
    gates = [(weights[gate], after and gate == "candidate") for gate in stacking]
    first = [(gate.w_bias if apart else gate.w_bias + gate.r_bias).numpy() for gate, apart in gates]
    second = [(gate.r_bias if apart else gate.r_bias * 0).numpy() for gate, apart in gates]
    parts = {
        "W": np.concatenate([gate.w.numpy() for gate, _ in gates]),
        "R": np.concatenate([gate.r.numpy() for gate, _ in gates]),
        "B": np.concatenate(first + second),
    }
    if peepholes := [gate.peephole.numpy() for gate, _ in gates if gate.peephole is not None]:
        parts["P"] = np.concatenate(peepholes)
    return parts


def _fused(builder: Builder, architecture: Architecture) -> bytes:
    """``model.onnx``: about ten nodes, one recurrent operator a layer."""
    states = _embed(builder, architecture)
    attributes: dict[str, object] = {"hidden_size": architecture.hidden}
    attributes["direction"] = "bidirectional" if len(architecture.directions) == 2 else "forward"
    if architecture.cell == "gru":
        attributes["linear_before_reset"] = int(architecture.gru_reset == "after")
    for number in range(architecture.layers):
        inputs = [states, *(builder.weight(f"recurrent.{number}.{part}") for part in "WRB"), "lengths"]
        if architecture.cell == "peephole":
            inputs += ["", "", builder.weight(f"recurrent.{number}.P")]  # no initial states
        output = builder.node(_OPERATORS[architecture.cell], *inputs, **attributes)
        together = builder.node("Transpose", output, perm=[0, 2, 1, 3])
        states = builder.node("Reshape", together, builder.integers(0, 0, architecture.width))
    _head(builder, architecture, states)
    return builder.model("model", _inputs(), [_logits(architecture)])


def _stepwise(builder: Builder, architecture: Architecture) -> bytes:
    """``trace.onnx``: the input's product for all steps at once, then a Scan over time that emits every gate."""
    states = _embed(builder, architecture)
    valid = builder.node("Unsqueeze", _valid(builder), builder.integers(2))
    zeros = _zero_state(builder, architecture.hidden)
    for number in range(architecture.layers):
        hidden = []
        for way, direction in enumerate(architecture.directions):
            gates = _scan(builder, architecture, f"recurrent.{number}", way, states, valid, zeros)
            for gate in gate_names(architecture.cell):
                builder.rename(gates[gate], f"{number}.{direction}.{gate}")
            hidden.append(gates["hidden"])
        states = builder.node("Concat", *hidden, axis=2) if len(hidden) > 1 else hidden[0]
    _head(builder, architecture, states)
    keys = gate_keys(architecture.layers, architecture.directions, gate_names(architecture.cell))
    gates_out = [
        value(".".join(map(str, key)), TensorProto.FLOAT, "time", "batch", architecture.hidden) for key in keys
    ]
    return builder.model("trace", _inputs(), [_logits(architecture), *gates_out])


def _inputs() -> list[onnx.ValueInfoProto]:
    tokens = value("tokens", TensorProto.INT32, "batch", "time", "features")
    return [tokens, value("lengths", TensorProto.INT32, "batch")]


def _logits(architecture: Architecture) -> onnx.ValueInfoProto:
    time = ("time",) if architecture.head == "tagger" else ()
    return value("logits", TensorProto.FLOAT, "batch", *time, len(architecture.labels))


def _embed(builder: Builder, architecture: Architecture) -> str:
    """tokens [batch, time, features] → [time, batch, sum of the embedding sizes], float32."""
    columns = builder.node("Transpose", "tokens", perm=[2, 1, 0])
    found = []
    for position, feature in enumerate(architecture.features):
        rows = builder.node("Gather", columns, builder.constant(np.array(position, np.int64)), axis=0)
        found.append(builder.node("Gather", builder.weight(f"embedding.{feature.name}"), rows, axis=0))
    together = builder.node("Concat", *found, axis=2) if len(found) > 1 else found[0]
    return builder.node("Cast", together, to=TensorProto.FLOAT)


def _valid(builder: Builder) -> str:
    """[time, batch], true where a row has a token."""
    lengths = builder.node("Cast", "lengths", to=TensorProto.INT64)
    time = builder.node("Gather", builder.node("Shape", "tokens"), builder.constant(np.array(1, np.int64)), axis=0)
    zero, one = (builder.constant(np.array(number, np.int64)) for number in (0, 1))
    steps = builder.node("Unsqueeze", builder.node("Range", zero, time, one), builder.integers(1))
    return builder.node("Less", steps, lengths)


def _zero_state(builder: Builder, units: int) -> str:
    """Zeros [batch, units]."""
    batch = builder.node("Shape", "lengths")
    shape = builder.node("Concat", batch, builder.integers(units), axis=0)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return builder.node("ConstantOfShape", shape, value=zero)


def _head(builder: Builder, architecture: Architecture, states: str) -> None:
    """states [time, batch, width] → the graph's output ``logits``."""
    weight, bias = builder.weight("head.weight"), builder.weight("head.bias")
    if architecture.head == "tagger":
        product = builder.node("MatMul", states, builder.node("Transpose", weight, perm=[1, 0]))
        builder.rename(builder.node("Transpose", builder.node("Add", product, bias), perm=[1, 0, 2]), "logits")
    else:
        pooled = _POOLING[architecture.head](builder, architecture, states)
        builder.rename(builder.node("Gemm", pooled, weight, bias, transB=1), "logits")


def _masked(builder: Builder, states: str, filler: float) -> str:
    valid = builder.node("Unsqueeze", _valid(builder), builder.integers(2))
    return builder.node("Where", valid, states, builder.constant(np.array(filler, np.float32)))


def _max(builder: Builder, architecture: Architecture, states: str) -> str:
    return builder.node("ReduceMax", _masked(builder, states, -2.0), axes=[0], keepdims=0)


def _mean(builder: Builder, architecture: Architecture, states: str) -> str:
    total = builder.node("ReduceSum", _masked(builder, states, 0.0), builder.integers(0), keepdims=0)
    lengths = builder.node("Cast", "lengths", to=TensorProto.FLOAT)
    return builder.node("Div", total, builder.node("Unsqueeze", lengths, builder.integers(1)))


def _last(builder: Builder, architecture: Architecture, states: str) -> str:
    """The state after each reader's last token: at the row's end going forward, at its beginning going backward."""
    rows = builder.node("Cast", "lengths", to=TensorProto.INT64)
    ends = builder.node("Sub", rows, builder.integers(1))
    zero, one = (builder.constant(np.array(number, np.int64)) for number in (0, 1))
    batch = builder.node("Squeeze", builder.node("Shape", "lengths"), builder.integers(0))
    columns = builder.node("Range", zero, batch, one)
    where = [builder.node("Unsqueeze", each, builder.integers(1)) for each in (ends, columns)]
    last = builder.node("GatherND", states, builder.node("Concat", *where, axis=1))
    if len(architecture.directions) == 1:
        return last
    forward = _columns(builder, last, 0, architecture.hidden)
    backward = _columns(builder, builder.node("Gather", states, zero, axis=0), architecture.hidden, architecture.width)
    return builder.node("Concat", forward, backward, axis=1)


def _columns(builder: Builder, array: str, start: int, stop: int) -> str:
    return builder.node("Slice", array, builder.integers(start), builder.integers(stop), builder.integers(1))


_POOLING: dict[str, Callable[[Builder, Architecture, str], str]] = {"max": _max, "mean": _mean, "last": _last}


def _scan(
    builder: Builder, architecture: Architecture, name: str, way: int, states: str, valid: str, zeros: str
) -> dict[str, str]:
    """One direction of a layer, step by step: gate name → [time, batch, units]."""
    units, step = architecture.hidden, _STEPS[architecture.cell, architecture.gru_reset]
    rows = units * len(_STACKING[architecture.cell])
    turned = builder.node("Transpose", builder.weight(f"{name}.W", way), perm=[1, 0])
    inputs = builder.node("MatMul", states, turned)
    inputs = builder.node("Add", inputs, builder.weight(f"{name}.B", way, 0, rows))
    if way == 1:
        inputs = builder.node("Where", valid, inputs, _padding(builder, architecture))
    body = builder.subgraph()
    before = {state: body.name(f"{state}_before") for state in step.states}
    arrived = body.name("inputs")
    gates = step.equations(body, _Recurrent(body, name, way, units), arrived, before)
    ins = [value(each, TensorProto.FLOAT, "batch", units) for each in before.values()]
    ins.append(value(arrived, TensorProto.FLOAT, "batch", rows))
    # A body's outputs need names of their own: a state is given on and emitted.
    given_on = [body.node("Identity", gates[state]) for state in step.states]
    outs = [value(each, TensorProto.FLOAT, "batch", units) for each in (*given_on, *gates.values())]
    graph = helper.make_graph(body.nodes, body.name("step"), ins, outs)
    scan = {"body": graph, "num_scan_inputs": 1, "scan_input_directions": [way]}
    scan["scan_output_directions"] = [way] * len(gates)
    found = builder.nodes_out("Scan", len(outs), *[zeros] * len(before), inputs, **scan)
    return dict(zip(gates, found[len(before) :], strict=True))


def _padding(builder: Builder, architecture: Architecture) -> str:
    """The pre-activations that keep a zero state zero: how the backward reader passes over the padding at a row's end
    before it meets the row's last token. A closed input gate, a GRU that keeps everything, or nothing at all."""
    stacking = _STACKING[architecture.cell]
    row = np.zeros((len(stacking), architecture.hidden), np.float32)
    for gate, pre_activation in {"input": -1e4, "keep": 1e4}.items():
        if gate in stacking:
            row[stacking.index(gate)] = pre_activation
    return builder.constant(row.reshape(1, 1, -1))


class _Recurrent:
    """The recurrent weights of one direction, inside a Scan's body."""

    def __init__(self, body: Builder, name: str, way: int, units: int) -> None:
        self._body, self._name, self._way, self.units = body, name, way, units

    def product(self, hidden: str, addend: str, start: int, stop: int) -> str:
        """R[start:stop] h + addend, blocks counted in units: [batch, (stop - start) * units]."""
        rows = self._body.weight(f"{self._name}.R", self._way, start * self.units, stop * self.units)
        return self._body.node("Gemm", hidden, rows, addend, transB=1)

    def bias(self, start: int, stop: int) -> str:
        return self._body.weight(f"{self._name}.B", self._way, start * self.units, stop * self.units)

    def peephole(self, number: int, cell: str, addend: str) -> str:
        """P[number] * cell + addend: [batch, units]."""
        row = self._body.weight(f"{self._name}.P", self._way, number * self.units, (number + 1) * self.units)
        return self._body.node("Add", self._body.node("Mul", row, cell), addend)


def _rnn(body: Builder, recurrent: _Recurrent, inputs: str, before: dict[str, str]) -> dict[str, str]:
    return {"hidden": body.node("Tanh", recurrent.product(before["hidden"], inputs, 0, 1))}


def _lstm(body: Builder, recurrent: _Recurrent, inputs: str, before: dict[str, str]) -> dict[str, str]:
    sums = body.nodes_out("Split", 4, recurrent.product(before["hidden"], inputs, 0, 4), axis=1)
    i, o, f = (body.node("Sigmoid", each) for each in sums[:3])
    candidate = body.node("Tanh", sums[3])
    cell = body.node("Add", body.node("Mul", f, before["cell"]), body.node("Mul", i, candidate))
    hidden = body.node("Mul", o, body.node("Tanh", cell))
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def _peephole(body: Builder, recurrent: _Recurrent, inputs: str, before: dict[str, str]) -> dict[str, str]:
    sums = body.nodes_out("Split", 4, recurrent.product(before["hidden"], inputs, 0, 4), axis=1)
    i, f = (body.node("Sigmoid", recurrent.peephole(number, before["cell"], sums[number])) for number in (0, 2))
    candidate = body.node("Tanh", sums[3])
    cell = body.node("Add", body.node("Mul", f, before["cell"]), body.node("Mul", i, candidate))
    o = body.node("Sigmoid", recurrent.peephole(1, cell, sums[1]))
    hidden = body.node("Mul", o, body.node("Tanh", cell))
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def _gru(body: Builder, recurrent: _Recurrent, inputs: str, before: dict[str, str]) -> dict[str, str]:
    """Reset after. ONNX's z, here `keep`, is the complement of the update gate."""
    hidden, units = before["hidden"], recurrent.units
    gates_in, candidate_in = body.nodes_out("Split", 2, inputs, body.integers(2 * units, units), axis=1)
    sums = recurrent.product(hidden, gates_in, 0, 2)
    keep, reset = body.nodes_out("Split", 2, body.node("Sigmoid", sums), axis=1)
    past = recurrent.product(hidden, recurrent.bias(5, 6), 2, 3)
    candidate = body.node("Tanh", body.node("Add", candidate_in, body.node("Mul", reset, past)))
    return _renewed(body, keep, reset, candidate, hidden)


def _gru_before(body: Builder, recurrent: _Recurrent, inputs: str, before: dict[str, str]) -> dict[str, str]:
    hidden, units = before["hidden"], recurrent.units
    gates_in, candidate_in = body.nodes_out("Split", 2, inputs, body.integers(2 * units, units), axis=1)
    sums = recurrent.product(hidden, gates_in, 0, 2)
    keep, reset = body.nodes_out("Split", 2, body.node("Sigmoid", sums), axis=1)
    left = body.node("Mul", reset, hidden)
    candidate = body.node("Tanh", recurrent.product(left, candidate_in, 2, 3))
    return _renewed(body, keep, reset, candidate, hidden)


def _renewed(body: Builder, keep: str, reset: str, candidate: str, hidden: str) -> dict[str, str]:
    """A GRU's gates and its new state, of the old one and the candidate."""
    update = body.node("Sub", body.constant(np.array(1.0, np.float32)), keep)
    after = body.node("Add", body.node("Mul", keep, hidden), body.node("Mul", update, candidate))
    return {"update": update, "reset": reset, "candidate": candidate, "hidden": after}


@dataclass(frozen=True, slots=True)
class _Step:
    """What a Scan carries from step to step, and the equations of one step: every gate, by name."""

    states: tuple[str, ...]
    equations: Callable[[Builder, _Recurrent, str, dict[str, str]], dict[str, str]]


_STEPS: dict[tuple[CellName, GruReset | None], _Step] = {
    ("rnn", None): _Step(("hidden",), _rnn),
    ("lstm", None): _Step(("hidden", "cell"), _lstm),
    ("peephole", None): _Step(("hidden", "cell"), _peephole),
    ("gru", "after"): _Step(("hidden",), _gru),
    ("gru", "before"): _Step(("hidden",), _gru_before),
}
