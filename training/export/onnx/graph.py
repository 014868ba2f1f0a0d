"""A network's weights → the two ONNX graphs: fused operators for predictions, the cell step by step for gates.

If ONNX has no operator for a cell, one graph serves both. All are built node by node (nothing is traced) and read
one file of weights. Inside the graphs time comes first, [time, batch, …], as the recurrent operators want it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.model.bundle import MODEL_GRAPH, TRACE_GRAPH, WEIGHTS, Precision
from service.model.equations import MINIMAL, CellName, gate_names, one_graph, tensor_key
from service.model.weights_layout import HEAD_BIAS, HEAD_QUERY, HEAD_WEIGHT, STACKING, layer_name
from training.export.onnx import integers, minimal
from training.export.onnx.builder import Builder, Weights, value
from training.export.onnx.embedding import embed, embeddings
from training.export.onnx.nodes import STEPS, Recurrent
from training.nets.cells import GateWeights
from training.nets.networks import Architecture, Network

_OPERATORS: dict[CellName, str] = {"rnn": "RNN", "lstm": "LSTM", "peephole": "LSTM", "gru": "GRU"}


def write(network: Network, folder: Path, precision: Precision = "float32") -> None:
    """Write ``weights.safetensors``, ``model.onnx`` and, if that gives no gates, ``trace.onnx`` into a folder.

    Embeddings are stored as float16. A network with other tables answers slightly differently. With int8 the weights of
    an LSTM that `integers.prepare` has rounded are kept as integers: the fused graph computes with them, and the trace
    graph with the same numbers in float32.
    """
    arrays = _arrays(network)
    weights = Weights(folder / WEIGHTS, integers.stored(arrays) if precision == "int8" else arrays)
    graphs = {MODEL_GRAPH: _fused, TRACE_GRAPH: _stepwise}
    if one_graph(network.architecture.cell, network.architecture.form):
        graphs = {MODEL_GRAPH: _stepwise}
    for name, build in graphs.items():
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
            arrays[f"{layer_name(number)}.{part}"] = np.stack([way[part] for way in ways])
    arrays[HEAD_WEIGHT] = network.head.weight.detach().cpu().numpy()
    arrays[HEAD_BIAS] = network.head.bias.detach().cpu().numpy()
    if network.query is not None:
        arrays[HEAD_QUERY] = network.query.detach().cpu().numpy()
    return arrays


def _stack(architecture: Architecture, weights: Mapping[str, GateWeights]) -> dict[str, NDArray[np.floating]]:
    """W [blocks * units, inputs], R [blocks * units, units] and B [2 * blocks * units], stacked as ONNX does; and P of
    a cell with peepholes: [3 * units], or matrices [4 * units, units].

    The two biases of a gate are added up in B's first half, so that the trace graph needs that half alone; only the
    candidate of a reset-after GRU keeps its recurrent bias apart, because the reset gate multiplies it. A cell
    without an operator of ONNX has only the first half of B, and a cell with gates that do not see the state has no R.
    """
    stacking, after = STACKING[architecture.cell], architecture.form == "after"
    gates = [(weights[gate], after and gate == "candidate") for gate in stacking]
    first = [(gate.w_bias if apart else gate.w_bias + gate.r_bias).numpy() for gate, apart in gates]
    second = [(gate.r_bias if apart else gate.r_bias * 0).numpy() for gate, apart in gates]
    stored = np.float32 if architecture.word_bits == 16 else np.float16
    parts: dict[str, NDArray[np.floating]] = {"W": np.concatenate([gate.w.numpy() for gate, _ in gates]).astype(stored)}
    if recurrent := [gate.r.numpy() for gate, _ in gates if gate.r is not None]:
        parts["R"] = np.concatenate(recurrent).astype(stored)
    one = one_graph(architecture.cell, architecture.form)
    parts["B"] = np.concatenate(first if one else first + second)
    if peepholes := [gate.peephole.numpy() for gate, _ in gates if gate.peephole is not None]:
        # Matrices are rounded as the other matrices are, a diagonal is not.
        parts["P"] = np.concatenate(peepholes).astype(stored if architecture.form == "full" else np.float32)
    return parts


def _fused(builder: Builder, architecture: Architecture) -> bytes:
    """``model.onnx``: about ten nodes, one recurrent operator a layer."""
    states = embed(builder, architecture)
    attributes: dict[str, object] = {"hidden_size": architecture.hidden}
    attributes["direction"] = "bidirectional" if len(architecture.directions) == 2 else "forward"
    if architecture.cell == "gru":
        attributes["linear_before_reset"] = int(architecture.form == "after")
    for number in range(architecture.layers):
        name = layer_name(number)
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
    """The input's product for all steps at once, then a Scan over time; every gate is an output.

    This is ``trace.onnx``, and ``model.onnx`` of the cells that have no fused operator. Both directions of a layer step
    together, stacked along the batch: first the forward reader's rows, then the backward reader's. The latter is given
    each row turned round, with the padding still at its end, so that it reads as the forward reader does, meets no
    padding before its tokens, and its gates come out in its own reading order.
    """
    vectors = embed(builder, architecture)
    lengths = builder.node("Cast", "lengths", to=TensorProto.INT64)
    states = widen(builder, architecture, vectors)
    both = len(architecture.directions) == 2
    # The least operations are wanted of predictions alone: a trace's graph keeps the rounding that it has had.
    alone = one_graph(architecture.cell, architecture.form)
    early = both and alone and architecture.head in _POOLED_BY_ROW
    zeros = zero_state(builder, architecture)
    for number in range(architecture.layers):
        readers = [states, _turned(builder, states, lengths)] if both else [states]
        gates = step_by_step(builder, architecture, layer_name(number), readers, zeros)
        for gate in gate_names(architecture.cell):
            builder.rename(gates[gate], tensor_key(number, gate))
        states = tensor_key(number, "hidden")
        if both and not (early and number == architecture.layers - 1):
            forward, backward = builder.nodes_out("Split", 2, states, axis=1)
            states = builder.node("Concat", forward, _turned(builder, backward, lengths), axis=2)
    if early:
        _head_by_row(builder, architecture, states)
    else:
        head(builder, architecture, states)
    rows = "rows" if both else "batch"
    gates_out = [
        value(tensor_key(number, gate), TensorProto.FLOAT, "time", rows, architecture.hidden)
        for number in range(architecture.layers)
        for gate in gate_names(architecture.cell)
    ]
    return builder.model("model" if alone else "trace", token_inputs(), [logits_output(architecture), *gates_out])


def widen(builder: Builder, architecture: Architecture, vectors: str, there: str | None = None) -> str:
    """Words' vectors [time, batch, numbers] → the first layer's inputs, those of all words of the window. `there`
    [time, batch, 1] is true for a token."""
    before, after = architecture.window
    if not before and not after:
        return vectors
    if after:  # the padding behind a row's last word counts as zeros
        there = there or builder.node("Unsqueeze", _valid(builder), builder.integers(2))
        vectors = builder.node("Where", there, vectors, builder.constant(np.array(0, np.float32)))
    padded = builder.node("Pad", vectors, builder.integers(before, 0, 0, after, 0, 0))
    words = [_shifted(builder, padded, at, before + after) for at in range(before + 1 + after)]
    return builder.node("Concat", *words, axis=2)


def _shifted(builder: Builder, padded: str, start: int, others: int) -> str:
    """[time + others, …] from the step `start` on: [time, …]."""
    stop = start - others or np.iinfo(np.int64).max
    return builder.node("Slice", padded, builder.integers(start), builder.integers(stop), builder.integers(0))


def _turned(builder: Builder, states: str, lengths: str) -> str:
    """[time, batch, …] with the first `lengths` steps of each row in the other order."""
    return builder.node("ReverseSequence", states, lengths, time_axis=0, batch_axis=1)


def token_inputs() -> list[onnx.ValueInfoProto]:
    tokens = value("tokens", TensorProto.INT32, "batch", "time", "features")
    return [tokens, value("lengths", TensorProto.INT32, "batch")]


def logits_output(architecture: Architecture) -> onnx.ValueInfoProto:
    time = ("time",) if architecture.head == "tagger" else ()
    return value("logits", TensorProto.FLOAT, "batch", *time, len(architecture.labels))


def _valid(builder: Builder, of_rows: str = "lengths") -> str:
    """[time, rows], true for a token and false for padding."""
    lengths = builder.node("Cast", of_rows, to=TensorProto.INT64)
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
        weight, bias = builder.weight(HEAD_WEIGHT), builder.weight(HEAD_BIAS)
        product = builder.node("MatMul", states, builder.node("Transpose", weight, perm=[1, 0]))
        builder.rename(builder.node("Transpose", builder.node("Add", product, bias), perm=[1, 0, 2]), "logits")
    else:
        classify(builder, _POOLING[architecture.head](builder, architecture, states))


def classify(builder: Builder, pooled: str) -> None:
    """pooled [batch, width] → the graph's output ``logits``."""
    weight, bias = builder.weight(HEAD_WEIGHT), builder.weight(HEAD_BIAS)
    builder.rename(builder.node("Gemm", pooled, weight, bias, transB=1), "logits")


