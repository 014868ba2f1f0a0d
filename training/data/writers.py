"""Labelled data as the text of a file, in every format that `training.data.corpora` reads.

Characters that no reader takes, NUL and surrogates, become U+FFFD. White space inside a token becomes ``_``, because
columns would end there; tabs and line ends in a TSV become spaces.
"""

from __future__ import annotations

import csv as csv_
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence

from training.data.sources import Example

Writer = Callable[[Sequence[Example]], str]

_SPACE = re.compile(r"\s+")
_UNREAD = re.compile("[\0\ud800-\udfff]")


def tsv(examples: Sequence[Example]) -> str:
    """A text and its label a line, below a header."""
    rows = [f"{_SPACE.sub(' ', text)}\t{label}\n" for text, label in _texts(examples)]
    return "".join(["text\tlabel\n", *rows])


def csv(examples: Sequence[Example]) -> str:
    """A text and its label a record, below a header."""
    return _records([["text", "label"], *_texts(examples)])


def json_lines(examples: Sequence[Example]) -> str:
    """A text and its label an object."""
    return _objects({"text": text, "label": label} for text, label in _texts(examples))


def columns(examples: Sequence[Example]) -> str:
    """A token and its tag a line, and a blank line behind each sentence."""
    return "".join("".join(f"{token}\t{tag}\n" for token, tag in rows) + "\n" for rows in map(_rows, examples))


def table(examples: Sequence[Example]) -> str:
    """A token and its tag a record, below a header, and a blank line behind each sentence."""
    return _records([["token", "tag"], *(row for each in examples for row in (*_rows(each), ()))])


def json_sentences(examples: Sequence[Example]) -> str:
    """A sentence an object."""
    rows = ([*zip(*_rows(each), strict=True)] for each in examples)
    return _objects({"tokens": tokens, "tags": tags} for tokens, tags in rows)


def record(text: object, label: str) -> str:
    """One text and its label as an object a line. A text that is none stays so, and readers say so."""
    return _objects([{"text": _readable(text) if isinstance(text, str) else text, "label": label}])


def _texts(examples: Sequence[Example]) -> list[tuple[str, str]]:
    return [(_readable(str(each.value)), str(each.label)) for each in examples]


def _rows(example: Example) -> list[tuple[str, str]]:
    """The tokens of a sentence, each with its tag."""
    pairs = zip(example.value, example.label, strict=True)
    return [(_SPACE.sub("_", _readable(token).strip()) or "_", tag) for token, tag in pairs]


def _readable(text: str) -> str:
    return _UNREAD.sub("\ufffd", text)


def _records(rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO(newline="")
    csv_.writer(file).writerows(rows)
    return file.getvalue()


def _objects(records: Iterable[dict[str, object]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
