"""What a server asks of the system, and how long its end may take."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest
import uvicorn
from structlog.testing import capture_logs

from service import settings
from service.app import create_app
from service.server import Server, allow_connections
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
