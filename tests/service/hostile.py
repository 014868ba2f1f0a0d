"""Bundles that are made to hurt: each spoils a good one, digests and all, so that only a look inside can tell.

A case is a name, what a refusal has to say, and a function that changes the files of a folder.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from service.model.bundle import CARD, LIMITS, MANIFEST, MODEL_GRAPH, TOKENIZER, TRACE_GRAPH, WEIGHTS

Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    name: str
    reason: str
    spoil: Spoil
    sealed: bool = True
    """Whether the manifest's digests are made right again."""


CASES: list[Case] = []


def case(reason: str, *, sealed: bool = True) -> Callable[[Spoil], Spoil]:
    def add(spoil: Spoil) -> Spoil:
        CASES.append(Case(spoil.__name__.replace("_", "-").strip("-"), reason, spoil, sealed))
        return spoil

    return add


def edit(folder: Path, change: Callable[[onnx.GraphProto], Any], name: str = MODEL_GRAPH) -> None:
    model = onnx.load(str(folder / name), load_external_data=False)
    change(model.graph)
    (folder / name).write_bytes(model.SerializeToString())


def external(graph: onnx.GraphProto, key: str, value: str) -> None:
    """Change an entry of the first tensor that lies outside of the graph."""
    tensor = next(each for each in graph.initializer if each.data_location == TensorProto.EXTERNAL)
    next(entry for entry in tensor.external_data if entry.key == key).value = value


def before(graph: onnx.GraphProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes in front of the others, and their last output into the sum that `logits` is."""
    last = nodes[-1].output[0]
    end = graph.node[-1]
    assert end.output[0] == "logits"
    end.output[0] = "honest"
    total = helper.make_node("ReduceSum", [last], ["total"], keepdims=0)
    both = helper.make_node("Add", ["honest", "total"], ["logits"])
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    graph.node.extend([total, both])


def constant(graph: onnx.GraphProto, name: str, *numbers: int) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
    return name


def weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the numbers and leave everything where it was."""
    arrays = load_file(folder / WEIGHTS)
    change(arrays)
    save_file(arrays, folder / WEIGHTS)


def tokenizer(folder: Path, change: Callable[[Any], Any]) -> None:
    described = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
    change(described)
    (folder / TOKENIZER).write_text(json.dumps(described), encoding="utf-8")


def manifest(folder: Path, change: Callable[[Any], Any]) -> None:
    described = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(described)
    (folder / MANIFEST).write_text(json.dumps(described), encoding="utf-8")


# Outside of the bundle


@case("external data lies in '/etc/passwd'")
def an_absolute_path(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "location", "/etc/passwd"))


@case("external data lies in '../../good/1/weights.safetensors'")
def a_path_out_of_the_bundle(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "location", "../../good/1/weights.safetensors"), TRACE_GRAPH)


@case("external data lies in './weights.safetensors'")
def a_roundabout_path(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "location", "./weights.safetensors"))


@case("external data lies in 'README.md'")
def another_file_of_the_bundle(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "location", CARD))


@case("by its location, offset and length, each once")
def two_locations(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        tensor = next(each for each in graph.initializer if each.data_location == TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="/etc/passwd")

    edit(folder, change)


@case("is no tensor of weights.safetensors")
def an_offset_past_the_end(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "offset", "999999999"))


@case("is no tensor of weights.safetensors")
def an_offset_into_the_header(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "offset", "0"))


@case("external data at '-8'")
def an_offset_before_the_file(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "offset", "-8"))


@case("bytes, by its shape")
def a_length_that_is_not_the_shapes(folder: Path) -> None:
    edit(folder, lambda graph: external(graph, "length", "4"))


@case("is a link, a folder or a device", sealed=False)
def a_link_to_a_file_elsewhere(folder: Path) -> None:
    (folder / CARD).unlink()
    (folder / CARD).symlink_to("/etc/passwd")


