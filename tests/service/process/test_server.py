"""What a server asks of the system, and how long its end may take."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import signal
import socket

import pytest
import uvicorn
from structlog.testing import capture_logs

from service import settings
from service.http.app import create_app
from service.observability.metrics import Metrics
from service.process.server import Greeter, Server, allow_connections
from service.serving.shared import Shared
from tests.service.virtual import VirtualLoop, run


def test_hearing_clients_out_takes_its_time_from_the_grace_period(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int | None] = []

    async def hear_out(server: Server, listeners: list[socket.socket]) -> None:
        await asyncio.sleep(12)

    async def shutdown(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        left.append(server.config.timeout_graceful_shutdown)

    async def main(loop: VirtualLoop) -> None:
        asked = settings.read({"grace_seconds": 30}, _env_file=None)
        await Server(create_app(asked), asked).shutdown()

    monkeypatch.setattr(Server, "_hear_out", hear_out)
    monkeypatch.setattr(uvicorn.Server, "shutdown", shutdown)
    run(main)
    assert left == [18]


@pytest.mark.parametrize("told", ["before its start", "after it"])
def test_a_greeter_accepts_no_more_once_it_is_told_to_end_and_says_so(told: str) -> None:
    accepts, greets = multiprocessing.Pipe(duplex=False)

    async def main() -> None:
        asked = settings.read({}, _env_file=None)
        shared = Shared(2, Metrics(), greets=greets)
        greeter = Greeter(create_app(asked, shared), asked, shared)
        greeter.config.load()
        greeter.lifespan = greeter.config.lifespan_class(greeter.config)
        if told == "before its start":
            greeter._on_signal(signal.SIGTERM)
        listener = socket.create_server(("127.0.0.1", 0))
        await greeter.startup([listener])
        if told == "after it":
            assert not accepts.poll()
            greeter._on_signal(signal.SIGTERM)
        assert greeter.should_exit
        assert not any(server.is_serving() for server in greeter.servers)
        await greeter.lifespan.shutdown()

    asyncio.run(main())
    with pytest.raises(EOFError):
        accepts.recv()


@pytest.mark.parametrize(
    ("soft", "hard", "allowed"),
    [(1024, 1_000_000, [(2256, 1_000_000)]), (1024, 2000, [(2000, 2000)]), (4096, 4096, []), (-1, -1, [])],
    ids=["raised", "as far as it goes", "enough", "no limit"],
)
def test_as_many_files_may_be_open_as_there_are_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, allowed: list[tuple[int, int]]
) -> None:
    done: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: done.append(limits))
    with capture_logs() as logs:
        allow_connections(1000)
    assert done == allowed
    assert bool(logs) == (hard == 2000)
