"""An HTTP connection: uvicorn's protocol with one ordered queue of requests, limits, and detection of hang-ups.

Answers leave in the order of their requests. A rejection is an answer, too, and the last one: it leaves after the
answers to all earlier requests, and then the connection closes. An upgrade to another protocol is ignored, except to a
WebSocket at the one path that has them, on a connection without another waiting request.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.errors import HeaderTooLarge, MalformedRequest, Refusal, RequestError, RequestTooSlow, Unavailable
from service.http.context import KEY, RequestContext, new_context
from service.http.middleware import CLIENT_GONE, rejection
from service.http.security.access import HEALTH
from service.process import head
from service.process.cycle import Cycle
from service.process.deadline import Deadline, Reading
from service.process.fast_connection import FastConnection
from service.process.outgoing import Outgoing
from service.process.websocket import WebSocket
from service.process.wire import RETRY_WHEN_CROWDED, Reader, Wire

LINGER_SECONDS = 1.0
"""Seconds in which a rejected client may stop sending. Closing a socket with unread data resets the connection, and the
answer is lost."""
MOST_PIPELINED = 64
"""Requests that may wait on one connection behind the current one. Each takes some kilobytes."""
PROBE_SECONDS = 0.05
"""Seconds from a client's last byte to the first probe for a hang-up. Each further wait is twice as long."""
NOTHING, HEAD, BODY = Reading
_SLOW = {"header": Refusal.SLOW_HEADER, "body": Refusal.SLOW_BODY}
_log = structlog.get_logger()
_HEALTH = frozenset((path + slash).encode() for path in HEALTH for slash in ("", "/"))


class _BehindTheLast(Exception):
    """Bytes follow a request after which the connection closes."""


