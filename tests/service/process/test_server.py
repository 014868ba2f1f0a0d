"""What a server asks of the system, and how long its end may take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from service import settings
from service.errors import StartupError
from service.http.app import create_app
from service.observability.metrics import Metrics
from service.process import server
from service.process.server import Server
from service.process.start import allow_connections
from service.serving import opening
from service.serving.opening import Opening
from tests.patience import PATIENCE
from tests.service.virtual import VirtualLoop, run

ROOT = Path(__file__).resolve().parents[3]


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


IN_A_LOG_LINE = """
import asyncio, io, os, signal, sys  # as `service.process.start` has it, with a log line that takes a signal
from pathlib import Path
import structlog
from service import settings
from service.observability import logs
from service.observability.metrics import Metrics
from service.process import start
from service.process.server import LoadingServer

class Stream(io.TextIOBase):
    def write(self, text):
        if "a line" in text:
            os.kill(os.getpid(), signal.SIGTERM)
        return sys.stderr.write(text)

asked = settings.read({"models": Path(sys.argv[1])}, _env_file=None)
logs.configure("json", "info", Stream())
signal.signal(signal.SIGTERM, start._end)

async def main():
    with LoadingServer(asked, Metrics(), None).capture_signals():
        structlog.get_logger().info("a line")
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_a_signal_in_the_middle_of_a_log_line_still_ends_a_start(tmp_path: Path) -> None:
    """While the models load. The line holds a lock, and the end is logged too."""
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_LOG_LINE, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert [json.loads(line)["event"] for line in ended.stderr.splitlines()] == ["a line", "stopped"]
    assert ended.returncode == 0


def test_sockets_stay_open_behind_the_server_that_answers_while_the_models_load(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It answers as long as they load; what comes then waits for the workers."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    seen: list[tuple[int, str | None]] = []

    def load(asked: settings.Settings) -> Any:
        for path in ("live", "ready"):
            answer = httpx.get(f"{url}/health/{path}", timeout=PATIENCE)
            seen.append((answer.status_code, answer.headers.get("connection")))
        return "the models"

    monkeypatch.setattr(opening, "open_registry", load)
    monkeypatch.setattr(server.LoadingServer, "capture_signals", contextlib.nullcontext)
    asked = settings.read({"models": tmp_path}, _env_file=None)
    loading = Opening(asked)
    server.LoadingServer(asked, Metrics(), loading).run([listener.dup()])
    assert seen == [(200, "close"), (503, "close")]
    assert str(loading.wait()) == "the models"
    with socket.create_connection(listener.getsockname()), listener:
        listener.accept()[0].close()


def test_what_is_wrong_with_the_models_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(asked: settings.Settings) -> None:
        raise StartupError("no model")

    monkeypatch.setattr(opening, "open_registry", load)
    monkeypatch.setattr(server.LoadingServer, "capture_signals", contextlib.nullcontext)
    asked = settings.read({}, _env_file=None)
    with pytest.raises(StartupError, match="no model"):
        server.load_and_answer(asked, [], Metrics(), Opening(asked))


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
