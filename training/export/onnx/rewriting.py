"""Changes to a graph under construction: unused nodes are removed, and float32 becomes float16."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from training.export.onnx.builder import Builder


def prune(builder: Builder, *outputs: str) -> None:
    """Drop the nodes, the outputs of Scans and the initializers that `outputs` do not need."""
    wanted = set(outputs)
    kept: list[onnx.NodeProto] = []
    for node in reversed(builder.nodes):
        if wanted.intersection(node.output):
            if node.op_type == "Scan":
                _trim(node, wanted)
            wanted.update(_reads(node))
            kept.append(node)
    builder.nodes = kept[::-1]
    for name in builder.initializers.keys() - wanted:
        del builder.initializers[name]


def fold(builder: Builder) -> None:
    """Compute the values that the bodies of Scans read from the outer graph, if they depend only on weights. They
    become initializers. Raises `ValueError` if a body reads a value that depends on the inputs."""
    made = {name: node for node in builder.nodes for name in node.output}
    for scan in (node for node in builder.nodes if node.op_type == "Scan"):
        body = _body(scan)
        own = {each.name for each in body.input} | {name for node in body.node for name in node.output}
        for name in sorted({name for node in body.node for name in _reads(node)} & made.keys() - own):
            array = ReferenceEvaluator(_only(builder, made, name)).run(None, {})[0]
            builder.initializers[name] = numpy_helper.from_array(array, name)
    builder.nodes = [node for node in builder.nodes if builder.initializers.keys().isdisjoint(node.output)]


def _only(builder: Builder, made: Mapping[str, onnx.NodeProto], name: str) -> onnx.ModelProto:
    """A model without inputs that gives one value."""
    nodes: list[onnx.NodeProto] = []
    wanted = [name]
    for each in wanted:
        if each in made:
            nodes.insert(0, made[each])
            wanted += made[each].input
        elif each not in builder.initializers:
            raise ValueError(f"the body of a Scan reads {name}, which follows from {each}")
    weights = [builder.initializers[each] for each in dict.fromkeys(wanted) if each in builder.initializers]
    output = helper.make_value_info(name, onnx.TypeProto())
    graph = helper.make_graph(nodes, "constant", [], [output], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def halve(builder: Builder, keep: Collection[str] = ()) -> None:
    """Make everything so far compute in float16: weights, constants, casts and the bodies of Scans. Operators to
    `keep` compute in float32, between casts."""
    for tensor in builder.initializers.values():
        _halve_tensor(tensor)
    _halve_nodes(builder.nodes)
    for scan in (node for node in builder.nodes if node.op_type == "Scan"):
        _multiply_apart(builder, _body(scan))
    nodes, builder.nodes = builder.nodes, []
    for node in nodes:
        if node.op_type in keep:
            node.input[:] = [each and builder.node("Cast", each, to=TensorProto.FLOAT) for each in node.input]
            builder.nodes.append(node)
            for number, name in enumerate(node.output):
                node.output[number] = builder.name("float")
                cast = helper.make_node("Cast", [node.output[number]], [name], to=TensorProto.FLOAT16)
                builder.nodes.append(cast)
        else:
            builder.nodes.append(node)


def close_bodies(builder: Builder) -> None:
    """Write the Scans as all runtimes take them: see the comments. Call it last."""
    for scan in (node for node in builder.nodes if node.op_type == "Scan"):
        body = _body(scan)
        _emit_copies(builder, body, _carried(scan))
        # OpenVINO refuses a body that reads values of the outer graph.
        inside = {name for node in body.node for name in _reads(node)}
        body.initializer.extend(each for name, each in builder.initializers.items() if name in inside)
        # tract refuses a body that names sizes which the outer graph knows.
        for value in (*body.input, *body.output):
            for size in value.type.tensor_type.shape.dim:
                size.ClearField("dim_param")
    outside = {name for node in builder.nodes for name in node.input}
    for name in builder.initializers.keys() - outside:
        del builder.initializers[name]


def _emit_copies(builder: Builder, body: onnx.GraphProto, carried: int) -> None:
    """Have a body emit copies of its values, and carry the values themselves on.

    A body's outputs need names of their own. tract adds a dimension to an emitted value for all of its readers, so
    nothing else may read it.
    """
    copied = {node.output[0]: node.input[0] for node in body.node if node.op_type == "Identity"}
    for output in body.output[:carried]:
        output.name = copied.get(output.name, output.name)
    kept = [node for node in body.node if node.op_type != "Identity"]
    for output in body.output[carried:]:
        emitted = output.name
        output.name = builder.name("emitted")
        kept.append(helper.make_node("Identity", [emitted], [output.name]))
    del body.node[:]
    body.node.extend(kept)


def _trim(scan: onnx.NodeProto, wanted: set[str]) -> None:
    """Make a Scan emit only the wanted values. The values carried from step to step stay."""
    body, carried = _body(scan), _carried(scan)
    unwanted = [number for number in range(carried, len(scan.output)) if scan.output[number] not in wanted]
    for number in reversed(unwanted):
        del scan.output[number]
        del body.output[number]


def _multiply_apart(builder: Builder, body: onnx.GraphProto) -> None:
    """Write a body's products A Bᵀ + C as MatMul and Add: tract has no Gemm of float16."""
    nodes = list(body.node)
    del body.node[:]
    for node in nodes:
        if node.op_type != "Gemm":
            body.node.append(node)
            continue
        states, weights, addend = node.input
        product, turned = builder.name("product"), f"{weights}.T"
        array = numpy_helper.to_array(builder.initializers[weights]).T
        builder.initializers[turned] = numpy_helper.from_array(np.ascontiguousarray(array), turned)
        body.node.append(helper.make_node("MatMul", [states, turned], [product]))
        body.node.append(helper.make_node("Add", [product, addend], node.output))


def _body(scan: onnx.NodeProto) -> onnx.GraphProto:
    return next(each.g for each in scan.attribute if each.name == "body")


def _carried(scan: onnx.NodeProto) -> int:
    """How many states go from step to step."""
    scanned: int = next(each.i for each in scan.attribute if each.name == "num_scan_inputs")
    return len(scan.input) - scanned


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, those of its bodies too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _reads(inner)


def _halve_nodes(nodes: list[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            if attribute.HasField("t"):
                _halve_tensor(attribute.t)
            for value in (*attribute.g.input, *attribute.g.output):
                if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                    value.type.tensor_type.elem_type = TensorProto.FLOAT16
            _halve_nodes(attribute.g.node)


def _halve_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
