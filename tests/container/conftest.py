"""The image, really built, and containers of it, really run, where a container engine answers.

Another run of these tests may use the same engine at the same time: what a run names in it has the run's own name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
THIS_RUN = f"gatelight-test-{uuid4().hex[:8]}"
"""Begins the names of this run's projects. Process numbers would not do: another run may be in a container."""
IMAGE = f"{THIS_RUN}:cpu"
READY_WITHIN = 120
STOPS_WITHIN = 40
"""Seconds, docker-compose.yml's `stop_grace_period`."""

_measured: list[str] = []


def docker(*arguments: str, **environment: str) -> str:
    """What one docker command prints. It sees no setting of this service but those that are given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
    result = subprocess.run(
        ["docker", *arguments], cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"docker {' '.join(arguments)}\n{result.stdout[-4000:]}{result.stderr[-4000:]}"
    return result.stdout


@dataclass(frozen=True)
class Container:
    """A container by its id."""

    id: str

    def inspect(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.id))
        return found[0]

    @property
    def running(self) -> bool:
        return bool(self.inspect()["State"]["Running"])

    @property
    def healthy(self) -> bool:
        state = self.inspect()["State"]
        assert state["Running"], self.log
        return bool(state["Health"]["Status"] == "healthy")

    @property
    def log(self) -> list[dict[str, Any]]:
        """The service's log. Every line of it has to be JSON."""
        result = subprocess.run(["docker", "logs", self.id], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in (result.stdout + result.stderr).splitlines()]

    def event(self, name: str) -> dict[str, Any]:
        """The one log line of an event."""
        (line,) = (line for line in self.log if line["event"] == name)
        return line

    def python(self, code: str) -> str:
        """What the container's Python prints."""
        return docker("exec", self.id, "python", "-c", code).strip()

    def seconds_to_ready(self) -> float:
        """From the start of the process to the service's word that it is ready."""
        started, ready = self.inspect()["State"]["StartedAt"], self.event("ready")["timestamp"]
        return (datetime.fromisoformat(ready) - datetime.fromisoformat(started[:26] + "Z")).total_seconds()


class Composed:
    """The service as docker-compose.yml runs it, on a free port of this machine."""

    def __init__(self, project: str, folder: Path, *files: Path, **environment: str) -> None:
        nothing = folder / "none.env"
        nothing.touch()
        self._files = [part for file in (ROOT / "docker-compose.yml", *files) for part in ("--file", str(file))]
        self._options = ["--project-name", project, "--env-file", str(nothing), *self._files]
        self._environment = {"IMAGE": IMAGE, "PORT": "127.0.0.1:0", "ENV_FILE": str(nothing), **environment}

    def __call__(self, *arguments: str) -> str:
        return docker("compose", *self._options, *arguments, **self._environment)

    def up(self) -> Composed:
        self("up", "--no-build", "--detach", "--wait", "--wait-timeout", str(READY_WITHIN))
        return self

    @property
    def url(self) -> str:
        return f"http://{self('port', 'service', '8000').strip()}"

    @property
    def container(self) -> Container:
        return Container(self("ps", "--all", "--quiet", "service").strip())


def wait(done: Callable[[], bool], within: float = READY_WITHIN) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + within
    while not done():
        assert time.monotonic() < limit, f"not so within {within:g} s"
        time.sleep(0.1)


def served(url: str, **headers: str) -> dict[str, str]:
    """The models that a service has, name to version."""
    answer = httpx.get(f"{url}/models", headers=headers, timeout=PATIENCE).json()
    return {model["name"]: model["version"] for model in answer["models"]}


Run = Callable[..., Container]
Compose = Callable[..., Composed]


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips where no engine answers; fails instead where ``CONTAINERS=required`` says that one has to."""
    problem = None
    if shutil.which("docker") is None:
        problem = "there is no docker here"
    elif any(subprocess.run(["docker", *words], capture_output=True).returncode for words in (["info"], ["compose"])):
        problem = "docker is here, but no engine answers, or it has no compose"
    if problem and os.environ.get("CONTAINERS") == "required":
        pytest.fail(problem)
    elif problem:
        pytest.skip(f"container tests: {problem}")


@pytest.fixture(scope="session")
def image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, built as ``docker compose up`` builds it."""
    Composed(f"{THIS_RUN}-build", tmp_path_factory.mktemp("build"))("build")
    yield IMAGE
    docker("image", "rm", "--force", IMAGE)


def _composer(folder: Path) -> Iterator[Compose]:
    running: list[Composed] = []

    def compose(*files: Path, **environment: str) -> Composed:
        composed = Composed(f"{THIS_RUN}-{folder.name}".lower(), folder, *files, **environment)
        running.append(composed)
        return composed.up()

    yield compose
    for composed in running:
        composed("down", "--volumes", "--timeout", "5")


@pytest.fixture
def compose(image: str, tmp_path: Path) -> Iterator[Compose]:
    """Brings docker-compose.yml up for one test: further compose files, variables of the file."""
    yield from _composer(tmp_path)


@pytest.fixture(scope="session")
def composed(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The service composed, with one CPU, for every test that only asks and looks."""
    for compose in _composer(tmp_path_factory.mktemp("composed")):
        composed = compose(CPUS="1")
        yield composed


@pytest.fixture
def client(composed: Composed) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=composed.url, timeout=60) as client:
        yield client


@pytest.fixture
def run(image: str) -> Iterator[Run]:
    """Runs a container of the image alone, as hardened as can be: flags of ``docker run``."""
    running: list[Container] = []

    def start(*flags: str) -> Container:
        hardened = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none")
        container = Container(docker("run", "--detach", *hardened, *flags, image).strip())
        running.append(container)
        return container

    yield start
    for container in running:
        docker("rm", "--force", "--volumes", container.id)


@pytest.fixture
def measure() -> Callable[[str], None]:
    """Notes a figure for the end of the test run's report."""
    return _measured.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _measured:
        terminalreporter.write_line(f"container: {', '.join(_measured)}")