@case("is a link, a folder or a device", sealed=False)
def a_pipe_that_never_ends(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


@case("does not name the file 'libcustom.so'")
def a_library(folder: Path) -> None:
    (folder / "libcustom.so").write_bytes(b"\x7fELF")


# Operators


@case("the operator 'Evil' of the domain 'custom'")
def an_operator_of_a_custom_domain(folder: Path) -> None:
    edit(folder, lambda graph: before(graph, helper.make_node("Evil", ["tokens"], ["x"], domain="custom")))


@case("the operator 'Nonsense' of the domain ''")
def an_operator_that_is_none(folder: Path) -> None:
    edit(folder, lambda graph: before(graph, helper.make_node("Nonsense", ["tokens"], ["x"])))


@case("operators of the domain 'custom', version 1")
def a_custom_domain(folder: Path) -> None:
    model = onnx.load(str(folder / MODEL_GRAPH), load_external_data=False)
    model.opset_import.append(helper.make_opsetid("custom", 1))
    (folder / MODEL_GRAPH).write_bytes(model.SerializeToString())


@case("field 25 is not known")
def a_function_of_its_own(folder: Path) -> None:
    model = onnx.load(str(folder / MODEL_GRAPH), load_external_data=False)
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("custom", "Evil", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))
    (folder / MODEL_GRAPH).write_bytes(model.SerializeToString())


@case("the operator 'Loop'")
def a_loop_without_end(folder: Path) -> None:
    boolean = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), boolean],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    edit(folder, lambda graph: before(graph, helper.make_node("Loop", ["", ""], ["x"], body=body)))


@case("the operator 'RandomNormal'")
def an_answer_by_chance(folder: Path) -> None:
    edit(folder, lambda graph: before(graph, helper.make_node("RandomNormal", [], ["x"], shape=[2])))


@case("bodies within bodies")
def bodies_within_bodies(folder: Path) -> None:
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["v"], ["w"])], "leaf", [value], [])
    for depth in range(20):
        node = helper.make_node("Scan", ["v"], [f"s{depth}"], body=graph, num_scan_inputs=1)
        graph = helper.make_graph([node], f"level{depth}", [value], [])
    edit(
        folder, lambda outer: before(outer, helper.make_node("Scan", ["tokens"], ["x"], body=graph, num_scan_inputs=1))
    )


# Shapes and sizes


@case("before it is there: a circle")
def a_circle(folder: Path) -> None:
    nodes = [helper.make_node("Add", ["b", "b"], ["a"]), helper.make_node("Add", ["a", "a"], ["b"])]
    edit(folder, lambda graph: before(graph, *nodes))


@case("is there twice")
def a_value_made_twice(folder: Path) -> None:
    node = helper.make_node("Cast", ["tokens"], ["x"], to=TensorProto.FLOAT)
    edit(folder, lambda graph: before(graph, node, node))


