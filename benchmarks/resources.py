"""Resources of the service: memory, time to start, and CPU time of a request with one process and with two.

Memory is the resident set of one of two workers with all shipped models, from `/proc`; shared pages count in full. Its
growth is measured over requests of 1 to 2,000 tokens, after the first tenth of them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from benchmarks import generator
from benchmarks.field import texts
from benchmarks.load import HOST
from benchmarks.measure import Row, row
from benchmarks.serving import ROOT, ServingError, cpu_seconds, is_ready, megabytes, server, workers_are_ready

SUBJECT, BASELINE = "the service", "compared with"
MOST_MEGABYTES, MOST_SECONDS = 250.0, 1.5
"""Targets of the service."""
LONGEST = 2000
CONNECTIONS, CLIENTS = 64, 8
"""Connections of the load generator, and of the requests while memory is measured."""


@dataclass(frozen=True, slots=True)
class Size:
    """Starts, requests while memory is watched, rounds of load and their seconds."""

    starts: int = 5
    requests: int = 50_000
    rounds: int = 4
    seconds: float = 3.0


FULL = Size()
QUICK = Size(starts=1, requests=200, rounds=1, seconds=1.0)


@dataclass(frozen=True, slots=True)
class Running:
    """A service: its port, the processes that answer, and the seconds that it took from its start to ready."""

    port: int
    workers: tuple[int, ...]
    seconds: float

    def megabytes(self) -> float:
        """The largest resident set of the processes that answer."""
        return max(map(megabytes, self.workers))

    def cpu_seconds(self) -> float:
        """CPU seconds of the processes so far, with those in the kernel."""
        return sum(map(cpu_seconds, self.workers))


def measure(size: Size = FULL, models: Path | None = None) -> Iterator[Row]:
    """Rows with the targets as baselines, and two workers' CPU time beside one's. Raises `ServingError`."""
    models = models or ROOT / "models"
    seconds = []
    for _ in range(size.starts):
        with service(models, 1) as one:
            seconds.append((one.seconds, MOST_SECONDS))
    yield row("start to ready, all models, against what is asked for", "s", seconds)
    with service(models, 2) as running:
        yield row("after the start, a process", "MB", [(running.megabytes(), MOST_MEGABYTES)])
        _ask(running.port, models, size.requests // 10, seed=0)
        first = running.megabytes()
        _ask(running.port, models, size.requests - size.requests // 10, seed=1)
        case = f"after {size.requests:,} requests of 1 to {LONGEST:,} tokens, against after a tenth of them"
        yield row(case, "MB", [(running.megabytes(), first)])
    yield _capacity(size, models)


def _capacity(size: Size, models: Path) -> Row:
    """Requests that two workers could answer beside those of one, each with a CPU to itself.

    Seconds of a CPU are counted and not seconds: the load generator's own, which shares these CPUs, are left out.
    """
    bodies = [json.dumps({"inputs": text}).encode() for text in texts(19)]
    with service(models, 1) as one, service(models, 2) as two:
        pairs = []
        for number in range(size.rounds + 1):
            rates = [_per_cpu_second(each, bodies, size.seconds) for each in (two, one)]
            if number:  # the first round warms up
                pairs.append((2 * rates[0], rates[1]))
    return row(f"2 workers against 1, {CONNECTIONS} connections, each with a CPU", "requests/CPU-s", pairs)


def _per_cpu_second(running: Running, bodies: list[bytes], seconds: float) -> float:
    before, started = running.cpu_seconds(), time.perf_counter()
    rate = generator.run(running.port, "/predict", bodies, CONNECTIONS, seconds).rate
    took = time.perf_counter() - started
    return rate * min(took, max(1.0, round(seconds))) / (running.cpu_seconds() - before)


@contextmanager
def service(models: Path, workers: int, *more: str) -> Iterator[Running]:
    """The service with so many workers of one thread each, ready; it is ended afterwards. `more` are further flags.
    Raises `ServingError`."""
    flags = ("--models", str(models), "--provider", "cpu", "--threads", "1", "--log-level", "warning", *more)
    ready = is_ready if workers == 1 else workers_are_ready(workers)
    with server("service", "serve", *flags, "--workers", str(workers), ready=ready, pause=0.01) as running:
        while len(pids := running.children) > workers > 1:  # another one may go on for a moment
            time.sleep(0.05)
        yield Running(running.port, pids if workers > 1 else (running.process.pid,), running.seconds)


def _ask(port: int, models: Path, requests: int, seed: int) -> None:
    """Ask every model for texts of random lengths, over several connections."""
    names = sorted(path.name for path in models.iterdir())
    words = " ".join(texts(200)).split()

    def ask(number: int) -> None:
        source = random.Random(seed * 1000 + number)  # noqa: S311 # texts, not secrets
        with closing(HTTPConnection(HOST, port, timeout=60)) as connection:
            for _ in range(requests // CLIENTS):
                start = source.randrange(len(words) - LONGEST)
                text = " ".join(words[start : start + source.randint(1, LONGEST)])
                body = json.dumps({"model": source.choice(names), "inputs": text})
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise ServingError(f"a request of the memory's watch was answered {answer.status}")

    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(ask, number) for number in range(CLIENTS)]:
            future.result()
