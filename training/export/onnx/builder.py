"""A few lines of help for writing an ONNX graph by hand: nodes, constants, and weights kept outside the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from service.model.self_check import RELIES_ON, SEQUENCE_LENS

OPSET = 17
"""Its recurrent operators (version 14) are those that ONNX Runtime's CUDA provider knows."""
IR_VERSION = 9
_TAKE_LENGTHS = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
CONTRIBUTED = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


class Weights:
    """A safetensors file with tensors that ONNX graphs read as external data: name → array, and its place in the
    file."""

    def __init__(self, path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Write the file, then read its header for the offsets."""
        # safetensors 0.8 writes arrays in the order of their memory, unchecked (findings/safetensors-numpy-order.sh).
        self.file, self.arrays = path.name, {name: np.asarray(array, order="C") for name, array in arrays.items()}
        save_file(dict(self.arrays), path)
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        self.offsets = {name: 8 + size + header[name]["data_offsets"][0] for name in arrays}

    def tensor(self, alias: str, name: str, way: int | None, rows: slice) -> TensorProto:
        """The tensor `name` as external data; with `way`, only `rows` of that entry of its first axis."""
        array, offset = self.arrays[name], self.offsets[name]
        if way is not None:
            start, stop, _ = rows.indices(array.shape[1])
            offset += way * array[0].nbytes + start * array[0, 0].nbytes
            array = array[way, start:stop]
        tensor = TensorProto(name=alias, dims=array.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        for key, value in (("location", self.file), ("offset", offset), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor


class Inline:
    """Tensors that stand in the graph itself: name → array. It serves a `Builder` as `Weights` does."""

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self.arrays = arrays

    def tensor(self, alias: str, name: str, way: int | None, rows: slice) -> TensorProto:
        """The tensor `name`; with `way`, only `rows` of that entry of its first axis."""
        array = self.arrays[name]
        return numpy_helper.from_array(np.ascontiguousarray(array if way is None else array[way, rows]), alias)


class Builder:
    """Collects nodes and initializers. No two values share a name, across subgraphs too: a Scan's body sees the outer
    names, and they must not collide."""

    def __init__(self, weights: Weights | Inline) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self._numbers = count()
        self._outer: Builder = self
        self._widened: dict[str, str] = {}

    def subgraph(self) -> Builder:
        """A builder for the body of a Scan: nodes of its own, this graph's weights, constants and numbering."""
        inner = Builder(self.weights)
        inner.initializers, inner._numbers, inner._outer = self.initializers, self._numbers, self._outer
        return inner

    def name(self, hint: str) -> str:
        return f"{hint}_{next(self._numbers)}"

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node of one output; returns the output's name."""
        return self.nodes_out(operator, 1, *inputs, **attributes)[0]

    def nodes_out(self, operator: str, outputs: int, *inputs: str, **attributes: object) -> list[str]:
        """Add a node of several outputs; returns their names."""
        names = [self.name(operator.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def rename(self, value: str, name: str) -> None:
        """Give a value a name that is visible outside. Renaming avoids the copy of an Identity."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == value else each for each in names]

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def constant(self, array: NDArray[np.generic]) -> str:
        """A small tensor that lives in the graph itself."""
        name = self.name("constant")
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, way: int | None = None, start: int = 0, stop: int | None = None) -> str:
        """A tensor of the weights file; with `way`, rows start to stop of that direction's part."""
        alias = name if way is None else f"{name}[{way},{start}:{'' if stop is None else stop}]"
        if alias not in self.initializers:
            self.initializers[alias] = self.weights.tensor(alias, name, way, slice(start, stop))
        return alias

    def matrix(self, name: str, way: int | None = None, start: int = 0, stop: int | None = None) -> str:
        """The same in float32, from any stored type; widened once, in the outermost graph, when it is loaded."""
        alias, outer = self.weight(name, way, start, stop), self._outer
        if self.weights.arrays[name].dtype == np.float32:
            return alias
        if alias not in outer._widened:
            outer._widened[alias] = outer.node("Cast", alias, to=TensorProto.FLOAT)
        return outer._widened[alias]

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        metadata: Mapping[str, str] | None = None,
        *,
        opset: int = OPSET,
        ir_version: int = IR_VERSION,
    ) -> bytes:
        """The finished model, serialised. Its ``metadata_props`` are `metadata` and the features that the graph relies
        on."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", opset)]
        if any(node.domain == CONTRIBUTED for node in self.nodes):
            opsets.append(helper.make_opsetid(CONTRIBUTED, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="training")
        helper.set_model_props(model, {RELIES_ON: SEQUENCE_LENS if self._has_lengths() else "", **(metadata or {})})
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _has_lengths(self) -> bool:
        """True if a recurrent operator is given lengths: all of them take these as their fifth input."""
        return any(node.op_type in _TAKE_LENGTHS and any(node.input[4:5]) for node in self.nodes)


def value(name: str, dtype: int, *dims: str | int) -> onnx.ValueInfoProto:
    """A typed input or output; a dimension named by a string is dynamic."""
    return helper.make_tensor_value_info(name, dtype, dims)
