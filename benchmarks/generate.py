"""The load generator for machines without wrk, ``python -m benchmarks.generate``: prints its figures as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.load import answers, request


async def generate(
    port: int, path: str, bodies: Sequence[str], connections: int, seconds: float, accept: str
) -> dict[str, float]:
    """Rate, median and 99th percentile, as `benchmarks.generator.Load` has them."""
    requests = [request(path, body.encode(), accept) for body in bodies]
    times = sorted(await answers(port, requests, connections, 0, seconds))
    median, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    return {"rate": len(times) / seconds, "median_ms": median * 1000, "p99_ms": p99 * 1000}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--path", required=True)
    arguments.add_argument("--bodies", type=Path, required=True)
    arguments.add_argument("--connections", type=int, required=True)
    arguments.add_argument("--seconds", type=float, required=True)
    arguments.add_argument("--accept", required=True)
    asked = arguments.parse_args()
    asked.bodies = json.loads(asked.bodies.read_text())
    print(json.dumps(uvloop.run(generate(**vars(asked)))))
