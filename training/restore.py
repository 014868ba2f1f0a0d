"""A bundle → the network that it was exported from: the weights file read back into torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor, nn

from service.bundle import WEIGHTS, Bundle
from training.cells import Cell, Peephole
from training.graph import STACKING
from training.networks import Architecture, Network

_Arrays = Mapping[str, NDArray[np.generic]]


def network(bundle: Bundle) -> Network:
    """The network, in evaluation mode. Exporting it again gives the same file of weights, byte for byte."""
    arrays = load_file(bundle.file(WEIGHTS))
    made = Network(_architecture(bundle, arrays)).eval()
    with torch.no_grad():
        for name, table in made.embeddings.items():
            assert isinstance(table, nn.Embedding)
            table.weight.copy_(_tensor(arrays[f"embedding.{name}"]))
        for number, layer in enumerate(made.recurrent()):
            for way, cell in enumerate(layer.directions()):
                parts = {part: _tensor(arrays[f"recurrent.{number}.{part}"][way]) for part in "WRB"}
                _fill(cell, STACKING[bundle.manifest.cell], parts)
                if isinstance(cell, Peephole):
                    _fill_peepholes(cell, _tensor(arrays[f"recurrent.{number}.P"][way]))
        made.head.weight.copy_(_tensor(arrays["head.weight"]))
        made.head.bias.copy_(_tensor(arrays["head.bias"]))
    return made


def _architecture(bundle: Bundle, arrays: _Arrays) -> Architecture:
    manifest = bundle.manifest
    return Architecture(
        task=manifest.task,
        cell=manifest.cell,
        directions=manifest.directions,
        layers=manifest.layers,
        hidden=manifest.hidden,
        head=manifest.head,
        labels=manifest.labels,
        features=manifest.features,
        word_size=arrays["embedding.word"].shape[1],
        reset=manifest.gru_reset or "after",
    )


def _fill(cell: Cell, order: tuple[str, ...], parts: Mapping[str, Tensor]) -> None:
    """A cell's parameters from ONNX's stacks: W [blocks * units, inputs], R [blocks * units, units], B [2 * blocks *
    units], whose blocks stand in `order`."""
    stacked = cell.stacked()
    first, second = (dict(zip(order, half.chunk(len(order)), strict=True)) for half in parts["B"].chunk(2))
    w, r = (dict(zip(order, parts[part].chunk(len(order)), strict=True)) for part in "WR")
    stacked.w.copy_(torch.cat([w[gate] for gate in cell.blocks]))
    stacked.r.copy_(torch.cat([r[gate] for gate in cell.blocks]))
    if stacked.r_bias is None:
        stacked.w_bias.copy_(torch.cat([first[gate] + second[gate] for gate in cell.blocks]))
    else:
        stacked.w_bias.copy_(torch.cat([first[gate] for gate in cell.blocks]))
        stacked.r_bias.copy_(torch.cat([second[gate] for gate in cell.blocks]))


def _fill_peepholes(cell: Peephole, stacked: Tensor) -> None:
    order = [gate for gate in STACKING["peephole"] if gate in cell.seeing]
    rows = dict(zip(order, stacked.chunk(len(order)), strict=True))
    cell.peepholes.copy_(torch.stack([rows[gate] for gate in cell.seeing]))


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(array).float()
