"""Rate limits: requests of an API key, tokens of a stream, and tokens of all streams of an API key.

Counts of keys lie in memory that forked processes share, so that limits hold for the whole service.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from mmap import mmap
from time import monotonic


class Buckets:
    """The allowance left to each key, in memory that forked processes share, so that rate limits hold for the whole
    service. Two processes that write at the same moment may let one request too many in, but never lose one. Times are
    those of `time.monotonic`, which processes share too."""

    SLOTS, TRIES = 16_384, 64

    def __init__(self) -> None:
        self._memory = memoryview(mmap(-1, 3 * 8 * self.SLOTS))
        part = 8 * self.SLOTS
        self._keys = self._memory[:part].cast("Q")
        self._left = self._memory[part : 2 * part].cast("d")
        self._then = self._memory[2 * part :].cast("d")

    def take(self, key: bytes, rate: float, now: float) -> float:
        """Take one request. Returns 0, or the seconds until one is available."""
        slot, left = self._look(key, max(1.0, rate), rate, now)
        self._write(slot, left if left < 1 else left - 1, now)
        return (1 - left) / rate if left < 1 else 0.0

    def spend(self, key: bytes, rate: float, amount: float, now: float) -> float:
        """Take `amount` of an allowance that grows by `rate` a second, up to `rate`. The allowance may become negative.
        Returns the seconds until it is no longer negative."""
        slot, left = self._look(key, rate, rate, now)
        left -= amount
        self._write(slot, left, now)
        return max(0.0, -left / rate)

    def _look(self, key: bytes, most: float, rate: float, now: float) -> tuple[int, float]:
        slot = self._slot(int.from_bytes(key[:8], "little") | 1)
        then = self._then[slot]
        return slot, min(most, self._left[slot] + max(0.0, now - then) * rate) if then else most

    def _write(self, slot: int, left: float, now: float) -> None:
        self._left[slot], self._then[slot] = left, now or _EARLY

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


_EARLY = 1e-9
"""Not 0, because 0 stands for never."""


class Pace:
    """A rate limit: an allowance that grows by `rate` tokens a second, up to `rate` tokens."""

    __slots__ = ("_allowed", "_rate", "_then")

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._allowed, self._then = rate, rate, now

    def take(self, tokens: int, now: float) -> float:
        """Use `tokens` of the allowance. Returns the seconds to wait before the next tokens; 0 if none."""
        self._allowed = min(self._rate, self._allowed + (now - self._then) * self._rate) - tokens
        self._then = now
        return max(0.0, -self._allowed / self._rate)


class KeyPace:
    """The rate limit of all streams of one API key, over all workers. `key` names it in the counts."""

    __slots__ = ("_buckets", "_digest", "rate")

    def __init__(self, key: str, rate: float, buckets: Buckets) -> None:
        # The same buckets count the key's requests, under another digest.
        self._digest = hashlib.sha256(b"tokens\0" + key.encode()).digest()
        self._buckets, self.rate = buckets, rate

    def take(self, tokens: int, now: float | None = None) -> float:
        """As `Pace.take`; the time is always that of `time.monotonic`."""
        # The event loop's time may begin elsewhere in each process.
        return self._buckets.spend(self._digest, self.rate, tokens, monotonic())

    @property
    def owed(self) -> float:
        """Seconds to wait before the next tokens; 0 if none."""
        return self.take(0)


Rate = Pace | KeyPace


def waits(rates: Sequence[Rate], tokens: int, now: float) -> float:
    """Use `tokens` of every allowance. Returns the seconds to wait before the next tokens; 0 if none."""
    return max((rate.take(tokens, now) for rate in rates), default=0.0)
