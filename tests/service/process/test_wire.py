"""Answers that wait for their clients: whose connection is cut when too many bytes wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service import settings
from service.observability.metrics import Metrics
from service.process.connection import Protocol
from service.process.wire import PATIENCE, Wire
from tests.service.virtual import VirtualLoop, run

KIB = 1024
LIMIT = 900 * KIB
HIGH = 64 * KIB
"""Bytes above which a transport of asyncio tells its protocol to pause."""


class Client(asyncio.Transport):
    """A connection from an address, whose client takes its answer as `take` says."""

    def __init__(self, wire: Wire, loop: VirtualLoop, address: str) -> None:
        super().__init__({"peername": (address, 1)})
        self.address = address
        self.unsent = 0
        self.aborted = self._paused = False
        self.protocol = Protocol(CONFIG, ServerState(), {}, loop, wire=wire)
        self.protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.unsent += len(data)
        if self.unsent > HIGH and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def take(self, size: int) -> None:
        """What a client does that reads."""
        self.unsent -= min(size, self.unsent)
        if self._paused and self.unsent <= HIGH // 4:
            self._paused = False
            self.protocol.resume_writing()

    async def ask(self, kib: int) -> None:
        """For an answer of so many KiB."""
        self.protocol.data_received(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % kib)
        for _ in range(3):
            await asyncio.sleep(0)
        assert self.unsent > kib * KIB

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True
        self.protocol.connection_lost(None)

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def _much(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with as many KiB as the path says."""
    size = int(scope["path"][1:]) * KIB
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": bytes(size)})


CONFIG = uvicorn.Config(_much, log_config=None)


class Clients:
    """Connections of one process."""

    def __init__(self, loop: VirtualLoop) -> None:
        asked = settings.read({"max_unsent": LIMIT}, _env_file=None)
        self.wire = Wire(asked, Metrics())
        self._loop = loop

    async def ask(self, address: str, kib: int) -> Client:
        client = Client(self.wire, self._loop, address)
        await client.ask(kib)
        return client

    def close(self, *clients: Client) -> None:
        for client in clients:
            if not client.aborted:
                client.abort()
        assert self.wire.unsent == 0
        assert not self.wire.waiting


@pytest.mark.parametrize("addresses", [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2"), ("::1", "127.0.0.1")])
def test_the_client_with_most_bytes_is_cut_and_not_a_slower_one_with_few(addresses: tuple[str, str]) -> None:
    async def main(loop: VirtualLoop) -> None:
        clients = Clients(loop)
        few = await clients.ask(addresses[1], 100)  # takes nothing
        many = [await clients.ask(addresses[0], 300) for _ in range(3)]
        await asyncio.sleep(PATIENCE / 2)
        for place, each in enumerate(many):
            each.take((place + 1) * 10 * KIB)
        assert not any(each.aborted for each in many), "their speed is not known yet"
        await asyncio.sleep(PATIENCE)
        assert [each.aborted for each in many] == [True, False, False], "the slowest of them, and no more than needed"
        assert not few.aborted
        assert clients.wire.unsent <= LIMIT
        clients.close(few, *many)

    run(main)


def test_of_two_clients_beyond_their_share_the_one_with_more_is_cut() -> None:
    async def main(loop: VirtualLoop) -> None:
        clients = Clients(loop)
        less = await clients.ask("10.0.0.3", 480)  # takes nothing
        more = [await clients.ask("10.0.0.1", 300) for _ in range(2)]
        for each in more:
            each.take(150 * KIB)
        await asyncio.sleep(PATIENCE)
        assert sum(each.aborted for each in more) == 1
        assert not less.aborted
        clients.close(less, *more)

    run(main)


def test_a_client_whose_answers_have_just_begun_costs_its_neighbour_nothing() -> None:
    async def main(loop: VirtualLoop) -> None:
        clients = Clients(loop)
        few = await clients.ask("10.0.0.2", 100)
        await asyncio.sleep(2 * PATIENCE)
        many = [await clients.ask("10.0.0.1", 300) for _ in range(4)]
        assert not few.aborted, "its share of the limit is its own"
        assert clients.wire.unsent > LIMIT
        await asyncio.sleep(PATIENCE)
        assert sum(each.aborted for each in many) == 2
        assert not few.aborted
        assert clients.wire.unsent <= LIMIT
        clients.close(few, *many)

    run(main)


def test_of_one_client_the_slowest_is_cut() -> None:
    async def main(loop: VirtualLoop) -> None:
        clients = Clients(loop)
        many = [await clients.ask("10.0.0.1", 300) for _ in range(5)]
        for each, kib in zip(many, (50, 40, 0, 60, 10), strict=True):
            each.take(kib * KIB)
        await asyncio.sleep(PATIENCE)
        assert [each.aborted for each in many] == [False, True, True, False, True]
        clients.close(*many)

    run(main)


def test_the_only_answer_may_wait_however_large() -> None:
    async def main(loop: VirtualLoop) -> None:
        clients = Clients(loop)
        one = await clients.ask("10.0.0.1", 2000)
        await asyncio.sleep(5 * PATIENCE)
        assert not one.aborted
        clients.close(one)

    run(main)


@examples(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(65, 600), st.sampled_from((0.0, 0.3, 1.0, 2.5))),
        min_size=2,
        max_size=12,
    )
)
def test_no_client_within_its_share_is_cut_and_the_limit_holds(arrivals: list[tuple[int, int, float]]) -> None:
    """`arrivals` are a client's number, KiB of an answer, and the seconds until the next one."""

    async def main(loop: VirtualLoop) -> None:
        clients, asked = Clients(loop), list[Client]()
        most = dict[str, int]()  # bytes that each address has asked for
        for who, kib, seconds in arrivals:
            asked.append(await clients.ask(f"10.0.0.{who}", kib))
            most[asked[-1].address] = most.get(asked[-1].address, 0) + (kib + 1) * KIB
            await asyncio.sleep(seconds)
        await asyncio.sleep(PATIENCE)
        share = LIMIT / len(most)
        assert not [each.address for each in asked if each.aborted and most[each.address] <= share]
        assert clients.wire.unsent <= LIMIT or len(clients.wire.waiting) == 1
        clients.close(*asked)

    run(main)
