"""The model bundle on disk: ``models/NAME/VERSION/``. `training.export.writing` writes it, the service reads it.

A bundle is a folder of the files below and a manifest, ``model.json``, that holds each file's SHA-256. Both graphs
keep their weights in one file, ``weights.safetensors``, as ONNX external data: the offsets point past its header.
``units.json``, a card for each unit (`service.model.unit_cards`), may be missing.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from mmap import mmap
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from service.errors import BundleError
from service.model import contents, windows
from service.model.contents import Content
from service.model.equations import MINIMAL, CellName, Direction, Form, GruReset, Peepholes, equations, one_graph
from service.model.json_parts import MOST, SCHEMA_VERSION, Count, Finite, Frozen, SchemaVersion, parsed
from service.model.rules import Style

MANIFEST = "model.json"
MODEL_GRAPH = "model.onnx"
TRACE_GRAPH = "trace.onnx"
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"
CARD = "README.md"
FILES = (MODEL_GRAPH, TRACE_GRAPH, WEIGHTS, TOKENIZER, CARD)
"""A bundle's files. `TRACE_GRAPH` is left out if the manifest says that `MODEL_GRAPH` serves both."""
UNITS = "units.json"
"""A file that a bundle may have: a card for each unit, without texts."""
MAX_TOKENS = 1_000_000
"""Most tokens of one input, for any model: the highest value of a manifest or a setting."""
MAX_LABELS = 4096
MAX_NAME = 256
"""Characters of a label, and of the name of a set of data."""
MAX_SCORES = 256
"""Figures that a manifest has."""
MAX_BYTES = 6_000_000
"""A bundle's files together, the limit for the default models."""

LIMITS = {
    MANIFEST: 1 << 20,
    MODEL_GRAPH: 4 << 20,
    TRACE_GRAPH: 4 << 20,
    WEIGHTS: 2 << 30,
    TOKENIZER: 64 << 20,
    CARD: 1 << 20,
    UNITS: 4 << 20,
}
"""Bytes of each file, the limits for those that are served: a larger file is not even read."""

Task = Literal["sentiment", "ner"]
Head = Literal["last", "mean", "max", "attention", "tagger"]
"""How states become logits: pooling over time for a classifier, one row a token for a tagger."""
Precision = Literal["float32", "int8"]
"""Number type of the recurrent layers of ``model.onnx``. Those of ``trace.onnx`` always compute in float32, with the
same weights."""
FeatureName = Literal["word", "shape", "prefix", "suffix", "character"]
CharacterNetwork = Literal["cnn", "lstm"]
"""Network that reads a token's characters: convolutions and their maximum, or a bidirectional LSTM."""

NO_BUNDLE = "holds no bundle NAME/VERSION/ (VERSION is a whole number from 1, without leading zeros)"
"""Said of a folder."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.IGNORECASE)
_Label = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Potential = Annotated[float, Field(ge=-1000, le=1000)]


class Feature(Frozen):
    """One or several columns of the network's integer input, which share an embedding table of `size` rows."""

    name: FeatureName = Field(description="The property of a token that this column holds.")
    size: int = Field(ge=1, le=1 << 28, description="Rows of its embedding table.")
    columns: int = Field(
        1,
        ge=1,
        le=64,
        description="How many columns a token has of it: one, or for `character` one for each character that is read.",
    )


class Crf(Frozen):
    """The scores that a conditional random field adds to the emissions, for legal sequences; natural logarithms."""

    start: tuple[_Potential, ...]
    """Scores of the first token's label [labels]."""
    transitions: tuple[tuple[_Potential, ...], ...]
    """From a label (row) to the next (column) [labels, labels]."""


class Score(Frozen):
    """One measured figure: `metric` on `data` (corpus and split), over `examples` inputs, `truncated` of them cut."""

    data: _Label = Field(description="The corpus and its split.")
    metric: Literal["accuracy", "macro_f1", "macro_recall", "precision", "recall", "f1", "calibration_error"] = Field(
        description="Name of the score. Precision, recall and f1 count entities."
    )
    value: float = Field(ge=0, le=1, description="The figure.")
    examples: int = Field(ge=1, le=MOST, description="How many inputs it is over.")
    truncated: Count = Field(0, description="How many of them were over the token limit and lost their tails.")


