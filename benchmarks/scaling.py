"""CPU seconds of a request with one replica and with two: the figure for planning machines.

    python -m benchmarks.scaling

CPU seconds do not depend on other programs, unlike requests a second. If two replicas need the same as one, capacity
grows in proportion, because replicas share nothing. Texts are those of benchmarks/serving.py's kind, about a dozen
tokens, and a long one of 200.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CONNECTIONS = 8
"""To each replica, each waiting for its answer before it asks again."""
SHORT = "A slow start, but the ending is wonderful and I was moved."
LONG = " ".join([SHORT] * 17)
CASES = {"1 short text": SHORT, "32 short texts": [SHORT] * 32, "1 text of 220 tokens": LONG}
REQUESTS = {"1 short text": 4000, "32 short texts": 400, "1 text of 220 tokens": 800}
STARTS_WITHIN = 120.0


class Replica(NamedTuple):
    """A service of one thread and one model."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """That its process has taken so far, in the kernel too."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """The result of a case."""

    case: str
    replicas: int
    requests: int
    milliseconds: float
    """CPU seconds of a request."""


@contextmanager
def replica(folder: Path) -> Iterator[Replica]:
    """Start a service, and end it."""
    log = folder / f"{time.monotonic_ns()}.log"
    models = ROOT / "models"
    flags = ["--models", str(models), "--port", "0", "--threads", "1", "--log-format", "json"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, and flags from above
            [sys.executable, "-m", "service", "serve", *flags], cwd=ROOT, stdout=file, stderr=file, env=clean
        )
    try:
        limit = time.monotonic() + STARTS_WITHIN
        while not (found := re.search(r'"url":"http://[^:"]+:(\d+)"', log.read_text("utf-8"))) or (
            '"event":"ready"' not in log.read_text("utf-8")
        ):
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"the service did not start:\n{log.read_text('utf-8')}")
            time.sleep(0.1)
        yield Replica(process.pid, int(found[1]))
    finally:
        process.terminate()
        process.wait()


def ask(port: int, body: bytes, requests: int) -> None:
    """Requests one after the other over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(requests):
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}")
    connection.close()


def cost(replicas: list[Replica], case: str, share: float = 1.0) -> Cost:
    """The CPU time of a request, over as many requests to every replica as the case has; `share` makes them fewer."""
    body = json.dumps({"inputs": CASES[case]}).encode()
    each = max(1, int(REQUESTS[case] * share / CONNECTIONS))
    with ThreadPoolExecutor(CONNECTIONS * len(replicas)) as pool:
        before = sum(one.cpu_seconds() for one in replicas)
        begun = [pool.submit(ask, one.port, body, each) for one in replicas for _ in range(CONNECTIONS)]
        for future in begun:
            future.result()
    requests = each * CONNECTIONS * len(replicas)
    return Cost(case, len(replicas), requests, (sum(one.cpu_seconds() for one in replicas) - before) / requests * 1e3)


def measure(share: float = 1.0) -> Iterator[Cost]:
    """Every case with one replica and with two, in turns."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        pair = [running.enter_context(replica(Path(folder))) for _ in range(2)]
        for case in CASES:
            cost(pair, case, share / 10)  # warm-up
            for replicas in (pair[:1], pair):
                yield cost(replicas, case, share)


def main() -> None:
    print("| request | replicas | ms of a CPU | requests/s a CPU |\n| --- | ---: | ---: | ---: |")
    for one in measure():
        print(f"| {one.case} | {one.replicas} | {one.milliseconds:.3f} | {1000 / one.milliseconds:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