_POOLED_BY_ROW = ("max", "mean", "last")
"""The heads that can pool both directions' rows before they are joined: the order in time does not matter to a maximum
or a mean, and each direction's last state is the last that it reads."""


def _head_by_row(builder: Builder, architecture: Architecture, states: str) -> None:
    """states [time, 2 * batch, units], each direction's in its own reading order → the graph's output ``logits``."""
    rows = builder.node("Concat", "lengths", "lengths", axis=0)
    pooled = _POOLING[architecture.head](builder, replace(architecture, directions=("forward",)), states, rows)
    classify(builder, builder.node("Concat", *builder.nodes_out("Split", 2, pooled, axis=0), axis=1))


def _masked(builder: Builder, states: str, filler: float, of_rows: str) -> str:
    valid = builder.node("Unsqueeze", _valid(builder, of_rows), builder.integers(2))
    return builder.node("Where", valid, states, builder.constant(np.array(filler, np.float32)))


def _max(builder: Builder, architecture: Architecture, states: str, of_rows: str = "lengths") -> str:
    return builder.node("ReduceMax", _masked(builder, states, -2.0, of_rows), axes=[0], keepdims=0)


def _mean(builder: Builder, architecture: Architecture, states: str, of_rows: str = "lengths") -> str:
    total = builder.node("ReduceSum", _masked(builder, states, 0.0, of_rows), builder.integers(0), keepdims=0)
    lengths = builder.node("Cast", of_rows, to=TensorProto.FLOAT)
    return builder.node("Div", total, builder.node("Unsqueeze", lengths, builder.integers(1)))


