"""Labelled data on disk: columns of tokens and tags, or tables of texts and labels, to a list of examples.

The format follows from the file's ending and the task; ``.gz`` may follow any of them.

    task       ending                       one example
    ner        .conll .iob .bio .txt .tsv   lines TOKEN<TAB>TAG up to a blank line, or columns parted by spaces
    ner        .jsonl .ndjson               a line {"tokens": ["Ada", …], "tags": ["B-PER", …]}
    sentiment  .tsv                         a line below the header; columns text and label; no quoting, " is ordinary
    sentiment  .csv                         a record below the header; columns text and label; RFC 4180
    sentiment  .jsonl .ndjson               a line {"text": "…", "label": "…"}

Lines end at "\\n" (a "\\r" before it is dropped) and nowhere else, so that tokens keep every other character. Tags come
out as strict IOB2 whichever of IOB1, IOB2, BIOES and BILOU they were.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import reprlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from service.bundle import Task

_SCALE = ("very_negative", "negative", "neutral", "positive", "very_positive")
_BOM = b"\xef\xbb\xbf"
_TAG = re.compile(r"O|[BIESLU]-\S+")
_OPENING, _CLOSING = frozenset("BSU"), frozenset("ESLU")
"""Prefixes with which an entity surely begins, and after which it cannot go on (BIOES and BILOU)."""
_BREAK = re.compile(r"[ \t]*|-DOCSTART-(?:[ \t].*)?", re.DOTALL)
_SPACES = re.compile(" +")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_SURROGATE = re.compile("[\ud800-\udfff]")


class CorpusError(Exception):
    """A file of labelled data cannot be used: ``FILE:LINE: what is wrong, what would be right``."""

    def __init__(self, path: Path | str, detail: str, line: int | None = None) -> None:
        super().__init__(f"{path}: {detail}" if line is None else f"{path}:{line}: {detail}")


@dataclass(frozen=True, slots=True)
class Example:
    """One input and what it should give: a text and its label, or tokens and their tags (IOB2, one for each token)."""

    value: str | tuple[str, ...]
    label: str | tuple[str, ...]
    lines: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """The line of the file on which each label stands, for complaints; () where it came from no file."""


def read(path: Path, task: Task) -> list[Example]:
    """Every example of a file, at least one. Raises `CorpusError`."""
    ending = next((suffix for suffix in reversed(path.suffixes) if suffix.lower() != ".gz"), "").lower()
    reader = _READERS[task].get(ending)
    if reader is None:
        raise CorpusError(
            path,
            f"its format cannot be told from its name; a file for {task} ends in {' '.join(_READERS[task])}, "
            "each with or without .gz",
        )
    examples = list(reader(_Source(path, _text(path))))
    if not examples:
        raise CorpusError(path, f"it holds no example; {_EXPECTED[task]}")
    return examples


def labels(examples: Iterable[Example], task: Task, path: Path | None = None) -> tuple[str, ...]:
    """The labels of training data, at least two, in the order in which a model numbers them.

    sentiment: from worst to best where all are steps of one scale (``very_negative`` to ``very_positive``, or whole
    numbers), else by name. ner: ``O``, then ``B-TYPE`` and ``I-TYPE`` of every type by name, whether or not both occur.
    Raises `CorpusError`, which names `path` when given, for fewer than two.
    """
    found = {name for example in examples for name in _names(example)}
    if task == "ner":
        kinds = sorted({tag[2:] for tag in found} - {""})
        found = {"O"}
        ordered = ("O", *(prefix + kind for kind in kinds for prefix in ("B-", "I-")))
    elif found <= set(_SCALE):
        ordered = tuple(sorted(found, key=_SCALE.index))
    elif all(_WHOLE_NUMBER.fullmatch(name) for name in found):
        ordered = tuple(sorted(found, key=lambda name: (int(name), name)))
    else:
        ordered = tuple(sorted(found))
    if len(ordered) < 2:
        has = f"its only label is {next(iter(found))!r}" if found else "it has no label"
        raise CorpusError(path or "the training data", f"{has}; a model needs at least two to tell apart")
    return ordered


def check_labels(train_labels: Sequence[str], examples: Iterable[Example], path: Path) -> None:
    """Raises `CorpusError` for the first label of `examples`, read from `path`, that is not among `train_labels`."""
    known = frozenset(train_labels)
    for example in examples:
        for position, name in enumerate(_names(example)):
            if name not in known:
                line = example.lines[position] if example.lines else None
                has = ", ".join(train_labels)
                raise CorpusError(path, f"the label {name!r} is not in the training data, which has {has}", line)


def _names(example: Example) -> tuple[str, ...]:
    return (example.label,) if isinstance(example.label, str) else example.label


@dataclass(frozen=True, slots=True)
class _Source:
    """A file's whole text, and its name for complaints."""

    path: Path
    text: str

    def lines(self) -> Iterator[tuple[int, str]]:
        """Line numbers from 1, and the lines without their ends."""
        for number, line in enumerate(self.text.split("\n"), start=1):
            yield number, line.removesuffix("\r")

    def error(self, line: int, detail: str) -> CorpusError:
        return CorpusError(self.path, detail, line)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        detail = "it is a folder; name a file" if path.is_dir() else f"it cannot be read: {error.strerror}"
        raise CorpusError(path, detail) from error
    if path.suffix.lower() == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorpusError(path, f"it is not a whole gzip file ({error}); compress or fetch it again") from error
    try:
        return data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        bad, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
        raise CorpusError(path, f"the byte 0x{bad:02X} is not UTF-8; save the file as UTF-8", line) from error


