"""Small networks with random weights, biases among them, and the bundles that they are exported to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from service.model.bundle import (
    CARD,
    FILES,
    TOKENIZER,
    Bundle,
    CharacterNetwork,
    Feature,
    FeatureName,
    Head,
    Manifest,
    Origin,
    Parity,
    Task,
)
from service.model.equations import CellName, Form, one_graph
from service.model.features import CHARACTERS, SHAPES
from service.model.tokenizer import UNKNOWN, Tokenizer, build
from training.export.bundle import export
from training.export.onnx import graph
from training.export.writing import digest
from training.nets.cells import NAMED
from training.nets.networks import Architecture, Network, Table, WordBits

WORDS: tuple[str, ...] = (
    *(UNKNOWN, "a", "the", "film", "movie", "is", "was", "very", "not", "n't", "do", "it", "'s", "and", "of", "in"),
    *("great", "good", "fine", "bad", "dull", "ada", "lovelace", "lived", "london", ",", ".", "!", '"', "'", "--"),
    *("00", "0000", "..."),
)
LABELS: dict[Task, tuple[str, ...]] = {
    "sentiment": ("negative", "positive"),
    "ner": ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"),
}
ORIGIN = Origin(data=("random weights",), command="none", seed=7, epochs=0, versions={"torch": "0"})
Rows = NDArray[np.int32]

Kind = Literal["rnn", "lstm", "peephole", "peephole-full", "gru", "gru-before", "mingru", "minlstm"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Every cell there is, by its word in `training.nets.cells.NAMED`."""
ONE_GRAPH: tuple[Kind, ...] = ("peephole-full", "mingru", "minlstm")
"""The cells without a fused operator: ``model.onnx`` gives their gates."""


class Options(TypedDict, total=False):
    """What makes one small network differ from the default: see `architecture`."""

    task: Task
    cell: Kind
    bidirectional: bool
    layers: int
    hidden: int
    head: Head | None
    labels: Sequence[str] | None
    characters: CharacterNetwork | None
    crf: bool
    word_bits: WordBits
    window_words: int


def architecture(**options: Unpack[Options]) -> Architecture:
    """One layer of 8 LSTM units in both directions; a classifier pools by its maximum, a tagger reads every feature."""
    task, characters = options.get("task", "sentiment"), options.get("characters")
    cell, form = named(options.get("cell", "lstm"))
    features = [Feature(name="word", size=len(WORDS))]
    if task == "ner":
        features.append(Feature(name="shape", size=SHAPES))
        features += [Feature(name="prefix", size=32), Feature(name="suffix", size=32)]
    if characters:
        features.append(Feature(name="character", size=CHARACTERS, columns=12))
    return Architecture(
        task=task,
        cell=cell,
        directions=("forward", "backward") if options.get("bidirectional", True) else ("forward",),
        layers=options.get("layers", 1),
        hidden=options.get("hidden", 8),
        head=options.get("head") or ("tagger" if task == "ner" else "max"),
        labels=tuple(options.get("labels") or LABELS[task]),
        features=tuple(features),
        reset="before" if form == "before" else "after",
        peephole="full" if form == "full" else "diagonal",
        characters=characters,
        crf=options.get("crf", False),
        word_bits=options.get("word_bits", 16),
        window_words=options.get("window_words", 1),
    )


def named(kind: Kind) -> tuple[CellName, Form | None]:
    """A kind's cell, and its form where it has two."""
    return NAMED[kind]


def network(shape: Architecture, seed: int = 7) -> Network:
    """A network whose weights are all random: fresh ones have biases and peepholes of 0 or 1, which hide mistakes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Network(shape)
        for name, parameter in made.named_parameters():
            if any(part in name for part in ("bias", "peepholes", "crf", "query")):
                parameter.data.uniform_(-0.5, 0.5)
                if "peepholes" in name and shape.form == "full":
                    parameter.data /= shape.hidden  # matrices: a cell that grows at every step has no digits left
    return made.eval()


def table(made: Network, name: FeatureName = "word") -> torch.Tensor:
    """A feature's embedding table [rows, numbers], without its graph."""
    embedding = made.embeddings[name]
    assert isinstance(embedding, Table)
    return embedding.weight.detach()


def tokenizer(shape: Architecture) -> Tokenizer:
    return build(WORDS, shape.features)


def random_rows(shape: Architecture, lengths: Sequence[int], seed: int = 0) -> list[Rows]:
    """Inputs of these lengths, each int32 [tokens, columns], any row of any table."""
    generator = np.random.default_rng(seed)
    sizes = np.repeat([each.size for each in shape.features], [each.columns for each in shape.features])
    return [generator.integers(0, sizes, (length, len(sizes))).astype(np.int32) for length in lengths]


def draft(made: Network, folder: Path) -> Bundle:
    """A network's files in `folder` as a bundle that is neither certified nor saved, for tests of what is."""
    shape = made.architecture
    folder.mkdir(parents=True, exist_ok=True)
    graph.write(made, folder)
    tokenizer(shape).save(folder / TOKENIZER)
    (folder / CARD).write_text("", encoding="utf-8")
    return Bundle("draft", 1, folder, manifest(shape, folder))


def manifest(shape: Architecture, folder: Path) -> Manifest:
    """A manifest for the files of a folder."""
    return Manifest(
        task=shape.task,
        cell=shape.cell,
        gru_reset=shape.gru_reset,
        peepholes=shape.peepholes,
        gates_graph="model.onnx" if one_graph(shape.cell, shape.form) else "trace.onnx",
        directions=shape.directions,
        window_words=shape.window_words,
        layers=shape.layers,
        hidden=shape.hidden,
        head=shape.head,
        labels=shape.labels,
        token_limit=4096,
        features=shape.features,
        characters=shape.characters,
        licence="CC0-1.0",
        origin=ORIGIN,
        parity=Parity(model=0, trace=0, gates=0, batches=1, logits_tolerance=0, gates_tolerance=0),
        files={file: digest(folder / file) for file in FILES if (folder / file).exists()},
    )


def tiny_bundle(folder: Path, *, seed: int = 7, **options: Unpack[Options]) -> Bundle:
    """Export a small random network as the next version below `folder`, which is ``models/NAME``.

    The same arguments give the same weights.
    """
    shape = architecture(**options)
    return export(network(shape, seed), tokenizer(shape), ORIGIN, "CC0-1.0", folder, lambda _: [])
