"""The time limit on receiving a request. Each connection has one timer; a request in one piece never starts it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from service.settings import Settings


class Reading(Enum):
    """The part of a request that is being read."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


@dataclass(slots=True, eq=False)
class Deadline:
    """Calls `_expire` with the name of the late part and its limit in seconds."""

    _loop: asyncio.AbstractEventLoop
    _limits: Settings
    _expire: Callable[[str, float], None]
    reading: Reading = Reading.NOTHING
    _timer: asyncio.TimerHandle | None = None

    def set(self, reading: Reading) -> None:
        """Start the timer for the current part unless it runs."""
        if reading is self.reading:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.reading = reading
        if reading is not Reading.NOTHING:
            head = reading is Reading.HEAD
            what, seconds = ("header", self._limits.header_seconds) if head else ("body", self._limits.body_seconds)
            self._timer = self._loop.call_later(seconds, self._end, what, seconds)

    def _end(self, what: str, seconds: float) -> None:
        self._timer, self.reading = None, Reading.NOTHING
        self._expire(what, seconds)
