"""Labelled data on disk: columns of tokens and tags, or tables of texts and labels, to a list of examples.

The format follows from the file's ending and the task; ``.gz`` may follow any of them.

    task       ending                  one example
    ner        .conll .txt .tsv …      lines TOKEN<TAB>TAG up to a blank line, or columns parted by spaces
    ner        .csv                    records below a header such as Sentence #,Word,Tag
    ner        .jsonl .ndjson          a line {"tokens": ["Ada", …], "tags": ["B-PER", …]}
    sentiment  .tsv                    a line below the header; columns text and label; no quoting, " is ordinary
    sentiment  .csv                    a record below the header; columns text and label; RFC 4180
    sentiment  .jsonl .ndjson          a line {"text": "…", "label": "…"}

Lines end at "\\n" (a "\\r" before it is dropped) and nowhere else, so that tokens keep every other character; in a file
without "\\n" they end at "\\r". Tags come out as strict IOB2 whichever of IOB1, IOB2, BIOES, BILOU, BMES and bare B, I
and O they were. A `Layout` names other columns. The readers report their own choices in a note.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from service.model.bundle import Task
from training.data import columns, tables, tags, writers
from training.data.objects import field, objects, whole
from training.data.outputs import naming
from training.data.sources import (
    AS_FOUND,
    CorpusError,
    Example,
    Layout,
    Source,
    Tell,
    cut,
    few,
    is_gzip,
    silent,
    text_of,
)

__all__ = [
    "CorpusError",
    "Example",
    "Layout",
    "check_labels",
    "check_name",
    "labels",
    "names",
    "read",
    "tagged",
    "tasks_of",
    "write",
]

_SCALE = ("very_negative", "negative", "neutral", "positive", "very_positive")
_TASKS: tuple[Task, ...] = ("ner", "sentiment")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def read(path: Path, task: Task, layout: Layout = AS_FOUND, tell: Tell = silent) -> list[Example]:
    """Every example of a file, at least one; a text may be empty. Raises `CorpusError`.

    `tell` gets a line on everything that the reader decided by itself: columns, separators, comments.
    """
    others = (layout.text, layout.label) if task == "ner" else (layout.token, layout.tag)
    if any(others):
        other: Task = "sentiment" if task == "ner" else "ner"
        raise CorpusError(path, f"{_OPTIONS[other]} are not for {task}: {_OPTIONS[task]} are")
    check_name(path, task)
    reader = _READERS[task][_ending(path)]
    examples = list(reader(Source(path, text_of(path), layout, tell)))
    if not examples:
        raise CorpusError(path, f"it holds no example; {_EXPECTED[task]}")
    return examples


def write(examples: Sequence[Example], path: Path, task: Task) -> None:
    """Write examples as a file that `read` takes, in the format of its ending. Raises `CorpusError` for other names."""
    check_name(path, task)
    content = _WRITERS[_READERS[task][_ending(path)]](examples).encode("utf-8")
    with naming(path):
        path.write_bytes(gzip.compress(content, mtime=0) if is_gzip(path) else content)


def check_name(path: Path, task: Task) -> None:
    """Raises `CorpusError` for a folder, and for a name that has no ending of files for a task."""
    ending = _ending(path)
    if path.is_dir():
        raise CorpusError(path, "it is a folder; name a file")
    if ending not in _READERS[task]:
        raise CorpusError(path, f"{_unread(path, ending, task)}, each with or without .gz")


def tagged(path: Path) -> bool:
    """True if a file's ending is one of tagged sentences alone: ``.conll`` is, ``.tsv`` and ``.jsonl`` are not."""
    return _ending(path) in _READERS["ner"].keys() - _READERS["sentiment"].keys()


def tasks_of(path: Path) -> tuple[Task, ...]:
    """The tasks that have files with this ending; both if none has."""
    found = tuple(task for task in _TASKS if _ending(path) in _READERS[task])
    return found or _TASKS


def _unread(path: Path, ending: str, task: Task) -> str:
    """Why a file with this ending is not read, and what would be."""
    ends = f"a file for {task} ends in {' '.join(_READERS[task])}"
    if remedy := _FOREIGN.get(path.suffix.lower()):
        return f"{remedy}; {ends}"
    other: Task = "sentiment" if task == "ner" else "ner"
    if ending in _READERS[other]:
        return f"{ending} is an ending of files for --task {other}; {ends}"
    return f"its format cannot be told from its name; {ends}"


def _ending(path: Path) -> str:
    return next((suffix for suffix in reversed(path.suffixes) if suffix.lower() != ".gz"), "").lower()


def labels(examples: Iterable[Example], task: Task, path: Path | None = None) -> tuple[str, ...]:
    """The labels of training data, at least two, in the order in which a model numbers them.

    sentiment: from worst to best if all are steps of one scale (``very_negative`` to ``very_positive``, or whole
    numbers), else by name. ner: ``O``, then ``B-TYPE`` and ``I-TYPE`` of every type by name, whether or not both occur.
    Raises `CorpusError`, which names `path` when given, for fewer than two.
    """
    found = {name for example in examples for name in names(example)}
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


class UnknownLabel(CorpusError):
    """A label that a model has not."""


