"""The rules for an ONNX graph from an unknown source. The file is read without ONNX or ONNX Runtime.

The rules allow only the parts of ONNX that a bundle needs: everything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from service.errors import BundleError
from service.model.bundle import WEIGHTS
from service.model.untrusted.protobuf import Message, read
from service.model.weights import Stored

MAX_NODES = 4096
"""Nodes of one graph, with those in the bodies of its scans."""
MAX_FOLDED = 1024
"""Nodes that work on constants alone, which loading a graph computes: the time of a warm-up is limited, that of
loading is not."""
MAX_FIXED = 65_536
"""The largest size that a graph fixes for one of its inputs or outputs."""
MAX_DEPTH = 2
"""Bodies within bodies."""
MAX_INLINE = 1 << 20
"""Bytes of numbers that stand in a graph itself."""
MAX_DIMENSIONS = 8

OPSETS = {"": range(14, 26), "ai.onnx": range(14, 26), "com.microsoft": range(1, 2)}
"""Domains of operators and the versions of each: ONNX's own, and ONNX Runtime's."""
_NAMES = (
    "Abs Add And ArgMax ArgMin Cast Ceil Clip Concat Constant ConstantOfShape Conv CumSum DequantizeLinear Div "
    "DynamicQuantizeLinear Einsum Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gemm Greater "
    "GreaterOrEqual Identity IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul "
    "MatMulInteger Max MaxPool Mean Min Mod Mul Neg Not OneHot Or Pad Pow QuantizeLinear RNN Range Reciprocal "
    "ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape ReverseSequence Round "
    "Scan ScatterElements ScatterND Shape Sigmoid Sign Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh "
    "TopK Transpose Trilu Unsqueeze Where Xor"
)
_ONNX = frozenset(_NAMES.split())
"""Arithmetic, and no way out of it: no loop without end, no text, no chance, nothing that calls other code."""
OPERATORS = {
    "": _ONNX,
    "ai.onnx": _ONNX,
    "com.microsoft": frozenset({"DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"}),
}

_HEAVY_NAMES = (
    "Conv CumSum ConstantOfShape Einsum Expand GRU Gemm LSTM MatMul MatMulInteger OneHot Pad RNN Range Scan TopK "
    "DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulIntegerToFloat MatMulNBits"
)
_HEAVY = frozenset(_HEAVY_NAMES.split())
"""Operators that make large tensors from small ones. Constants alone may not feed them: a file could hold the
result."""

# The messages of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, as far as a bundle has them.
_MODEL = {1: "ir_version", 2: "producer", 3: "producer", 4: "domain", 5: "version", 6: "doc", 7: "graph", 8: "opsets"}
_MODEL |= {14: "metadata"}
_OPSET = {1: "domain", 2: "version"}
_GRAPH = {1: "nodes", 2: "name", 5: "tensors", 10: "doc", 11: "inputs", 12: "outputs", 16: "metadata"}
_NODE = {1: "inputs", 2: "outputs", 3: "name", 4: "operator", 5: "attributes", 6: "doc", 7: "domain", 9: "metadata"}
_ATTRIBUTE = {1: "name", 2: "f", 3: "i", 4: "s", 5: "tensor", 6: "graph", 7: "floats", 8: "ints", 9: "strings"}
_ATTRIBUTE |= {13: "doc", 20: "type"}
_TENSOR = {1: "dims", 2: "type", 4: "floats", 5: "ints", 7: "longs", 8: "name", 9: "raw", 10: "doubles", 12: "doc"}
_TENSOR |= {13: "external", 14: "location", 16: "metadata"}
_VALUE = {1: "name", 2: "type", 3: "doc", 4: "metadata"}
_TYPE, _ARRAY, _SHAPE, _DIMENSION = (
    {1: "array", 6: "denotation"},
    {1: "type", 2: "shape"},
    {1: "dims"},
    {1: "size", 2: "name"},
)
_ENTRY = {1: "key", 2: "value"}
_EXTERNAL = 1

_NUMBERS = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_KINDS = {number: np.dtype(name) for number, name in {**_NUMBERS, 12: "<u4", 13: "<u8"}.items()}
"""ONNX's numbers for the types of tensors."""