# Readers of sentences: tokens and tags.


def _columns(source: _Source) -> Iterator[Example]:
    """Columns, the token first and the tag last; the first line tells what parts them, and how many there are."""
    tab, width = False, 0
    tokens: list[str] = []
    tags: list[str] = []
    lines: list[int] = []
    for line, row in chain(source.lines(), [(0, "")]):
        if _BREAK.fullmatch(row):
            if tokens:
                yield Example(tuple(tokens), _iob2(tags), tuple(lines))
                tokens, tags, lines = [], [], []
            continue
        tab = tab if width else "\t" in row
        fields = row.split("\t") if tab else _SPACES.split(row.rstrip(" "))
        parted = "tabs" if tab else "spaces"
        if len(fields) < 2:
            raise source.error(line, f"no tag beside the token; a line is a token and its tag, here parted by {parted}")
        if len(fields) != (width := width or len(fields)):
            raise source.error(line, f"{len(fields)} columns parted by {parted}, but {width} in the lines before")
        if not fields[0]:
            raise source.error(line, "the token is empty; a line is a token and its tag, a blank line ends a sentence")
        tokens.append(fields[0])
        tags.append(_tag(source, line, fields[-1]))
        lines.append(line)


def _tagged(source: _Source) -> Iterator[Example]:
    for line, record in _objects(source):
        tokens, tags = (_strings(source, line, record, key) for key in ("tokens", "tags"))
        if len(tokens) != len(tags):
            raise source.error(line, f"{len(tokens)} tokens but {len(tags)} tags; each token has one tag")
        if not all(tokens):
            raise source.error(line, f"token {tokens.index('') + 1} is empty; leave it out, and its tag")
        yield Example(tuple(tokens), _iob2([_tag(source, line, tag) for tag in tags]), (line,) * len(tags))


