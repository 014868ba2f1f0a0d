"""A connection that has become a WebSocket: uvicorn's protocol with the counts and limits of all connections.

It counts among the connections of its process. A client that does not read is cut off. A shutdown closes it like any
other connection. `service.process.connection` hands it over.

It is also the `Line` of its stream: messages go to the stream and leave it without ASGI's queue, and events of one
piece leave in one write.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import OPEN

from service.errors import Refusal, TooLarge
from service.http.render import dumps
from service.http.streaming.line import LINE, Take
from service.http.streaming.opened import error_event
from service.process.wire import Reader, Wire

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets without its compiled part
    from websockets.utils import apply_mask

_TEXT = 0x81
"""The first byte of a frame with a whole text message (RFC 6455, 5.2)."""
_MASKED = 0x80
"""Added to the length of a client's frame."""
_LEAST = 6
"""Bytes of a client's frame without content."""


class WebSocket(WebSocketsSansIOProtocol):
    """One WebSocket. A `Protocol` makes it when its client asks for one."""

    _packet = 0
    """Bytes of the packet that the parser reads."""
    _rest = 0
    """Bytes that the client has still to send of a message over the limit."""

    def __init__(self, *arguments: Any, wire: Wire, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._wire = wire
        self._reader: Reader | None = None
        self._take: Take | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire.connections += 1
        address = self.client[0] if self.client else ""
        self._reader = Reader(self._wire, self.loop, cast(asyncio.Transport, transport), address)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connections -= 1
        if self._reader is not None:
            self._reader.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly: count the unsent bytes and watch its progress."""
        super().pause_writing()
        if self._reader is not None:
            self._reader.watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.stop()

    def keepalive_timeout(self) -> None:
        """A ping has no answer. The service cannot see one while it has paused reading."""
        if self.read_paused:
            self.pong_timer = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # a rejection completes it too; uvicorn would log an error

    def handle_parser_exception(self) -> None:
        """The client sends bytes that are no frames, or a message over the limit, which a last message says. Before its
        handshake is answered, nothing can."""
        if self.conn.close_sent is None:
            self._wire.refused(Refusal.MALFORMED)
            self.transport.abort()
            return
        if isinstance(found := self.conn.parser_exc, PayloadTooBig) and not self.close_sent:
            self._reject(found)
        else:
            super().handle_parser_exception()

    def _reject(self, found: PayloadTooBig) -> None:
        """Say that a message is over the limit. Close once the client has sent it: a connection that is closed with
        unread bytes is reset, and a client that still sends may never read what is said."""
        self._wire.refused(Refusal.TOO_LARGE)
        size = found.size or 0
        told = dumps(error_event(TooLarge("Bytes of one message", (found.current_size or 0) + size, found.max_size)))
        self.transport.write(_head(len(told)) + told)
        self._rest = size - self._packet
        if self._rest <= 0:
            super().handle_parser_exception()
            return
        self.transport.write(b"".join(self.conn.data_to_send()))  # the close frame
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.MESSAGE_TOO_BIG, "reason": ""})
        self.read_on()

    def end(self) -> None:
        """Close with a message that gives the reason."""
        self.shutdown()

    @property
    def sending(self) -> bool:
        """True while the transport holds unsent bytes."""
        return self.transport.get_write_buffer_size() > 0

    # The line of a stream

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            cast(dict[str, Any], self.scope)[LINE] = self

    def hear(self, take: Take) -> None:
        """Give every message to `take`; see `Line`. Attributes that only ASGI or the handshake needs are freed: a
        third of the memory of an idle WebSocket."""
        waiting: asyncio.Queue[Any] = self.queue
        self._take = take
        vars(self).update(queue=_Gone(take), request=None, response=None)
        self.read_on()
        while not waiting.empty():
            message = waiting.get_nowait()
            if message["type"] == "websocket.disconnect":
                take(None)
            else:
                take(message["text"] if message.get("text") is not None else message["bytes"])

    def data_received(self, data: bytes) -> None:
        if self._take is None or (content := self._whole(data)) is None:
            self._parse(data)
            return
        try:
            text = str(content, "utf-8")
        except UnicodeDecodeError:
            super().data_received(data)  # closes with 1007
        else:
            self._take(text)

    def _parse(self, data: bytes) -> None:
        if self._rest > 0:
            self._rest -= len(data)
            if self._rest <= 0:
                self.transport.close()
            return
        self._packet = len(data)
        super().data_received(data)

    def _whole(self, data: bytes) -> bytes | None:
        """The content of data that are exactly one frame with a whole text message; None for any other data.

        Most messages come so. The parser, which reads anything, takes as long as the network for a token.
        """
        size = len(data)
        if size < _LEAST or data[0] != _TEXT:
            return None
        length = data[1] - _MASKED
        if length < 126:
            start = 2
        elif length == 126:
            start, length = 4, data[2] << 8 | data[3]
        else:
            return None
        conn = self.conn
        idle = not conn.reader.buffer and conn.current_size is None and conn.state is OPEN
        if size != start + 4 + length or not idle or length > (conn.max_message_size or length):
            return None
        return apply_mask(data[start + 4 :], data[start : start + 4])

    def send_receive_event_to_app(self) -> None:
        """A message is complete."""
        if self._take is None:
            super().send_receive_event_to_app()
            return
        content = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        if self.close_sent:
            self.frames = []
        elif self.curr_msg_data_type == "bytes":
            self.frames = []
            self._take(bytes(content))
        else:
            try:
                text = str(content, "utf-8")
            except UnicodeDecodeError:
                super().send_receive_event_to_app()  # closes with 1007
            else:
                self.frames = []
                self._take(text)

    def pause(self) -> None:
        """Read nothing more until `read_on`."""
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def read_on(self) -> None:
        """Read again."""
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    @property
    def can_write(self) -> bool:
        return self.writable.is_set()

    async def write(self, messages: Sequence[bytes]) -> None:
        if not self.can_write:
            await self.writable.wait()
        self.write_now(messages)

    def write_now(self, messages: Sequence[bytes]) -> None:
        """Send text messages in one write. Raises `ConnectionResetError` if the client has gone."""
        if self.disconnected or self.close_sent or self.conn.state is not OPEN:
            raise ConnectionResetError("the client has gone")
        self.transport.write(b"".join([part for each in messages for part in (_head(len(each)), each)]))

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def leave(self) -> None:
        """The stream has ended."""
        self._take = None
        vars(self).update(queue=_Gone(None))


class _Gone:
    """Takes the place of ASGI's queue, which gets only the end of the connection from then on."""

    def __init__(self, take: Take | None) -> None:
        self._take = take

    def put_nowait(self, message: object) -> None:
        if self._take is not None:
            self._take(None)


def _head(size: int) -> bytes:
    """The head of an unmasked frame with a whole text message of so many bytes."""
    if size < 126:
        return bytes((_TEXT, size))
    return struct.pack("!BBH", _TEXT, 126, size) if size < 1 << 16 else struct.pack("!BBQ", _TEXT, 127, size)
