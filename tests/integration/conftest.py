"""Real service processes, spoken to through httpx."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration import document
from tests.integration.models import write_repository
from tests.patience import PATIENCE, until

ROOT = Path(__file__).resolve().parents[2]


def many_models(folder: Path) -> Path:
    """A folder with so many models that loading them takes longer than importing the server."""
    many = folder / "many"
    many.mkdir()
    for number, shipped in product(range(4), (ROOT / "models").iterdir()):
        (many / f"{shipped.name}-{number}").symlink_to(shipped)
    return many


class Process:
    """One ``python -m service serve`` of the test's own, on a free port."""

    def __init__(self, folder: Path, models: Path, *flags: str, **environment: str) -> None:
        self.log = folder / f"service-{time.monotonic_ns()}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
        command = [sys.executable, "-m", "service", "serve", "--models", str(models), "--log-format", "json"]
        if "--port" not in flags:
            command += ["--port", "0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *flags],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**clean, "PYTHONPATH": str(ROOT), **environment},
            )
        self._client: httpx.Client | None = None

    @property
    def output(self) -> str:
        """The lines of its log. The end of a line that is being written may not be there yet."""
        written = self.log.read_bytes()
        return written[: written.rfind(b"\n") + 1].decode("utf-8")

    @property
    def url(self) -> str:
        """Where it listens, as its log says."""
        self.wait(lambda: '"listening"' in self.output)
        found = re.search(r'"url":"(https?://[^"]+)"', self.output)
        assert found, self.output
        return found[1]

    @property
    def client(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        return self._client

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until something is so; fail when the process ends first, or takes too long."""

        def alive_or_done() -> bool:
            if done():
                return True
            assert self.process.poll() is None, f"the service ended:\n{self.output}"
            return False

        until(alive_or_done, lambda: self.output)

    def says(self, text: str, times: int = 1) -> None:
        """Wait until its log has a text so often: a request's line follows its answer."""
        self.wait(lambda: self.output.count(text) >= times)

    def until_ready(self) -> Process:
        self.wait(lambda: self.client.get("/health/ready").status_code == 200)
        return self

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def exit_status(self) -> int:
        """Wait for the end of the process."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


Start = Callable[..., Process]


@pytest.fixture(scope="module", autouse=True)
def every_answer_is_in_the_document() -> Iterator[None]:
    """Hold every answer that any test here gets through httpx against the API document, and no other test's."""
    send, send_async = httpx.Client.send, httpx.AsyncClient.send

    def checked(client: httpx.Client, *arguments: Any, **options: Any) -> httpx.Response:
        response = send(client, *arguments, **options)
        document.check(response)
        return response

    async def checked_async(client: httpx.AsyncClient, *arguments: Any, **options: Any) -> httpx.Response:
        response = await send_async(client, *arguments, **options)
        document.check(response)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", checked)
        patch.setattr(httpx.AsyncClient, "send", checked_async)
        yield


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of small models; read it, do not change it."""
    folder = tmp_path_factory.mktemp("models")
    write_repository(folder)
    return folder


def _starter(folder: Path, models: Path) -> Iterator[Start]:
    running: list[Process] = []

    def start(*flags: str, models: Path = models, **environment: str) -> Process:
        process = Process(folder, models, *flags, **environment)
        running.append(process)
        return process

    yield start
    for process in running:
        process.close()


@pytest.fixture
def start(tmp_path: Path, repository: Path) -> Iterator[Start]:
    """Starts a service of the test's own: flags, another folder of models, environment variables."""
    yield from _starter(tmp_path, repository)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Process]:
    """A service with default settings, for every test that only asks."""
    for start in _starter(tmp_path_factory.mktemp("service"), repository):
        yield start().until_ready()


@pytest.fixture
def client(service: Process) -> httpx.Client:
    return service.client


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service of the models that ship."""
    for start in _starter(tmp_path_factory.mktemp("shipped"), ROOT / "models"):
        yield start().until_ready()


@pytest.fixture
def inference(service: Process) -> Iterator[Any]:
    """tritonclient's HTTP client at the service."""
    triton = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = triton.InferenceServerClient(service.url.removeprefix("http://"))
    yield client
    client.close()
