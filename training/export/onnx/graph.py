"""A network's weights → the two ONNX graphs: fused operators for predictions, the cell step by step for gates.

Both are built node by node (nothing is traced) and read one file of weights. Inside the graphs time comes first,
[time, batch, …], as the recurrent operators want it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.model.bundle import MODEL_GRAPH, TRACE_GRAPH, WEIGHTS, Precision
from service.model.engine import trace_output
from service.model.equations import CellName, gate_names
from training.export.onnx import integers
from training.export.onnx.builder import Builder, Weights, value
from training.export.onnx.embedding import embed, embeddings
from training.export.onnx.nodes import STEPS, Recurrent
from training.nets.cells import GateWeights
from training.nets.networks import Architecture, Network

STACKING: dict[CellName, tuple[str, ...]] = {
    "rnn": ("hidden",),
    "lstm": ("input", "output", "forget", "candidate"),
    "peephole": ("input", "output", "forget", "candidate"),
    "gru": ("keep", "reset", "candidate"),
}
"""The order in which ONNX stacks the gates' rows in W, R and B."""

_OPERATORS: dict[CellName, str] = {"rnn": "RNN", "lstm": "LSTM", "peephole": "LSTM", "gru": "GRU"}


def write(network: Network, folder: Path, precision: Precision = "float32") -> None:
    """Write ``weights.safetensors``, ``model.onnx`` and ``trace.onnx`` into a folder.

    Embeddings are stored as float16: a network whose tables are not rounded to it answers slightly differently. With
    int8 the weights of an LSTM that `integers.prepare` has rounded are kept as integers: the fused graph computes with
    them, and the trace graph with the same numbers in float32.
    """
    arrays = _arrays(network)
    weights = Weights(folder / WEIGHTS, integers.stored(arrays) if precision == "int8" else arrays)
    for name, build in ((MODEL_GRAPH, _fused), (TRACE_GRAPH, _stepwise)):
        (folder / name).write_bytes(build(Builder(weights), network.architecture))
        onnx.checker.check_model(str(folder / name), full_check=True)


def _arrays(network: Network) -> dict[str, NDArray[np.generic]]:
    """Every weight by its name in the file, in ONNX's layouts; recurrent ones are stacked by direction."""
    architecture = network.architecture
    arrays: dict[str, NDArray[np.generic]] = {}
    arrays.update(embeddings(network))
    for number, layer in enumerate(network.recurrent()):
        ways = [_stack(architecture, cell.weights()) for cell in layer.directions()]
        for part in ways[0]:
            arrays[f"recurrent.{number}.{part}"] = np.stack([way[part] for way in ways])
    arrays["head.weight"] = network.head.weight.detach().cpu().numpy()
    arrays["head.bias"] = network.head.bias.detach().cpu().numpy()
    if network.query is not None:
        arrays["head.query"] = network.query.detach().cpu().numpy()
    return arrays


def _stack(architecture: Architecture, weights: Mapping[str, GateWeights]) -> dict[str, NDArray[np.floating]]:
    """W [blocks * units, inputs], R [blocks * units, units] and B [2 * blocks * units], stacked as ONNX does; and P
    [3 * units] of a cell with peepholes.

    The two biases of a gate are added up in B's first half, so that the trace graph needs that half alone; only the
    candidate of a reset-after GRU keeps its recurrent bias apart, because the reset gate multiplies it.
    """
    stacking, after = STACKING[architecture.cell], architecture.gru_reset == "after"
    gates = [(weights[gate], after and gate == "candidate") for gate in stacking]
    first = [(gate.w_bias if apart else gate.w_bias + gate.r_bias).numpy() for gate, apart in gates]
    second = [(gate.r_bias if apart else gate.r_bias * 0).numpy() for gate, apart in gates]
    stored = np.float32 if architecture.word_bits == 16 else np.float16
    parts = {
        "W": np.concatenate([gate.w.numpy() for gate, _ in gates]).astype(stored),
        "R": np.concatenate([gate.r.numpy() for gate, _ in gates]).astype(stored),
        "B": np.concatenate(first + second),
    }
    if peepholes := [gate.peephole.numpy() for gate, _ in gates if gate.peephole is not None]:
        parts["P"] = np.concatenate(peepholes)
    return parts


