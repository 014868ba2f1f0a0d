"""JSON lines: one object in each line, its fields, and the errors for other lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from training.data.sources import Source, few

_SURROGATE = re.compile("[\ud800-\udfff]")
_KINDS = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}


def objects(source: Source) -> Iterator[tuple[int, dict[str, object]]]:
    """Line numbers from 1, and the objects. Raises `CorpusError`."""
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
            raise source.error(line, f"{kind(record)}; each line is one object")
        yield line, record


def field(source: Source, line: int, record: dict[str, object], key: str) -> object:
    if key not in record:
        raise source.error(line, f'no "{key}"; the object has: {few(record) or "nothing"}')
    return record[key]


def whole(source: Source, line: int, key: str, value: str) -> str:
    """The string. Raises `CorpusError` for an unpaired surrogate or a NUL in it."""
    if _SURROGATE.search(value):
        raise source.error(line, f'"{key}" holds an unpaired surrogate, which is no character; write the whole pair')
    if "\0" in value:
        raise source.error(line, f'"{key}" holds a NUL character, \\u0000; leave it out')
    return value


def kind(value: object) -> str:
    return _KINDS.get(type(value), json.dumps(value))