class LabelCounts(Frozen):
    """How often each label stands in a file of labelled data: rows of a classifier, entities of a tagger."""

    data: _Label
    examples: Count
    labels: dict[str, Count]


class RawText(Frozen):
    """How a tagger does on the sentences of `data` written as people write them, beside the same as tokens."""

    data: _Label = Field(description="The corpus and its split.")
    sentences: int = Field(ge=1, le=MOST, description="How many sentences it is over.")
    same_tokens: float = Field(
        ge=0, le=1, description="The share of sentences that the tokenizer cuts into the corpus's own tokens."
    )
    entities: Count = Field(description="The entities in them.")
    recut: Count = Field(description="Those that the tokenizer cuts into other tokens than the corpus does.")
    across: Count = Field(description="Those that begin or end inside a token of raw text: no answer can give them.")
    f1_tokens: float = Field(ge=0, le=1, description="F1 of entities when the corpus's tokens are sent.")
    f1: float = Field(ge=0, le=1, description="F1 of entities, by offsets, when raw text is sent.")


class Origin(Frozen):
    """The origin of a model: its training data, and the command, seed and versions that made it. `counts` has the
    training files, then the files that picked the best epoch; it is empty in older bundles.
    """

    data: tuple[str, ...]
    counts: tuple[LabelCounts, ...] = ()
    command: str
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)]
    epochs: Count
    versions: dict[str, str]


class Spread(Frozen):
    """A distribution: how many observations fell into each bin of `service.model.gate_drift.BOUNDS`, and their sum."""

    counts: tuple[Count, ...]
    sum: Finite


class GateDistributions(Frozen):
    """One gate of one direction of one layer, a unit over a text being one observation: its mean activation, the
    shares of time under 0.1 and over 0.9 (of gates in 0..1), and its horizon (of the gate that keeps the state)."""

    layer: Count
    direction: Direction
    gate: str
    activation: Spread
    below: Spread | None = None
    above: Spread | None = None
    horizon: Spread | None = None


class GateStatistics(Frozen):
    """The distributions of all gates over the corpus `data`. Live traffic is compared with them."""

    data: str
    texts: Annotated[int, Field(ge=1, le=MOST)]
    tokens: Annotated[int, Field(ge=1, le=MOST)]
    gates: tuple[GateDistributions, ...]


class Interval(Frozen):
    """A mean over inputs, and its bootstrap interval of 95 %."""

    mean: Finite = Field(description="The mean over the inputs.")
    low: Finite = Field(description="The lower end of its bootstrap interval of 95 %.")
    high: Finite = Field(description="The upper end.")


class Faithful(Frozen):
    """How faithful one way to explain is, by deleting and keeping the tokens that it ranks first."""

    method: _Label = Field(description="`split` is the one of `/gates`.")
    deletion: Interval = Field(description="Area under the probability while tokens go; lower is better.")
    insertion: Interval | None = Field(None, description="The same while tokens come; higher is better.")
    comprehensiveness: Interval = Field(description="Probability lost without its first tokens; higher is better.")
    sufficiency: Interval = Field(description="Probability lost with them alone; lower is better.")
    log_odds: Interval | None = Field(
        None, description="Change of log-probability without its first 20 %; lower is better."
    )
    cost: Finite = Field(description="CPU time, in predictions of the same input.")


class FaithfulnessStudy(Frozen):
    """How faithful ways to explain are on `data`, over `inputs` of its inputs."""

    data: _Label = Field(description="The corpus and its split.")
    inputs: int = Field(ge=1, le=MOST, description="How many inputs, drawn at random.")
    tokens: Annotated[Finite, Field(ge=1, description="Their mean length.")]
    methods: Annotated[tuple[Faithful, ...], Field(max_length=32)] = Field(description="The ways to explain.")