def _fused(builder: Builder, architecture: Architecture) -> bytes:
    """``model.onnx``: about ten nodes, one recurrent operator a layer."""
    states = embed(builder, architecture)
    attributes: dict[str, object] = {"hidden_size": architecture.hidden}
    attributes["direction"] = "bidirectional" if len(architecture.directions) == 2 else "forward"
    if architecture.cell == "gru":
        attributes["linear_before_reset"] = int(architecture.gru_reset == "after")
    for number in range(architecture.layers):
        name = f"recurrent.{number}"
        if integers.is_stored(builder, name):
            output = integers.layer(builder, name, states, attributes)
        else:
            inputs = [states, *(builder.matrix(f"{name}.{part}") for part in "WRB"), "lengths"]
            if architecture.cell == "peephole":
                inputs += ["", "", builder.weight(f"{name}.P")]  # no initial states
            output = builder.node(_OPERATORS[architecture.cell], *inputs, **attributes)
        together = builder.node("Transpose", output, perm=[0, 2, 1, 3])
        states = builder.node("Reshape", together, builder.integers(0, 0, architecture.width))
    head(builder, architecture, states)
    return builder.model("model", token_inputs(), [logits_output(architecture)])


def _stepwise(builder: Builder, architecture: Architecture) -> bytes:
    """``trace.onnx``: the input's product for all steps at once, then a Scan over time that emits every gate.

    Both directions of a layer step together, stacked along the batch: first the forward reader's rows, then the
    backward reader's. The latter is given each row turned round, with the padding still at its end, so that it reads
    as the forward reader does, meets no padding before its tokens, and its gates come out in its own reading order.
    """
    states = embed(builder, architecture)
    lengths = builder.node("Cast", "lengths", to=TensorProto.INT64)
    both = len(architecture.directions) == 2
    zeros = zero_state(builder, architecture)
    for number in range(architecture.layers):
        readers = [states, _turned(builder, states, lengths)] if both else [states]
        gates = scan(builder, architecture, f"recurrent.{number}", readers, zeros)
        for gate in gate_names(architecture.cell):
            builder.rename(gates[gate], trace_output(number, gate))
        states = trace_output(number, "hidden")
        if both:
            forward, backward = builder.nodes_out("Split", 2, states, axis=1)
            states = builder.node("Concat", forward, _turned(builder, backward, lengths), axis=2)
    head(builder, architecture, states)
    rows = "rows" if both else "batch"
    gates_out = [
        value(trace_output(number, gate), TensorProto.FLOAT, "time", rows, architecture.hidden)
        for number in range(architecture.layers)
        for gate in gate_names(architecture.cell)
    ]
    return builder.model("trace", token_inputs(), [logits_output(architecture), *gates_out])


def _turned(builder: Builder, states: str, lengths: str) -> str:
    """[time, batch, …] with the first `lengths` steps of each row in the other order."""
    return builder.node("ReverseSequence", states, lengths, time_axis=0, batch_axis=1)


def token_inputs() -> list[onnx.ValueInfoProto]:
    tokens = value("tokens", TensorProto.INT32, "batch", "time", "features")
    return [tokens, value("lengths", TensorProto.INT32, "batch")]


def logits_output(architecture: Architecture) -> onnx.ValueInfoProto:
    time = ("time",) if architecture.head == "tagger" else ()
    return value("logits", TensorProto.FLOAT, "batch", *time, len(architecture.labels))


def _valid(builder: Builder) -> str:
    """[time, batch], true where a row has a token."""
    lengths = builder.node("Cast", "lengths", to=TensorProto.INT64)
    time = builder.node("Gather", builder.node("Shape", "tokens"), builder.constant(np.array(1, np.int64)), axis=0)
    zero, one = (builder.constant(np.array(number, np.int64)) for number in (0, 1))
    steps = builder.node("Unsqueeze", builder.node("Range", zero, time, one), builder.integers(1))
    return builder.node("Less", steps, lengths)


def zero_state(builder: Builder, architecture: Architecture) -> str:
    """Zeros [rows, units], a row for each input and direction."""
    rows = builder.node("Shape", "lengths")
    if len(architecture.directions) == 2:
        rows = builder.node("Mul", rows, builder.integers(2))
    shape = builder.node("Concat", rows, builder.integers(architecture.hidden), axis=0)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return builder.node("ConstantOfShape", shape, value=zero)


def head(builder: Builder, architecture: Architecture, states: str) -> None:
    """states [time, batch, width] → the graph's output ``logits``."""
    if architecture.head == "tagger":
        weight, bias = builder.weight("head.weight"), builder.weight("head.bias")
        product = builder.node("MatMul", states, builder.node("Transpose", weight, perm=[1, 0]))
        builder.rename(builder.node("Transpose", builder.node("Add", product, bias), perm=[1, 0, 2]), "logits")
    else:
        classify(builder, _POOLING[architecture.head](builder, architecture, states))


