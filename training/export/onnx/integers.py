"""An LSTM's weights as 7-bit integers, for ONNX Runtime's DynamicQuantizeLSTM: how they are rounded, kept and read.

That operator multiplies integers: weights that were rounded beforehand, one scale a row of a gate's matrix, and inputs
and states that it rounds itself, by the largest number of the whole batch. Left to itself an answer would therefore
depend on the batch, padding included. Here it does not: every layer's input has two more columns, constant 1 and -1,
and every direction has two more units with the largest states of all. No weight leads from them anywhere. They fix the
range, and so the rounding of all other numbers.

The weights have 7 bits, not 8: on processors without VNNI the sums of two products have to fit 16 bits (ONNX Runtime's
documentation calls it reduce_range), and a bundle is to answer the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from service.errors import BundleError
from service.model.weights_layout import INT8_BOUNDS, STACKING, is_recurrent, scale_name
from training.export.onnx.builder import CONTRIBUTED, Builder
from training.nets.networks import Architecture, Network

LARGEST = 64
"""Largest absolute value of a weight as an integer: 2 * 255 * 64 still fits 16 bits."""
SATURATED = 40.0
"""A bias with which a gate is 1, or a candidate 1 or -1, to the last bit."""
_GATES = len(STACKING["lstm"])
_TINY = 1e-12

_Arrays = dict[str, NDArray[np.generic]]


def check(architecture: Architecture) -> None:
    """Raises `BundleError` for a network that has no int8 form, with the reason."""
    if architecture.cell != "lstm":
        raise BundleError(
            f"int8 is for the lstm: ONNX Runtime's one recurrent operator of integers is DynamicQuantizeLSTM; it has "
            f"none for the {architecture.cell}"
        )
    if architecture.characters is not None:
        raise BundleError("int8 is for networks that read tables alone: the features of characters have no fixed range")


@torch.no_grad()
def prepare(network: Network) -> None:
    """Round a network's weights, in place, to those of its int8 form.

    Each column of the tables is brought to the range -1 to 1, and the first layer's weights make up for it, which
    changes nothing but uses the integers well; then every layer's matrices are rounded. Raises `BundleError`.
    """
    check(network.architecture)
    # Columns brought to one range are no multiples of a row's scale: word vectors of fewer bits take 16 from here on.
    network.architecture = replace(network.architecture, word_bits=16)
    first = network.recurrent()[0].directions()
    at = 0
    for feature in network.architecture.features:
        table = network.embeddings[feature.name].weight
        assert isinstance(table, torch.Tensor)
        most = table.abs().amax(0).clamp_min(_TINY)
        table.div_(most)
        for cell in first:
            cell.stacked().w[:, at : at + len(most)].mul_(most)
        at += len(most)
    for layer in network.recurrent():
        for cell in layer.directions():
            for matrix in cell.matrices():
                scale = matrix.abs().amax(1, keepdim=True).clamp_min(_TINY) / LARGEST
                matrix.copy_((matrix / scale).round() * scale)


def stored(arrays: Mapping[str, NDArray[np.generic]]) -> _Arrays:
    """The arrays of a weights file, those of each layer as the operator wants them: W and R int8 [directions, columns,
    rows] with ``scale`` float32 and ``zero`` int8 [directions, rows], and B, all of them with their bounds."""
    found: _Arrays = {}
    for name, array in arrays.items():
        part = name.rpartition(".")[2]
        if not is_recurrent(name):
            found[name] = array
        elif part == "B":
            found[name] = _bounded_bias(array.astype(np.float32))
        else:
            wide = _bounded_matrix(array.astype(np.float32), states=part == "R")
            scale = np.maximum(np.abs(wide).max(axis=2), _TINY).astype(np.float32) / np.float32(LARGEST)
            integers = np.rint(wide / scale[..., None]).astype(np.int8)
            found[name] = np.ascontiguousarray(integers.transpose(0, 2, 1))
            found[scale_name(name)], found[f"{name}.zero"] = scale, np.zeros(scale.shape, np.int8)
    return found


def _bounded_matrix(matrix: NDArray[np.float32], *, states: bool) -> NDArray[np.float32]:
    """[directions, gates * units, columns] with extra rows and columns of zeros, which fix the range."""
    gates = matrix.reshape(len(matrix), _GATES, -1, matrix.shape[2])
    wide = np.pad(gates, ((0, 0), (0, 0), (0, INT8_BOUNDS), (0, INT8_BOUNDS)))
    assert wide.shape[2] == wide.shape[3] or not states
    return wide.reshape(len(matrix), -1, wide.shape[3])


def _bounded_bias(bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """[directions, 2 * gates * units] with biases that drive the units more to the ends of their range."""
    halves = np.pad(bias.reshape(len(bias), 2, _GATES, -1), ((0, 0), (0, 0), (0, 0), (0, INT8_BOUNDS)))
    halves[:, 0, :, -INT8_BOUNDS:] = SATURATED
    halves[:, 0, -1, -1] = -SATURATED  # ONNX stacks the candidate last
    return halves.reshape(len(bias), -1)


def is_stored(builder: Builder, name: str) -> bool:
    """True if the layer called `name` is kept as integers."""
    return scale_name(f"{name}.W") in builder.weights.arrays


def layer(builder: Builder, name: str, states: str, attributes: Mapping[str, object]) -> str:
    """The fused layer: states [time, batch, inputs] → [time, directions, batch, units]."""
    units = attributes["hidden_size"]
    assert isinstance(units, int)
    size = builder.node("Slice", builder.node("Shape", states), builder.integers(0), builder.integers(2))
    shape = builder.node("Concat", size, builder.integers(INT8_BOUNDS), axis=0)
    bounds = builder.node("Expand", builder.constant(np.array([1.0, -1.0], np.float32)), shape)
    bounded = builder.node("Concat", states, bounds, axis=2)
    weights = [builder.weight(f"{name}.{part}") for part in "WRB"]
    scales = [builder.weight(f"{name}.{part}.{what}") for part in "WR" for what in ("scale", "zero")]
    none = ("", "", "")  # no initial states, no peepholes
    wide = {**attributes, "hidden_size": units + INT8_BOUNDS, "domain": CONTRIBUTED}
    out = builder.node("DynamicQuantizeLSTM", bounded, *weights, "lengths", *none, *scales, **wide)
    return builder.node("Slice", out, builder.integers(0), builder.integers(units), builder.integers(3))


def matrix(builder: Builder, name: str, way: int, units: int) -> str:
    """One direction's weights in float32 [columns, gates * units], without bounds; made once, when the graph is loaded.

    The numbers are the very ones that the integers stand for.
    """
    floats = builder.node("Cast", builder.weight(name, way), to=TensorProto.FLOAT)
    scaled = builder.node("Mul", floats, builder.weight(scale_name(name), way))
    columns = builder.weights.arrays[name].shape[1] - INT8_BOUNDS
    return _narrowed(builder, scaled, columns, units, (columns, _GATES * units))


def bias(builder: Builder, name: str, way: int, units: int) -> str:
    """One direction's biases in float32 [gates * units], without bounds."""
    first = builder.weight(name, way, 0, _GATES * (units + INT8_BOUNDS))
    return _narrowed(builder, first, 1, units, (_GATES * units,))


def _narrowed(builder: Builder, wide: str, rows: int, units: int, shape: tuple[int, ...]) -> str:
    """The first of [all rows, gates * (units + bounds)] and every gate's own units, in another shape."""
    apart = builder.node("Reshape", wide, builder.integers(-1, _GATES, units + INT8_BOUNDS))
    ends = builder.integers(rows, units)
    kept = builder.node("Slice", apart, builder.integers(0, 0), ends, builder.integers(0, 2))
    return builder.node("Reshape", kept, builder.integers(*shape))