def _strings(source: _Source, line: int, record: dict[str, object], key: str) -> list[str]:
    value = _field(source, line, record, key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise source.error(line, f'"{key}" is not a list of at least one string, such as {_SENTENCE}')
    return [_whole(source, line, key, item) for item in value]


def _tag(source: _Source, line: int, tag: str) -> str:
    if not tag:
        raise source.error(line, "the tag is empty; a token outside every entity has the tag O")
    if not _TAG.fullmatch(tag):
        raise source.error(
            line, f"{reprlib.repr(tag)} is no tag; a tag is O, B-TYPE or I-TYPE (BIOES and BILOU are converted)"
        )
    return tag


def _iob2(tags: Iterable[str]) -> tuple[str, ...]:
    """Valid tags of one sentence in any of the schemes, as strict IOB2: every entity begins with B."""
    converted, going_on = [], ""
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        if kind:
            tag = ("B-" if prefix in _OPENING or kind != going_on else "I-") + kind
        going_on = "" if prefix in _CLOSING else kind
        converted.append(tag)
    return tuple(converted)


# Readers of texts, each with one label.


def _tsv(source: _Source) -> Iterator[Example]:
    return _table(source, ((line, row.split("\t")) for line, row in source.lines() if row))


def _csv(source: _Source) -> Iterator[Example]:
    return _table(source, _records(source))


def _records(source: _Source) -> Iterator[tuple[int, list[str]]]:
    """CSV records, each with the number of the line on which it begins."""
    reader = csv.reader(io.StringIO(source.text, newline="\n"), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            detail = f"not CSV by RFC 4180 ({error}); quotes stand around a whole field, and are doubled within it"
            raise source.error(line, detail) from error
        if record is None:
            return
        if record:
            yield line, record


def _table(source: _Source, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Example]:
    line, header = next(rows, (1, []))
    for column in ("text", "label") if header else ():
        if header.count(column) != 1:
            has = ", ".join(map(reprlib.repr, header))
            raise source.error(line, f"the header has {has}; one column must be named {column!r}")
    for line, fields in rows:
        if len(fields) != len(header):
            raise source.error(line, f"{len(fields)} columns, but the header has {len(header)}")
        yield _labelled(source, line, fields[header.index("text")], fields[header.index("label")])


def _classified(source: _Source) -> Iterator[Example]:
    for line, record in _objects(source):
        text, label = (_field(source, line, record, key) for key in ("text", "label"))
        if not isinstance(text, str):
            raise source.error(line, f'"text" is {_kind(text)}; it must be a string')
        if isinstance(label, int):
            label = json.dumps(label)  # as the file spells it: true, not True
        if not isinstance(label, str):
            raise source.error(line, f'"label" is {_kind(label)}; it must be a string, a whole number, true or false')
        yield _labelled(source, line, _whole(source, line, "text", text), _whole(source, line, "label", label))


def _labelled(source: _Source, line: int, text: str, label: str) -> Example:
    label = label.strip()
    for name, value in (("text", text.strip()), ("label", label)):
        if not value:
            raise source.error(line, f"the {name} is empty; give one, or leave the example out")
    return Example(text, label, (line,))


# JSON lines.


def _objects(source: _Source) -> Iterator[tuple[int, dict[str, object]]]:
    for line, row in source.lines():
        if not row.strip():
            continue
        try:
            record = json.loads(row)
        except json.JSONDecodeError as error:
            detail = f"not JSON: {error.msg} at column {error.colno}; each line is one object"
            raise source.error(line, detail) from error
        except (ValueError, RecursionError) as error:
            detail = "not JSON that can be read: a number is too long, or the nesting too deep"
            raise source.error(line, detail) from error
        if not isinstance(record, dict):
            raise source.error(line, f"{_kind(record)}; each line is one object")
        yield line, record


def _field(source: _Source, line: int, record: dict[str, object], key: str) -> object:
    if key not in record:
        raise source.error(line, f'no "{key}"; the object has: {", ".join(record) or "nothing"}')
    return record[key]


def _whole(source: _Source, line: int, key: str, value: str) -> str:
    if _SURROGATE.search(value):
        raise source.error(line, f'"{key}" holds an unpaired surrogate, which is no character; write the whole pair')
    return value


_KINDS = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), json.dumps(value))


_SENTENCE = '{"tokens": ["Ada", "spoke"], "tags": ["B-PER", "O"]}'
_EXPECTED: dict[Task, str] = {
    "sentiment": 'a table has a header (text, label) and rows below it, JSON lines are {"text": "…", "label": "…"}',
    "ner": f"columns are TOKEN<TAB>TAG, JSON lines are {_SENTENCE}",
}
_Reader = Callable[[_Source], Iterator[Example]]
_READERS: dict[Task, dict[str, _Reader]] = {
    "sentiment": {".tsv": _tsv, ".csv": _csv, ".jsonl": _classified, ".ndjson": _classified},
    "ner": {
        **dict.fromkeys((".conll", ".iob", ".bio", ".txt", ".tsv"), _columns),
        **dict.fromkeys((".jsonl", ".ndjson"), _tagged),
    },
}