def check_labels(
    train_labels: Sequence[str], examples: Iterable[Example], path: Path, owner: str = "the training data"
) -> None:
    """Raises `UnknownLabel` for the first label of `examples`, read from `path`, that is not among `train_labels`.

    `owner` names the owner of these labels, for the message.
    """
    known = frozenset(train_labels)
    for example in examples:
        for position, name in enumerate(names(example)):
            if name not in known:
                line = example.lines[position] if example.lines else None
                has = few(train_labels)
                raise UnknownLabel(path, f"the label {cut(name)!r} is not in {owner}, which has {has}", line)


def names(example: Example) -> tuple[str, ...]:
    """Its labels: one of a text, one for each token of a sentence."""
    return (example.label,) if isinstance(example.label, str) else example.label


def _tagged(source: Source) -> Iterator[Example]:
    """A sentence an object."""
    return columns.sentences(source, _sentences(source))


def _sentences(source: Source) -> Iterator[tuple[int, list[str], list[str]]]:
    """The line, the tokens and the tags of each sentence."""
    keys: list[str] = []
    for line, record in objects(source):
        keys = keys or [_key(source, record, part) for part in ("tokens", "tags")]
        if number := _class_number(record.get(keys[1])):
            raise source.error(line, f'"{keys[1]}" holds {number}, a class number: {tags.BY_NAME}')
        tokens, found = (_strings(source, line, record, key) for key in keys)
        if len(tokens) != len(found):
            raise source.error(line, f"{len(tokens)} tokens but {len(found)} tags; each token has one tag")
        if not all(tokens):
            raise source.error(line, f"token {tokens.index('') + 1} is empty; leave it out, and its tag")
        yield line, tokens, found


def _key(source: Source, record: dict[str, object], part: str) -> str:
    """The key of the tokens, or of the tags."""
    wanted, others = (
        (source.layout.token, ("words",)) if part == "tokens" else (source.layout.tag, ("ner_tags", "labels", "ner"))
    )
    if wanted or part in record:
        return wanted or part
    found = [key for key in others if key in record]
    found = [key for key in found if not _class_number(record[key])] or found
    if len(found) != 1:
        return part
    option = "--token-column" if part == "tokens" else "--tag-column"
    source.note(f"the {part} are read from {found[0]!r} ({option} names another)")
    return found[0]


def _strings(source: Source, line: int, record: dict[str, object], key: str) -> list[str]:
    value = field(source, line, record, key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise source.error(line, f'"{key}" is not a list of at least one string, such as {_SENTENCE}')
    return [whole(source, line, key, item) for item in value]


def _class_number(value: object) -> str | None:
    """The first number in a list of tags, with its place; None without one."""
    listed = enumerate(value, 1) if isinstance(value, list) else ()
    return next((f"{json.dumps(tag)} (token {at})" for at, tag in listed if isinstance(tag, int | float)), None)


_SENTENCE = '{"tokens": ["Ada", "spoke"], "tags": ["B-PER", "O"]}'
_EXPECTED: dict[Task, str] = {
    "sentiment": 'a table has a header (text, label) and rows below it, JSON lines are {"text": "…", "label": "…"}',
    "ner": f"columns are TOKEN<TAB>TAG, JSON lines are {_SENTENCE}",
}
_OPTIONS: dict[Task, str] = {
    "sentiment": "--text-column and --label-column",
    "ner": "--token-column and --tag-column",
}
_FOREIGN = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "a spreadsheet is not read: save it as CSV in UTF-8"),
    **dict.fromkeys(
        (".parquet", ".arrow", ".feather", ".pkl", ".h5"),
        "a table of another program is not read: save it as CSV or JSON lines",
    ),
    ".json": "one JSON document is not read: write an object on each line, and name the file .jsonl",
    **dict.fromkeys(
        (".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z"), "of packed files only .gz is read: unpack it"
    ),
    **dict.fromkeys(
        (".html", ".xml", ".md", ".pdf", ".docx"), "a document is not read: write its texts and labels into a table"
    ),
}
"""Endings of other programs' files, and what to do."""
_COLUMNS = (
    *(".conll", ".conll03", ".conll2003", ".conllu", ".iob", ".iob2", ".bio", ".bioes", ".bilou", ".bmes"),
    *(".txt", ".tsv", ".train", ".testa", ".testb", ".annotated"),
)
_Reader = Callable[[Source], Iterator[Example]]
_READERS: dict[Task, dict[str, _Reader]] = {
    "sentiment": {
        ".tsv": tables.tsv,
        ".csv": tables.csv,
        ".jsonl": tables.json_lines,
        ".ndjson": tables.json_lines,
    },
    "ner": {
        **dict.fromkeys(_COLUMNS, columns.columns),
        ".csv": columns.table,
        **dict.fromkeys((".jsonl", ".ndjson"), _tagged),
    },
}
_WRITERS: dict[_Reader, writers.Writer] = {
    tables.tsv: writers.tsv,
    tables.csv: writers.csv,
    tables.json_lines: writers.json_lines,
    columns.columns: writers.columns,
    columns.table: writers.table,
    _tagged: writers.json_sentences,
}
"""The writer of what a reader takes."""
