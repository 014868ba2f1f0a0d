"""The connections of one process: the limits that they share, and the bytes that wait for their clients.

A client that takes its answer slowly is cut off, and no other client is refused because of it. An answer has to be
taken within `answer_seconds`, and 64 KiB of it in every `read_seconds`. If more than `max_unsent` bytes wait, the
client with most of them loses the slowest of its connections. A client with no more than its equal share of
`max_unsent` loses none.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from service.errors import Refusal, Unavailable
from service.http.fast_path import Known
from service.observability.metrics import Metrics
from service.settings import Settings

LEAST_PROGRESS = 64 * 1024
"""Bytes of an answer, or all that is left of it, that a client has to take in every `read_seconds`."""
PATIENCE = 1.0
"""Seconds before a waiting answer can be cut to make room. Its speed is not known earlier."""

RETRY_WHEN_CROWDED = 1.0

_log = structlog.get_logger()


class Sender(Protocol):
    """A connection while its client sends a body."""

    def refuse(self, error: Exception, reason: Refusal) -> None:
        """Answer the request with an error, and close."""


@dataclass(slots=True)
class Wire:
    """The shared state of a process's connections: their limits and their counts."""

    settings: Settings
    metrics: Metrics
    connections: int = 0
    begun: int = 0
    """Connections accepted and requests begun so far. A growing number shows that clients are still being read."""
    unsent: int = 0
    """Bytes of answers that clients are slow to take."""
    waiting: set[Reader] = field(default_factory=set)
    """The connections to which these bytes belong."""
    heads: dict[bytes, Known] = field(default_factory=dict)
    """Heads of requests that may take the fast path."""
    bodies: dict[Sender, int] = field(default_factory=dict)
    """Bytes received of incomplete bodies, by connection, the earliest body first."""

    @property
    def unread(self) -> int:
        """Bytes of bodies that are not complete yet."""
        return sum(self.bodies.values())

    def refused(self, reason: Refusal, **details: object) -> None:
        self.metrics.refused(reason)
        _log.info("refused", reason=str(reason), **details)

    def hold_body(self, sender: Sender, size: int) -> None:
        """Count the bytes of an incomplete body; 0 once it is complete. Over the limit, the earliest body is
        rejected."""
        if not size:
            self.bodies.pop(sender, None)
            return
        self.bodies[sender] = size
        while (total := self.unread) > self.settings.max_unread:
            detail = (
                f"{total} bytes of bodies wait for their ends, the limit is {self.settings.max_unread}; this one has "
                f"waited longest. Bodies that come in one piece are not counted."
            )
            first = next(iter(self.bodies))
            del self.bodies[first]
            first.refuse(Unavailable(detail, retry_after=RETRY_WHEN_CROWDED), Refusal.UNREAD)

    def make_room(self) -> None:
        """Cut slow readers until the unsent bytes are within the limit, or one is left.

        An address with at most its equal share of the limit is spared, and so is an answer that began just now.
        """
        while self.unsent > self.settings.max_unsent and len(self.waiting) > 1:
            held = Counter[str]()
            for reader in self.waiting:
                held[reader.address] += reader.size
            share = self.settings.max_unsent / len(held)  # over the limit, some address holds more than this
            over = [reader for reader in self.waiting if held[reader.address] > share]
            slow = [reader for reader in over if reader.seconds >= PATIENCE]
            if not slow:
                return
            max(slow, key=lambda reader: (held[reader.address], reader.seconds_to_go())).cut(Refusal.UNSENT)


@dataclass(slots=True, eq=False)
class Reader:
    """The client of one connection while it is slower than its answer: counted, watched, and cut if too slow."""

    _wire: Wire
    _loop: asyncio.AbstractEventLoop
    _transport: asyncio.Transport
    address: str
    size: int = 0
    """Bytes that this reader adds to `Wire.unsent`."""
    _timer: asyncio.TimerHandle | None = None
    _since: float = 0.0
    _total: int = 0
    _before: int = 0

    @property
    def seconds(self) -> float:
        """Seconds for which the answer has waited."""
        return self._loop.time() - self._since

    def watch(self, size: int = 0) -> None:
        """Begin to watch. `size` bytes are added to `Wire.unsent`."""
        self.stop()
        self._since = self._loop.time()
        self._total = self._before = self._untaken()
        self._set_timer()
        if size:
            self.size = size
            self._wire.unsent += size
            self._wire.waiting.add(self)
            if self._wire.unsent > self._wire.settings.max_unsent:
                self._wire.make_room()
                self._loop.call_later(PATIENCE, self._wire.make_room)

    def stop(self) -> None:
        """Stop watching: the answer is taken, or is not wanted any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wire.unsent -= self.size
        self._wire.waiting.discard(self)
        self.size = 0

    def close(self) -> None:
        """Close the connection once its client has taken the rest."""
        self._transport.close()
        self.watch_rest()

    def watch_rest(self) -> None:
        """Watch a connection that closes: its transport would wait for ever until everything is sent."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self.watch()

    def cut(self, reason: Refusal) -> None:
        self._wire.metrics.refused(reason)
        _log.info("cut", reason=str(reason), seconds=round(self.seconds, 1), bytes_left=self._untaken())
        self.stop()
        reset(self._transport)

    def seconds_to_go(self) -> float:
        """Seconds that the rest takes at the rate so far."""
        left = self._untaken()
        return left * self.seconds / max(1, self._total - left)

    def _set_timer(self) -> None:
        limits = self._wire.settings
        rest = limits.answer_seconds - self.seconds
        self._timer = self._loop.call_later(max(0.0, min(limits.read_seconds, rest)), self._judge)

    def _judge(self) -> None:
        self._timer = None
        if not self._transport.get_write_buffer_size():
            return
        before, self._before = self._before, self._untaken()
        if before - self._before < LEAST_PROGRESS or self.seconds >= self._wire.settings.answer_seconds:
            self.cut(Refusal.SLOW_READER)
        else:
            self._set_timer()

    def _untaken(self) -> int:
        """Bytes that the client has not taken: in the transport, and in the system, which makes room in large steps."""
        return self._transport.get_write_buffer_size() + unsent_by_system(self._transport)


def reset(transport: asyncio.Transport) -> None:
    """Close at once, with a TCP reset: the system drops its unsent bytes, and the client learns of the cut."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def unsent_by_system(transport: asyncio.Transport) -> int:
    """Bytes that the system has taken for a client and not yet sent; 0 if it does not tell (only Linux does)."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or connection.fileno() < 0:
        return 0
    found: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return found