def _attention(builder: Builder, architecture: Architecture, states: str, of_rows: str = "lengths") -> str:
    """The mean of the states, weighted by the softmax over time of their products with the query."""
    query = builder.node("Unsqueeze", builder.weight(HEAD_QUERY), builder.integers(1))
    products = builder.node("MatMul", states, query)
    valid = builder.node("Unsqueeze", _valid(builder, of_rows), builder.integers(2))
    products = builder.node("Where", valid, products, builder.constant(np.array(-1e30, np.float32)))
    weighted = builder.node("Mul", builder.node("Softmax", products, axis=0), states)
    return builder.node("ReduceSum", weighted, builder.integers(0), keepdims=0)


def _last(builder: Builder, architecture: Architecture, states: str, of_rows: str = "lengths") -> str:
    """The state after each reader's last token: at the row's end going forward, at its beginning going backward."""
    rows = builder.node("Cast", of_rows, to=TensorProto.INT64)
    ends = builder.node("Sub", rows, builder.integers(1))
    zero, one = (builder.constant(np.array(number, np.int64)) for number in (0, 1))
    batch = builder.node("Squeeze", builder.node("Shape", of_rows), builder.integers(0))
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


_POOLING: dict[str, Callable[..., str]] = {
    "max": _max,
    "mean": _mean,
    "last": _last,
    "attention": _attention,
}


