"""A bundle's weights as arrays: views of the content of a safetensors file, which is held against its header first.

https://huggingface.co/docs/safetensors: eight bytes for the header's size, the header in JSON, then the tensors, end to
end. The library `safetensors` reads files; this reads memory, and copies nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from service.errors import BundleError
from service.model.bundle import WEIGHTS
from service.model.json_parts import Frozen

_NUMBERS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_KINDS: Final = {**_NUMBERS, "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
"""The types of a safetensors file that can be used."""
_SIZE: Final = 8
"""Bytes before the header."""
_MOST: Final = 1 << 24
"""Bytes of a header."""

_Count = Annotated[int, Field(ge=0, lt=1 << 40)]


class _Tensor(Frozen):
    dtype: str
    shape: Annotated[list[_Count], Field(max_length=8)]
    data_offsets: Annotated[list[_Count], Field(min_length=2, max_length=2)]


_HEADER: Final = TypeAdapter(dict[str, _Tensor])


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor: an array that is a view of the file's content, and the byte of the file at which it starts."""

    start: int
    array: NDArray[np.generic]

    @property
    def stop(self) -> int:
        """The byte behind its last."""
        return self.start + self.array.nbytes


def read(content: memoryview) -> dict[str, Stored]:
    """The tensors by name, in the order of the file. Raises `BundleError` when they do not fill it, each with the bytes
    that its shape needs."""
    size = int.from_bytes(content[:_SIZE], "little")
    if len(content) < _SIZE or size > min(_MOST, len(content) - _SIZE):
        raise _unreadable("it is shorter than its header")
    tensors = content[_SIZE + size :]
    found: dict[str, Stored] = {}
    at = 0
    for name, each in sorted(_header(content[_SIZE : _SIZE + size]).items(), key=lambda item: item[1].data_offsets):
        if each.dtype not in _KINDS:
            raise BundleError(
                f"{WEIGHTS} holds numbers of the type {each.dtype[:16]!a}; {', '.join(_KINDS)} can be used"
            )
        kind, count = np.dtype(_KINDS[each.dtype]), math.prod(each.shape)
        start, at = at, at + count * kind.itemsize
        if each.data_offsets != [start, at] or at > len(tensors):
            raise _unreadable(f"{name[:64]!a} lies at {each.data_offsets}, by its shape at {[start, at]}")
        array = np.frombuffer(tensors, kind, count, start).reshape(each.shape)
        found[name] = Stored(_SIZE + size + start, array)
    if at != len(tensors):
        raise _unreadable(f"it has {len(tensors)} bytes of numbers, by its header {at}")
    return found


def arrays(content: memoryview) -> dict[str, NDArray[np.generic]]:
    """The tensors alone: see `read`."""
    return {name: each.array for name, each in read(content).items()}


def _header(content: memoryview) -> dict[str, _Tensor]:
    """The header's entries for the tensors. Beside them it may hold notes, under a name of their own."""
    try:
        header = orjson.loads(content)
        if isinstance(header, dict):
            header.pop("__metadata__", None)
        return _HEADER.validate_python(header)
    except ValueError as error:
        raise _unreadable("its header is not one of safetensors") from error


def _unreadable(reason: str) -> BundleError:
    return BundleError(f"{WEIGHTS} cannot be read: {reason}")
