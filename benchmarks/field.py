"""The service beside alternatives: every contestant serves the same model over HTTP, with two workers. All are real
processes on loopback, and the load generator measures them in turns. The others are stopped meanwhile, so that their
polling costs nothing. Contestants without their packages are left out, and named.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks import generator
from benchmarks.generator import Load
from benchmarks.int8 import twin
from benchmarks.load import HOST, TEXTS
from benchmarks.measure import Row, row
from benchmarks.serving import ROOT, Server, ServingError, server, shipped
from service.model.bundle import Bundle

SUBJECT, BASELINE = "contestant", "naive FastAPI"


def _environment(name: str) -> Path:
    """The Python of a peer's own environment. Peers' packages conflict with the service's, and with each other."""
    return ROOT / f".venv-{name}" / "bin" / "python"


PEERS, TRITON, TORCHSERVE = map(_environment, ("peers", "triton", "torchserve"))
_QUIET = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false"}


def _one(text: str) -> object:
    return {"inputs": text}


def _list(text: str) -> object:
    return {"inputs": [text]}


def _tensor(text: str) -> object:
    return {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [text]}]}


def _first(answer: Any) -> object:
    return (answer if isinstance(answer, list) else answer["predictions"])[0]["label"]


def _itself(answer: Any) -> object:
    return answer["label"]


def _of_tensors(answer: Any) -> object:
    return next(each["data"][0] for each in answer["outputs"] if each["name"] == "label")


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server: its Python, its program, which gets ``--port``, the route and the JSON that ask it for one text, and
    the label in its answer."""

    name: str
    program: tuple[str, ...]
    python: Path = Path(sys.executable)
    question: Callable[[str], object] = _one
    answers: bool = True
    """True if its answers are predictions; these are compared."""
    route: str = "/predict"
    label: Callable[[Any], object] = _first
    held: bool = True
    """True if it is stopped (SIGSTOP) while others are asked. False for one that takes a pause for a fault."""
    root: Path = ROOT
    """The checkout whose code runs."""

    @property
    def left_out(self) -> str | None:
        """Why it cannot run here; None if it can."""
        if not self.python.exists():
            return (
                f"{self.name}: its packages are not there; make bench installs them into {self.python.parents[1].name}"
            )
        if "torchserve" in self.program[0] and shutil.which("java") is None:
            return f"{self.name}: it needs Java, and there is none"
        return None


OURS = "the service, 2 workers"
INT8 = "the service, int8 model, 2 workers"
NAIVE = "naive FastAPI"


def contestants(bundle: Bundle, models: Path) -> list[Contestant]:
    """Those that can run here, the baseline first. The others are named on standard error, with the reason."""
    found = all_contestants(bundle, models)
    for each in found:
        if each.left_out is not None:
            click.echo(f"left out: {each.left_out}", err=True)
    return [each for each in found if each.left_out is None]


def all_contestants(bundle: Bundle, models: Path) -> list[Contestant]:
    """Every contestant, whether it can run here or not, the baseline first."""
    copy = models / bundle.name / str(bundle.version)
    serve = ("service", "serve", "--provider", "cpu", "--workers", "2", "--models")
    found = [
        Contestant(NAIVE, ("benchmarks.naive", str(copy))),
        Contestant("naive FastAPI, 1 ORT thread, 2 workers", ("benchmarks.peers.fastapi_peer", "ort")),
        Contestant("FastAPI + torch eager, 2 workers", ("benchmarks.peers.fastapi_peer", "torch")),
        Contestant("LitServe, batching, 2 workers", ("benchmarks.peers.litserve_peer",), PEERS),
        Contestant("BentoML, adaptive batching, 2 workers", ("benchmarks.peers.bentoml_peer",), PEERS, _list),
        Contestant(
            "Triton (PyTriton), batching",
            ("benchmarks.peers.triton_peer",),
            TRITON,
            _tensor,
            route="/v2/models/sentiment/infer",
            label=_of_tensors,
            held=False,
        ),
        Contestant(
            "TorchServe, batching, 2 workers",
            ("benchmarks.peers.torchserve_peer",),
            TORCHSERVE,
            route="/predictions/sentiment",
            label=_itself,
        ),
        Contestant(OURS, (*serve, str(models))),
        Contestant("HTTP alone, 2 workers", ("benchmarks.peers.fastapi_peer", "echo"), answers=False),
    ]
    if twin(bundle, int8 := models.with_name("int8")):
        found.insert(-1, Contestant(INT8, (*serve, str(int8))))
    return found


@dataclass(frozen=True, slots=True)
class Case:
    """One load: tokens of each text, the number of connections, and the route, if it is not the contestant's."""

    name: str
    tokens: int
    connections: int
    route: str | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """The cases, rounds, and the seconds of a turn."""

    cases: tuple[Case, ...] = (
        Case("short, 1 connection", 19, 1),
        Case("short, 64 connections", 19, 64),
        Case("review, 16 connections", 230, 16),
    )
    rounds: int = 2
    seconds: float = 2.0


