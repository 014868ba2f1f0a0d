"""The last answers of all workers, to which `POST /feedback` refers.

Each worker writes its own answers into a ring in shared memory, and the others read it without locks. An id is known
while fewer than `ENTRIES` answers of all workers are newer. The rings hold no text: only hashes of the ids, and the
answers as labels, scores and offsets.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from mmap import mmap
from time import monotonic
from typing import Any

import numpy as np
import orjson

ENTRIES = 10_000
"""Remembered answers, over all workers together."""
DETAIL_BYTES = 4 * 1024 * 1024
"""Bytes for the answers of one worker, about 400 an answer. New answers overwrite the oldest."""
LARGEST_DETAIL = 64 * 1024
"""Bytes. Only the id of a larger answer is kept."""

_DIGEST = 16
_HEAD = 16  # the number of answers, and the bytes of details, written so far
_ENTRY = np.dtype([("digest", f"V{_DIGEST}"), ("time", "f8"), ("start", "u8"), ("size", "u8")])
BYTES = _HEAD + ENTRIES * _ENTRY.itemsize + DETAIL_BYTES
"""Bytes of one ring. Its pages are not touched before they are needed."""


def memory(rings: int) -> memoryview:
    """Memory for `rings` rings. Processes forked later share it."""
    return memoryview(mmap(-1, rings * BYTES))


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """An answer in a ring. `detail` is None if it was too large or is overwritten."""

    then: float
    detail: bytes | None


class Ring:
    """The answers of one process. Only that process writes; any process may read."""

    def __init__(self, memory: memoryview) -> None:
        self._head: memoryview[int] = memory[:_HEAD].cast("Q")
        self._entries = np.frombuffer(memory[_HEAD:-DETAIL_BYTES], _ENTRY)
        self._details = memory[-DETAIL_BYTES:]

    def add(self, digest: bytes, detail: bytes, now: float) -> None:
        """Write an answer. `now` must not decrease."""
        count, start = self._head
        if len(detail) > LARGEST_DETAIL:
            detail = b""
        size, place = len(detail), start % DETAIL_BYTES
        if place + size > DETAIL_BYTES:
            start, place = start + DETAIL_BYTES - place, 0
        self._head[1] = start + size  # first: readers then see that older details are being overwritten
        self._details[place : place + size] = detail
        self._entries[count % ENTRIES] = digest, now, start, size
        self._head[0] = count + 1

    def find(self, digest: bytes) -> FoundAnswer | None:
        """The newest answer with an id."""
        written = self._entries[: self._head[0]]
        found = written[written["digest"] == np.void(digest)]
        if not len(found):
            return None
        _, then, start, size = found[found["time"].argmax()].tolist()
        detail = bytes(self._details[start % DETAIL_BYTES : start % DETAIL_BYTES + size])
        return FoundAnswer(then, detail if size and self._head[1] - start <= DETAIL_BYTES else None)

    def newer(self, then: float) -> int:
        """The number of answers written after a time."""
        return int(np.count_nonzero(self._entries["time"] > then))


class Answered:
    """The answers of all workers, in the rings of `memory`. This process writes the ring number `own`."""

    def __init__(self, memory: memoryview, own: int) -> None:
        self._rings = [Ring(memory[start : start + BYTES]) for start in range(0, len(memory), BYTES)]
        self._own = self._rings[own]

    def note(self, request_id: str, detail: Any = None) -> None:
        """Note an answer. `detail` consists of plain JSON values."""
        content = orjson.dumps(detail) if detail is not None else b""
        self._own.add(_digest(request_id), content, monotonic())

    def knows(self, request_id: str, after: float = -inf) -> bool:
        """True if the id is among the last `ENTRIES` answers, and was noted after a time."""
        return self.time(request_id) > after

    def time(self, request_id: str) -> float:
        """The time of an id's newest answer, on a clock that all workers share; `-inf` for an unknown id."""
        found = self._newest(request_id)
        return -inf if found is None else found.then

    def detail(self, request_id: str) -> Any:
        """The detail noted with an id; None if it is lost. Raises `KeyError` for an unknown id."""
        found = self._newest(request_id)
        if found is None:
            raise KeyError(request_id)
        try:
            return orjson.loads(found.detail) if found.detail is not None else None
        except orjson.JSONDecodeError:  # overwritten while it was read
            return None

    def _newest(self, request_id: str) -> FoundAnswer | None:
        digest = _digest(request_id)
        found = max(
            (each for ring in self._rings if (each := ring.find(digest)) is not None),
            key=lambda each: each.then,
            default=None,
        )
        if found is None or sum(ring.newer(found.then) for ring in self._rings) >= ENTRIES:
            return None
        return found


def _digest(request_id: str) -> bytes:
    return blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
