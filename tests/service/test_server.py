"""How long the end may take."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvicorn

from service import settings
from service.app import create_app
from service.server import Server
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
