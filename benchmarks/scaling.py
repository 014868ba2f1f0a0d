"""CPU seconds of a request with one replica and with two: the figure for planning machines.

    python -m benchmarks.scaling

CPU seconds do not depend on other programs, unlike requests a second. If two replicas need the same as one, capacity
grows in proportion, because replicas share nothing. Texts are those of benchmarks/serving.py's kind, about a dozen
tokens, and a long one of 200.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks.serving import ROOT, Server, server

CONNECTIONS = 8
"""To each replica, each waiting for its answer before it asks again."""
SHORT = "A slow start, but the ending is wonderful and I was moved."
LONG = " ".join([SHORT] * 17)
CASES = {"1 short text": SHORT, "32 short texts": [SHORT] * 32, "1 text of 220 tokens": LONG}
REQUESTS = {"1 short text": 4000, "32 short texts": 400, "1 text of 220 tokens": 800}


class Cost(NamedTuple):
    """The result of a case."""

    case: str
    replicas: int
    requests: int
    milliseconds: float
    """CPU milliseconds of a request."""


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


def cost(replicas: list[Server], case: str, share: float = 1.0) -> Cost:
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
    program = ("service", "serve", "--models", str(ROOT / "models"), "--threads", "1")
    with server(*program) as one, server(*program) as other:
        pair = [one, other]
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
