"""The portable graph: one ONNX file, weights inside, of operators that every runtime reads alike.

It takes ``tokens`` int32 [batch, time, columns] and ``lengths`` int32 [batch] and gives ``logits`` float32 [batch,
labels], or [batch, time, labels] for a tagger.

Runtimes differ in their treatment of `sequence_lens`, the reverse direction, peepholes and activations. The
graph uses none of these. Every layer reads forward. A backward reader gets each row turned round within its length,
and its output is turned back. A forward reader's states past a row's length are masked by the head. Cells whose fused
operator differs between runtimes are written out as plain operators in a Scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.model.bundle import Feature
from service.model.equations import CellName
from service.model.weights_layout import CHARACTERS, is_recurrent, layer_name
from training.export.onnx import graph
from training.export.onnx.builder import Builder, Inline
from training.export.onnx.embedding import embed, letter_vectors, read_characters
from training.export.onnx.rewriting import close_bodies, fold, halve, prune
from training.nets.characters import CharacterLSTM
from training.nets.networks import Architecture

OPSET, IR_VERSION = 13, 7
"""ONNX Runtime reads them since 1.6."""
Arrays = Mapping[str, NDArray[np.generic]]
_FUSED: dict[CellName, str] = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
"""Cells with an operator that runtimes read alike when it reads forward and is given no lengths."""


def portable(architecture: Architecture, arrays: Arrays, metadata: Mapping[str, str], *, half: bool = False) -> bytes:
    """The graph of a network with the weights `arrays`, by their names in a bundle's file of weights.

    With `half`, all below the head computes in float16: embeddings and recurrent layers. The head and the logits stay
    in float32.
    """
    builder = Builder(Inline(_by_direction(arrays)))
    states = embed(builder, architecture, _characters)
    rows = _Rows(builder, states, builder.node("Cast", "lengths", to=TensorProto.INT64))
    states = graph.widen(builder, architecture, states, rows.valid)
    for number in range(architecture.layers):
        states = _layer(builder, rows, architecture, layer_name(number), states)
    fold(builder)
    if half:
        halve(builder, keep=("GRU",))  # tract's is of float32 alone
        states = builder.node("Cast", states, to=TensorProto.FLOAT)
    _head(builder, rows, architecture, states)
    prune(builder, "logits")
    close_bodies(builder)
    outputs = [graph.logits_output(architecture)]
    return builder.model("portable", graph.token_inputs(), outputs, metadata, opset=OPSET, ir_version=IR_VERSION)


def _by_direction(arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    """The same, and each direction's part of the arrays stacked by direction: beside ``recurrent.0.W`` [2, …] stand
    ``recurrent.0.0.W`` and ``recurrent.0.1.W`` [1, …]."""
    parts: dict[str, NDArray[np.generic]] = {}
    for name, array in arrays.items():
        layer, _, part = name.rpartition(".")
        if is_recurrent(layer) or (layer == CHARACTERS and part in ("W", "R", "B")):
            parts |= {f"{layer}.{way}.{part}": array[way : way + 1] for way in range(len(array))}
    return {**arrays, **parts}


class _Rows:
    """Rows of a batch like `states` [time, batch, width], with lengths int64 [batch], from 0 to time."""

    def __init__(self, builder: Builder, states: str, lengths: str) -> None:
        self._builder = builder
        sizes = builder.node("Shape", states)
        zero, one = (builder.constant(np.array(number, np.int64)) for number in (0, 1))
        time, batch = (builder.node("Gather", sizes, each, axis=0) for each in (zero, one))
        self._columns = builder.node("Range", zero, batch, one)  # [batch]
        self._ends = builder.node("Sub", lengths, one)  # [batch]
        steps = builder.node("Unsqueeze", builder.node("Range", zero, time, one), builder.integers(1))  # [time, 1]
        mirrored = builder.node("Sub", self._ends, steps)  # [time, batch]
        valid = builder.node("GreaterOrEqual", mirrored, zero)
        # A count of the lengths, not their shape: tract multiplies no size that it does not know.
        there = builder.node("Cast", builder.node("GreaterOrEqual", lengths, zero), to=TensorProto.INT64)
        self._count = builder.node("ReduceSum", there, keepdims=1)  # [1]
        self._turned = self._places(builder.node("Where", valid, mirrored, steps))
        self.valid = builder.node("Unsqueeze", valid, builder.integers(2))
        """[time, batch, 1], true for a token and false for padding."""

    def turned(self, states: str) -> str:
        """The first steps of each row, as many as it is long, in the other order; its padding stays at its end."""
        builder = self._builder
        flat = builder.node("Reshape", self._turned, builder.integers(-1))
        found = builder.node("Gather", self._flat(states), flat, axis=0)
        return builder.node("Reshape", found, builder.node("Shape", states))

    def last(self, states: str) -> str:
        """Each row's last step, [batch, width]; of a row of length 0 its first."""
        builder = self._builder
        ends = builder.node("Max", self._ends, builder.constant(np.array(0, np.int64)))
        return builder.node("Gather", self._flat(states), self._places(ends), axis=0)

    def _places(self, steps: str) -> str:
        """Steps [..., batch] → their places in `_flat`."""
        return self._builder.node("Add", self._builder.node("Mul", steps, self._count), self._columns)

    def _flat(self, states: str) -> str:
        """[time, batch, width] → [time * batch, width]."""
        builder = self._builder
        width = builder.node("Slice", builder.node("Shape", states), builder.integers(2), builder.integers(3))
        return builder.node("Reshape", states, builder.node("Concat", builder.integers(-1), width, axis=0))


