"""A connection whose client does not take the end of its answer: too little for the server to be told to pause."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service import settings
from service.metrics import Metrics
from service.protocol import Protocol, Wire
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
