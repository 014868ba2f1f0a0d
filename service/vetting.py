"""What a bundle's weights and graphs may hold, looked at before ONNX Runtime sees them.

A bundle may come from anywhere. Its graphs run operators of a list, read numbers of the weights file beside them and
of nothing else, go from their inputs to their outputs without a circle, and are small (`service.graphs`); its weights
are finite. What these rules let through costs memory and time at most, and the engine bounds both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from service.bundle import MODEL_GRAPH, TRACE_GRAPH, WEIGHTS, Bundle
from service.errors import BundleError
from service.graphs import Graph, Stored

MAX_WEIGHT: Final = 1e6
"""Of a weight, either way: with it no sum of products leaves float32."""

_Json = dict[str, Any]
_AT_ONCE = 1 << 16
"""Weights that are looked at together: they fit a core's cache."""
_HALF, _HALF_EXPONENT = 2, 0x7C00
"""Bytes of a float16, and the bits of its exponent."""
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
"""The types of a safetensors file that can be used."""


def check(bundle: Bundle) -> None:
    """Look at a bundle's weights and graphs. Raises `BundleError`, which names the file and what is wrong in it."""
    stored = _weights(bundle.file(WEIGHTS))
    for name in (MODEL_GRAPH, TRACE_GRAPH):
        try:
            Graph(stored).check(_content(bundle.file(name)))
        except BundleError as error:
            raise BundleError(f"{name}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(str(error.strerror)) from error


def _weights(path: Path) -> list[Stored]:
    """Where each tensor lies, when all of them are finite numbers of a reasonable size."""
    try:
        with safe_open(path, framework="numpy"):  # it holds the header against the file
            content = np.memmap(path, np.uint8, "r")
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        header: dict[str, _Json] = orjson.loads(content[8:start].tobytes())
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0].replace(str(path), path.name)
        raise BundleError(f"{WEIGHTS} cannot be read: {reason}") from error
    stored = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (start + offset for offset in entry["data_offsets"])
        stored.append(Stored(begin, end, _stored_kind(entry)))
        _check_finite(name, content[begin:end].view(stored[-1].kind))
    return stored


def _stored_kind(entry: _Json) -> np.dtype[np.generic]:
    kind = _STORED.get(entry["dtype"])
    if kind is None:
        raise BundleError(f"{WEIGHTS} holds numbers of the type {entry['dtype']!a}; {', '.join(_STORED)} can be used")
    return np.dtype(kind)


def _check_finite(name: str, numbers: NDArray[np.generic]) -> None:
    if numbers.dtype.kind != "f":
        return
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        if some.dtype.itemsize == _HALF:  # none is over the limit; numbers that are not finite have this exponent
            right = bool((some.view(np.uint16) & _HALF_EXPONENT < _HALF_EXPONENT).all())
        else:  # NaN, where there is one, is the least and the greatest, and compares with nothing
            right = bool(some.min() >= -MAX_WEIGHT and some.max() <= MAX_WEIGHT)
        if not right:
            raise BundleError(f"{WEIGHTS}: {name[:64]!a} holds a number that is not finite, or over {MAX_WEIGHT:g}")
