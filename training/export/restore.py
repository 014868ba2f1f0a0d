"""A folder → its bundle, and a bundle → the network that it was exported from: the weights read back into torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor

from service.errors import BundleError
from service.model import bundle as bundles
from service.model.bundle import TOKENIZER, WEIGHTS, Bundle
from service.model.weights_layout import (
    CHARACTER_BIAS,
    CHARACTERS,
    HEAD_BIAS,
    HEAD_QUERY,
    HEAD_WEIGHT,
    STACKING,
    WORDS,
    fine_name,
    layer_name,
    scale_name,
    table_name,
)
from training.export.onnx.embedding import Quantised
from training.nets.cells import Cell, FullPeephole, Peephole
from training.nets.characters import CharacterCNN, CharacterLSTM, Characters
from training.nets.networks import Architecture, Network, Table

_Arrays = Mapping[str, NDArray[np.generic]]


def opened(model: Path) -> Bundle:
    """The verified bundle of ``models/NAME`` (its highest version) or ``models/NAME/VERSION``.

    Raises `BundleError`; its message names the bundle.
    """
    folder = _version_folder(model)
    try:
        return bundles.load(folder)
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error


def _version_folder(model: Path) -> Path:
    if bundles.is_version(model.name):
        return model
    found = bundles.versions(model)
    if not found:
        raise BundleError(f"{model}: no version there; expected a folder models/NAME that fit has written")
    return model / str(found[-1])


def vocabulary(bundle: Bundle) -> dict[str, int]:
    """The row of each word of a bundle's tokenizer, with any rules. Raises `BundleError`."""
    try:
        words = orjson.loads(bundle.file(TOKENIZER).read_bytes())["model"]["vocab"]
        return {str(word): int(row) for word, row in words.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{TOKENIZER} has no vocabulary: {type(error).__name__}") from error


def network(bundle: Bundle) -> Network:
    """The network, in evaluation mode. Exporting it again gives the same file of weights, byte for byte; convolutions
    over characters, which a bundle keeps multiplied out, to a few millionths.

    Raises `BundleError` for a bundle of integers, which keep less than the network had.
    """
    if bundle.manifest.precision != "float32":
        raise BundleError(
            f"{bundle.name} is {bundle.manifest.precision} already: export the float32 bundle that it came from"
        )
    arrays = load_file(bundle.file(WEIGHTS))
    made = Network(architecture(bundle, arrays)).eval()
    with torch.no_grad():
        for name, table in made.embeddings.items():
            assert isinstance(table, Table)
            table.weight.copy_(_words(arrays) if name == "word" else _tensor(arrays[table_name(name)]))
        if fine_name(WORDS) in arrays:
            word = made.embeddings["word"]
            assert isinstance(word, Table)
            word.fine = len(arrays[fine_name(WORDS)]) - 1
        if made.characters is not None:
            _fill_characters(made.characters, arrays)
        for number, layer in enumerate(made.recurrent()):
            for way, cell in enumerate(layer.directions()):
                names = {part: f"{layer_name(number)}.{part}" for part in "WRBP"}
                parts = {part: _tensor(arrays[name][way]) for part, name in names.items() if name in arrays}
                _fill(cell, STACKING[bundle.manifest.cell], parts)
        made.head.weight.copy_(_tensor(arrays[HEAD_WEIGHT]))
        made.head.bias.copy_(_tensor(arrays[HEAD_BIAS]))
        if made.query is not None:
            made.query.copy_(_tensor(arrays[HEAD_QUERY]))
        if made.crf is not None and bundle.manifest.crf is not None:
            made.crf.transitions.copy_(torch.tensor(bundle.manifest.crf.transitions))
            made.crf.start.copy_(torch.tensor(bundle.manifest.crf.start))
    return made


def word_table(bundle: Bundle) -> NDArray[np.float32]:
    """The word vectors of a bundle of floats, float32 [words, size]."""
    table: NDArray[np.float32] = _words(load_file(bundle.file(WEIGHTS))).numpy()
    return table


def _words(arrays: _Arrays) -> Tensor:
    """The word vectors, from any of the forms in a bundle."""
    stored, scale = arrays[WORDS], arrays.get(scale_name(WORDS))
    if scale is None:
        return _tensor(stored)
    fine = arrays.get(fine_name(WORDS))
    if fine is None:
        return _tensor(stored) * _tensor(scale)
    return Quantised.of_halves(stored.astype(np.uint8), fine.astype(np.uint8), scale.astype(np.float16)).rounded()


def _fill_characters(network: Characters, arrays: _Arrays) -> None:
    stored = _tensor(arrays[table_name("character")])
    if isinstance(network, CharacterCNN):
        tables = stored.view(len(stored), network.reach, network.width).permute(1, 0, 2)
        network.take(tables, _tensor(arrays[CHARACTER_BIAS]))
    elif isinstance(network, CharacterLSTM):
        network.table.weight.copy_(stored)
        for way, cell in enumerate(network.directions()):
            _fill(cell, STACKING["lstm"], {part: _tensor(arrays[f"{CHARACTERS}.{part}"][way]) for part in "WRB"})


def architecture(bundle: Bundle, arrays: _Arrays) -> Architecture:
    manifest = bundle.manifest
    words, packed = arrays[WORDS], fine_name(WORDS) in arrays
    return Architecture(
        task=manifest.task,
        cell=manifest.cell,
        directions=manifest.directions,
        layers=manifest.layers,
        hidden=manifest.hidden,
        head=manifest.head,
        labels=manifest.labels,
        features=manifest.features,
        word_size=words.shape[1] * (2 if packed else 1),
        reset=manifest.gru_reset or "after",
        peephole=manifest.peepholes or "diagonal",
        window_words=manifest.window_words,
        characters=manifest.characters,
        crf=manifest.crf is not None,
        word_bits=4 if packed else 8 if words.dtype == np.int8 else 16,
    )


def _fill(cell: Cell, order: tuple[str, ...], parts: Mapping[str, Tensor]) -> None:
    """A cell's parameters from the file's stacks, with blocks in `order`: W [blocks * units, inputs], B [2 *
    blocks * units] or its first half, and R [blocks * units, units] and P if the cell has them."""
    stacked = cell.stacked()

    def sorted_(part: Tensor, order: Sequence[str] = order, wanted: Sequence[str] = cell.blocks) -> Tensor:
        """Blocks of rows in the cell's order."""
        blocks = dict(zip(order, part.chunk(len(order)), strict=True))
        return torch.cat([blocks[gate] for gate in wanted])

    stacked.w.copy_(sorted_(parts["W"]))
    if stacked.r is not None:
        stacked.r.copy_(sorted_(parts["R"]))
    first, second = parts["B"], torch.zeros_like(parts["B"])
    if len(first) > len(stacked.w_bias):
        first, second = first.chunk(2)
    if stacked.r_bias is None:
        stacked.w_bias.copy_(sorted_(first + second))
    else:
        stacked.w_bias.copy_(sorted_(first))
        stacked.r_bias.copy_(sorted_(second))
    if isinstance(cell, Peephole):
        seeing = [gate for gate in order if gate in cell.seeing]
        cell.peepholes.copy_(sorted_(parts["P"], seeing, cell.seeing).view_as(cell.peepholes))
    elif isinstance(cell, FullPeephole):
        cell.peepholes.copy_(sorted_(parts["P"]))


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(array).float()