class Parity(Frozen):
    """The export's certificate: the largest absolute differences found over `batches` random batches.

    `model` and `trace` compare the two graphs' logits with torch's. `gates` compares the traced gates with the cell's
    equations in float64, relative to values over 1. `batch` compares a probability in a batch with that of the same
    input alone; None if it was not measured.
    """

    model: Finite = Field(description="Of the logits of `model.onnx`, from torch's.")
    trace: Finite = Field(description="Of the logits of `trace.onnx`, from torch's.")
    gates: Finite = Field(description="Of the traced gates, from the equations in float64.")
    batch: Finite | None = Field(None, description="Of a probability in a batch, from the same input's alone.")
    batches: Count = Field(description="How many random batches were compared.")
    logits_tolerance: Finite = Field(description="The largest value that `model` and `trace` may have.")
    gates_tolerance: Finite = Field(description="The largest value that `gates` may have.")


class Manifest(Frozen):
    """``model.json``: all that the service needs to know of a model, and the model's origin."""

    model_config = ConfigDict(serialize_by_alias=True)

    schema_version: SchemaVersion = SCHEMA_VERSION
    task: Task
    cell: CellName
    gru_reset: GruReset | None = None
    peepholes: Peepholes | None = None
    """The form of the peephole LSTM; None in manifests older than the full form, which are diagonal."""
    directions: tuple[Direction, ...]
    window_words: Annotated[int, Field(ge=1, le=windows.MAX_WORDS)] = 1
    """Words that the first layer of a minimal cell reads at each step: see `service.model.windows`."""
    layers: Annotated[int, Field(ge=1, le=16)]
    hidden: Annotated[int, Field(ge=1, le=8192)]
    head: Head
    labels: Annotated[tuple[_Label, ...], Field(min_length=2, max_length=MAX_LABELS)]
    token_limit: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=16)]
    style: Style | None = None
    """How raw text is cut; ``tokenizer.json`` has the rules. None in manifests of earlier releases."""
    characters: CharacterNetwork | None = None
    crf: Crf | None = None
    temperature: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """The temperature: the export divided the head's logits (and the CRF's scores) by it, so that scores are
    calibrated."""
    licence: str
    origin: Origin
    precision: Precision = "float32"
    gates_graph: Literal["trace.onnx", "model.onnx"] = "trace.onnx"
    """The graph that gives the gates. If it is ``model.onnx``, it serves both, and there is no ``trace.onnx``."""
    quality: Annotated[tuple[Score, ...], Field(max_length=MAX_SCORES)] = ()
    guess: Annotated[tuple[Score, ...], Field(max_length=MAX_SCORES)] = ()
    """Accuracy of always answering the commonest label, or F1 of no entity at all, on the data of `quality`."""
    raw_text: Annotated[tuple[RawText, ...], Field(max_length=MAX_SCORES)] = ()
    """Taggers: the same figures on raw text."""
    faithfulness: Annotated[tuple[FaithfulnessStudy, ...], Field(max_length=256)] = ()
    """How faithful the split into tokens is, beside other ways to explain the same answers."""
    quality_before: tuple[Score, ...] = ()
    """int8 models: the same figures of the float32 model that they were made from."""
    parity: Parity
    gate_statistics: GateStatistics | None = Field(None, alias="health")
    """The gates on a corpus like the service's traffic; ``health`` in the file."""
    files: dict[str, _Sha256]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if self.directions not in (("forward",), ("forward", "backward")):
            has = ", ".join(self.directions) or "none"
            raise ValueError(f"directions: forward, or forward and backward, not {has}")
        if (self.task == "ner") != (self.head == "tagger"):
            raise ValueError("a ner model has head 'tagger', a sentiment model a pooling head")
        self._check_cell()
        self._check_features()
        if self.crf is not None:
            widths = {len(self.crf.start), len(self.crf.transitions), *map(len, self.crf.transitions)}
            if self.task != "ner" or widths != {len(self.labels)}:
                raise ValueError("a crf belongs to a ner model, with one score for each label and pair of labels")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from each other")
        if set(self.files) != set(self.file_names):
            raise ValueError(f"files: exactly {', '.join(self.file_names)}, not {', '.join(self.files)[:400]!a}")
        return self

    @property
    def reads_forward(self) -> bool:
        """True if the model reads a text forward only, so that it can read one as it arrives."""
        return self.directions == ("forward",)

    def _check_cell(self) -> None:
        if (self.cell == "gru") != (self.gru_reset is not None):
            raise ValueError("gru_reset belongs to the gru, and only to it")
        if self.peepholes is not None and self.cell != "peephole":
            raise ValueError("peepholes belongs to the peephole cell, and only to it")
        if self.window_words > 1 and self.cell not in MINIMAL:
            raise ValueError(f"window_words belongs to the cells {' and '.join(sorted(MINIMAL))}, and only to them")
        if self.precision == "int8" and self.cell != "lstm":
            raise ValueError("int8 is for the lstm: there is no other recurrent operator of integers")
        if (self.gates_graph == MODEL_GRAPH) != one_graph(self.cell, self.form):
            wanted = MODEL_GRAPH if one_graph(self.cell, self.form) else TRACE_GRAPH
            raise ValueError(f"gates_graph is {wanted} for the {self.cell}")

    @property
    def form(self) -> Form | None:
        """The form of the cell; None for a cell with one form."""
        return self.gru_reset or self.peepholes or ("diagonal" if self.cell == "peephole" else None)

    @property
    def window(self) -> tuple[int, int]:
        """The words that the first layer reads before a step's own word, and after it; (0, 0) without a window."""
        return windows.reach(self.window_words, self.directions)

    @property
    def equations(self) -> dict[str, str]:
        """Gate name to equation."""
        return equations(self.cell, self.form, windows.definition(*self.window) if self.window_words > 1 else None)

    @property
    def file_names(self) -> tuple[str, ...]:
        """The bundle's files, the manifest itself apart."""
        needed = tuple(file for file in FILES if file != TRACE_GRAPH or self.gates_graph == TRACE_GRAPH)
        return (*needed, UNITS) if UNITS in self.files else needed

    def _check_features(self) -> None:
        if (self.characters is not None) != any(feature.name == "character" for feature in self.features):
            raise ValueError("characters belongs to the feature 'character', and only to it")
        if any(feature.columns > 1 and feature.name != "character" for feature in self.features):
            raise ValueError("only the feature 'character' has several columns")
        if len({feature.name for feature in self.features}) != len(self.features):
            raise ValueError("features must differ from each other")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle: its name, version, folder and manifest, and the verified content of its files. `load` makes it. A
    bundle made by hand is a draft: its files are read from the folder each time.
    """

    name: str
    version: int
    path: Path
    manifest: Manifest
    contents: Mapping[str, Content] | None = field(default=None, repr=False, compare=False)
    """Content of every file, with the manifest; None for a draft."""

    def file(self, name: str) -> Path:
        """The path of a file. The file may have changed since: `content` has the verified bytes."""
        return self.path / name

    def content(self, name: str) -> memoryview:
        """The verified content of a file, read-only. Raises `BundleError` if a draft's file cannot be read."""
        return (_read(self.path / name) if self.contents is None else self.contents[name]).data

    @property
    def digest(self) -> str:
        """The manifest's SHA-256, in hexadecimal. It identifies all files, because the manifest has their digests."""
        return (self.contents or {MANIFEST: _read(self.path / MANIFEST)})[MANIFEST].sha256

    def rest(self) -> None:
        """Have no page of its large contents counted as this process's until it is read again."""
        for content in (self.contents or {}).values():
            content.rest()

    def sharing(self, known: MutableMapping[str, mmap]) -> Bundle:
        """The same bundle, with the weights of `known` (memory by SHA-256) if they are among them; else `known` gets
        its weights. Memory that is replaced is freed."""
        content = (self.contents or {}).get(WEIGHTS)
        if content is None or not isinstance(content.data.obj, mmap):
            return self
        memory = known.setdefault(content.sha256, content.data.obj)
        if memory is content.data.obj:
            return self
        contents = {**(self.contents or {}), WEIGHTS: Content(memoryview(memory), content.sha256)}
        return replace(self, contents=MappingProxyType(contents))

    def without_contents(self) -> Bundle:
        """The same bundle without its files' memory, except the manifest's and the units' cards."""
        kept = (MANIFEST, UNITS)
        return replace(self, contents={name: each for name, each in (self.contents or {}).items() if name in kept})


