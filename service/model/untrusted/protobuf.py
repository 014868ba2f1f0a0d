"""Protocol buffers on the wire, as far as a file that nobody vouches for is read: fields, and nothing taken on trust.

https://protobuf.dev/programming-guides/encoding. A reader of the whole format would merge and default; this one refuses
unknown fields, and a second value of a single field: two readers must not see two different files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from service.errors import BundleError

MAX_FIELDS = 1_000_000
"""Fields of one file, those of messages in messages included."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10


@dataclass(slots=True)
class Budget:
    """How many more fields a file may have."""

    fields: int = MAX_FIELDS

    def take(self) -> None:
        """Count one field. Raises `BundleError` if it is one too many."""
        self.fields -= 1
        if self.fields < 0:
            raise BundleError(f"over {MAX_FIELDS} fields")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the values of each field by name, in order. Integers are as they stand, unsigned."""

    values: Mapping[str, list[int | memoryview]]
    budget: Budget = field(repr=False)

    def messages(self, name: str, schema: Mapping[int, str]) -> list[Message]:
        """The messages of a repeated field."""
        return [read(data, schema, self.budget) for data in self.all_bytes(name)]

    def message(self, name: str, schema: Mapping[int, str]) -> Message | None:
        found = self._single(name)
        return None if found is None else read(_as_bytes(found), schema, self.budget)

    def all_bytes(self, name: str) -> list[memoryview]:
        return [_as_bytes(value) for value in self.values.get(name, ())]

    def data(self, name: str) -> memoryview | None:
        found = self._single(name)
        return None if found is None else _as_bytes(found)

    def texts(self, name: str) -> list[str]:
        return [_text(data) for data in self.all_bytes(name)]

    def text(self, name: str) -> str:
        """The string of a field; empty if it is missing."""
        found = self.data(name)
        return "" if found is None else _text(found)

    def integer(self, name: str) -> int:
        """The integer of a field, signed; 0 if it is missing."""
        found = self._single(name)
        if isinstance(found, memoryview):
            raise BundleError("a number is expected, not bytes")
        return _signed(found or 0)

    def integers(self, name: str) -> list[int]:
        """The integers of a repeated field, signed, packed or one by one."""
        found: list[int] = []
        for value in self.values.get(name, ()):
            if isinstance(value, int):
                found.append(_signed(value))
                continue
            position = 0
            while position < len(value):
                self.budget.take()
                number, position = _varint(value, position)
                found.append(_signed(number))
        return found

    def has(self, name: str) -> bool:
        return name in self.values

    def _single(self, name: str) -> int | memoryview | None:
        found = self.values.get(name, ())
        if len(found) > 1:
            raise BundleError(f"the field {name} stands there twice")
        return found[0] if found else None


def read(data: bytes | memoryview, schema: Mapping[int, str], budget: Budget | None = None) -> Message:
    """A message with the fields of `schema`, name by number. Raises `BundleError`."""
    budget = budget or Budget()
    values: dict[str, list[int | memoryview]] = {}
    for number, value in _fields(memoryview(data), budget):
        name = schema.get(number)
        if name is None:
            raise BundleError(f"field {number} is not known here")
        values.setdefault(name, []).append(value)
    return Message(values, budget)


def _fields(data: memoryview, budget: Budget) -> Iterator[tuple[int, int | memoryview]]:
    position, end = 0, len(data)
    while position < end:
        budget.take()
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise BundleError(f"wire type {kind} is not known here")
        if size > end - position:
            raise BundleError("the file ends in the middle of a field")
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of at most 64 bits, and the place of the next byte."""
    if (first := data[position] if position < len(data) else 0x80) < 0x80:  # most numbers have one byte
        return first, position + 1
    number = 0
    for place, byte in enumerate(data[position : position + _MAX_VARINT]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if number >= 1 << 64:
                break
            return number, position + place + 1
    raise BundleError("the file ends in the middle of a number, or the number has more than 64 bits")


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _as_bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise BundleError("bytes are expected, not a number")
    return value


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise BundleError("a text is not UTF-8") from None
