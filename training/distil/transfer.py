"""A teacher's logits over many texts, written once and learned from by students.

A transfer set is JSON lines, gzipped: ``{"text": "…", "logits": {"negative": 1.2, "positive": -0.7, …}}``, with a
``label`` if the text has one. Sentences of reviews need none. Copies of sentences with hidden words, and cut-out
runs of words, need none either.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.tokenizer import UNKNOWN, Tokenizer
from training.data.batches import Sample, encode
from training.data.corpora import CorpusError, Example
from training.distil.mixture import HIDDEN, LABELS, Drawn, key
from training.distil.output import Output, whole_lines

_AT_ONCE = 2048
"""Texts that are answered together, and again after a kill at most."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A text, the teacher's logits for it in the order of a student's labels, and its label if the
    student knows it."""

    text: str
    logits: tuple[float, ...]
    label: str | None = None

    def example(self, tokenizer: Tokenizer, labels: Sequence[str]) -> Example:
        """Its tokens, a hidden word as the unknown one, with its label, or else the teacher's."""
        first, *others = ([token for token, _ in tokenizer.split(part)] for part in self.text.split(HIDDEN))
        tokens = [*first, *(token for part in others for token in (UNKNOWN, *part))]
        return Example(tuple(tokens), self.label or labels[int(np.argmax(self.logits))])

    def sample(self, example: Example, tokenizer: Tokenizer, labels: Sequence[str]) -> list[Sample]:
        """The example in numbers with the logits beside it; none if it has no token."""
        return [replace(each, soft=np.array(self.logits, np.float32)) for each in encode([example], tokenizer, labels)]


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


def load(file: Path, labels: Sequence[str]) -> list[Answered]:
    """A transfer set, with the logits of `labels` in their order. Raises `CorpusError` for a file that is none."""
    found = []
    try:
        for number, line in enumerate(whole_lines(file), 1):
            record = json.loads(line)
            logits = tuple(float(record["logits"][label]) for label in labels)
            if not all(map(math.isfinite, logits)):
                raise CorpusError(file, "a logit is no finite number", number)
            label = record.get("label")
            found.append(Answered(str(record["text"]), logits, label if label in labels else None))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(
            file, f'it is no transfer set: {error!r}; each line is {{"text": "…", "logits": {{label: number}}}}'
        ) from error
    return found
