"""Connections that are accepted here, and read here or elsewhere."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine, Iterator

import pytest

from service.process import handover
from service.process.handover import Acceptor, Adoption
from tests.patience import PATIENCE


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


def _connect(listener: socket.socket) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout=PATIENCE)


async def _until(done: Callable[[], object]) -> None:
    assert await handover.until(done, PATIENCE, step=0)


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE))


def test_what_has_sent_nothing_is_given_back_whole(listener: socket.socket) -> None:
    async def main() -> None:
        heard: list[socket.socket] = []
        acceptor = Acceptor([listener], heard.append, most=10)
        silent, talking = _connect(listener), _connect(listener)
        talking.sendall(b"a")
        await _until(lambda: heard)
        assert heard[0].recv(9) == b"a"  # none of its bytes was read
        await _until(lambda: len(acceptor._silent) == 1)
        (kept,) = acceptor.stop()
        silent.sendall(b"b")
        kept.setblocking(True)
        assert kept.recv(9) == b"b"
        handover.close_all([kept, *heard, silent, talking])

    run(main())


def test_what_hangs_up_without_a_byte_begins_too(listener: socket.socket) -> None:
    async def main() -> None:
        heard: list[socket.socket] = []
        acceptor = Acceptor([listener], heard.append, most=10)
        _connect(listener).close()
        await _until(lambda: heard)
        assert heard[0].recv(9) == b""
        assert acceptor.stop() == []
        handover.close_all(heard)

    run(main())


def test_one_more_than_may_wait_begins_at_once(listener: socket.socket) -> None:
    async def main() -> None:
        heard: list[socket.socket] = []
        acceptor = Acceptor([listener], heard.append, most=2)
        callers = [_connect(listener) for _ in range(3)]
        await _until(lambda: heard)
        silent = acceptor.stop()
        assert (len(silent), len(heard)) == (2, 1)
        handover.close_all([*silent, *heard, *callers])

    run(main())


def test_after_the_end_nothing_is_accepted(listener: socket.socket) -> None:
    async def main() -> None:
        heard: list[socket.socket] = []
        Acceptor([listener], heard.append, most=10).stop()
        with _connect(listener) as caller:
            caller.sendall(b"a")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert heard == []
            assert select.select([listener], [], [], PATIENCE)[0]
            listener.accept()[0].close()  # it waits in the queue

    run(main())


def test_accepting_goes_on_when_there_are_open_files_again(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(socket.socket):
        full = True

        def accept(self) -> tuple[socket.socket, object]:
            if self.full:
                raise OSError(24, "Too many open files")
            return super().accept()

    async def main() -> None:
        monkeypatch.setattr(handover, "NO_ROOM_SECONDS", 0.0)
        heard: list[socket.socket] = []
        with Full(fileno=listener.dup().detach()) as full, _connect(listener) as caller:
            full.setblocking(False)
            acceptor = Acceptor([full], heard.append, most=10)
            caller.sendall(b"a")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert heard == []
            full.full = False
            await _until(lambda: heard)
            acceptor.stop()
            handover.close_all(heard)

    run(main())


def test_a_socket_whose_client_has_gone_leaves_nothing_behind(listener: socket.socket) -> None:
    async def main() -> None:
        lost: list[BaseException | None] = []

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc: Exception | None) -> None:
                lost.append(exc)

        adoption = Adoption(Protocol, None, handshake_seconds=1.0)
        with _connect(listener):
            assert select.select([listener], [], [], PATIENCE)[0]
            connection = listener.accept()[0]
            connection.setblocking(False)
            adoption.add(connection)
            assert adoption
        await _until(lambda: lost)
        assert not adoption

    run(main())


def test_waiting_ends_at_its_limit() -> None:
    async def main() -> None:
        assert await handover.until(lambda: True, 0.0)
        assert not await handover.until(lambda: False, 0.0)

    run(main())