def classify(builder: Builder, pooled: str) -> None:
    """pooled [batch, width] → the graph's output ``logits``."""
    weight, bias = builder.weight("head.weight"), builder.weight("head.bias")
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


def _attention(builder: Builder, architecture: Architecture, states: str) -> str:
    """The mean of the states, weighted by the softmax over time of their products with the query."""
    query = builder.node("Unsqueeze", builder.weight("head.query"), builder.integers(1))
    products = builder.node("MatMul", states, query)
    valid = builder.node("Unsqueeze", _valid(builder), builder.integers(2))
    products = builder.node("Where", valid, products, builder.constant(np.array(-1e30, np.float32)))
    weighted = builder.node("Mul", builder.node("Softmax", products, axis=0), states)
    return builder.node("ReduceSum", weighted, builder.integers(0), keepdims=0)


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


_POOLING: dict[str, Callable[[Builder, Architecture, str], str]] = {
    "max": _max,
    "mean": _mean,
    "last": _last,
    "attention": _attention,
}


def scan(builder: Builder, architecture: Architecture, name: str, readers: Sequence[str], zeros: str) -> dict[str, str]:
    """A layer, step by step: gate name → [time, rows, units], the rows of one direction after those of the other.

    `readers` are the layer's inputs [time, batch, inputs], one for each direction, in the order in which it reads them.
    """
    units, step = architecture.hidden, STEPS[architecture.cell, architecture.gru_reset]
    body = builder.subgraph()
    products: list[str] = []
    ins, arrived = [], []
    for block in step.blocks:
        start, stop = block.start * units, block.stop * units
        found = [_product(builder, each, name, way, start, stop) for way, each in enumerate(readers)]
        if block.stacked and len(found) > 1:
            found = [builder.node("Concat", *found, axis=1)]
        products += found
        arrived.append([body.name("inputs") for _ in found])
        rows = "rows" if block.stacked else "batch"
        ins += [value(each, TensorProto.FLOAT, rows, stop - start) for each in arrived[-1]]
    before = {state: body.name(f"{state}_before") for state in step.states}
    states = [value(each, TensorProto.FLOAT, "rows", units) for each in before.values()]
    peepholes = _peepholes(builder, architecture, name) if architecture.cell == "peephole" else ()
    ways = range(len(readers)) if integers.is_stored(builder, name) else ()
    floats = [integers.matrix(builder, f"{name}.R", way, units) for way in ways]
    gates = step.equations(body, Recurrent(body, name, len(readers), units, peepholes, floats), arrived, before)
    # A body's outputs need names of their own: a state is given on and emitted.
    given_on = [body.node("Identity", gates[state]) for state in step.states]
    outs = [value(each, TensorProto.FLOAT, "rows", units) for each in (*given_on, *gates.values())]
    graph = helper.make_graph(body.nodes, body.name("step"), [*states, *ins], outs)
    scan = {"body": graph, "num_scan_inputs": len(products)}
    found = builder.nodes_out("Scan", len(outs), *[zeros] * len(before), *products, **scan)
    return step.afterwards(builder, dict(zip(gates, found[len(before) :], strict=True)))


def _product(builder: Builder, states: str, name: str, way: int, start: int, stop: int) -> str:
    """W[start:stop] x + B[start:stop] of one direction, for all steps: [time, batch, stop - start]."""
    if integers.is_stored(builder, name):  # an LSTM, all of whose gates arrive together
        units = stop // 4
        turned = integers.matrix(builder, f"{name}.W", way, units)
        bias = integers.bias(builder, f"{name}.B", way, units)
    else:
        turned = builder.node("Transpose", builder.matrix(f"{name}.W", way, start, stop), perm=[1, 0])
        bias = builder.weight(f"{name}.B", way, start, stop)
    return builder.node("Add", builder.node("MatMul", states, turned), bias)


def _peepholes(builder: Builder, architecture: Architecture, name: str) -> list[str]:
    """The peepholes of each gate that has them, for every row: [rows, units], or [units] where all rows share them."""
    units = architecture.hidden
    if len(architecture.directions) == 1:
        return [builder.weight(f"{name}.P", 0, number * units, (number + 1) * units) for number in range(3)]
    batch = builder.node("Shape", "lengths")
    whole = builder.node(
        "Concat", builder.integers(len(architecture.directions)), batch, builder.integers(3 * units), axis=0
    )
    apart = builder.node("Unsqueeze", builder.weight(f"{name}.P"), builder.integers(1))
    rows = builder.node("Reshape", builder.node("Expand", apart, whole), builder.integers(-1, 3 * units))
    return builder.nodes_out("Split", 3, rows, axis=1)
