"""Decisions about models that all workers follow: the served versions of a name, its canary and its shadow.

One worker receives the request for a change. It follows the decisions of the others, changes its own models, then
writes its decision into memory shared by all workers and their supervisor. Each of them reads it every `LOOK_SECONDS`
and notes for each name the last decision that it has followed, so that a change waits for no other name. If two workers
change one name at once, the second to write begins again: no change is lost.

The change itself names versions by their numbers, as an administrator does. The versions that the worker then served
stand in the decision with the digests of their bundles, because a folder may get new content under an old number: a
worker has followed only if it serves the same content.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing.synchronize import Lock
from typing import Any, NamedTuple

import orjson

from service.errors import Unavailable

BYTES = 256 * 1024
"""Room for all decisions together: about 100 bytes a name, and 80 for each of its versions."""
NAMES = 2048
"""Most names with a decision."""
FOLLOWED = NAMES + 1
"""Numbers that a worker notes: for each name the last decision that it has followed. Then 1 if it has ended."""
LOOK_SECONDS = 0.1
"""Interval at which a worker reads the decisions."""
LOCK_SECONDS = 1.0
"""A lock held longer than this belongs to a dead process."""

_HEAD = 16  # two numbers: twice the last decision (odd during a write), and the bytes in use
_TRIES = 100
_GONE = NAMES  # the place of that 1

Memory = ctypes.Array[Any] | memoryview


class Decision(NamedTuple):
    """A decision on a name."""

    number: int
    place: int
    """The place of its name among all names with a decision. It never changes."""


class Decisions:
    """The decisions that all workers follow, in shared memory.

    `memory` has `BYTES` bytes, and `followed` has `FOLLOWED` numbers for each worker, all zero at first. `lock`
    prevents two workers from writing at once.
    """

    def __init__(self, memory: Memory, followed: Memory, lock: Lock) -> None:
        self._shared = memory, followed, lock
        view, numbers = memoryview(memory).cast("B"), memoryview(followed).cast("B").cast("Q")
        self._head: memoryview[int] = view[:_HEAD].cast("Q")
        self._body = view[_HEAD:]
        self._followed = [numbers[start : start + FOLLOWED] for start in range(0, len(numbers), FOLLOWED)]
        self._lock = lock

    def __reduce__(self) -> tuple[type[Decisions], tuple[Memory, Memory, Lock]]:
        """A spawned process opens the same memory."""
        return Decisions, self._shared

    @property
    def number(self) -> int:
        """The number of the last decision; 0 before the first."""
        return self._head[0] // 2

    def read(self) -> tuple[int, dict[str, Any]]:
        """The number of the last decision, and the last decision on each name with its own ``number`` and ``place``."""
        for _ in range(_TRIES):
            written = self._head[0]
            content = bytes(self._body[: self._head[1]])
            if written % 2 == 0 and self._head[0] == written:
                try:
                    return written // 2, orjson.loads(content) if content else {}
                except orjson.JSONDecodeError:  # another processor's writes arrived in another order: read again
                    continue
        return 0, {}

    def last(self, name: str) -> Decision | None:
        """The last decision on a name."""
        found = self.read()[1].get(name)
        return Decision(found["number"], found["place"]) if found is not None else None

    def decide(self, name: str, decision: Mapping[str, Any], after: int) -> Decision | None:
        """Write a decision that was made after reading number `after`. Returns None, with nothing written, if the last
        decision on the name is newer than `after` and has to be followed first. Raises `Unavailable` if the memory is
        full."""
        locked = self._lock.acquire(timeout=LOCK_SECONDS)
        try:
            _, decisions = self.read()
            if name in decisions and decisions[name]["number"] > after:
                return None
            place = decisions[name]["place"] if name in decisions else len(decisions)
            written = Decision(self._head[0] // 2 + 1, place)
            content = orjson.dumps({**decisions, name: {**decision, **written._asdict()}})
            if len(content) > len(self._body) or written.place >= NAMES:
                raise Unavailable(
                    "Too many models were changed since the start; write the changes into the settings and restart."
                )
            self._head[0] = 2 * written.number - 1
            self._body[: len(content)] = content
            self._head[1] = len(content)
            self._head[0] = 2 * written.number
            return written
        finally:
            if locked:
                self._lock.release()

    @property
    def workers(self) -> int:
        return len(self._followed)

    def note_followed(self, worker: int, decisions: Iterable[Mapping[str, Any]]) -> None:
        """Note that a worker has followed these decisions, each as `read` returns it."""
        followed = self._followed[worker]
        for each in decisions:
            followed[each["place"]] = each["number"]

    def note_gone(self, worker: int) -> None:
        """Note that a worker has ended. No change waits for its place until the replacement has begun."""
        followed = self._followed[worker]
        followed[_GONE] = 1
        followed[:NAMES] = memoryview(bytes(NAMES * followed.itemsize)).cast("Q")

    def note_begun(self, worker: int) -> None:
        """Note that a worker follows the decisions: changes wait for it from now on."""
        self._followed[worker][_GONE] = 0

    def behind(self, decision: Decision) -> Sequence[int]:
        """The workers that have not followed a decision yet, nor a later one on its name."""
        number, place = decision
        return [
            worker for worker, followed in enumerate(self._followed) if not followed[_GONE] and followed[place] < number
        ]
