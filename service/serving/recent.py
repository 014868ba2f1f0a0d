"""The last few disagreements of shadows, of all workers, in shared memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from mmap import mmap
from typing import Any

import orjson

SLOTS = 16
"""Entries kept for each worker."""
SLOT_BYTES = 8192
"""A larger entry loses its text; if that is not enough, it is left out."""
BYTES = 8 + SLOTS * SLOT_BYTES
_HEAD = 8  # the size of the entry in a slot


def memory(workers: int) -> memoryview:
    """Memory for `workers` workers. Processes forked later share it."""
    return memoryview(mmap(-1, workers * BYTES))


class Recent:
    """The entries of all workers; this process writes its own. An entry consists of plain JSON values."""

    def __init__(self, memory: memoryview, own: int) -> None:
        self._places = [memory[start : start + BYTES] for start in range(0, len(memory), BYTES)]
        self._own = self._places[own]
        self._count: memoryview[int] = self._own[:8].cast("Q")

    def add(self, entry: Mapping[str, Any]) -> None:
        content = orjson.dumps(entry)
        if len(content) > SLOT_BYTES - _HEAD:
            content = orjson.dumps({key: value for key, value in entry.items() if key != "text"})
        if len(content) > SLOT_BYTES - _HEAD:
            return
        start = 8 + self._count[0] % SLOTS * SLOT_BYTES
        slot = self._own[start : start + SLOT_BYTES]
        slot[:_HEAD] = bytes(_HEAD)  # readers skip an empty slot during the write
        slot[_HEAD : _HEAD + len(content)] = content
        slot[:_HEAD] = len(content).to_bytes(_HEAD, "little")
        self._count[0] += 1

    def read(self) -> list[dict[str, Any]]:
        """The entries of every worker, in no order."""
        return [entry for place in self._places for entry in _entries(place[8:])]


def _entries(slots: memoryview) -> Sequence[dict[str, Any]]:
    found = []
    for start in range(0, len(slots), SLOT_BYTES):
        size = int.from_bytes(slots[start : start + _HEAD], "little")
        try:
            if size:
                found.append(orjson.loads(bytes(slots[start + _HEAD : start + _HEAD + size])))
        except orjson.JSONDecodeError:  # overwritten while it was read
            continue
    return found