class Protocol(FastConnection):
    """One connection. uvicorn makes it, with the additional argument `wire`."""

    def __init__(self, *arguments: Any, wire: Wire, **more: Any) -> None:
        super().__init__(*arguments, wire=wire, **more)
        self._limits = wire.settings
        # The parser gets at most so many bytes at once, so that limits hold within a large packet.
        self._slice = max(1024, wire.settings.max_header // 16)
        self._reading = NOTHING
        self._bare_bytes = 0  # bytes since the request began, or since its body's last bytes
        self._trailers = 0  # bytes
        self._trailer_lines = 0
        self._body = 0  # bytes of the current body so far
        self._offered = False  # the parser has stopped at an upgrade and reads the head again
        self._upgrades = False  # the upgrade is accepted
        self._upgraded: WebSocket | None = None  # the new owner of the connection
        self._deaf = False  # further input is discarded
        self._final = False  # the connection closes after the newest request
        self._stopping = False  # the service is shutting down
        self._ended = False  # the client has closed its side
        self._closing = False  # the last answer is complete
        self._crowded = False
        self._probing = False
        # `cycle` is the newest request and its answer; `pipeline` holds the waiting ones, newest first.
        self._active: RequestResponseCycle | None = None  # the one being answered
        self._task: asyncio.Task[None] | None = None
        self._outgoing: Outgoing | None = None
        self._deadline = Deadline(self.loop, self._limits, self._too_slow)

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        wire = self._wire
        wire.connections += 1
        wire.begun += 1
        self._reader = Reader(wire, self.loop, transport, self.client[0] if self.client else "")
        self._crowded = wire.connections > self._limits.max_connections
        if wire.connections > 2 * self._limits.max_connections:
            self._wire.refused(Refusal.CONNECTIONS)  # too many connections even for a 503
            transport.abort()
            return
        # A client that connects and sends nothing is idle. Its connection closes without an answer.
        self.timeout_keep_alive_task = self.loop.call_later(self._limits.header_seconds, self._reader.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connections -= 1
        self._deaf = self._closing = True
        self._unset_keepalive_if_required()
        self._deadline.set(NOTHING)
        self._reader.stop()
        self._wire.hold_body(self, 0)
        self._abandon_fast_path()
        if self._active is not None:
            self._abandon(self._active, CLIENT_GONE)
        self.pipeline.clear()
        if self._task is not None:
            self._task.cancel()  # the client has gone: its answer must not cost work
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn closes at once
        """The client has closed its side. It still gets its answer if it listens; probes find that out.

        TLS has no half-closed connections: there, this closes the connection.
        """
        self._leave_fast_path()
        unfinished = self._reading is BODY and not self.cycle.response_complete
        if unfinished and self.cycle is not self._active:
            self.pipeline.popleft()  # never complete, and not begun
            self.cycle = self.pipeline[0][0] if self.pipeline else cast(RequestResponseCycle, self._active)
            unfinished = False
        waiting = self._active is not None or self.pipeline
        if self._ended or self._closing or unfinished or not waiting or self.scheme == "https":
            self._reader.watch_rest()
            return self._ended and not self._closing
        self._ended = True
        self._hear_no_more()
        self.cycle.keep_alive = False
        self._watch_client()
        return True

    def _watch_client(self, seconds: float = PROBE_SECONDS) -> None:
        """Probe for a hang-up while nothing is read."""
        if not self._probing:
            self._probing = True
            self.loop.call_later(seconds, self._probe, seconds)

    def _probe(self, seconds: float) -> None:
        """Send the next byte that all answers share. A client that has hung up answers it with a reset."""
        self._probing = False
        unheard = self._ended or self.flow.read_paused
        if unheard and not self._closing and self._outgoing is not None and self._outgoing.probe():
            self._watch_client(2 * seconds)

    # Reading

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._pending is not None:
            self._leave_fast_path()
        self._came = b""
        first = self._reading is NOTHING and self._active is None and self._deadline.reading is NOTHING
        plain = first and len(data) <= self._slice and not (self.flow.write_paused or self._crowded)
        if not (plain and self._begin_fast(data)):
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        begun = self._wire.begun if self._reading is NOTHING else 0
        try:
            self._feed(data) if len(data) <= self._slice else self._feed_slices(data)
        except httptools.HttpParserCallbackError as error:
            self._stop(cast(Exception, error.__context__))
        except httptools.HttpParserError as error:
            first = self._wire.begun == begun + 1  # the bad request is the first in these bytes
            self._stop(self._not_read(error, data if first else b""))
        except RequestError as error:
            self._stop(error)
        else:
            if self._upgraded is not None:
                return
            if self._reading is BODY or self._wire.bodies:
                self._wire.hold_body(self, self._body if self._reading is BODY else 0)
            idle = self._reading is NOTHING and (self.cycle is None or self.cycle.response_complete)
            expected = HEAD if idle else self._reading
            if expected is not self._deadline.reading:
                self._deadline.set(expected)
            if self.flow.read_paused:
                self._watch_client()

    def _not_read(self, error: httptools.HttpParserError, data: bytes) -> Exception:
        """The error for bytes that the parser does not read. `data` begins with the bad request, or is empty."""
        if isinstance(error, httptools.HttpParserInvalidMethodError) and (target := head.strange_target(data)):
            self.url = target
            return head.not_allowed("No route has this method. Send GET or POST.")
        return MalformedRequest(f"The request is not HTTP/1.1: {error}.")

    def _feed_slices(self, data: bytes) -> None:
        for start in range(0, len(data), self._slice):
            self._feed(data[start : start + self._slice], last=start + self._slice >= len(data))

    def _feed(self, data: bytes, last: bool = True) -> None:
        if self._upgraded is not None:
            self._upgraded.data_received(data)
            return
        self._bare_bytes += len(data)
        behind = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:  # a WebSocket would begin here
            behind = data[offer.args[0] :]
        if behind is not None and self._upgrades:
            self._upgrade(behind)
            return
        if behind is not None:  # the offer is ignored (RFC 9110, 7.8): read again without it
            parser, self.parser = self.parser, httptools.HttpRequestParser(self)
            lines = [each for each in self.headers if each[0] != b"upgrade"]
            self._feed(head.written(parser.get_method(), parser.get_http_version(), self.url, lines) + behind, last)
        if self._bare_bytes > self._limits.max_header and (self._reading is BODY or (last and self._reading is HEAD)):
            raise HeaderTooLarge(self._bare_bytes, self._limits.max_header)

    def _upgrade(self, behind: bytes) -> None:
        """Give the connection to a WebSocket, with its counts and timers."""
        self._unset_keepalive_if_required()
        self._hear_no_more()
        self._reader.stop()
        self._wire.connections -= 1
        self.connections.discard(self)
        shared = {"server_state": self.server_state, "app_state": self.app_state}
        self._upgraded = socket = WebSocket(self.config, wire=self._wire, **shared)
        socket.connection_made(self.transport)
        self.transport.set_protocol(socket)
        socket.data_received(head.written(b"GET", "1.1", self.url, self.headers) + behind)
        # Both refer back to this protocol. Without them it is freed now, not at the next search for cycles.
        vars(self).update(parser=None, _deadline=None)

    def on_message_begin(self) -> None:
        if self._final:
            raise _BehindTheLast
        super().on_message_begin()
        self._reading = HEAD
        self._wire.begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading is not HEAD:  # a trailer must not replace a header
            self._count_trailer(len(name) + len(value) + 4)
            return
        name, value = name.lower(), value.rstrip(b" \t")
        self.headers.append((name, value))
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"

    def _count_trailer(self, size: int) -> None:
        self._trailers += size
        self._trailer_lines += 1
        if self._trailers > self._limits.max_header:
            raise HeaderTooLarge(self._trailers, self._limits.max_header)
        if self._trailer_lines > head.MOST_LINES:
            raise HeaderTooLarge(self._trailer_lines, head.MOST_LINES, "Lines in the request's trailers")

    def on_headers_complete(self) -> None:
        parser = self.parser
        scope: Any = self.scope
        method, version = parser.get_method(), parser.get_http_version()
        if self._bare_bytes + self._slice > self._limits.max_header:
            head.check_size(method, self.url, self.headers, self._limits.max_header)
        head.check(method, version, self.headers)
        self._offered = parser.should_upgrade()
        if self._offered:
            waiting = self.cycle is not None and not self.cycle.response_complete
            self._upgrades = not waiting and head.is_websocket(method, version, self.url, self.headers)
            if self._upgrades:
                head.check_handshake(self.headers)
                self._check_room()
                if self._stopping:
                    raise Unavailable("The service is shutting down.", retry_after=RETRY_WHEN_CROWDED)
            return
        scope["method"], scope["http_version"] = method.decode("ascii"), version
        scope["path"], scope["raw_path"], scope["query_string"] = head.target(self.url)
        scope[KEY] = self._resumed or new_context(self.headers)
        self._resumed = None
        self._check_room()
        self._reading, self._bare_bytes, self._body = BODY, 0, 0
        self._trailers = self._trailer_lines = 0
        self._final = self._stopping or version == "1.0" or not parser.should_keep_alive()
        if version == "1.0":
            self.expect_100_continue = False
        queued = self.cycle is not None and not self.cycle.response_complete
        # The client expects a 100. If the answer comes without it, the client may send the body or leave it out.
        self.cycle = cycle = self._exchange(keep_alive=not self._final and not self.expect_100_continue)
        if not queued:
            self._start_asgi_task(cycle, self.app)
            return
        self.pipeline.appendleft((cycle, self.app))
        self._settle_reading()

    def _exchange(self, keep_alive: bool) -> RequestResponseCycle:
        """A place for the answer to the current request."""
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def _check_room(self) -> None:
        """Raises `Unavailable` for a connection over the limit, and for a pipelined request over the limit."""
        if self._crowded and self.url.partition(b"?")[0] not in _HEALTH:
            detail = f"The service has {self._limits.max_connections} connections, and no room for more."
            raise Unavailable(detail, retry_after=RETRY_WHEN_CROWDED, reason=Refusal.CONNECTIONS)
        if len(self.pipeline) >= MOST_PIPELINED:
            detail = f"{MOST_PIPELINED} requests wait on this connection already."
            raise Unavailable(detail, retry_after=RETRY_WHEN_CROWDED, reason=Refusal.PIPELINED)

    def on_body(self, body: bytes) -> None:
        self._bare_bytes = 0
        cycle = self.cycle
        if cycle.response_complete:  # its body is discarded
            return
        self._body += len(body)
        cycle.body += body
        cycle.message_event.set()
        if cycle is not self._active:
            self._settle_reading()
        elif len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()  # until the application has taken the body

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._reading = NOTHING
        cycle = self.cycle
        cycle.more_body = False
        cycle.message_event.set()
        if self.expect_100_continue:
            cycle.waiting_for_100_continue = False
            cycle.keep_alive = not (self._final or self._stopping)
        if self.flow.read_paused:
            self._settle_reading()

    def _settle_reading(self) -> None:
        """Read on, because only reading shows a hang-up. Pause if the waiting requests hold more than `max_body`
        bytes."""
        if sum(len(cycle.body) for cycle, _ in self.pipeline) > self._limits.max_body:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _hear_no_more(self) -> None:
        self._deaf = True
        self._reading = NOTHING
        self._deadline.set(NOTHING)
        self._wire.hold_body(self, 0)

    # Answering

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if self.flow.write_paused:  # the client is slow: only one answer may wait for it
            self.pipeline.append((cycle, app))
            return
        self._active = cycle
        self._outgoing = outgoing = Outgoing(self.transport, cycle, self.pipeline, self.tasks, self._close_behind)
        cycle.transport = outgoing  # has the methods that an answer uses
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)
        outgoing.task = task
        if self._ended:
            self._watch_client()

    def on_response_complete(self) -> None:
        if self._came and self._active is not None:
            self._remember(self._active)
        self._active = self._task = None
        if self._outgoing is not None:
            self._outgoing.finish()
        if self._closing:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self._reading is not NOTHING:
            self._unset_keepalive_if_required()

    def _close_behind(self, answered: bool) -> None:
        """Close after the written data, and after `LINGER_SECONDS` if the client still sends. Close at once if the
        answer is cut short."""
        self._closing = True
        sending = answered and not self._ended and (self._deaf or self._reading is not NOTHING)
        self._hear_no_more()
        if sending:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.flow.resume_reading()
            self.loop.call_later(LINGER_SECONDS, self._reader.close)
        else:
            self._reader.close()

    def shutdown(self) -> None:
        """Close after the requests that have begun are answered."""
        self._stopping = True
        self._leave_fast_path()
        if self._reading is HEAD:
            return  # it gets its answer first
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self._reader.close()

    def end(self) -> None:
        """Like `shutdown`, but reject an incomplete request now."""
        if self._closing:
            return
        if self._reading is NOTHING:
            self.shutdown()
        else:
            detail = "The service is starting; the request had not come whole."
            self.refuse(Unavailable(detail, retry_after=RETRY_WHEN_CROWDED), Refusal.NO_MODEL)

    @property
    def sending(self) -> bool:
        """True from the start of an answer until the system has all of its bytes."""
        begun = self._active is not None and self._active.response_started
        return begun or self.transport.get_write_buffer_size() > 0

    # Slow readers

    def pause_writing(self) -> None:
        """The client is slower than its answer: count the waiting bytes and watch its progress."""
        super().pause_writing()
        rest = self._active.expected_content_length if self._active is not None else 0
        self._reader.watch(rest + self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader.stop()
        if self.transport.is_closing():
            self._reader.watch_rest()
        elif self._active is None and self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    # Refusals

    def _too_slow(self, what: str, seconds: float) -> None:
        if self.flow.read_paused:  # the service itself has paused reading
            self._deadline.set(self._reading)
            return
        self.refuse(RequestTooSlow(f"The request's {what} did not come within {seconds:g} seconds."), _SLOW[what])

    def _stop(self, error: Exception) -> None:
        """Stop reading because of a bad input."""
        if isinstance(error, _BehindTheLast) or (self._final and self._reading is NOTHING):
            self._hear_no_more()
        else:
            reason = error.reason if isinstance(error, RequestError) else None
            self.refuse(error, reason or Refusal.INTERNAL)

    def refuse(self, error: Exception, reason: Refusal) -> None:
        """Answer with an error in the place of the current request, and close after it."""
        reading, cycle = self._reading, self.cycle
        if reading is BODY and cycle.response_complete:  # answered with an error earlier, and still sending
            self._close_behind(answered=True)
            return
        if reading is NOTHING:  # no request has begun
            self._final = False
            self.on_message_begin()
        method = self.parser.get_method().decode("ascii") if self.url else "GET"
        context = cast(Any, self.scope).get(KEY) or new_context(self.headers)
        if reason is Refusal.INTERNAL:
            _log.error("unexpected error", exc_info=error)
        path = self.url.partition(b"?")[0].decode("latin-1")
        response: Any = rejection(error, context.request_id, method, path)
        self.scope["method"] = method
        self._hear_no_more()
        self._wire.refused(reason, request_id=context.request_id, status=response.status_code)
        if reading is BODY and cycle.response_started:
            cycle.keep_alive = False
            return
        if reading is BODY and cycle is not self._active:
            self.pipeline.popleft()
        elif reading is BODY:
            self._abandon(cycle, response.status_code)
            self._active = None
        self.flow.resume_reading()  # further input is discarded
        self.expect_100_continue = False
        self.cycle = refusal = self._exchange(keep_alive=False)
        self.pipeline.appendleft((refusal, response))
        if self._active is None:
            self._start_asgi_task(*self.pipeline.pop())

    @staticmethod
    def _abandon(cycle: RequestResponseCycle, status: int) -> None:
        """Tell the application that its answer is no longer wanted."""
        context: RequestContext | None = cast(Any, cycle.scope).get(KEY)
        if context is not None:  # a rejection has none
            context.gone = status
        cycle.disconnected = True
        cycle.message_event.set()
