"""One WebSocket of `/stream`: its messages, from the opening to the close.

The connection puts messages into a bounded inbox at any time, so a client that goes is noticed during a long answer.
One task takes them out, reads them with the model, and sends events. Nothing is received while the inbox is full, and
the model does not run while the client does not take its events.

A piece that comes while nothing else waits does not wake the task: callbacks read it. A task's turns take longer than
the network.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NoReturn, TypeVar

import orjson
import structlog
from pydantic import BaseModel

from service.errors import (
    InvalidField,
    MalformedBody,
    RequestError,
    RequestTooSlow,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from service.http.context import RequestContext
from service.http.render import dumps
from service.http.schemas.requests import parse
from service.http.schemas.streams import Piece, StreamOpening
from service.http.streaming.line import Line
from service.http.streaming.opened import SLICE, Event, Opened, error_event, open_stream
from service.model.streams.reading import Undecided
from service.model.streams.stepping import Stepped
from service.serving.streams import Dropped, StepOutcome

POLICY, OVER_SIZE, RESTART, BUSY = 1008, 1009, 1012, 1013
"""Close codes (RFC 6455 and its registry): an unacceptable message, a message over a limit, a restart of the service,
and no room at present."""
MOST_ERRORS = 16
"""Wrong messages allowed on one connection. One more closes it."""
MOST_MESSAGES = 1024
"""Waiting messages of one connection."""
_SHORT = 12 * SLICE + 32
"""Characters of a message with a short piece at most: JSON writes a character with up to 12, ``\\ud83d\\ude00``."""

_Message = TypeVar("_Message", bound=BaseModel)
_log = structlog.get_logger()


class _Closed(Exception):
    """The connection ends: with a close code, or with None after the client has gone."""

    def __init__(self, code: int | None, reason: str = "", dropped: Dropped | None = None) -> None:
        self.code, self.reason, self.dropped = code, reason, dropped


class Session:
    """A stream over an accepted WebSocket."""

    def __init__(self, context: RequestContext, line: Line) -> None:
        self._context, self._runtime = context, context.runtime
        self._streams, self._settings = context.runtime.streams, context.runtime.settings
        self._line = line
        self._inbox: list[str | bytes] = []  # an empty deque has 600 bytes
        """Received messages that wait: text, or bytes, which streams reject."""
        self._size = 0
        """Characters and bytes of the inbox."""
        self._gone = False
        """True once the client has gone."""
        self._opened: Opened | None = None
        self._errors = 0
        self._paused = False
        self._reading = False
        """True while callbacks read a piece. The task must not go on meanwhile."""
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] | None = None
        """`_next` waits for it: a message, the end of the client, or the end of the service."""
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until the client has gone or the connection is closed."""
        self._line.hear(self._take)
        try:
            with self._streams.listening(self._wake):
                await self._serve()
        except _Closed as closed:
            await self._close(closed)
        except OSError:  # the client left during a send
            self._streams.drop("gone")
        finally:
            await self._line.leave()
            if self._timer is not None:
                self._timer.cancel()
            self._streams.waiting -= self._size

    async def _close(self, closed: _Closed) -> None:
        if closed.dropped is not None:
            self._streams.drop(closed.dropped)
        if closed.code is not None and not self._gone:
            self._context.log["code"] = closed.code
            await self._line.close(closed.code, closed.reason)

    # Receiving

    def _take(self, content: str | bytes | None) -> None:
        """A message has come; None: the client has gone."""
        if content is None:
            self._gone = True
        elif self._waits and not self._inbox and self._read_now(content):
            return
        else:
            self._put(content)
        self._wake()

    def _put(self, content: str | bytes) -> None:
        self._inbox.append(content)
        self._size += len(content)
        self._streams.waiting += len(content)
        if self._is_full:
            self._paused = True
            self._line.pause()

    @property
    def _is_full(self) -> bool:
        return self._size >= self._settings.stream_bytes or len(self._inbox) >= MOST_MESSAGES

    @property
    def _waits(self) -> bool:
        """True while the task waits for a message."""
        return self._woken is not None and not self._woken.done() and not self._reading

    def _wake(self, error: Exception | None = None) -> None:
        """Let the task go on, or raise an error in it."""
        if not self._waits:
            return
        assert self._woken is not None
        if error is None:
            self._woken.set_result(None)
        else:
            self._woken.set_exception(error)

    def _read_now(self, content: str | bytes) -> bool:
        """Read a short piece of text, if the stream has no rate and no states, and nothing else is to be done.

        False, and nothing is read, for any other message.
        """
        opened, streams = self._opened, self._streams
        if opened is None or opened.paces or opened.state_every or streams.busy or not self._line.can_write:
            return False
        if (text := _text_alone(content)) is None:
            return False
        self._since = self._loop.time()
        try:
            opened.stream.feed(text)
            job = opened.stream.job()
        except Exception as error:  # raised here, it would end the connection without a message
            self._wake(error)
            return True
        if job is not None:
            self._reading = True
            streams.step_now(opened.model, job, self._stepped)
        return True

    def _stepped(self, outcome: StepOutcome) -> None:
        """The step of a piece that callbacks read has an outcome."""
        opened = self._opened
        assert opened is not None
        self._reading = False
        if self._gone:
            outcome = _Closed(None, dropped="gone")
        elif isinstance(outcome, Stepped) and self._waits:
            try:
                self._line.write_now([dumps(event) for event in self._streams.took(opened.stream, outcome)])
            except Exception as error:
                outcome = error
        if isinstance(outcome, Exception):
            self._wake(outcome)
        elif opened.stream.waiting or self._inbox or self._streams.closing:
            self._wake()

    async def _next(self) -> str | bytes:
        """The next message; an empty piece if tokens wait for their steps.

        Raises `_Closed` if the client has gone or is silent, or the service ends, and any error of a piece that
        callbacks read.
        """
        if not self._inbox:
            self._since = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(self._settings.stream_idle_seconds, self._look_at_idle)
        while not self._inbox:
            if self._gone:
                raise _Closed(None)
            if self._streams.closing:
                raise await self._ended()
            if self._timer is None:
                raise await self._silent()
            self._woken = self._loop.create_future()
            await self._woken
            if self._opened is not None and self._opened.stream.waiting and not self._gone:
                return "{}"
        content = self._inbox.pop(0)
        self._size -= len(content)
        self._streams.waiting -= len(content)
        if self._paused and not self._is_full:
            self._paused = False
            self._line.read_on()
        return content

    def _look_at_idle(self) -> None:
        """End the wait of a client that is silent. One timer serves many messages: to set one for each takes longer
        than to look again."""
        waits = self._woken is not None and not self._woken.done()
        silent = self._loop.time() - self._since if waits else 0.0
        left = self._settings.stream_idle_seconds - silent
        self._timer = self._loop.call_later(left, self._look_at_idle) if left > 0 else None
        if self._timer is None:
            self._wake()

    async def _silent(self) -> _Closed:
        await self._tell_state()
        seconds = self._settings.stream_idle_seconds
        error = RequestTooSlow(f"No message came within {seconds:g} seconds (setting stream_idle_seconds).")
        await self._tell(error_event(error))
        return _Closed(POLICY, "idle", "idle")

    async def _ended(self) -> _Closed:
        """The service ends. The last message is the state, so that the client can continue elsewhere."""
        await self._tell_state()
        return _Closed(RESTART, "the service restarts; go on elsewhere with the state", "shutdown")

    async def _tell_state(self) -> None:
        if self._opened is not None:
            with suppress(TooLarge):
                await self._tell(self._opened.state())

    # Answering

    async def _serve(self) -> None:
        self._opened = opened = await self._open()
        await self._tell(opened.ready)
        while True:
            try:
                piece = _parsed(await self._next(), Piece)
                piece.check()
                await self._read(opened, piece)
            except (MalformedBody, UnsupportedMediaType, InvalidField) as error:
                await (self._fail(error) if isinstance(error, Undecided) else self._refuse(error))
            except RequestError as error:
                await self._fail(error)
            except (_Closed, OSError):
                raise
            except Exception as error:
                _log.exception("unexpected error")
                await self._fail(error)

    async def _open(self) -> Opened:
        try:
            opening = _parsed(await self._next(), StreamOpening)
            admit = self._context.admit
            grant = self._context.grant if admit is None else admit(opening.key)
            self._runtime.check_open()
            paces = self._streams.paces(grant.counted if grant is not None else None)
            key = self._context.route_key
            request_id, every = self._context.request_id, opening.state_every
            opened = open_stream(self._runtime, opening, request_id, paces=paces, state_every=every, key=key)
            opened.patient = True
        except RequestError as error:
            await self._tell(error_event(error))
            raise _Closed(BUSY if isinstance(error, Unavailable) else POLICY, error.title) from None
        self._context.log["model"] = opened.model.name
        self._context.model = (opened.model.name, opened.model.version)
        return opened

    async def _read(self, opened: Opened, piece: Piece) -> None:
        """Read a piece, and end the text if the piece says so."""
        async for _ in opened.take(piece):
            while (events := await opened.step()) is not None:
                await self._tell(*events)
                if self._streams.closing:
                    raise await self._ended()
        if piece.end:
            async for events in opened.finish():
                await self._tell(*events)

    async def _fail(self, error: Exception) -> NoReturn:
        """Report an error after which the stream cannot continue."""
        await self._tell(error_event(error))
        code = POLICY if isinstance(error, InvalidField) else OVER_SIZE if isinstance(error, TooLarge) else BUSY
        title = error.title if isinstance(error, RequestError) else "unexpected error"
        raise _Closed(code, title, "failed") from None

    async def _refuse(self, error: RequestError) -> None:
        """Report a wrong message; the stream continues."""
        await self._tell(error_event(error))
        self._errors += 1
        if self._errors > MOST_ERRORS:
            raise _Closed(POLICY, f"over {MOST_ERRORS} messages were wrong")

    async def _tell(self, *events: Event) -> None:
        if self._gone:
            raise _Closed(None, dropped="gone")
        if events:
            await self._line.write([dumps(event) for event in events])


def _text_alone(content: str | bytes) -> str | None:
    """The text of a message that is a short piece of text and nothing else; None for any other message."""
    if isinstance(content, bytes) or len(content) > _SHORT:
        return None
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    text = value.get("text") if isinstance(value, dict) and len(value) == 1 else None
    return text if isinstance(text, str) and len(text) <= SLICE else None


def _parsed(content: str | bytes, kind: type[_Message]) -> _Message:
    """A message. Raises `RequestError`."""
    if isinstance(content, bytes):
        raise UnsupportedMediaType("Messages are text with a JSON object; this one is binary.")
    return parse(content.encode(), kind, 1)
