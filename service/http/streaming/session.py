"""One WebSocket of `/stream`: its messages, from the opening to the close.

Two tasks run. One receives messages and holds a bounded number of waiting bytes. The other reads them with the model
and sends events. So a closed connection or a pong is noticed during a long answer. Nothing is received while the
waiting bytes are at their limit, and the model does not run while the client does not take its events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import structlog
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send
from starlette.websockets import WebSocketDisconnect

from service.errors import (
    InvalidField,
    RequestError,
    RequestTooSlow,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from service.http.context import RequestContext
from service.http.render import dumps
from service.http.schemas.requests import parse
from service.http.schemas.streams import Opening, Piece
from service.http.security.keys import Grant
from service.http.streaming.opened import Event, Opened, error_event, open_stream
from service.model.streams.reading import Undecided
from service.serving.streams import Dropped

POLICY, OVER_SIZE, RESTART, BUSY = 1008, 1009, 1012, 1013
"""Close codes (RFC 6455 and its registry): an unacceptable message, a message over a limit, a restart of the service,
and no room at present."""
MOST_ERRORS = 16
"""Wrong messages allowed on one connection. One more closes it."""
MOST_MESSAGES = 1024
"""Waiting messages of one connection."""

Admit = Callable[[str | None], Grant | None]
"""Checks an API key. Raises `Unauthorized`, `Forbidden` or `RateLimited`."""
_Message = TypeVar("_Message", bound=BaseModel)
_log = structlog.get_logger()


class _Closed(Exception):
    """The connection ends: with a close code, or with None after the client has gone."""

    def __init__(self, code: int | None, reason: str = "", dropped: Dropped | None = None) -> None:
        self.code, self.reason, self.dropped = code, reason, dropped


@dataclass(slots=True)
class _Inbox:
    """Received messages that wait: text, or bytes, which streams reject."""

    most: int
    messages: deque[str | bytes] = field(default_factory=deque)
    size: int = 0
    gone: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_full(self) -> bool:
        return self.size >= self.most or len(self.messages) >= MOST_MESSAGES


class Session:
    """A stream over an accepted WebSocket. `admit` checks the key of the opening message; None if no key is needed
    there."""

    def __init__(
        self, context: RequestContext, receive: Receive, send: Send, grant: Grant | None, admit: Admit | None
    ) -> None:
        self._context, self._runtime = context, context.runtime
        self._grant = grant
        self._streams, self._settings = context.runtime.streams, context.runtime.settings
        self._receive, self._send = receive, send
        self._admit = admit
        self._inbox = _Inbox(self._settings.stream_bytes)
        self._opened: Opened | None = None
        self._errors = 0

    async def run(self) -> None:
        """Serve until the client has gone or the connection is closed."""
        receiving = asyncio.create_task(self._listen())
        try:
            with self._streams.listening(self._inbox.changed):
                await self._serve()
        except _Closed as closed:
            await self._close(closed)
        except WebSocketDisconnect:  # the client left during a send
            self._streams.drop("gone")
        finally:
            receiving.cancel()
            with suppress(asyncio.CancelledError):
                await receiving
            self._streams.waiting -= self._inbox.size

    async def _close(self, closed: _Closed) -> None:
        if closed.dropped is not None:
            self._streams.drop(closed.dropped)
        if closed.code is not None and not self._inbox.gone:
            self._context.log["code"] = closed.code
            await self._send({"type": "websocket.close", "code": closed.code, "reason": closed.reason})

    # Receiving

    async def _listen(self) -> None:
        """Receive messages while there is room."""
        inbox = self._inbox
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                inbox.gone = True
                inbox.changed.set()
                return
            content: str | bytes = message["text"] if message.get("text") is not None else message["bytes"]
            inbox.messages.append(content)
            inbox.size += len(content)
            self._streams.waiting += len(content)
            inbox.changed.set()
            while inbox.is_full:
                inbox.room.clear()
                await inbox.room.wait()

    async def _next(self) -> str | bytes:
        """The next message. Raises `_Closed` if the client has gone or is silent, or the service ends."""
        inbox, seconds = self._inbox, self._settings.stream_idle_seconds
        while not inbox.messages:
            if inbox.gone:
                raise _Closed(None)
            if self._streams.closing:
                raise await self._ended()
            inbox.changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await inbox.changed.wait()
            except TimeoutError:
                await self._tell_state()
                error = RequestTooSlow(f"No message came within {seconds:g} seconds (setting stream_idle_seconds).")
                await self._tell(error_event(error))
                raise _Closed(POLICY, "idle", "idle") from None
        content = inbox.messages.popleft()
        inbox.size -= len(content)
        self._streams.waiting -= len(content)
        inbox.room.set()
        return content

    async def _ended(self) -> _Closed:
        """The service ends. The last message is the state, so that the client can continue elsewhere."""
        await self._tell_state()
        return _Closed(RESTART, "the service restarts; go on elsewhere with the state", "shutdown")

    async def _tell_state(self) -> None:
        opened = self._opened
        if opened is not None and opened.stream.read:
            with suppress(TooLarge):
                await self._tell(opened.state())

    # Answering

    async def _serve(self) -> None:
        self._opened = opened = await self._open()
        await self._tell(opened.ready)
        while True:
            try:
                piece = _parsed(await self._next(), Piece)
                piece.check()
            except RequestError as error:
                await self._refuse(error)
                continue
            await self._read(opened, piece)

    async def _open(self) -> Opened:
        try:
            opening = _parsed(await self._next(), Opening)
            grant = self._grant
            if self._admit is not None:
                grant = self._admit(opening.key)
            self._runtime.check_open()
            paces = self._streams.paces(grant.counted if grant is not None else None)
            key = self._context.route_key
            opened = open_stream(self._runtime, opening, paces=paces, state_every=opening.state_every, key=key)
            opened.patient = True
        except RequestError as error:
            await self._tell(error_event(error))
            raise _Closed(BUSY if isinstance(error, Unavailable) else POLICY, error.title) from None
        self._context.log["model"] = opened.model.name
        self._context.model = (opened.model.name, opened.model.version)
        return opened

    async def _read(self, opened: Opened, piece: Piece) -> None:
        """Read a piece, and end the text if the piece says so."""
        try:
            async for events in opened.take(piece):
                await self._send_all(events)
                if self._streams.closing:
                    raise await self._ended()
            if piece.end:
                async for events in opened.finish():
                    await self._send_all(events)
        except RequestError as error:
            if isinstance(error, InvalidField) and not isinstance(error, Undecided):
                await self._refuse(error)
            else:
                await self._fail(error)
        except (_Closed, ClientDisconnect, WebSocketDisconnect):
            raise
        except Exception as error:
            _log.exception("unexpected error")
            await self._fail(error)

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

    async def _send_all(self, events: list[Event]) -> None:
        for event in events:
            await self._tell(event)

    async def _tell(self, event: Event) -> None:
        if self._inbox.gone:
            raise _Closed(None, dropped="gone")
        await self._send({"type": "websocket.send", "text": dumps(event).decode()})


def _parsed(content: str | bytes, kind: type[_Message]) -> _Message:
    """A message. Raises `RequestError`."""
    if isinstance(content, bytes):
        raise UnsupportedMediaType("Messages are text with a JSON object; this one is binary.")
    return parse(content.encode(), kind, 1)
