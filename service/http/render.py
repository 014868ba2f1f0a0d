"""Answers as bytes: predictions as JSON, traces as JSON or safetensors.

A trace can hold millions of numbers, and copying or printing them holds Python's lock. An answer is therefore built in
small pieces, so that the event loop can run between them while a thread builds it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from service.http.number_table import rows_as_json, tables_as_json
from service.model.contributions import Contributions
from service.model.decoding import Prediction
from service.model.equations import tensor_key
from service.model.gates import LayerGates, check_finite, rounded

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"

NUMBERS_AT_ONCE = 16_384
"""Numbers passed to the serialiser at once: half a millisecond."""
PREDICTIONS_AT_ONCE = 16
"""Predictions passed to the serialiser at once; one if they have their tokens, which may be thousands."""
PIECE = 1 << 20
"""Least bytes in one piece of an answer, except the last."""


class TraceAnswer(NamedTuple):
    """One input's part of the answer of `/gates`: the fields before its gates, the gates, and the fields after them."""

    before: Mapping[str, object]
    layers: Sequence[LayerGates]
    after: Mapping[str, object]


def dumps(value: object) -> bytes:
    """JSON of plain values and C-contiguous arrays."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def json_response(value: object, status: int = 200) -> Response:
    """A short answer of plain values."""
    return Response(dumps(value), status, media_type=JSON)


def predictions_as_json(head: dict[str, object], predictions: Sequence[Prediction]) -> list[bytes]:
    """The answer of `/predict` as pieces of JSON. `head` holds the fields before the predictions."""
    at_once = PREDICTIONS_AT_ONCE if "tokens" not in predictions[0] else 1
    if len(predictions) <= at_once:
        return [dumps({**head, "predictions": predictions})]
    starts = range(0, len(predictions), at_once)
    blocks = (dumps(predictions[start : start + at_once])[1:-1] for start in starts)
    pieces = (b"," * (number > 0) + block for number, block in enumerate(blocks))
    return list(gathered(chain([dumps(head)[:-1], b',"predictions":['], pieces, [b"]}"])))


def traces_as_json(head: dict[str, object], traces: Iterable[TraceAnswer], decimals: int | None) -> list[bytes]:
    """The answer of `/gates` as pieces of JSON. `head` holds the fields before the traces.

    Raises `ValueError` for a number that is not finite.
    """
    return list(gathered(_answer(head, traces, decimals)))


def traces_as_safetensors(head: dict[str, object], traces: Iterable[TraceAnswer]) -> list[bytes]:
    """The answer as one safetensors file: the arrays by ``input/layer/direction/gate``, the rest in its metadata.

    Raises `ValueError` for a number that is not finite.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    bare = []
    for number, trace in enumerate(traces):
        layers = []
        for layer in trace.layers:
            layers.append({"layer": layer.layer, "direction": layer.direction})
            statistics = {f"statistics/{name}": array for name, array in (layer.statistics or {}).items()}
            for name, array in {**layer.arrays(), **statistics}.items():
                check_finite(array)
                tensors[f"{number}/{tensor_key(layer.layer, name, layer.direction, '/')}"] = array
        bare.append({**trace.before, "layers": layers, **trace.after})
    metadata = {"response": dumps({**head, "traces": bare}).decode()}
    return list(gathered(_safetensors(tensors, metadata)))


def _safetensors(tensors: dict[str, NDArray[np.float32]], metadata: dict[str, str]) -> Iterator[bytes]:
    """A safetensors file, array by array. The library's own writer holds Python's lock for the whole file."""
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, array in tensors.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (start, end)}
    text = dumps(header)
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for array in tensors.values():
        yield array.astype("<f4", copy=False).tobytes()


def _answer(head: dict[str, object], traces: Iterable[TraceAnswer], decimals: int | None) -> Iterator[bytes]:
    yield dumps(head)[:-1] + b',"traces":['
    for number, trace in enumerate(traces):
        yield b"," * (number > 0) + dumps(trace.before)[:-1] + b',"layers":['
        for position, layer in enumerate(trace.layers):
            yield (
                b"," * (position > 0) + dumps({"layer": layer.layer, "direction": layer.direction})[:-1] + b',"gates":'
            )
            yield from _gates(layer.gates, decimals)
            if layer.statistics is not None:
                yield b',"statistics":' + _statistics(layer.statistics, decimals)
            yield b"}"
        yield b"]," + dumps(trace.after)[1:]
    yield b"]}"


def _gates(gates: Mapping[str, Any], decimals: int | None) -> Iterator[bytes]:
    """Arrays by gate, or by gate and statistic, as an object. Small arrays of one shape are printed together."""
    arrays = [value for value in gates.values() if not isinstance(value, dict) and value.ndim == 2]
    alike = len(arrays) == len(gates) and sum(array.size for array in arrays) <= NUMBERS_AT_ONCE
    printed: dict[str, bytes | None] = {}
    if decimals is not None and alike:
        printed = dict(zip(gates, tables_as_json(arrays, decimals), strict=True))
    yield b"{"
    for number, (name, value) in enumerate(gates.items()):
        yield b"," * (number > 0) + dumps(name) + b":"
        if rows := printed.get(name):
            yield b"[%b]" % rows
        else:
            yield from _gates(value, decimals) if isinstance(value, dict) else array_as_json(value, decimals)
    yield b"}"


def _statistics(statistics: dict[str, NDArray[np.float32]], decimals: int | None) -> bytes:
    """Statistics with keys ``gate.name`` as one object for each gate; keys without a gate stay beside them."""
    gates: dict[str, dict[str, object]] = {}
    others: dict[str, object] = {}
    for name, array in statistics.items():
        gate, _, statistic = name.rpartition(".")
        (gates.setdefault(gate, {}) if gate else others)[statistic] = rounded(array, decimals)
    return dumps({"gates": gates, **others})


def array_as_json(array: NDArray[np.float32], decimals: int | None) -> Iterator[bytes]:
    """An array's rows as JSON, a few thousand numbers at a time."""
    rows = max(1, NUMBERS_AT_ONCE * len(array) // array.size)
    yield b"["
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        printed = rows_as_json(block, decimals) if decimals is not None and block.ndim == 2 else None
        yield b"," * (start > 0) + (printed or dumps(rounded(block, decimals))[1:-1])
    yield b"]"


def finite(split: Contributions) -> Contributions:
    """The same contributions. Raises `ValueError` for a number that is not finite."""
    check_finite(split["bias"], split["tokens"], split["logits"])
    return split


def gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least `PIECE`, so that sending them takes few calls."""
    waiting: list[bytes] = []
    size = 0
    for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
