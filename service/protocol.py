"""A connection, as uvicorn reads it, with limits: on headers, on clients that send or read slowly, on idle connections
and on their number; and with an eye on clients that hang up.

What the parser itself refuses is answered like any other problem. A limit on time is watched by one timer a connection,
which a request that comes in one piece never starts.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.api import problems
from service.api.edge import CLIENT_GONE, HEALTH, SAFE, request_id
from service.errors import HeaderTooLarge, MalformedRequest, RequestError, RequestTooSlow, Unavailable
from service.metrics import Metrics
from service.settings import Settings

LINGER_SECONDS = 1.0
"""In which a refused client has to stop sending: closing on unread data resets the connection, the answer with it."""
LEAST_PROGRESS = 64 * 1024
"""Bytes of an answer, or all that is left of it, that a client has to take in every `read_seconds`."""
MOST_PIPELINED = 64
"""Requests that one connection may have waiting behind the one that is answered: each takes some kilobytes."""
RETRY_WHEN_CROWDED = 1.0
_CONTINUE = b"HTTP/1.1 100"
_HEALTH = frozenset(path.encode() for path in HEALTH)

_log = structlog.get_logger()


class _Reading(Enum):
    """What of a request is being read."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


@dataclass(slots=True)
class Wire:
    """What the connections of a process share: their limits, and what they have come to."""

    settings: Settings
    metrics: Metrics
    connections: int = 0
    begun: int = 0
    """Connections accepted and requests begun so far: while it grows, clients are being heard."""
    unsent: int = 0
    """Bytes of answers that clients are slow to take."""
    unread: int = 0
    """Bytes of bodies whose ends have not come."""


