"""Records of separated fields: CSV by RFC 4180, with any separator and fields of any length."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager

from training.data.sources import Source

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def records(source: Source, separator: str, blank: bool = False) -> list[tuple[int, list[str]]]:
    """Every record with the number of the line on which it begins; blank lines are left out, unless `blank`.

    Raises `CorpusError` for quotes that RFC 4180 does not allow.
    """
    file = io.StringIO(source.text, newline=source.line_end)
    reader = csv.reader(file, delimiter=separator, strict=True)
    found: list[tuple[int, list[str]]] = []
    with _fields_of(len(source.text)):
        while True:
            line = reader.line_num + 1
            try:
                record = next(reader, None)
            except csv.Error as error:
                detail = f"not CSV by RFC 4180 ({error}); quotes stand around a whole field, and are doubled within it"
                raise source.error(line, detail) from error
            if record is None:
                return found
            if record or blank:
                found.append((line, record))


def header(source: Source, separator: str) -> list[str]:
    """The first record's fields; [] if it cannot be read."""
    reader = csv.reader(io.StringIO(source.text, newline=source.line_end), delimiter=separator)
    try:
        return next((record for record in reader if record), [])
    except csv.Error:
        return []


@contextmanager
def _fields_of(characters: int) -> Iterator[None]:
    """Inside the block fields may have as many characters; the module's own limit is 131,072."""
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, characters + 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
