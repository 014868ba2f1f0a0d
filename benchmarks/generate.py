"""The load generator for machines without wrk, ``python -m benchmarks.generate``: prints its figures as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import uvloop

from benchmarks.load import HOST, read_answer


async def generate(port: int, path: str, bodies: Sequence[str], connections: int, seconds: float) -> dict[str, float]:
    """Rate, median and 99th percentile, as `benchmarks.generator.Load` has them."""
    requests = [_request(path, body.encode()) for body in bodies]
    end = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(port, requests, first, end)) for first in range(connections)]
    times = sorted(each for task in tasks for each in task.result())
    if not times:
        raise RuntimeError(f"no answer within {seconds:g} seconds")
    median, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    return {"rate": len(times) / seconds, "median_ms": median * 1000, "p99_ms": p99 * 1000}


async def _ask(port: int, requests: Sequence[bytes], first: int, end: float) -> list[float]:
    reader, writer = await asyncio.open_connection(HOST, port)
    times = []
    for number in count(first):
        asked = time.perf_counter()
        writer.write(requests[number % len(requests)])
        await read_answer(reader)
        answered = time.perf_counter()
        if answered > end:
            break
        times.append(answered - asked)
    writer.close()
    await writer.wait_closed()
    return times


def _request(path: str, content: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return f"{head}\r\n\r\n".encode() + content


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--path", required=True)
    arguments.add_argument("--bodies", type=Path, required=True)
    arguments.add_argument("--connections", type=int, required=True)
    arguments.add_argument("--seconds", type=float, required=True)
    asked = arguments.parse_args()
    asked.bodies = json.loads(asked.bodies.read_text())
    print(json.dumps(uvloop.run(generate(**vars(asked)))))
