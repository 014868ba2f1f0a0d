"""Rate limits by key, in memory that forked processes share."""

from __future__ import annotations

from mmap import mmap

_EARLY = 1e-9
"""Not 0, because 0 stands for never."""


class Buckets:
    """The remaining requests of each key, in memory that forked processes share, so that rate limits hold for the whole
    service. Two processes that write at the same moment may let one request too many in, but never lose one."""

    SLOTS, TRIES = 16_384, 64

    def __init__(self) -> None:
        self._memory = memoryview(mmap(-1, 3 * 8 * self.SLOTS))
        part = 8 * self.SLOTS
        self._keys = self._memory[:part].cast("Q")
        self._left = self._memory[part : 2 * part].cast("d")
        self._then = self._memory[2 * part :].cast("d")

    def take(self, key: bytes, rate: float, now: float) -> float:
        """Take one request. Returns 0, or the seconds until one is available."""
        slot, capacity = self._slot(int.from_bytes(key[:8], "little") | 1), max(1.0, rate)
        left = self._left[slot] + max(0.0, now - self._then[slot]) * rate if self._then[slot] else capacity
        left = min(capacity, left)
        self._left[slot], self._then[slot] = (left if left < 1 else left - 1), now or _EARLY
        return (1 - left) / rate if left < 1 else 0.0

    def _slot(self, key: int) -> int:
        """The key's slot: its own, a free one nearby, or the nearby one with the longest silence."""
        places = [(key + step) % self.SLOTS for step in range(self.TRIES)]
        for place in places:
            if self._keys[place] in (0, key):
                self._keys[place] = key
                return place
        place = min(places, key=self._then.__getitem__)
        self._keys[place], self._then[place] = key, 0.0
        return place