@case("over 4096 nodes")
def very_many_nodes(folder: Path) -> None:
    nodes = [helper.make_node("Cast", ["tokens"], ["n0"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("Neg", [f"n{number}"], [f"n{number + 1}"]) for number in range(5000)]
    edit(folder, lambda graph: before(graph, *nodes))


@case("a tensor of the shape")
def a_negative_dimension(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.initializer.append(TensorProto(name="x", dims=[-1], data_type=TensorProto.FLOAT))

    edit(folder, change)


@case("a tensor has 0 numbers, by its shape 1208925819614629174706176")
def huge_dimensions(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.initializer.append(TensorProto(name="x", dims=[1 << 40, 1 << 40], data_type=TensorProto.FLOAT))

    edit(folder, change)


@case("bytes, by its shape")
def huge_dimensions_outside(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        tensor = next(each for each in graph.initializer if each.data_location == TensorProto.EXTERNAL)
        tensor.dims[0] = 1 << 60

    edit(folder, change)


@case("model.onnx: field 6 is not known here")
def a_tensor_of_texts(folder: Path) -> None:
    edit(folder, lambda graph: graph.initializer.append(helper.make_tensor("x", TensorProto.STRING, [1], [b"a"])))


@case("over 1048576 bytes of numbers")
def weights_in_the_graph(folder: Path) -> None:
    array = np.zeros(1 << 19, np.float32)
    edit(folder, lambda graph: graph.initializer.append(numpy_helper.from_array(array, "x")))


@case("has the shape")
def an_input_of_a_huge_fixed_size(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 50

    edit(folder, change)


@case("the graphs do not run")
def memory_without_end(folder: Path) -> None:
    """ConstantOfShape of 2^17 by 2^17 by what comes in."""

    def change(graph: onnx.GraphProto) -> None:
        size = constant(graph, "size", 1 << 17, 1 << 17)
        shape = helper.make_node("Shape", ["lengths"], ["rows"])
        whole = helper.make_node("Concat", ["rows", size], ["whole"], axis=0)
        before(graph, shape, whole, helper.make_node("ConstantOfShape", ["whole"], ["x"]))

    edit(folder, change)


@case("the graphs do not run")
def doubling(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        nodes = [helper.make_node("Cast", ["tokens"], ["d0"], to=TensorProto.FLOAT)]
        nodes += [helper.make_node("Concat", [f"d{n}", f"d{n}"], [f"d{n + 1}"], axis=1) for n in range(50)]
        before(graph, *nodes)

    edit(folder, change)


@case("Range works on constants alone")
def a_range_that_is_folded(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        numbers = {"start": 0, "stop": 1 << 40, "step": 1}
        tensors = [helper.make_tensor(name, TensorProto.INT64, [], [n]) for name, n in numbers.items()]
        graph.initializer.extend(tensors)
        before(graph, helper.make_node("Range", list(numbers), ["x"]))

    edit(folder, change)


@case("MatMul works on constants alone")
def products_that_are_folded(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.initializer.append(numpy_helper.from_array(np.ones((256, 256), np.float32), "p0"))
        before(graph, *[helper.make_node("MatMul", [f"p{n}", f"p{n}"], [f"p{n + 1}"]) for n in range(3000)])

    edit(folder, change)


@case("Dimension product overflow")
def a_shape_that_cannot_be(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        size = constant(graph, "size", 1 << 62, 1 << 62, -1)
        before(graph, helper.make_node("Reshape", ["tokens", size], ["x"]))

    edit(folder, change)


@case("cannot be loaded")
def an_lstm_of_minus_one_unit(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        node = next(each for each in graph.node if each.op_type == "LSTM")
        next(each for each in node.attribute if each.name == "hidden_size").i = -1

    edit(folder, change)


@case("cannot be loaded")
def an_lstm_of_a_trillion_units(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        node = next(each for each in graph.node if each.op_type == "LSTM")
        next(each for each in node.attribute if each.name == "hidden_size").i = 1 << 40

    edit(folder, change)


# Against the manifest


@case("by the manifest it takes tokens, lengths")
def other_inputs(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))

    edit(folder, change)


@case("by the manifest it takes tokens, lengths and gives logits")
def more_outputs(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.output.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]))

    edit(folder, change)


@case("comes from nowhere")
def an_output_from_nowhere(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.output[0].name = "nothing"

    edit(folder, change)


@case("the graphs do not run")
def inputs_of_another_type(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
        for node in graph.node:
            for position, name in enumerate(node.input):
                if name == "lengths":
                    node.input[position] = "shorter"
        graph.node.insert(0, helper.make_node("Cast", ["lengths"], ["shorter"], to=TensorProto.INT32))

    edit(folder, change)


@case("logits have shapes")
def logits_of_another_shape(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        end = graph.node[-1]
        end.output[0] = "honest"
        graph.node.append(helper.make_node("Concat", ["honest", "honest"], ["logits"], axis=-1))
        graph.output[0].type.tensor_type.shape.dim[-1].dim_param = "labels"

    edit(folder, change)


# Files


@case("ends in the middle")
def a_graph_cut_short(folder: Path) -> None:
    data = (folder / MODEL_GRAPH).read_bytes()
    (folder / MODEL_GRAPH).write_bytes(data[: len(data) // 2])


@case("holds no graph")
def an_empty_graph(folder: Path) -> None:
    (folder / TRACE_GRAPH).write_bytes(b"")


@case("model.onnx")
def a_graph_of_noise(folder: Path) -> None:
    (folder / MODEL_GRAPH).write_bytes(np.random.default_rng(7).bytes(4096))


@case("over 1000000 fields")
def a_graph_of_tiny_fields(folder: Path) -> None:
    (folder / MODEL_GRAPH).write_bytes(b"\x08\x01" * 1_500_000)


@case("model.onnx")
def two_graphs_in_one(folder: Path) -> None:
    """The second one is merged into the first by those who read protocol buffers by the book."""
    data = (folder / MODEL_GRAPH).read_bytes()
    (folder / MODEL_GRAPH).write_bytes(data + data)


@case("is no tensor of weights.safetensors, or of another type")
def weights_read_as_another_type(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        tensor = next(each for each in graph.initializer if each.data_type == TensorProto.FLOAT16)
        tensor.data_type = TensorProto.INT16

    edit(folder, change)


@case("weights.safetensors cannot be read")
def weights_cut_short(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) - 100])


@case("weights.safetensors cannot be read")
def weights_whose_header_is_huge(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 60) + data[8:])


@case("'head.weight' holds a number that is not finite")
def weights_that_are_no_numbers(folder: Path) -> None:
    weights(folder, lambda arrays: arrays["head.weight"].__setitem__((0, 0), np.nan))


@case("'embedding.word' holds a number that is not finite")
def an_infinite_embedding(folder: Path) -> None:
    weights(folder, lambda arrays: arrays["embedding.word"].__setitem__((-1, -1), -np.inf))


@case("over 1e+06")
def weights_beyond_reason(folder: Path) -> None:
    weights(folder, lambda arrays: arrays["recurrent.0.R"].__setitem__((0, 0, 0), 3e38))


@case("a number that is not finite")
def a_constant_that_is_no_number(folder: Path) -> None:
    array = np.array([np.nan], np.float32)
    edit(folder, lambda graph: graph.initializer.append(numpy_helper.from_array(array, "x")))


@case("bytes, the limit is", sealed=False)
def a_file_of_a_terabyte(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(1 << 40)


@case("model.json has", sealed=False)
def a_manifest_of_gigabytes(folder: Path) -> None:
    with (folder / MANIFEST).open("r+b") as file:
        file.truncate(LIMITS[MANIFEST] + 1)


@case("model.json", sealed=False)
def a_manifest_of_deep_lists(folder: Path) -> None:
    (folder / MANIFEST).write_text("[" * 500_000, encoding="utf-8")


@case("hidden")
def a_manifest_of_a_trillion_units(folder: Path) -> None:
    manifest(folder, lambda described: described.__setitem__("hidden", 10**12))


@case("parity.model")
def a_manifest_of_nan(folder: Path) -> None:
    manifest(folder, lambda described: described["parity"].__setitem__("model", float("nan")))


@case("files")
def a_manifest_that_names_files_elsewhere(folder: Path) -> None:
    manifest(folder, lambda described: described["files"].__setitem__("../../good/1/model.json", "0" * 64))


# Tokenizers


@case("tokenizer.json cuts text by other rules")
def a_pattern_that_takes_for_ever(folder: Path) -> None:
    pattern = {"Regex": r"(?:\w+\s?)+$"}
    tokenizer(folder, lambda described: described["pre_tokenizer"].__setitem__("pattern", pattern))


@case("tokenizer.json cuts text by other rules")
def a_normalizer_that_grows(folder: Path) -> None:
    replace = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 10_000}
    tokenizer(folder, lambda described: described["normalizer"]["normalizers"].append(replace))


@case("tokenizer.json cuts text by other rules")
def tokens_that_are_added(folder: Path) -> None:
    added = {"id": 0, "content": "a", "special": True, "single_word": False, "lstrip": True, "rstrip": True}
    tokenizer(folder, lambda described: described["added_tokens"].append({**added, "normalized": False}))


@case("tokenizer.json is no tokenizer")
def a_tokenizer_of_deep_lists(folder: Path) -> None:
    (folder / TOKENIZER).write_text('{"model":' + "[" * 500_000, encoding="utf-8")


@case("tokenizer.json is no tokenizer")
def a_tokenizer_whose_rows_are_no_numbers(folder: Path) -> None:
    tokenizer(folder, lambda described: described["model"]["vocab"].__setitem__("a", -1))


@case("rows of words, the manifest says")
def a_tokenizer_of_rows_that_are_not_there(folder: Path) -> None:
    tokenizer(folder, lambda described: described["model"]["vocab"].__setitem__("zebra", 4_000_000_000))


@case("tokenizer.json has", sealed=False)
def a_tokenizer_of_gigabytes(folder: Path) -> None:
    with (folder / TOKENIZER).open("r+b") as file:
        file.truncate(LIMITS[TOKENIZER] + 1)
