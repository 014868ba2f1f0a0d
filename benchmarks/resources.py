"""Resources of the service: memory, time to start, and CPU time of a request with one process and with two.

Memory is the resident set of one of two workers with all shipped models, from `/proc`; shared pages count in full. Its
growth is measured over requests of 1 to 2,000 tokens, after the first tenth of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from benchmarks import generator
from benchmarks.field import texts
from benchmarks.load import HOST
from benchmarks.measure import Row, row
from benchmarks.serving import ROOT, ServingError, free_port

SUBJECT, BASELINE = "the service", "compared with"
MOST_MEGABYTES, MOST_GROWTH, MOST_SECONDS = 250.0, 1.1, 1.5
"""Targets of the service. Growth is relative to the memory after the first tenth of the requests."""
LONGEST = 2000
CONNECTIONS, CLIENTS = 64, 8
"""Connections of the load generator, and of the requests while memory is measured."""
_STARTS_WITHIN = 60.0


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
        return max(int(_status(pid)["VmRSS"].split()[0]) for pid in self.workers) / 1024

    def cpu_seconds(self) -> float:
        """CPU seconds of the processes so far, with those in the kernel."""
        fields = [Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split() for pid in self.workers]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


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
    port = free_port()
    flags = ["--models", str(models), "--provider", "cpu", "--port", str(port), "--threads", "1"]
    flags += ["--log-level", "warning", *more]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
    command = [sys.executable, "-m", "service", "serve", *flags, "--workers", str(workers)]
    with TemporaryDirectory(prefix="benchmark-") as folder, TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 # our own program, no shell
            command,
            cwd=folder,
            env={**clean, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            while not _is_ready(port, workers):
                if process.poll() is not None or time.perf_counter() - started > _STARTS_WITHIN:
                    raise ServingError("the service did not start")
                time.sleep(0.005)
            seconds = time.perf_counter() - started
            yield Running(port, _workers(process.pid, workers) if workers > 1 else (process.pid,), seconds)
        except ServingError as error:
            log.seek(0)
            raise ServingError(f"{error}\n{log.read().decode(errors='replace')[-4000:]}") from error
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _is_ready(port: int, workers: int) -> bool:
    """True if all processes are ready; the metrics show it once a second."""
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health/ready" if workers == 1 else "/metrics")
        answer = connection.getresponse()
        said = answer.read().decode()
        return answer.status == 200 and (workers == 1 or f"gatelight_ready {workers:.1f}" in said)
    except OSError:
        return False
    finally:
        connection.close()


def _workers(parent: int, count: int) -> tuple[int, ...]:
    """The worker processes of a supervisor."""
    while len(found := Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()) > count:
        time.sleep(0.05)
    return tuple(int(pid) for pid in found)


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


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
