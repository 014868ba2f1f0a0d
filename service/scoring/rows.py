"""Rows of text out of files: text lines, JSON lines, CSV (RFC 4180) and TSV (no quoting), plain or ``.gz``; standard
input may be zipped as well, which its first bytes say.

A row that cannot be scored is a row all the same, with the reason in place of its input: nothing is passed over.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import BufferedReader, RawIOBase, TextIOWrapper
from pathlib import Path
from typing import IO, Literal, cast, get_args

import orjson

from service.errors import ServiceError

Format = Literal["text", "jsonl", "csv", "tsv"]
FORMATS: tuple[Format, ...] = get_args(Format)
STDIN = "-"
_GZIP = b"\x1f\x8b"
_BLOCK = 8192
"""Bytes of a zipped file that are read at once."""
MAX_FIELD = 64 * 1024 * 1024
"""Characters in one field of a CSV file."""

_BY_SUFFIX: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}


class InputError(ServiceError):
    """A file cannot be read in the requested way. The message names the file and a remedy."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the file it stands in, its number there from 1 (a table's header has none), and its input or the reason
    why it has none."""

    file: str
    number: int
    value: str | list[str] | None
    reason: str = ""
    kept: tuple[object, ...] = ()
    """The values of the columns that are carried along."""
    position: int = 0
    """Bytes of the file, as it lies on disk, that were read when the row was; 0 for a stream."""


class Source:
    """One file, or standard input. `size` is in bytes as it lies on disk; a stream has none. `keep` are the columns of
    a table, or the fields of JSON objects, that rows carry along."""

    def __init__(self, name: str, kind: Format | None, column: str, keep: Sequence[str] = ()) -> None:
        self.name = name
        self._column = column
        self._keep = tuple(keep)
        self._raw: BufferedReader | None = None
        plain = name.removesuffix(".gz")
        self._zipped = plain != name
        self.size = None if name == STDIN else _size(name)
        found = kind or _BY_SUFFIX.get(Path(plain).suffix.lower()) or ("text" if name == STDIN else None)
        if found is None:
            raise InputError(f"{name}: say with --format what it holds: {', '.join(FORMATS)}")
        self.kind: Format = found
        if self._keep and found == "text":
            raise InputError(f"{name}: text lines have no columns to --keep; --format says what a file holds")

    def digest(self) -> str | None:
        """SHA-256 of the file as it lies on disk; None of a stream. Raises `InputError`."""
        if self.size is None:
            return None
        try:
            with Path(self.name).open("rb") as raw:
                return hashlib.file_digest(raw, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{self.name}: {error.strerror}") from error

    def _position(self) -> int:
        if self._raw is None or self.size is None:
            return 0
        return self.size if self._raw.closed else self._raw.tell()

    def rows(self) -> Iterator[Row]:
        """The rows. Raises `InputError` when the file cannot be read, or a table has no such column."""
        readers: dict[Format, Callable[[IO[str]], Iterator[Row]]] = {
            "text": self._lines,
            "jsonl": self._json_lines,
            "csv": self._csv,
            "tsv": self._tsv,
        }
        try:
            with nullcontext(_stdin()) if self.name == STDIN else Path(self.name).open("rb") as raw:
                self._raw = raw
                zipped = raw.peek(2)[:2] == _GZIP if self.name == STDIN else self._zipped
                plain = gzip.GzipFile(fileobj=_Small(raw)) if zipped else raw
                if _is_utf16(plain.peek(4)):
                    raise InputError(f"{self.name}: it is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
                text = self._text(plain)
                for row in readers[self.kind](text):
                    yield replace(row if row.value is None else _checked(row), position=self._position())
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name}: {getattr(error, 'strerror', None) or error}") from error

    def _text(self, plain: BufferedReader | gzip.GzipFile) -> IO[str]:
        """Text with surrogates for bytes outside of UTF-8, so that they spoil only their own row."""
        newline = "" if self.kind == "csv" else "\n"
        return TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape", newline=newline)

    def _lines(self, text: IO[str]) -> Iterator[Row]:
        for number, line in enumerate(text, 1):
            yield Row(self.name, number, line.rstrip("\r\n"))

    def _json_lines(self, text: IO[str]) -> Iterator[Row]:
        for number, line in enumerate(text, 1):
            yield self._json_row(number, line)

    def _json_row(self, number: int, line: str) -> Row:
        kept: tuple[object, ...] = (None,) * len(self._keep)
        try:
            value = orjson.loads(line)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return Row(self.name, number, None, "The line is not JSON.", kept)
        if isinstance(value, dict):
            kept = tuple(map(value.get, self._keep))
            if self._column not in value:
                return Row(self.name, number, None, f"The object has no field {self._column!r} (--column).", kept)
            value = value[self._column]
        if isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            return Row(self.name, number, value, kept=kept)
        return Row(self.name, number, None, "A text, a list of tokens, or an object that holds one is expected.", kept)

    def _csv(self, text: IO[str]) -> Iterator[Row]:
        before = csv.field_size_limit(MAX_FIELD)  # the module has one limit for all of its readers
        try:
            yield from self._csv_rows(csv.reader(text, strict=True))
        finally:
            csv.field_size_limit(before)

    def _csv_rows(self, records: Iterator[list[str]]) -> Iterator[Row]:
        header = next(records, None)
        places = self._places(header)
        number = 0
        while True:
            number += 1
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                # Behind a wrong quote the begin of the next rows is unknown.
                raise InputError(f"{self.name}: row {number} is not CSV: {error}") from error
            yield self._of_record(number, record, places)

    def _tsv(self, text: IO[str]) -> Iterator[Row]:
        header = next(text, None)
        places = self._places(None if header is None else header.rstrip("\r\n").split("\t"))
        for number, line in enumerate(text, 1):
            yield self._of_record(number, line.rstrip("\r\n").split("\t"), places)

    def _places(self, header: list[str] | None) -> list[int]:
        """The numbers of the text's column and of those that are kept."""
        if header is None:
            raise InputError(f"{self.name}: the file is empty; a table begins with the names of its columns")
        for column, option in ((self._column, "--column"), *((name, "--keep") for name in self._keep)):
            if (count := header.count(column)) != 1:
                has = f"{count} columns are named {column!r}; rename one" if count else f"there is no column {column!r}"
                raise InputError(f"{self.name}: {has}; it has {', '.join(header)}. Choose with {option}")
        return [header.index(column) for column in (self._column, *self._keep)]

    def _of_record(self, number: int, record: list[str], places: Sequence[int]) -> Row:
        text, *cells = [record[place] if place < len(record) else None for place in places]
        kept = tuple(None if cell is None else _in_utf8(cell) for cell in cells)
        if text is None:
            return Row(
                self.name, number, None, f"The row has {len(record)} fields, and none for {self._column!r}.", kept
            )
        for name, cell, whole in zip(self._keep, cells, kept, strict=True):
            if cell != whole:
                return Row(self.name, number, None, f"The field {name!r} (--keep) is not UTF-8.", kept)
        return Row(self.name, number, text, kept=kept)


