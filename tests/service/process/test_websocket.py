"""A WebSocket as the line of a stream: its messages in any packets and fragments, and what it sends."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from random import Random

import pytest
import uvicorn
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from service.http.streaming.line import LINE
from service.observability.metrics import Metrics
from service.process.websocket import WebSocket
from service.process.wire import Wire
from service.settings import Settings
from tests.service.process.test_exchanges import Line
from tests.service.virtual import VirtualLoop, run

MOST = 70_000
Message = str | bytes


class Ends:
    """Both ends of one WebSocket in memory: the service's, given to a stream, and a client of `websockets`."""

    def __init__(self) -> None:
        self.taken: list[Message | None] = []
        settings = Settings(_env_file=None)
        config = uvicorn.Config(
            self._app, interface="asgi3", log_config=None, ws_max_size=MOST, ws_per_message_deflate=False
        )
        config.load()
        self.line = Line()
        self.socket = WebSocket(config, wire=Wire(settings, Metrics()), server_state=ServerState(), app_state={})
        self.socket.connection_made(self.line)
        self.client = ClientProtocol(parse_uri("ws://x/stream"))
        self.client.send_request(self.client.connect())

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert scope[LINE] is self.socket
        self.socket.hear(self.taken.append)
        await asyncio.sleep(1e6)

    async def open(self) -> None:
        self.send(b"".join(self.client.data_to_send()))
        await asyncio.sleep(0.01)
        self.answer()
        assert self.client.state is State.OPEN

    def send(self, data: bytes) -> None:
        self.socket.data_received(data)

    def answer(self) -> list[Frame]:
        """The frames that the client got since the last call."""
        self.client.receive_data(self.line.written)
        self.line.written = b""
        return [event for event in self.client.events_received() if isinstance(event, Frame)]

    def frames(self, message: Message, parts: int) -> bytes:
        """A message in so many fragments, with a ping before the last."""
        content = message.encode() if isinstance(message, str) else message
        cuts = [len(content) * part // parts for part in range(parts + 1)]
        for part in range(parts):
            opcode = Opcode.CONT if part else Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
            if part and part == parts - 1:
                self.client.send_frame(Frame(Opcode.PING, b"?", True))
            piece = content[cuts[part] : cuts[part + 1]]
            self.client.send_frame(Frame(opcode, piece, part == parts - 1))
        return b"".join(self.client.data_to_send())


def with_ends(act: Callable[[Ends], Awaitable[None]]) -> None:
    async def go(loop: VirtualLoop) -> None:
        ends = Ends()
        await ends.open()
        await act(ends)
        for task in list(ends.socket.tasks):
            task.cancel()

    run(go)


TEXTS = st.one_of(st.text(max_size=40), st.sampled_from(["", "\U0001f600" * 40, "x" * 125, "x" * 126, "é" * 33_000]))
SENT = st.lists(st.tuples(st.one_of(TEXTS, st.binary(max_size=20)), st.integers(1, 3)), max_size=6)


@examples(max_examples=60, deadline=None)
@given(SENT, st.randoms(use_true_random=False))
def test_messages_come_whole_in_any_packets_and_fragments(sent: list[tuple[Message, int]], choice: Random) -> None:
    async def act(ends: Ends) -> None:
        stream = b"".join(ends.frames(message, parts) for message, parts in sent)
        at = 0
        while at < len(stream):
            size = choice.choice([1, 2, 7, 4096, len(stream)])
            ends.send(stream[at : at + size])
            at += size
        assert ends.taken == [message for message, _ in sent]
        pongs = [frame for frame in ends.answer() if frame.opcode is Opcode.PONG]
        assert len(pongs) == sum(parts > 1 for _, parts in sent)

    with_ends(act)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 66_000])
def test_texts_of_any_size_leave_as_frames_that_a_client_reads(size: int) -> None:
    async def act(ends: Ends) -> None:
        texts = [os.urandom(size // 2).hex().encode().ljust(size, b"x"), "déjà \U0001f600".encode()]
        await ends.socket.write(texts)
        frames = ends.answer()
        assert [(frame.opcode, bytes(frame.data), frame.fin) for frame in frames] == [
            (Opcode.TEXT, text, True) for text in texts
        ]
        assert not frames[0].rsv1

    with_ends(act)


def test_a_packet_with_one_message_does_not_go_through_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(ends: Ends) -> None:
        monkeypatch.setattr(ends.socket.conn, "receive_data", None)
        ends.send(ends.frames('{"text": "a"}', 1))
        ends.send(ends.frames("x" * 300, 1))
        assert ends.taken == ['{"text": "a"}', "x" * 300]

    with_ends(act)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x83\0\0\0\0a\xffb", CloseCode.INVALID_DATA),
        (b"\x81\x01a", CloseCode.PROTOCOL_ERROR),  # without a mask
        (b"\xc1\x81\0\0\0\0a", CloseCode.PROTOCOL_ERROR),  # a reserved bit
        (b"\x80\x81\0\0\0\0a", CloseCode.PROTOCOL_ERROR),  # the rest of nothing
        (b"\x83\x81\0\0\0\0a", CloseCode.PROTOCOL_ERROR),  # an unknown kind
        (b"\x81\xff" + (MOST + 1).to_bytes(8, "big") + bytes(4), CloseCode.MESSAGE_TOO_BIG),
    ],
)
def test_what_is_no_message_ends_the_connection_with_its_code(data: bytes, code: CloseCode) -> None:
    async def act(ends: Ends) -> None:
        ends.send(data)
        ends.answer()
        assert ends.client.close_rcvd is not None
        assert ends.client.close_rcvd.code == code
        assert ends.taken == [None]
        with pytest.raises(ConnectionResetError):
            await ends.socket.write([b"{}"])

    with_ends(act)


