"""Texts with one label each: find the columns of a table, or the keys of JSON objects, of the text and the label."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from training.data.delimited import SEPARATORS, header, records
from training.data.objects import field, kind, objects, whole
from training.data.sources import CorpusError, Example, Source, few, is_number, position, some, unfit

_TEXTS = frozenset(
    (
        *("text", "review", "reviewtext", "review_text", "review_body", "sentence", "tweet", "tweet_text", "content"),
        *("comment", "comment_text", "body", "message", "phrase", "utterance", "headline"),
    )
)
_LABELS = frozenset(
    (
        *("label", "sentiment", "airline_sentiment", "stars", "star_rating", "rating", "overall", "class", "category"),
        *("polarity", "emotion", "intent"),
    )
)
_HEADLESS = "; without a header, give both columns by number"
_WORD = re.compile(r"\W+")

_Rows = Sequence[tuple[int, list[str]]]


def tsv(source: Source) -> Iterator[Example]:
    """A row a line below a header, columns parted by tabs, without quoting."""
    rows = [(line, row.split("\t")) for line, row in source.lines() if row]
    try:
        yield from _table(source, rows, "\t")
    except _NoColumn as error:
        if found := _separator(source, ",;|"):
            detail = f"{error.detail}; the columns are parted by {SEPARATORS[found]}: name the file .csv"
            raise source.error(error.line, detail) from error
        raise


def csv(source: Source) -> Iterator[Example]:
    """One record in each row below a header, by RFC 4180. The header determines the separator."""
    if source.text[:4].lower() == "sep=" and len(source.text.split(source.line_end, 1)[0].rstrip("\r")) == 5:
        source.note(f"the first line, {source.text[:5]!r}, is for Excel, and skipped")
        source = replace(source, text=source.line_end + source.text.split(source.line_end, 1)[1])
    separator = _separator(source, ",;\t|") or ","
    if separator != ",":
        source.note(f"the columns are parted by {SEPARATORS[separator]}")
    return _table(source, records(source, separator), separator)


def json_lines(source: Source) -> Iterator[Example]:
    """An object a line; the first one tells which keys hold the text and the label."""
    keys: tuple[str, str] | None = None
    for line, record in objects(source):
        if keys is None:
            names = list(record)
            try:
                keys = names[_find(source, names, "text")], names[_find(source, names, "label")]
            except _NoColumn as error:
                has = few(record) or "nothing"
                raise source.error(
                    line, f'no "{error.wanted}"; the object has: {has}{error.hint.removesuffix(_HEADLESS)}'
                ) from error
            _note_guess(source, *keys)
        text, label = (field(source, line, record, key) for key in keys)
        if not isinstance(text, str):
            raise source.error(line, f'"{keys[0]}" is {kind(text)}; it must be a string')
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if isinstance(label, int):
            label = json.dumps(label)  # as the file spells it: true, not True
        if not isinstance(label, str):
            allowed = "a string, a whole number, true or false"
            raise source.error(line, f'"{keys[1]}" is {kind(label)}; it must be {allowed}')
        yield _labelled(source, line, whole(source, line, keys[0], text), whole(source, line, keys[1], label))


class _NoColumn(CorpusError):
    """A table has no column that is surely the wanted one."""

    def __init__(self, source: Source, line: int, names: Sequence[str], wanted: str, hint: str) -> None:
        has = few(map(reprlib.repr, names))
        self.line, self.wanted, self.hint = line, wanted, hint
        self.detail = f"the header has {has}; one column must be named {wanted!r}{hint}"
        super().__init__(source.path, self.detail, line)


def _find(source: Source, names: Sequence[str], part: str, line: int = 1) -> int:
    """The column of the texts or of the labels, from 0. Raises `_NoColumn`."""
    wanted, option = (
        (source.layout.text, "--text-column") if part == "text" else (source.layout.label, "--label-column")
    )
    if wanted is not None:
        if (found := position(wanted, names, len(names))) is None:
            raise _NoColumn(source, line, names, wanted, f" ({option})")
        return found
    if part in names:
        if names.count(part) > 1:
            raise _NoColumn(source, line, names, part, f"; it has several: name one by its number ({option})")
        return names.index(part)
    known = _TEXTS if part == "text" else _LABELS
    found_names = [at for at, name in enumerate(names) if _WORD.sub("_", name.strip().lower()) in known]
    if len(found_names) != 1:
        several = " or ".join(repr(names[at]) for at in found_names)
        which = f", to say whether {several} is meant" if several else ""
        headless = _HEADLESS if not found_names else ""
        raise _NoColumn(source, line, names, part, f", or named by {option}{which}{headless}")
    return found_names[0]


def _note_guess(source: Source, text: str, label: str) -> None:
    """Report the columns that are read, if neither the file's names nor the options decide it."""
    guessed = [
        f"the {part} is read from {name!r} (--{part}-column names another)"
        for part, name, wanted in (("text", text, source.layout.text), ("label", label, source.layout.label))
        if wanted is None and name != part
    ]
    if guessed:
        source.note(", ".join(guessed))


def _separator(source: Source, separators: str) -> str | None:
    """The separator by which the header has the wanted columns; of several the first by which all rows are even."""
    found = []
    for separator in separators:
        names = [name.strip() for name in header(source, separator)]
        try:
            if names and _find(source, names, "text") != _find(source, names, "label"):
                found.append(separator)
        except CorpusError:
            continue
    even = (each for each in found if len(found) > 1 and _is_even(source, each))
    return next(even, found[0] if found else None)


def _is_even(source: Source, separator: str) -> bool:
    """True if every row has as many columns."""
    try:
        return len({len(fields) for _, fields in records(source, separator)}) == 1
    except CorpusError:
        return False


def _table(source: Source, rows: _Rows, separator: str) -> Iterator[Example]:
    if blank := [line for line, fields in rows if not any(map(str.strip, fields))]:
        source.note(f"rows without any content are skipped: {len(blank):,} ({some(blank)})")
        rows = [(line, fields) for line, fields in rows if any(map(str.strip, fields))]
    if not rows:
        return
    line, first = rows[0]
    names = [name.strip() for name in first]
    text, label = (_find(source, names, part, line) for part in ("text", "label"))
    if text == label:
        raise source.error(line, f"the column {names[text]!r} cannot be both the text and its label")
    _note_guess(source, names[text], names[label])
    for number, fields in rows:
        if len(fields) != len(names):
            parted = f"; columns are parted by {SEPARATORS[separator]}"
            raise source.error(number, f"{len(fields)} columns, but the header has {len(names)}{parted}")
    for number, fields in rows if _is_data(source, rows, label) else rows[1:]:
        yield _labelled(source, number, fields[text], fields[label])


def _is_data(source: Source, rows: _Rows, label: int) -> bool:
    """True if the first row is no header: the columns are given by number, and its label is that of other rows."""
    (_, first), *rest = rows
    if not (is_number(source.layout.text) and is_number(source.layout.label)):
        return False
    found = first[label].strip() in {fields[label].strip() for _, fields in rest}
    if found:
        source.note(f"the first row is no header: other rows have its label {first[label].strip()!r} too")
    return found


def _labelled(source: Source, line: int, text: str, label: str) -> Example:
    label = label.strip()
    if not label:
        raise source.error(line, "the label is empty; give one, or leave the example out")
    if flaw := unfit(label):
        raise source.error(line, f"the label {reprlib.repr(label)} {flaw}")
    return Example(text, label, (line,))
