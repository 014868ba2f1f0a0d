"""A mixture of domains: how many rows of each file one pass takes, and which rows no training may see.

A mixture is a TOML file::

    held_out = ["$DATA/sentiment/sst2/dev.tsv"]

    [[source]]
    file = "$DATA/sentiment/sst2/train.tsv"
    rows = 6920        # rows in one pass: a part of the file, or the file several times
    pieces = 96        # a teacher reads a run of this many word pieces of a longer text
    balanced = true    # the same number of rows for each label
    tokenised = true   # a half of the rows is joined as people write
    joined = true      # all of them are
    sentences = true   # a row is one sentence of a text; of a text with several it has no label
    varied = 3         # beside each row, forms of it in which words are hidden or of which a run is kept; no labels

A file that ends in ``.txt`` or ``.txt.gz`` has one text a line and no labels. A held-out file may be one of tagged
sentences: ``.conll``, or another ending that `training.data.corpora` reads for taggers alone.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.model.tokenizer import UNKNOWN, build
from training.data.checks import with_tokens
from training.data.corpora import CorpusError, Example, read, tagged
from training.data.sources import Tell, filled, plain_texts, silent

LABELS = ("negative", "neutral", "positive")
"""The teacher's labels. A file without neutral rows trains the two others against each other alone."""
HIDDEN = "[MASK]"
"""Stands for a hidden word: an unknown word to students, and the mark for a hidden one to teachers."""
_HIDE, _KEEP_RUN = 0.1, 0.25
_LONGEST_RUN = 8
_PLAIN = re.compile(r"[^a-z0-9]+")
_BEFORE = re.compile(r" (n't|'s|'re|'ve|'ll|'d|'m)(?![\w])", re.IGNORECASE)
_OPENING, _CLOSING = re.compile(r"([(\[$]) "), re.compile(r" ([.,;:!?%)\]])")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]* +(?=[\"'(\[]?[A-Z0-9])")


class Source(BaseModel):
    """One file of a mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path
    rows: int = Field(ge=1)
    pieces: int = Field(96, ge=3)
    balanced: bool = False
    tokenised: bool = False
    joined: bool = False
    sentences: bool = False
    varied: int = Field(0, ge=0)


class Mixture(BaseModel):
    """The sources, and the files with texts that no source may contain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: tuple[Source, ...] = Field(min_length=1)
    held_out: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """One row of a pass: a text, the number of its label in `LABELS` (None if it has none), whether its file knows
    neutral texts, and the word pieces that a teacher reads of it."""

    text: str
    label: int | None
    neutral: bool
    pieces: int


def load(path: Path) -> Mixture:
    """Read a mixture. Raises `CorpusError` for an invalid file, with the right form."""
    try:
        return Mixture.model_validate(tomllib.loads(filled(path.read_text(encoding="utf-8"))))
    except KeyError as error:
        raise CorpusError(path, f"it is no mixture: the environment variable {error.args[0]} is not set") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CorpusError(path, f"it is no mixture: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CorpusError(path, f"it is no mixture: {where}: {first['msg']}; see recipes/teacher.toml") from error


NO_KEY = "no letter from a to z and no digit"
"""The characters that a text without a key lacks."""


def key(text: str) -> str:
    """The letters and digits of a text in lower case: two texts with one key are the same text."""
    return _PLAIN.sub("", text.lower())


def held_out_keys(files: Iterable[Path], tell: Tell = silent) -> frozenset[str]:
    """The keys of every text, or tagged sentence, in these files. `tell` gets the notes of the reader. Raises
    `CorpusError`."""
    found = (
        example.value for file in files for example in read(file, "ner" if tagged(file) else "sentiment", tell=tell)
    )
    return frozenset(key(value if isinstance(value, str) else "".join(value)) for value in found) - {""}


def draw(mixture: Mixture, seed: int, tell: Tell = silent) -> tuple[list[Drawn], int]:
    """One pass over a mixture, in random order, and how many rows of its files were set aside as held out.

    `tell` gets a line on rows that are set aside for another reason, and on the choices of the reader.
    """
    generator, held_out = random.Random(seed), held_out_keys(mixture.held_out, tell)  # noqa: S311  # no secrets
    drawn: list[Drawn] = []
    aside = 0
    for source in mixture.source:
        found = _texts(source, tell)
        kept = [row for row in found if key(row[0]) not in held_out]
        aside += len(found) - len(kept)
        if not kept:
            raise CorpusError(source.file, "no text is left: every one is held out")
        neutral = any(label == "neutral" for _, label in kept)
        for original, label in _chosen(kept, source, generator):
            half = source.tokenised and generator.random() < 0.5
            text = joined(original) if half or source.joined else original
            drawn.append(Drawn(text, None if label is None else LABELS.index(label), neutral, source.pieces))
            forms = [varied(text, generator) for _ in range(source.varied)]
            drawn += [Drawn(form, None, neutral, source.pieces) for form in forms if key(form) not in held_out]
    generator.shuffle(drawn)
    return drawn, aside


_Row = tuple[str, str | None]


def _texts(source: Source, tell: Tell) -> list[_Row]:
    """The texts of a file, each with its label if it has one, or their sentences."""
    plain = ".txt" in source.file.suffixes
    examples = plain_texts(source.file) if plain else read(source.file, "sentiment", tell=tell)
    kept = with_tokens(source.file, examples, build([UNKNOWN], []), tell)
    found: list[_Row] = [(str(each.value), None if plain else _label(each, source.file)) for each in kept]
    if not source.sentences:
        return found
    apart: list[_Row] = []
    bare = 0
    for text, label in found:
        every = _SENTENCE_END.split(text)
        parts = [part for part in every if key(part)]
        apart += [(part, label if len(parts) == 1 else None) for part in parts]
        bare += len(every) - len(parts)
    if bare:
        tell(f"note: {source.file}: {bare:,} sentences are set aside: they hold {NO_KEY}")
    return apart


def _label(example: Example, file: Path) -> str:
    if example.label not in LABELS:
        line = example.lines[0] if example.lines else None
        raise CorpusError(file, f"the label {example.label!r} is none of {', '.join(LABELS)}", line)
    return str(example.label)


def _chosen(rows: Sequence[_Row], source: Source, generator: random.Random) -> list[_Row]:
    rows = list(rows)
    generator.shuffle(rows)
    if not source.balanced:
        return [rows[number % len(rows)] for number in range(source.rows)]
    groups: dict[str | None, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    share = source.rows // len(groups)
    return [group[number % len(group)] for group in groups.values() for number in range(share)]


def joined(text: str) -> str:
    """A tokenised text with its spaces as people write them: ``do n't like it .`` becomes ``don't like it.``."""
    text = _OPENING.sub(r"\1", _CLOSING.sub(r"\1", _BEFORE.sub(r"\1", text)))
    return text.replace("`` ", '"').replace(" ''", '"')


def varied(text: str, generator: random.Random) -> str:
    """Another form of a sentence: each word hidden with a probability of 0.1; of a quarter of them a run of words
    (Tang et al. 2019, arXiv:1903.12136)."""
    words = [HIDDEN if generator.random() < _HIDE else word for word in text.split()]
    if len(words) > 2 and generator.random() < _KEEP_RUN:
        size = generator.randint(2, min(_LONGEST_RUN, len(words)))
        start = generator.randint(0, len(words) - size)
        words = words[start : start + size]
    return " ".join(words)