@pytest.mark.parametrize(("size", "parts"), [(201, 1), (402, 2), (100_000, 1)])
def test_a_message_over_the_limit_is_told_and_then_closes(
    monkeypatch: pytest.MonkeyPatch, size: int, parts: int
) -> None:
    async def act(ends: Ends) -> None:
        monkeypatch.setattr(ends.socket.conn, "max_message_size", 200 * parts)
        ends.send(ends.frames("x" * 200, 1))
        assert ends.taken == ["x" * 200]
        ends.send(ends.frames("x" * size, parts))
        error, *_, close = (frame for frame in ends.answer() if frame.opcode is not Opcode.PONG)
        assert (error.opcode, close.opcode) == (Opcode.TEXT, Opcode.CLOSE)
        told = json.loads(bytes(error.data))
        assert told["detail"] == f"Bytes of one message: {size}, the limit is {200 * parts}."
        assert (told["type"], told["status"]) == ("error", 413)
        assert ends.client.close_rcvd is not None
        assert ends.client.close_rcvd.code == CloseCode.MESSAGE_TOO_BIG
        assert ends.taken[1:] == [None]
        assert ends.line.closed

    with_ends(act)


@pytest.mark.parametrize("sent", [True, False])
def test_the_rest_of_a_message_over_the_limit_is_read_before_the_connection_closes(sent: bool) -> None:
    """A connection that is closed with unread bytes is reset. A client that sends nothing more is cut off."""

    async def act(ends: Ends) -> None:
        ends.socket.pause()
        packets = [ends.frames("x" * (MOST + 1), 1)[at : at + 10_000] for at in range(0, MOST + 9, 10_000)]
        ends.send(packets[0])
        assert [frame.opcode for frame in ends.answer()] == [Opcode.TEXT, Opcode.CLOSE]
        assert ends.line.reading
        for packet in packets[1:] if sent else ():
            assert not ends.line.closed
            ends.send(packet)
        assert ends.line.closed is sent
        await asyncio.sleep(ends.socket.close_timeout + 1)
        assert ends.line.closed
        assert ends.taken == [None]

    with_ends(act)


def test_a_frame_inside_a_fragmented_message_is_refused() -> None:
    async def act(ends: Ends) -> None:
        ends.send(b"\x01\x81\0\0\0\0a")
        ends.send(b"\x81\x81\0\0\0\0b")
        ends.answer()
        assert ends.client.close_rcvd is not None
        assert ends.client.close_rcvd.code == CloseCode.PROTOCOL_ERROR

    with_ends(act)


def test_a_client_that_closes_or_vanishes_is_told_to_the_stream() -> None:
    async def closes(ends: Ends) -> None:
        ends.client.send_close(1000)
        ends.send(b"".join(ends.client.data_to_send()))
        assert ends.taken == [None]

    async def vanishes(ends: Ends) -> None:
        ends.socket.connection_lost(None)
        assert ends.taken == [None]
        with pytest.raises(ConnectionResetError):
            await ends.socket.write([b"{}"])

    with_ends(closes)
    with_ends(vanishes)


def test_nothing_is_read_while_the_stream_has_no_room() -> None:
    async def act(ends: Ends) -> None:
        ends.socket.pause()
        assert not ends.line.reading
        ends.socket.read_on()
        assert ends.line.reading

    with_ends(act)


def test_a_write_waits_while_the_client_does_not_read() -> None:
    async def act(ends: Ends) -> None:
        ends.socket.pause_writing()
        writing = asyncio.create_task(ends.socket.write([b"{}"]))
        await asyncio.sleep(0.01)
        assert not ends.line.written
        ends.socket.resume_writing()
        await writing
        assert [bytes(frame.data) for frame in ends.answer()] == [b"{}"]

    with_ends(act)


def test_messages_before_the_stream_listens_are_not_lost() -> None:
    async def go(loop: VirtualLoop) -> None:
        ends = Ends()
        handshake = b"".join(ends.client.data_to_send())
        ends.send(handshake + b"\x81\x81\0\0\0\0a" + b"\x81\x81\0\0\0\0b")
        await asyncio.sleep(0.01)
        assert ends.taken == ["a", "b"]
        ends.socket.connection_lost(None)
        for task in list(ends.socket.tasks):
            task.cancel()

    run(go)