class _Small(BufferedReader):
    """Reads a little at a time, so that the position in a zipped file tells how far its rows are."""

    def __init__(self, stream: BufferedReader) -> None:
        super().__init__(cast(RawIOBase, stream), _BLOCK)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most a block."""
        return super().read(_BLOCK if size is None or size < 0 else min(size, _BLOCK))


def _is_utf16(head: bytes) -> bool:
    """True if a file begins with the byte order mark of UTF-16, or with two letters in UTF-16."""
    marked = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    return marked or (len(head) >= 4 and (head[0] == head[2] == 0 or head[1] == head[3] == 0) and any(head[:4]))


def _size(name: str) -> int | None:
    """Size of a file in bytes; None for a pipe. Raises `InputError` for anything else."""
    if _in_utf8(name) != name:
        raise InputError(
            f"{_in_utf8(name)}: the file's name is not UTF-8; rename it, or send the file to standard input"
        )
    try:
        found = Path(name).stat()
    except FileNotFoundError as error:
        raise InputError(f"{name}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{name}: is a folder; name its files")
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _stdin() -> BufferedReader:
    stream = sys.stdin.buffer
    assert isinstance(stream, BufferedReader)
    return stream


def _in_utf8(text: str) -> str:
    """The text, with U+FFFD for bytes outside of UTF-8, which are surrogates now."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")


def _checked(row: Row) -> Row:
    """The row, or the reason why its text is invalid: bytes outside of UTF-8 are surrogates now."""
    assert row.value is not None
    try:
        "".join(row.value).encode()
    except UnicodeEncodeError:
        return replace(row, value=None, reason="The text is not UTF-8.")
    return row
