"""The transport of one answer, in place of the connection's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_CONTINUE = b"HTTP/1.1 100"
_SAME = len(b"HTTP/1.1 ")
"""Bytes with which every answer begins."""
_CLOSE = b"connection: close\r\n"


@dataclass(slots=True, eq=False)
class Outgoing:
    """One answer on its way out. Its head waits for the start of its body, so that both leave in one packet.

    For an answer as short as a prediction the system call is the most expensive part, and the client wakes up only
    once.
    """

    _transport: asyncio.Transport
    _cycle: RequestResponseCycle | None
    _behind: Sized
    _tasks: set[asyncio.Task[None]]
    _close: Callable[[bool], None]
    task: asyncio.Task[None] | None = None
    _head: bytes = b""
    _begun: bool = False
    _probed: int = 0

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if self._head:
            self._transport.writelines((self._head, data))
            self._head = b""
        elif self._begun or data.startswith(_CONTINUE):
            self._transport.write(data)
        else:
            cycle = self._cycle
            if self._behind and cycle is not None and not cycle.keep_alive:  # the last answer closes the connection
                cycle.keep_alive = True
                data = data.replace(_CLOSE, b"", 1)
            self._begun, self._head = True, data[self._probed :] if self._probed else data
            # A shutdown cancels the tasks in this set after its grace period. An answer that has begun must finish.
            self._tasks.discard(self.task)

    def probe(self) -> bool:
        """Write the next byte of the beginning that all answers share. Returns False if none is left.

        Nothing is written while an interim answer or a rejection of the body is still possible.
        """
        if self._cycle is None or self._begun or self._probed == _SAME or self._cycle.more_body:
            return False
        self._transport.write(b"HTTP/1.1 "[self._probed : self._probed + 1])
        self._probed += 1
        return True

    def flush(self) -> None:
        """Send a head that has no body."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def finish(self) -> None:
        """The answer is whole. The request refers to this object, which therefore lets go of the request: no cycle is
        left to the garbage collector."""
        self.flush()
        self._cycle = None

    def close(self) -> None:
        self.flush()
        self._close(self._cycle is None or self._cycle.response_complete)