def load(path: Path) -> Bundle:
    """Read and verify ``…/NAME/VERSION``. Each file is read once, so that the used content is the verified one. Raises
    `BundleError`; its message names files and fields but no folder.
    """
    name, version = path.parent.name, path.name
    check_name(name)
    if not is_version(version):
        raise BundleError(f"version {version!r} is not a whole number from 1")
    found = {MANIFEST: _read(path / MANIFEST)}
    manifest = parsed(Manifest, found[MANIFEST].data, MANIFEST)
    if "schema_version" not in manifest.model_fields_set:
        raise BundleError(f"{MANIFEST}: schema_version: Field required; this service reads version {SCHEMA_VERSION}")
    try:
        extra = sorted({entry.name for entry in path.iterdir()} - {MANIFEST, *manifest.file_names})
    except OSError as error:
        raise BundleError(f"the folder cannot be read: {error.strerror}") from error
    if extra:
        raise BundleError(f"the manifest does not name the file {extra[0]!a}; a bundle holds nothing else")
    for file, expected in manifest.files.items():
        found[file] = _read(path / file)
        actual = found[file].sha256
        if actual != expected:
            raise BundleError(f"{file} does not match the manifest: SHA-256 {actual[:12]}…, not {expected[:12]}…")
    return Bundle(name, int(version), path, manifest, MappingProxyType(found))


