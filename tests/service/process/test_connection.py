"""A connection whose client does not take the end of its answer, too little for the server to be told to pause; and
bodies whose ends do not come."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service import settings
from service.observability.metrics import Metrics
from service.process.connection import Protocol
from service.process.wire import LEAST_PROGRESS, Wire, unsent_by_system
from tests.patience import until
from tests.service.virtual import VirtualLoop, run

READ_SECONDS, IDLE_SECONDS = 5.0, 9


class Sluggish(asyncio.Transport):
    """A transport that closes, as they do, once everything is sent; `unsent` bytes are not taken."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self.unsent = 0
        self.aborted = False
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.unsent += len(data)

    def take(self, count: int) -> None:
        """What the client does that reads."""
        self.unsent -= count
        if self._closing and not self.unsent:
            self._protocol.connection_lost(None)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self.aborted = self._closing = True


class Kept(Sluggish):
    """A transport that remembers what was written."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol)
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        super().write(data)
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return False


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9000")]})
    await send({"type": "http.response.body", "body": b"x" * 9000})


async def _answered(loop: VirtualLoop, header: bytes) -> tuple[Sluggish, Metrics]:
    """A connection behind its answer, of which nothing was taken."""
    asked = settings.read({"read_seconds": READ_SECONDS, "idle_seconds": IDLE_SECONDS}, _env_file=None)
    metrics = Metrics()
    config = uvicorn.Config(_answer, log_config=None, timeout_keep_alive=IDLE_SECONDS)
    protocol = Protocol(config, ServerState(), {}, loop, wire=Wire(asked, metrics))
    transport = Sluggish(protocol)
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n")
    await asyncio.sleep(0.1)
    assert transport.unsent > 9000
    return transport, metrics


@pytest.mark.parametrize(("header", "after"), [(b"Connection: close\r\n", 0.0), (b"", IDLE_SECONDS)])
def test_who_leaves_the_end_of_an_answer_is_cut_off(header: bytes, after: float) -> None:
    async def main(loop: VirtualLoop) -> None:
        transport, metrics = await _answered(loop, header)
        await asyncio.sleep(after + READ_SECONDS - 1)
        assert not transport.aborted
        transport.take(8000)  # not all of it
        await asyncio.sleep(2)
        assert transport.aborted
        assert metrics.board.number("refusals_total", "slow-reader").value == 1

    run(main)


def test_who_takes_the_end_in_time_is_not() -> None:
    async def main(loop: VirtualLoop) -> None:
        transport, metrics = await _answered(loop, b"Connection: close\r\n")
        await asyncio.sleep(READ_SECONDS - 1)
        transport.take(transport.unsent)
        await asyncio.sleep(10 * READ_SECONDS)
        assert not transport.aborted
        assert metrics.board.number("refusals_total", "slow-reader").value == 0

    run(main)


def test_a_reader_is_judged_by_what_it_takes_of_what_the_system_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport's own buffer may stand still meanwhile: the system makes room in large steps."""
    held = 10 * LEAST_PROGRESS
    monkeypatch.setattr("service.process.wire.unsent_by_system", lambda _: held)

    async def main(loop: VirtualLoop) -> None:
        nonlocal held
        transport, metrics = await _answered(loop, b"Connection: close\r\n")
        for _ in range(5):
            held -= LEAST_PROGRESS
            await asyncio.sleep(READ_SECONDS)
            assert not transport.aborted
        held -= LEAST_PROGRESS - 1
        await asyncio.sleep(READ_SECONDS)
        assert transport.aborted
        assert metrics.board.number("refusals_total", "slow-reader").value == 1

    run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what it holds for a client")
def test_what_the_system_holds_for_a_client_is_seen() -> None:
    class Over(asyncio.Transport):
        """A transport over a socket."""

    def held(connection: socket.socket | None) -> int:
        return unsent_by_system(Over({"socket": connection}))

    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = socket.create_connection(server.getsockname())
        writer, _ = server.accept()
    with reader, writer:
        assert held(writer) == 0
        writer.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sent += writer.send(bytes(65_536))
        before = held(writer)
        assert 0 < before <= sent
        while sent:
            sent -= len(reader.recv(65_536))
        until(lambda: not held(writer))
    assert held(writer) == held(None) == 0, "closed, or none"


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_bodies_without_their_ends_have_one_limit_together() -> None:
    async def main(loop: VirtualLoop) -> None:
        metrics = Metrics()
        wire = Wire(settings.read({"max_unread": 1000}, _env_file=None), metrics)
        config = uvicorn.Config(_echo, log_config=None)

        def sent(data: bytes) -> tuple[Protocol, Kept]:
            protocol = Protocol(config, ServerState(), {}, loop, wire=wire)
            transport = Kept(protocol)
            protocol.connection_made(transport)
            protocol.data_received(data)
            return protocol, transport

        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
        first, refused = sent(head % 901 + b"x" * 900)
        assert wire.unread == 900
        _, whole = sent(head % 2000 + b"x" * 2000)  # in one piece: it waits for nothing
        assert wire.unread == 900
        second, taken = sent(head % 201 + b"x" * 200)
        assert wire.unread == 200
        second.data_received(b"x")
        first.data_received(b"x")  # thrown away
        await asyncio.sleep(0.1)
        assert wire.unread == 0
        assert refused.written.startswith(b"HTTP/1.1 503")
        assert b"1100 bytes of bodies wait for their ends, the limit is 1000" in refused.written
        assert whole.written.startswith(b"HTTP/1.1 200")
        assert taken.written.startswith(b"HTTP/1.1 200"), "what waits longest gives way, not the newcomer"
        assert metrics.board.number("refusals_total", "unread").value == 1

        left, _ = sent(head % 901 + b"x" * 900)
        left.connection_lost(None)
        assert wire.unread == 0
        later, _ = sent(head % 600 + b"x" * 200)
        later.data_received(b"x" * 200)
        assert wire.unread == 400

    run(main)