@dataclass(frozen=True, slots=True)
class External:
    """An initializer of a graph. Its numbers lie in the weights file from the byte `start` on."""

    name: str
    start: int
    dims: tuple[int, ...]
    kind: np.dtype[np.generic]


class Graph:
    """The check of one graph. Its external data must be tensors that are `stored`."""

    def __init__(self, stored: Iterable[Stored]) -> None:
        self._stored = list(stored)
        self._nodes = 0
        self._folded = 0
        self._inline = 0
        self._external: list[External] = []
        self._constants: set[str] = set()
        """Values that no input of the graph has a part in."""

    def check(self, content: bytes) -> list[External]:
        """The initializers with numbers outside of the graph. Raises `BundleError` when the file breaks a rule."""
        model = read(content, _MODEL)
        for opset in model.messages("opsets", _OPSET):
            domain, version = opset.text("domain"), opset.integer("version")
            if version not in OPSETS.get(domain, ()):
                raise BundleError(f"operators of the domain {domain!a}, version {version}, are not known")
        graph = model.message("graph", _GRAPH)
        if graph is None:
            raise BundleError("the file holds no graph")
        self._graph(graph, frozenset(), 0)
        return self._external

    def _graph(self, graph: Message, outside: frozenset[str], depth: int) -> None:
        """A graph and the bodies in it; `outside` are the values that a body sees."""
        if depth > MAX_DEPTH:
            raise BundleError(f"bodies within bodies, over {MAX_DEPTH} deep")
        known = {self._value(value) for value in graph.messages("inputs", _VALUE)}
        for tensor in graph.messages("tensors", _TENSOR):
            self._tensor(tensor, outermost=depth == 0)
            _add(tensor.text("name"), known, outside)
            self._constants.add(tensor.text("name"))
        for node in graph.messages("nodes", _NODE):
            self._node(node, known, outside, depth)
        for value in graph.messages("outputs", _VALUE):
            if self._value(value) not in known:
                raise BundleError(f"the output {value.text('name')[:64]!a} comes from nowhere")

    def _value(self, value: Message) -> str:
        """The name of a graph's input or output. Its sizes must be free or small."""
        kind = value.message("type", _TYPE)
        array = kind.message("array", _ARRAY) if kind is not None else None
        shape = array.message("shape", _SHAPE) if array is not None else None
        sizes = [each.integer("size") for each in shape.messages("dims", _DIMENSION)] if shape is not None else []
        if len(sizes) > MAX_DIMENSIONS or any(not 0 <= size <= MAX_FIXED for size in sizes):
            raise BundleError(f"{value.text('name')[:64]!a} has the shape {sizes[:MAX_DIMENSIONS]}")
        return value.text("name")

    def _node(self, node: Message, known: set[str], outside: frozenset[str], depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise BundleError(f"over {MAX_NODES} nodes")
        domain, operator = node.text("domain"), node.text("operator")
        if operator not in OPERATORS.get(domain, ()):
            raise BundleError(f"a bundle may not use the operator {operator[:64]!a} of the domain {domain[:64]!a}")
        inputs, outputs = ([name for name in node.texts(which) if name] for which in ("inputs", "outputs"))
        for name in inputs:
            if name not in known and name not in outside:
                raise BundleError(f"{operator} reads {name[:64]!a} before it is there: a circle, or out of order")
        for attribute in node.messages("attributes", _ATTRIBUTE):
            tensor, body = attribute.message("tensor", _TENSOR), attribute.message("graph", _GRAPH)
            if tensor is not None:
                self._tensor(tensor)
            if body is not None:
                self._graph(body, outside | known, depth + 1)
        for name in outputs:
            _add(name, known, outside)
        if self._constants.issuperset(inputs):
            self._fold(operator, outputs)

    def _fold(self, operator: str, outputs: Iterable[str]) -> None:
        """Take note of a node that works on constants alone."""
        self._constants.update(outputs)
        self._folded += 1
        if operator in _HEAVY or self._folded > MAX_FOLDED:
            raise BundleError(f"{operator} works on constants alone: keep its result in {WEIGHTS}")

    def _tensor(self, tensor: Message, *, outermost: bool = False) -> None:
        dims, kind = tensor.integers("dims"), _KINDS.get(tensor.integer("type"))
        if kind is None:
            raise BundleError(f"a tensor of the type {tensor.integer('type')}")
        if len(dims) > MAX_DIMENSIONS or any(size < 0 for size in dims):
            raise BundleError(f"a tensor of the shape {dims[:MAX_DIMENSIONS]}")
        count = math.prod(dims)
        if tensor.integer("location") == _EXTERNAL:
            if not outermost:
                raise BundleError("external data is for the initializers of the graph itself, not of a body or a node")
            start = self._outside(tensor, count * kind.itemsize, kind)
            self._external.append(External(tensor.text("name"), start, tuple(dims), kind))
        elif tensor.has("external"):
            raise BundleError("a tensor that lies both inside and outside of the graph")
        else:
            self._inside(tensor, count, kind)

    def _inside(self, tensor: Message, count: int, kind: np.dtype[np.generic]) -> None:
        """Numbers in the graph itself: bytes, or a list of one of ONNX's three kinds, as many as the shape says."""
        raw = tensor.data("raw")
        if raw is not None:
            size, given = len(raw), len(raw) / kind.itemsize
            if kind.kind == "f" and size % kind.itemsize == 0 and not np.isfinite(np.frombuffer(raw, kind)).all():
                raise BundleError("a number that is not finite")
        else:
            lists = [sum(map(len, tensor.all_bytes("floats"))) / 4, sum(map(len, tensor.all_bytes("doubles"))) / 8]
            lists += [len(tensor.integers("ints")), len(tensor.integers("longs"))]
            given, size = sum(lists), int(sum(lists)) * 8
            for name, stored in (("floats", "<f4"), ("doubles", "<f8")):
                data = b"".join(tensor.all_bytes(name))
                if len(data) % np.dtype(stored).itemsize or not np.isfinite(np.frombuffer(data, stored)).all():
                    raise BundleError("a number that is not finite")
        self._inline += size
        if given != count:
            raise BundleError(f"a tensor has {given:g} numbers, by its shape {count}")
        if self._inline > MAX_INLINE:
            raise BundleError(f"over {MAX_INLINE} bytes of numbers in the graph itself")

    def _outside(self, tensor: Message, size: int, kind: np.dtype[np.generic]) -> int:
        """The first byte of an initializer's numbers in the weights file: all in one of its tensors, and of its
        type."""
        entries = [(entry.text("key"), entry.text("value")) for entry in tensor.messages("external", _ENTRY)]
        found = dict(entries)
        if len(found) < len(entries) or not set(found) <= {"location", "offset", "length"}:
            raise BundleError("external data is told of by its location, offset and length, each once")
        if found.get("location") != WEIGHTS:
            raise BundleError(
                f"external data lies in {found.get('location', '')[:64]!a}; it may lie in {WEIGHTS} alone"
            )
        start, length = (_digits(found.get(key, "")) for key in ("offset", "length"))
        if length != size:
            raise BundleError(f"external data has {length} bytes, by its shape {size}")
        if any(tensor.has(name) for name in ("raw", "floats", "ints", "longs", "doubles")):
            raise BundleError("a tensor that lies both inside and outside of the graph")
        inside = (each for each in self._stored if each.start <= start and start + length <= each.stop)
        if not any(each.array.dtype == kind for each in inside):
            raise BundleError(f"external data from byte {start} on is no tensor of {WEIGHTS}, or of another type")
        return start


def _add(name: str, known: set[str], outside: frozenset[str]) -> None:
    if name in known or name in outside:
        raise BundleError(f"{name[:64]!a} is there twice")
    known.add(name)


def _digits(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise BundleError(f"external data at {text[:32]!a}")
    return int(text)