def step_by_step(
    builder: Builder, architecture: Architecture, name: str, readers: Sequence[str], zeros: str
) -> dict[str, str]:
    """A layer as a Scan: gate name → [time, rows, units], the rows of one direction after those of the other.

    `readers` are the layer's inputs [time, batch, inputs], one for each direction, in the order in which it reads them;
    `zeros` [rows, units] are the states to begin with.
    """
    layer = minimal.layer if architecture.cell in MINIMAL else _scan
    return layer(builder, architecture, name, readers, zeros)


def _scan(
    builder: Builder, architecture: Architecture, name: str, readers: Sequence[str], zeros: str
) -> dict[str, str]:
    """A layer with gates that see the state, as `step_by_step`."""
    units, step = architecture.hidden, STEPS[architecture.cell, architecture.form]
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
    peepholes = _peepholes(builder, architecture, name) if architecture.form == "diagonal" else ()
    early = [
        _early_peepholes(builder, name, way, units) for way, _ in enumerate(readers) if architecture.form == "full"
    ]
    ways = range(len(readers)) if integers.is_stored(builder, name) else ()
    floats = [integers.matrix(builder, f"{name}.R", way, units) for way in ways]
    gates = step.equations(body, Recurrent(body, name, len(readers), units, peepholes, floats, early), arrived, before)
    # A body's outputs need names of their own: a state is given on and emitted.
    given_on = [body.node("Identity", gates[state]) for state in step.states]
    outs = [value(each, TensorProto.FLOAT, "rows", units) for each in (*given_on, *gates.values())]
    graph = helper.make_graph(body.nodes, body.name("step"), [*states, *ins], outs)
    scan = {"body": graph, "num_scan_inputs": len(products)}
    found = builder.nodes_out("Scan", len(outs), *[zeros] * len(before), *products, **scan)
    return step.afterwards(builder, dict(zip(gates, found[len(before) :], strict=True)))


def _product(builder: Builder, states: str, name: str, way: int, start: int, stop: int) -> str:
    """W[start:stop] x + B[start:stop] of one direction, for all steps: [time, batch, stop - start]."""
    if integers.is_stored(builder, name):  # an LSTM: all its gates arrive together
        units = stop // 4
        turned = integers.matrix(builder, f"{name}.W", way, units)
        bias = integers.bias(builder, f"{name}.B", way, units)
    else:
        turned = builder.node("Transpose", builder.matrix(f"{name}.W", way, start, stop), perm=[1, 0])
        bias = builder.weight(f"{name}.B", way, start, stop)
    return builder.node("Add", builder.node("MatMul", states, turned), bias)


def _peepholes(builder: Builder, architecture: Architecture, name: str) -> list[str]:
    """The peepholes of each gate that has them, for every row: [rows, units], or [units] if all rows share them."""
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


def _early_peepholes(builder: Builder, name: str, way: int, units: int) -> str:
    """The weights of C_{t-1} in the gates of a full peephole LSTM, [4 * units, units]: zeros for the output gate, which
    sees C_t. Computed once, when the graph is loaded."""
    parts = [builder.matrix(f"{name}.P", way, block * units, (block + 1) * units) for block in range(4)]
    parts[_OUTPUT] = builder.node("Mul", parts[_OUTPUT], builder.constant(np.array(0, np.float32)))
    return builder.node("Concat", *parts, axis=0)


_OUTPUT = STACKING["peephole"].index("output")
