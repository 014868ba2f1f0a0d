"""A teacher's logits over many texts, written once and learned from by students.

A transfer set is JSON lines, gzipped: ``{"text": "…", "logits": {"negative": 1.2, "positive": -0.7, …}}``, with a
``label`` if the text has one. Sentences of reviews need none. Copies of sentences with hidden words, and cut-out
runs of words, need none either.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.tokenizer import UNKNOWN, Tokenizer
from training.data.batches import Sample, encode
from training.data.checks import with_tokens
from training.data.corpora import CorpusError, Example
from training.data.sources import Tell, silent
from training.distil.mixture import HIDDEN, LABELS, Drawn, key
from training.distil.output import Output, whole_lines

_AT_ONCE = 2048
"""Texts that are answered together, and again after a kill at most."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A text, the teacher's logits for it in the order of a student's labels, its label if the student knows it, and
    its line in the file."""

    text: str
    logits: tuple[float, ...]
    label: str | None = None
    line: int = field(default=0, compare=False)

    def example(self, tokenizer: Tokenizer, labels: Sequence[str]) -> Example:
        """Its tokens, a hidden word as the unknown one, with its label, or else the teacher's."""
        first, *others = ([token for token, _ in tokenizer.split(part)] for part in self.text.split(HIDDEN))
        tokens = [*first, *(token for part in others for token in (UNKNOWN, *part))]
        return Example(tuple(tokens), self.label or labels[int(np.argmax(self.logits))], (self.line,))


@dataclass(frozen=True, slots=True)
class Taught:
    """Tokens, at least one, with a label, and a teacher's logits for them. `labelled` is False if the label is only the
    teacher's."""

    example: Example
    logits: tuple[float, ...]
    labelled: bool

    def sample(self, tokenizer: Tokenizer, labels: Sequence[str]) -> Sample:
        """The example in numbers with the logits beside it."""
        (found,) = encode([self.example], tokenizer, labels)
        return replace(found, soft=np.array(self.logits, np.float32))


def taught(file: Path, labels: Sequence[str], tokenizer: Tokenizer, tell: Tell) -> list[Taught]:
    """The texts of a transfer set as tokens. Texts without a token are set aside: `tell` gets a line on them, and on a
    file that is cut off. Raises `CorpusError`."""
    found = load(file, labels, tell)
    examples = [each.example(tokenizer, labels) for each in found]
    with_tokens(file, examples, tokenizer, tell)
    pairs = zip(found, examples, strict=True)
    return [Taught(example, each.logits, each.label is not None) for each, example in pairs if example.value]


def distinct(rows: Sequence[Drawn]) -> list[Drawn]:
    """Each text once; one with a label goes before one without."""
    found: dict[str, Drawn] = {}
    for row in rows:
        before = found.get(name := key(row.text))
        if name and (before is None or (before.label is None and row.label is not None)):
            found[name] = row
    return list(found.values())


Answer = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to logits [texts, labels of `LABELS`]."""


def write(answer: Answer, rows: Sequence[Drawn], out: Output, report: Callable[[int, int], None]) -> None:
    """Answer every text and write the transfer set. A file that an interrupted run left is continued.

    Raises `CorpusError` for a file of other texts or settings.
    """
    lines = out.begin()
    for line, row in zip(lines, rows, strict=False):  # of fewer rows, the file has more lines
        if _text(line) != row.text:
            raise CorpusError(out.file, "it was begun with other texts: remove it, or give another --out")
    if lines and len(lines) >= len(rows):
        return
    # The last part may be cut off anywhere. It is answered again as a whole, in the same batches.
    done = len(lines) // _AT_ONCE * _AT_ONCE
    out.keep(lines[:done])
    for start in range(done, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        logits = answer([row.text for row in part])
        out.append(_line(row, each) for row, each in zip(part, logits, strict=True))
        report(start + len(part), len(rows))


def _text(line: str) -> str | None:
    try:
        return str(json.loads(line)["text"])
    except (ValueError, KeyError, TypeError):
        return None


def _line(row: Drawn, logits: NDArray[np.float32]) -> str:
    named = {label: round(float(each), 4) for label, each in zip(LABELS, logits, strict=True)}
    record: dict[str, object] = {"text": row.text, "logits": named}
    if row.label is not None:
        record["label"] = LABELS[row.label]
    return json.dumps(record, ensure_ascii=False) + "\n"


def load(file: Path, labels: Sequence[str], tell: Tell = silent) -> list[Answered]:
    """A transfer set, with the logits of `labels` in their order. `tell` gets a line on a file that is cut off. Raises
    `CorpusError` for a file that is none, or that holds no text."""
    found = []
    cut: list[str] = []
    try:
        for number, line in enumerate(whole_lines(file, cut.append), 1):
            record = json.loads(line)
            logits = tuple(float(record["logits"][label]) for label in labels)
            if not all(map(math.isfinite, logits)):
                raise CorpusError(file, "a logit is no finite number", number)
            label = record.get("label")
            found.append(Answered(str(record["text"]), logits, label if label in labels else None, number))
    except (OSError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise CorpusError(
            file, f'it is no transfer set: {error!r}; each line is {{"text": "…", "logits": {{label: number}}}}'
        ) from error
    if not found:
        raise CorpusError(file, "it holds no text; `distil label` with the same options writes it")
    for _ in cut:
        tell(
            f"note: {file}: it is cut off behind line {len(found):,}; `distil label` with the same options continues it"
        )
    return found
