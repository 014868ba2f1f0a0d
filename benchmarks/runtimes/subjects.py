"""The networks that the runtimes run: small networks of every cell, and the models that ship, served and portable."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.runtimes.workers import Batch
from benchmarks.trace import exported
from service.model.bundle import MODEL_GRAPH, WEIGHTS, Bundle, Feature, Head, Task, discover, load
from service.model.engine import Engine, pad
from service.model.self_check import random_rows
from training.export import restore
from training.export.onnx.portable import portable
from training.export.portable import TOLERANCES, FloatKind, write
from training.nets.cells import NAMED
from training.nets.networks import Architecture, Network

MODELS = Path(__file__).parents[2] / "models"
GRAPHS = ("served", "portable", "portable, float16")
LENGTHS = ((9, 4, 2), (1,), (1, 1), (23,), (12, 1, 30, 7))
"""Tokens of the rows of each batch whose logits are compared."""
TIMED = {"one text": (20,), "a batch": (5, 40, 12, 20, 33, 8, 25, 16, 30, 22, 7, 19, 28, 11, 36, 14)}
"""Tokens of the rows of each batch that is timed."""
UNITS, TIMED_UNITS = 16, 128
FORWARD = "lstm"
"""The cell that is timed in one direction as well: some runtimes have nothing else right."""
_WORDS = 200


@dataclass(frozen=True, slots=True)
class Graph:
    """A file, and how far its logits may be from those of the service."""

    path: Path
    tolerance: float


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a model that ships: the bundle's version, and the SHA-256 of its weights and of `model.onnx`."""

    version: int
    weights: str
    graph: str

    @classmethod
    def of(cls, bundle: Bundle) -> Files:
        digests = bundle.manifest.files  # `load` compared them with the files
        return cls(bundle.version, digests[WEIGHTS], digests[MODEL_GRAPH])


@dataclass(frozen=True, slots=True)
class Subject:
    """One model: its graphs by their word in `GRAPHS`, and batches with the logits that the service gives. `files` are
    those of a model that ships."""

    name: str
    graphs: dict[str, Graph]
    batches: tuple[tuple[Batch, NDArray[np.float32]], ...]
    timed: dict[str, Batch]
    files: Files | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A small network with random weights. `word` is that of its cell in `NAMED`."""

    word: str
    both: bool = False
    """True with two directions."""
    task: Task = "sentiment"
    layers: int = 1
    head: Head = "max"

    @property
    def name(self) -> str:
        """Its name in the table: `two-layer bidirectional lstm, last`."""
        layers = "" if self.layers == 1 else "two-layer "
        head = {"max": "", "tagger": ", tagger"}.get(self.head, f", {self.head}")
        return f"{layers}{'bidirectional ' if self.both else ''}{self.word}{head}"

    @property
    def folder(self) -> str:
        return "-".join(map(str, (self.word, self.both, self.task, self.layers, self.head)))


CELLS = (
    *(
        cell
        for word, both in product(NAMED, (False, True))
        for cell in (Cell(word, both), Cell(word, both, "ner", head="tagger"))
    ),
    # The second layer reads rows that were turned, and turned back; no model that ships has the head `last`.
    Cell("lstm", both=True, layers=2, head="last"),
    Cell("peephole", both=True, layers=2, head="last"),
)
"""Every cell in one direction and in two, as classifier and as tagger; and two layers of an operator and of a Scan."""


def cells(folder: Path, words: Sequence[str] | None = None, *, chosen: Sequence[str] = ()) -> Iterator[Subject]:
    """The networks of `CELLS`, or those of the cells of these `words`, or those of the `chosen` names."""
    for cell in CELLS:
        if (words is None or cell.word in words) and (not chosen or cell.name in chosen):
            yield _subject(cell.name, exported(_network(cell, UNITS), folder / cell.folder), folder)


def timed(folder: Path, words: Sequence[str] | None = None) -> Iterator[Subject]:
    """A bidirectional classifier of every cell, large enough for its time to mean something; of `FORWARD` one that
    reads forward too."""
    for word in NAMED if words is None else words:
        for both in (True, False) if word == FORWARD else (True,):
            bundle = exported(_network(Cell(word, both), TIMED_UNITS), folder / f"{word}-{both}-timed")
            yield _subject(word if both else f"forward {word}", bundle, folder)


def timed_name(cell: str) -> str:
    """The name that a classifier of `cells` has among those that are timed, if it is there."""
    word = cell.removeprefix("bidirectional ")
    return f"forward {cell}" if word == cell else word


def shipped(folder: Path, models: Path = MODELS, chosen: Sequence[str] = ()) -> Iterator[Subject]:
    """The models that ship (or those of the `chosen` names), but those of integers: their newest versions."""
    for name, versions in discover(models):
        if chosen and name not in chosen:
            continue
        bundle = load(models / name / str(versions[-1]))
        if bundle.manifest.precision == "float32":
            yield _subject(name, bundle, folder, certified=True)


def _network(wanted: Cell, units: int) -> Network:
    cell, form = NAMED[wanted.word]
    labels = ("O", "B-PER", "I-PER") if wanted.task == "ner" else ("negative", "positive")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(
            Architecture(
                task=wanted.task,
                cell=cell,
                directions=("forward", "backward") if wanted.both else ("forward",),
                layers=wanted.layers,
                hidden=units,
                head=wanted.head,
                labels=labels,
                features=(Feature(name="word", size=_WORDS),),
                reset="before" if form == "before" else "after",
                peephole="full" if form == "full" else "diagonal",
            )
        )
        # Fresh ones are 0, and a runtime that drops them would go unnoticed.
        for name, parameter in network.named_parameters():
            if "bias" in name or "peepholes" in name:
                parameter.data.uniform_(-0.5, 0.5)
                if "peepholes" in name and form == "full":
                    parameter.data /= units  # matrices: a cell that grows at every step has no digits left
        return network


def _subject(name: str, bundle: Bundle, folder: Path, *, certified: bool = False) -> Subject:
    place = folder / "graphs" / bundle.path.parent.name
    place.mkdir(parents=True)
    (place / "served").mkdir()
    for file in (MODEL_GRAPH, WEIGHTS):
        shutil.copyfile(bundle.file(file), place / "served" / file)
    graphs = {"served": Graph(place / "served" / MODEL_GRAPH, TOLERANCES["float32"])}
    kinds: dict[str, FloatKind] = {"portable": "float32", "portable, float16": "float16"}
    arrays = load_file(bundle.file(WEIGHTS))
    for word, kind in kinds.items():
        if certified:
            write(bundle, place / f"{kind}.onnx", kind)
        else:
            data = portable(restore.architecture(bundle, arrays), arrays, {}, half=kind == "float16")
            (place / f"{kind}.onnx").write_bytes(data)
        graphs[word] = Graph(place / f"{kind}.onnx", TOLERANCES[kind])
    engine, generator = Engine(bundle), np.random.default_rng(0)
    batches = []
    for lengths in LENGTHS:
        rows = random_rows(bundle.manifest.features, lengths, generator)
        batches.append((Batch(*pad(rows)), engine.predict(rows)))
    timed = {word: random_rows(bundle.manifest.features, lengths, generator) for word, lengths in TIMED.items()}
    return Subject(
        name,
        graphs,
        tuple(batches),
        {word: Batch(*pad(rows)) for word, rows in timed.items()},
        Files.of(bundle) if certified else None,
    )