class _Whole:
    """What an answer is written to: its head waits for the beginning of its body, so that both leave in one packet.

    Of an answer as short as a prediction the call to the system is the dearest part, and the client wakes up but once.
    """

    __slots__ = ("_begun", "_head", "_note_begun", "_transport")

    def __init__(self, transport: asyncio.Transport, note_begun: Callable[[], None]) -> None:
        self._transport = transport
        self._note_begun = note_begun
        self._head = b""
        self._begun = False

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if self._head:
            self._transport.writelines((self._head, data))
            self._head = b""
        elif self._begun or data.startswith(_CONTINUE):
            self._transport.write(data)
        else:
            self._begun, self._head = True, data
            self._note_begun()

    def flush(self) -> None:
        """Let a head go out that no body follows."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """One connection. Made by uvicorn, but for `wire`."""

    def __init__(self, *arguments: Any, wire: Wire, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._wire = wire
        self._limits = wire.settings
        self._reading = _Reading.NOTHING
        self._bare_bytes = 0
        """Read since a request began, or since its body's last bytes: header lines, trailers, chunks' extensions."""
        self._refused = False
        self._crowded = False
        self._last = False
        self._task: asyncio.Task[None] | None = None
        self._answer: _Whole | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed = _Reading.NOTHING
        self._unsent = 0
        self._body = 0
        """Bytes that have come of the body that is being read."""
        self._unread = 0
        """What of them counts among the wire's."""
        self._slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        wire = self._wire
        wire.connections += 1
        wire.begun += 1
        self._crowded = wire.connections > self._limits.max_connections
        if wire.connections > 2 * self._limits.max_connections:
            self._count("connections")  # too many even to be told so
            transport.abort()
            return
        # Whoever connects and sends nothing is idle; closed without a word.
        seconds = self._limits.header_seconds
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connections -= 1
        self._unset_keepalive_if_required()
        self._time(_Reading.NOTHING)
        self._note_sent()
        self._hold(0)
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            for waiting in (cycle, *(queued for queued, _ in self.pipeline)):
                waiting.scope["state"]["gone"] = CLIENT_GONE
            if self._task is not None:
                self._task.cancel()  # nobody waits for the answer any more: it must not cost anything either
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._bare_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as if nothing else had been asked for
        except httptools.HttpParserError as error:
            if not self._refused:
                self._refuse(MalformedRequest(f"The request is not HTTP/1.1: {error}."), "malformed-request")
        if self._refused:
            return
        if self._reading is not _Reading.NOTHING and self._bare_bytes > self._limits.max_header:
            self._refuse_head(self._bare_bytes)
            return
        self._hold(self._body if self._reading is _Reading.BODY else 0)
        if self._wire.unread > self._limits.max_unread and self._unread:
            detail = (
                f"{self._wire.unread} bytes of bodies wait for their ends, the limit is {self._limits.max_unread}; "
                f"bodies that come in one piece are not counted."
            )
            self._refuse(Unavailable(detail, retry_after=RETRY_WHEN_CROWDED), "unread")
            return
        idle = self._reading is _Reading.NOTHING and (self.cycle is None or self.cycle.response_complete)
        self._time(_Reading.HEAD if idle else self._reading)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading = _Reading.HEAD
        self._wire.begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is _Reading.HEAD:  # a trailer would pass for a header, and replace one of its name
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._reading, self._bare_bytes, self._body = _Reading.BODY, 0, 0
        if size > self._limits.max_header:
            self._refuse_head(size)
        elif self._crowded and not self._asks_for_health:
            detail = f"The service has {self._limits.max_connections} connections, and no room for more."
            self._refuse(Unavailable(detail, retry_after=RETRY_WHEN_CROWDED), "connections")
        elif self._wire.unsent > self._limits.max_unsent and not self._asks_for_health:
            detail = (
                f"{self._wire.unsent} bytes of answers wait for their clients, the limit is {self._limits.max_unsent}."
            )
            self._refuse(Unavailable(detail, retry_after=RETRY_WHEN_CROWDED), "unsent")
        elif len(self.pipeline) >= MOST_PIPELINED:
            detail = f"{MOST_PIPELINED} requests wait on this connection already."
            self._refuse(Unavailable(detail, retry_after=RETRY_WHEN_CROWDED), "pipelined")
        else:
            super().on_headers_complete()
            if self._last:
                self.cycle.keep_alive = False

    @property
    def _asks_for_health(self) -> bool:
        """Whether an answer is a few bytes, without which whoever watches would restart a service that is but busy."""
        return self.url.partition(b"?")[0] in _HEALTH

    def on_body(self, body: bytes) -> None:
        self._bare_bytes = 0
        if not self._refused:
            if not self.cycle.response_complete:  # or it is thrown away
                self._body += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            self._reading = _Reading.NOTHING
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # A shutdown cancels the tasks in this set at the end of its grace period: none whose answer has begun.
        self._answer = _Whole(self.transport, lambda: self.tasks.discard(task))
        cycle.transport = cast(asyncio.Transport, self._answer)  # as much of one as an answer needs
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        self._task = None
        if self._answer is not None:
            self._answer.flush()
        if self.transport.is_closing():
            self._watch_rest()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close once what has begun is answered."""
        self._last = True
        if self._reading is not _Reading.HEAD:
            super().shutdown()

    @property
    def sending(self) -> bool:
        """True while an answer has begun and the transport has not handed all of it to the system."""
        cycle: RequestResponseCycle | None = self.cycle
        begun = cycle is not None and cycle.response_started and not cycle.response_complete
        return begun or self.transport.get_write_buffer_size() > 0

    def reset(self) -> None:
        """Close at once, with a TCP reset: the client cannot take the part of the answer it has for the whole."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def pause_writing(self) -> None:
        """The client is slower than its answer: what waits is counted, and its progress watched."""
        super().pause_writing()
        rest = self.cycle.expected_content_length if self.cycle is not None else 0
        self._unsent = rest + self.transport.get_write_buffer_size()
        self._wire.unsent += self._unsent
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._note_sent()
        if self.transport.is_closing():
            self._watch_rest()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _close(self) -> None:
        self.transport.close()
        self._watch_rest()

    def _watch_rest(self) -> None:
        """A transport that closes waits until everything is sent, for ever: what is left is watched to its end."""
        if self._slow is None and self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        self._slow = self.loop.call_later(self._limits.read_seconds, self._judge_reader, self._untaken())

    def _untaken(self) -> int:
        """Bytes that the client has not taken: in the transport, and in the system, which makes room in large steps."""
        return self.transport.get_write_buffer_size() + _unsent_by_system(self.transport)

    def _judge_reader(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        self._slow = None
        if left and before - self._untaken() < LEAST_PROGRESS:
            self._count("slow-reader")
            self.transport.abort()
        elif left:
            self._watch_reader()

    def _note_sent(self) -> None:
        self._wire.unsent -= self._unsent
        self._unsent = 0
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _hold(self, size: int) -> None:
        """Count the bytes that this connection's unfinished body takes."""
        self._wire.unread += size - self._unread
        self._unread = size

    def _time(self, reading: _Reading) -> None:
        """Have the timer run for what is being read, if it does not yet."""
        if reading is self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = reading
        if reading is _Reading.HEAD:
            self._timer = self.loop.call_later(self._limits.header_seconds, self._too_slow, "header")
        elif reading is _Reading.BODY:
            self._timer = self.loop.call_later(self._limits.body_seconds, self._too_slow, "body")

    def _too_slow(self, what: str) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if what == "body" and cycle is not None and cycle.response_complete:
            self._close()  # refused long ago, and still sending
            return
        limit = self._limits.header_seconds if what == "header" else self._limits.body_seconds
        self._refuse(RequestTooSlow(f"The request's {what} did not come within {limit:g} seconds."), f"slow-{what}")

    def _refuse_head(self, size: int) -> None:
        self._refuse(HeaderTooLarge(size, self._limits.max_header), "header-size")

    def _refuse(self, error: RequestError, reason: str) -> None:
        """Answer with an error in place of the application, if an answer can still be given, and close."""
        self._refused = True
        self._time(_Reading.NOTHING)
        self._hold(0)
        cycle: RequestResponseCycle | None = self.cycle
        busy = cycle is not None and not cycle.response_complete
        own = busy and self._reading is _Reading.BODY and cycle is not None and not cycle.response_started
        sent = dict(self.headers or ()) if self._reading is not _Reading.NOTHING else {}
        identity = request_id(sent.get(b"x-request-id"))
        self._count(reason, request_id=identity, status=error.status)
        if busy and not own:
            self._close()  # an answer to an earlier request is under way: there is no place for another
            return
        if own and cycle is not None:
            cycle.scope["state"]["gone"] = error.status
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(self._problem(error, identity))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()  # what still comes is thrown away
        self.loop.call_later(LINGER_SECONDS, self._close)

    def _problem(self, error: RequestError, identity: str) -> bytes:
        """The whole answer, in the form that errors have in the protocol asked for, as far as that is known."""
        url, method = (self.url, self.parser.get_method()) if self._reading is not _Reading.NOTHING else (b"", b"")
        asked = {"path": url.partition(b"?")[0].decode("latin-1"), "method": method.decode("ascii")}
        response = problems.of(error).response(identity, asked)
        headers = [
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"x-request-id", identity.encode()),
            *SAFE,
            (b"connection", b"close"),
        ]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return STATUS_LINE[response.status_code] + lines + b"\r\n" + bytes(response.body)

    def _count(self, reason: str, **details: object) -> None:
        self._wire.metrics.refused(reason)
        _log.info("refused", reason=reason, **details)


def _unsent_by_system(transport: asyncio.Transport) -> int:
    """Bytes that the system has taken for a client and not yet got rid of; 0 where it does not say (not on Linux)."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None or connection.fileno() < 0:
        return 0
    found: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    return found