FULL = Size()
QUICK = Size(cases=(Case("short, 2 connections", 5, 2),), rounds=1, seconds=0.5)


def measure(size: Size = FULL, bundle: Bundle | None = None) -> Iterator[Row]:
    """Requests a second for each case and contestant, and latencies of the service. Raises `ServingError`."""
    with running(bundle or shipped()) as field:
        for case in size.cases:
            yield from _rows(case, asked(field, case, size))


def asked(field: Field, case: Case, size: Size) -> dict[str, list[Load]]:
    """The loads of each contestant, one a round. The contestants take turns, in the other order in every second round;
    the first round warms up and is not counted."""
    bodies = {name: field.bodies(name, case.tokens) for name in field.names}
    loads: dict[str, list[Load]] = {name: [] for name in field.names}
    for number in range(size.rounds + 1):
        order = field.names if number % 2 else field.names[::-1]
        for name in order:
            found = field.ask(name, bodies[name], case.connections, size.seconds, case.route)
            if number:
                loads[name].append(found)
    return loads


def _rows(case: Case, loads: dict[str, list[Load]]) -> Iterator[Row]:
    for name, found in loads.items():
        pairs = list(zip(found, loads[NAIVE], strict=True))
        yield row(f"{case.name}: {name}", "requests/s", [(one.rate, other.rate) for one, other in pairs])
        if name == OURS:
            yield row(f"{case.name}: {name}", "ms, median", [(one.median_ms, other.median_ms) for one, other in pairs])
            yield row(f"{case.name}: {name}", "ms, 99 %", [(one.p99_ms, other.p99_ms) for one, other in pairs])


def texts(tokens: int, number: int = 32) -> list[str]:
    """Texts of exactly so many tokens."""
    words = " ".join(TEXTS).replace(".", " .").replace(",", " ,").replace("n't", " not").replace("'s", " is").split()
    return [" ".join(words[(start * 7 + step) % len(words)] for step in range(tokens)) for start in range(number)]


class Field:
    """The running contestants."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Contestant, int, int]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._running)

    def add(self, contestant: Contestant, port: int, group: int) -> None:
        """A contestant that is ready; from here on it is held but for its turns."""
        self._running[contestant.name] = contestant, port, group
        if contestant.held:
            os.killpg(group, signal.SIGSTOP)

    def bodies(self, name: str, tokens: int) -> list[bytes]:
        question = self._running[name][0].question
        return [json.dumps(question(text)).encode() for text in texts(tokens)]

    def ask(
        self, name: str, bodies: Sequence[bytes], connections: int, seconds: float, route: str | None = None
    ) -> Load:
        """One contestant's turn. Raises `LoadError`."""
        contestant, port, group = self._running[name]
        route = route or contestant.route
        if not contestant.held:
            return generator.run(port, route, bodies, connections, seconds)
        os.killpg(group, signal.SIGCONT)
        try:
            return generator.run(port, route, bodies, connections, seconds)
        finally:
            os.killpg(group, signal.SIGSTOP)


@contextmanager
def running(bundle: Bundle) -> Iterator[Field]:
    """Every contestant, started and seen to give the same answers. Raises `ServingError`."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        models = Path(scratch) / "models"
        shutil.copytree(bundle.path, models / bundle.name / str(bundle.version))
        with started(contestants(bundle, models), models / bundle.name / str(bundle.version)) as field:
            yield field


@contextmanager
def started(contestants: Sequence[Contestant], bundle: Path) -> Iterator[Field]:
    """The contestants, started and seen to answer as the first of them does. Raises `ServingError`."""
    field, first = Field(), contestants[0].name
    labels: dict[str, list[object]] = {}
    with ExitStack() as stack:
        for contestant in contestants:
            running = stack.enter_context(serve(contestant, bundle))
            if contestant.answers:
                labels[contestant.name] = [_label(contestant, running.port, text) for text in TEXTS]
                if labels[contestant.name] != labels[first]:
                    raise ServingError(f"{contestant.name} answers otherwise than {first}")
            field.add(contestant, running.port, running.process.pid)
        yield field


def _label(contestant: Contestant, port: int, text: str) -> object:
    url = f"http://{HOST}:{port}{contestant.route}"
    answer = httpx.post(url, json=contestant.question(text), timeout=30.0)
    if answer.status_code != 200:
        raise ServingError(f"{contestant.name} answered {answer.status_code}: {answer.text[:200]}")
    return contestant.label(answer.json())


def serve(contestant: Contestant, bundle: Path) -> AbstractContextManager[Server]:
    """The contestant, once it answers. It is ended afterwards, with all its workers."""

    def ready(port: int) -> bool:
        if contestant.answers:
            _label(contestant, port, TEXTS[0])
        else:
            httpx.post(f"http://{HOST}:{port}{contestant.route}", timeout=5.0)
        return True

    environment = {**_QUIET, "BENCHMARK_BUNDLE": str(bundle)}
    return server(
        *contestant.program, ready=ready, root=contestant.root, python=contestant.python, environment=environment
    )