def check_name(name: str) -> None:
    """Raises `BundleError` for an invalid name of a model."""
    if not _NAME.fullmatch(name):
        raise BundleError(f"{name!r} is no model name (letters, digits, '.', '_', '-', at most 64)")


def is_version(name: str) -> bool:
    """True if a folder's name is a version: a whole number from 1, without leading zeros or a sign."""
    return name.isascii() and name.isdigit() and not name.startswith("0")


def versions(folder: Path) -> list[int]:
    """The version numbers below ``models/NAME``, ascending, those that cannot be looked at too; [] if the folder does
    not exist. Raises `OSError`."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if is_version(entry.name) and _may_be_folder(entry))


def _may_be_folder(path: Path) -> bool:
    """True for a folder, and for a name that cannot be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return True


def discover(repository: Path, unreadable: MutableMapping[str, str] | None = None) -> Iterator[tuple[str, list[int]]]:
    """Every model name below a repository that has a version, with its versions; hidden folders are passed over.

    A name whose folder cannot be read is left out, and `unreadable` gets the reason. Raises `OSError` if the repository
    itself cannot be read, or is moved away meanwhile: the caller must not take its models for deleted.
    """
    before = repository.stat()
    for folder in sorted(repository.iterdir()):
        if folder.name.startswith("."):
            continue
        try:
            found = versions(folder)
        except FileNotFoundError:  # deleted meanwhile
            continue
        except OSError as error:
            # Other names are no model's, such as lost+found at the root of a volume.
            if unreadable is not None and _NAME.fullmatch(folder.name):
                unreadable[folder.name] = f"its folder cannot be read: {error.strerror}"
            continue
        if found:
            yield folder.name, found
    if not os.path.samestat(before, repository.stat()):
        raise FileNotFoundError(errno.ENOENT, "it was replaced while it was read")


def _read(path: Path) -> Content:
    return contents.read(path, LIMITS[path.name], share=path.name == WEIGHTS)