def _layer(builder: Builder, rows: _Rows, architecture: Architecture, name: str, states: str) -> str:
    """states [time, batch, inputs] → [time, batch, units of all directions]."""
    both = len(architecture.directions) == 2
    readers = [states, *([rows.turned(states)] if both else [])]
    if operator := _FUSED.get(architecture.cell):
        attributes = {"hidden_size": architecture.hidden}
        if architecture.cell == "gru":
            attributes["linear_before_reset"] = int(architecture.gru_reset == "after")
        found = [_fused(builder, operator, name, way, each, attributes) for way, each in enumerate(readers)]
    else:
        one = replace(architecture, directions=("forward",))
        zeros = graph.zero_state(builder, one)
        found = [
            graph.step_by_step(builder, one, f"{name}.{way}", [each], zeros)["hidden"]
            for way, each in enumerate(readers)
        ]
    return builder.node("Concat", found[0], rows.turned(found[1]), axis=2) if both else found[0]


def _fused(builder: Builder, operator: str, name: str, way: int, states: str, attributes: Mapping[str, int]) -> str:
    """One direction, read forward: [time, batch, inputs] → [time, batch, units]."""
    weights = [builder.matrix(f"{name}.{way}.{part}") for part in "WRB"]
    # tract needs the initial states to know their size and their type.
    batch = builder.node("Slice", builder.node("Shape", states), builder.integers(1), builder.integers(2))
    shape = builder.node("Concat", builder.integers(1), batch, builder.integers(attributes["hidden_size"]), axis=0)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    zeros = [builder.node("ConstantOfShape", shape, value=zero)] * (2 if operator == "LSTM" else 1)
    read = builder.node(operator, states, *weights, "", *zeros, **attributes)  # [time, 1, batch, units]
    return builder.node("Squeeze", read, builder.integers(1))


def _characters(builder: Builder, feature: Feature, at: int) -> str:
    """The LSTM over characters, each token being a row of its own: [time, batch, units of both directions]."""
    ids = read_characters(builder, feature, at)  # [time, batch, columns]
    flat = builder.node("Reshape", ids, builder.integers(-1, feature.columns))  # [tokens, columns]
    there = builder.node("Greater", flat, builder.constant(np.array(0, np.int32)))
    counts = builder.node("Cast", there, to=TensorProto.INT64)
    lengths = builder.node("ReduceSum", counts, builder.integers(1), keepdims=0)  # [tokens]
    letters = builder.node("Transpose", flat, perm=[1, 0])
    vectors = letter_vectors(builder, letters)
    rows = _Rows(builder, vectors, lengths)
    size = {"hidden_size": CharacterLSTM.units}
    found = [
        rows.last(_fused(builder, "LSTM", "character", way, each, size))
        for way, each in enumerate((vectors, rows.turned(vectors)))
    ]
    empty = builder.node("Equal", lengths, builder.constant(np.array(0, np.int64)))
    none = builder.constant(np.array(0, np.float32))
    ends = builder.node(
        "Where", builder.node("Unsqueeze", empty, builder.integers(1)), none, builder.node("Concat", *found, axis=1)
    )
    shape = builder.node("Slice", builder.node("Shape", ids), builder.integers(0), builder.integers(2))
    return builder.node("Reshape", ends, builder.node("Concat", shape, builder.integers(CharacterLSTM.width), axis=0))


def _head(builder: Builder, rows: _Rows, architecture: Architecture, states: str) -> None:
    """states [time, batch, width] → the graph's output ``logits``."""
    if architecture.head == "tagger":
        # The padding's rows then are the bias, as those of the served graph are.
        masked = builder.node("Where", rows.valid, states, builder.constant(np.array(0, np.float32)))
        graph.head(builder, architecture, masked)
    elif architecture.head == "last":
        parts = [states]
        if len(architecture.directions) == 2:
            parts = builder.nodes_out("Split", 2, states, axis=2)
        # A forward reader ends at the row's last token, a backward one at its first.
        first = [builder.node("Gather", each, builder.constant(np.array(0, np.int64)), axis=0) for each in parts[1:]]
        ends = [rows.last(parts[0]), *first]
        graph.classify(builder, builder.node("Concat", *ends, axis=1) if first else ends[0])
    else:
        graph.head(builder, architecture, states)
