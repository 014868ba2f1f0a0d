"""The gain of the service's scheduling: ``python -m service serve`` against `benchmarks.naive`, with one model.

Two real processes with their default settings, both running throughout and asked in turns by a third, the load
generator (`benchmarks.load`), over loopback. All three share the machine's cores.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.load import HOST, TEXTS, Figures, body
from benchmarks.measure import Row, row
from service.model.bundle import Bundle, discover, load

SUBJECT, BASELINE = "the service", "naive FastAPI"
ROOT = Path(__file__).resolve().parents[1]
FAVOURITE = "sentiment-bilstm"
_STARTS_WITHIN, _STOPS_WITHIN, _ANSWERS_WITHIN = 60.0, 10.0, 30.0


class ServingError(RuntimeError):
    """A server did not start, or answered otherwise than it should."""


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of connections, rounds, and the seconds of a turn: before counting, and counted."""

    connections: tuple[int, ...] = (1, 16)
    rounds: int = 5
    warm_up: float = 0.5
    seconds: float = 2.0


FULL = Size()
QUICK = Size(connections=(2,), rounds=1, warm_up=0.0, seconds=0.5)


@dataclass(frozen=True, slots=True)
class Servers:
    """The ports of the two running servers, and the name of the model that both serve."""

    model: str
    service: int
    naive: int


def measure(size: Size = FULL, bundle: Bundle | None = None) -> Iterator[Row]:
    """Two rows for each number of connections: requests a second, and the median latency.

    The model is `bundle` or, without one, `shipped`. Raises `ServingError`.
    """
    with running(bundle or shipped()) as servers:
        yield from compare(servers, size)


def compare(servers: Servers, size: Size) -> Iterator[Row]:
    """The rows of two running servers. Raises `ServingError`, also where they answer differently."""
    check_same_answers(servers)
    for connections in size.connections:
        turns = [_turns(servers, connections, size, number) for number in range(size.rounds)]
        case = f"{servers.model}, {connections} connection{'s' if connections > 1 else ''}"
        rates = [(service.requests_per_second, naive.requests_per_second) for service, naive in turns]
        yield row(case, "requests/s", rates)
        yield row(case, "ms, median", [(service.median_ms, naive.median_ms) for service, naive in turns])


def shipped() -> Bundle:
    """`FAVOURITE` in its highest version or, where it is not there, the first model that is.

    Raises `ServingError` where there is none, `BundleError` for a bundle that does not match its manifest.
    """
    folder = ROOT / "models"
    found = dict(discover(folder)) if folder.is_dir() else {}
    if not found:
        raise ServingError("models/ holds no bundle to serve")
    name = FAVOURITE if FAVOURITE in found else min(found)
    return load(folder / name / str(found[name][-1]))


@contextmanager
def running(bundle: Bundle) -> Iterator[Servers]:
    """Both servers, ready, with one model; they are ended afterwards. Raises `ServingError`."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        models = Path(scratch) / "models"
        copy = shutil.copytree(bundle.path, models / bundle.name / str(bundle.version))
        service = ("service", "serve", "--models", str(models), "--provider", "cpu")
        naive = ("benchmarks.naive", str(copy))
        with server(bundle.name, *service) as service_port, server(bundle.name, *naive) as naive_port:
            yield Servers(bundle.name, service_port, naive_port)


def check_same_answers(servers: Servers) -> None:
    """See that both servers answer the same: else their times mean nothing. Raises `ServingError`."""
    for text in TEXTS:
        service, naive = (gist(answer(port, servers.model, text)) for port in (servers.service, servers.naive))
        if service != naive:
            raise ServingError(f"the service answers {service}, the naive application {naive}: {text!r}")


def answer(port: int, model: str, text: str) -> dict[str, object]:
    """A server's prediction for a text. Raises `ServingError`."""
    url, headers = f"http://{HOST}:{port}/predict", {"Content-Type": "application/json"}
    response = httpx.post(url, content=body(model, text), headers=headers, timeout=_ANSWERS_WITHIN)
    if response.status_code != 200:
        raise ServingError(f"{url} answered {response.status_code}")
    prediction: dict[str, object] = response.json()["predictions"][0]
    return prediction


def gist(prediction: dict[str, object]) -> object:
    """The label or, of a tagger, the entities' labels and texts. Scores may differ in the last digit."""
    entities = prediction.get("entities")
    if isinstance(entities, list):
        return [(entity["label"], entity["text"]) for entity in entities]
    return prediction["label"]


def _turns(servers: Servers, connections: int, size: Size, number: int) -> tuple[Figures, Figures]:
    """One round: the service's turn and the naive application's. The order changes from round to round."""
    ports = (servers.service, servers.naive)
    figures = {port: _load(servers.model, port, connections, size) for port in (ports[::-1] if number % 2 else ports)}
    return figures[servers.service], figures[servers.naive]


def _load(model: str, port: int, connections: int, size: Size) -> Figures:
    options = {"port": port, "model": model, "connections": connections, "warm-up": size.warm_up}
    flags = [f"--{name}={value}" for name, value in {**options, "seconds": size.seconds}.items()]
    command = [sys.executable, "-m", "benchmarks.load", *flags]
    limit = size.warm_up + size.seconds + _ANSWERS_WITHIN
    try:
        done = subprocess.run(  # noqa: S603 # our own program, no shell
            command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise ServingError(f"the load generator took longer than {limit:g} seconds") from error
    except subprocess.CalledProcessError as error:
        raise ServingError(f"the load generator failed: {error.stderr.strip()}") from error
    return Figures(**json.loads(done.stdout))


@contextmanager
def server(model: str, *program: str) -> Iterator[int]:
    """A Python program that serves on the port of its flag ``--port``, ready: the port. It is ended afterwards."""
    port = free_port()
    settings = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
    environment = {**settings, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *program, "--port", str(port)]
    # The working folder is an empty one: no file .env is read, and nothing lands in the repository.
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 # our own programs, no shell
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            if not _ready(process, port, model):
                log.seek(0)
                raise ServingError(f"{program[0]} did not start:\n{log.read().decode(errors='replace')}")
            yield port
        finally:
            process.terminate()
            try:
                process.wait(_STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[bytes], port: int, model: str) -> bool:
    """Wait for the first answer; false when the process ends instead, or takes too long."""
    limit = time.monotonic() + _STARTS_WITHIN
    while process.poll() is None and time.monotonic() < limit:
        try:
            answer(port, model, TEXTS[0])
        except (httpx.TransportError, ServingError):
            time.sleep(0.05)
        else:
            return True
    return False


def free_port() -> int:
    """A port that nobody listens on, as of now."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
