"""Load over keep-alive connections that each send a request, wait for the answer, and send the next.

It writes HTTP/1.1 on plain asyncio streams, because it shares the machine with the measured server, which lacks the CPU
that the generator uses. ``python -m benchmarks.load`` takes the place of wrk, and prints its figures as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import uvloop

HOST = "127.0.0.1"
TEXTS = (
    "A warm and funny film that I would gladly see again.",
    "The plot makes no sense and the jokes fall flat.",
    "We stayed at a small hotel near the station in Vienna.",
    "Not a bad book, but the last chapter is far too long.",
    "Maria Silva moved from Lisbon to Toronto last spring.",
    "The service was slow, and nobody said sorry.",
    "I didn't expect much, and it's the best thing I have bought this year.",
    "Great acting, a dull story, and an ending that almost saves it.",
)
"""One a request, in turn: about a dozen tokens each."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


def body(model: str, text: str) -> bytes:
    """The request for one text, as both servers take it."""
    return json.dumps({"model": model, "inputs": text}).encode()


async def answers(
    port: int, requests: Sequence[bytes], connections: int, warm_up: float, seconds: float
) -> list[float]:
    """The seconds that each answer took, of those that came after `warm_up` seconds and within `seconds` from then.
    Each connection has at least one: its first answer after the warm-up, however late."""
    begin = time.perf_counter() + warm_up
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(port, requests, first, begin, begin + seconds)) for first in range(connections)]
    return [each for task in tasks for each in task.result()]


async def _ask(port: int, requests: Sequence[bytes], first: int, begin: float, end: float) -> list[float]:
    """One connection's requests: the seconds that each answer took that came between `begin` and `end`, or the first
    one after `end` if none came between."""
    reader, writer = await asyncio.open_connection(HOST, port)
    times: list[float] = []
    for number in count(first):
        asked = time.perf_counter()
        writer.write(requests[number % len(requests)])
        await read_answer(reader)
        answered = time.perf_counter()
        if answered >= begin and (answered <= end or not times):
            times.append(answered - asked)
        if answered > end:
            break
    writer.close()
    await writer.wait_closed()
    return times


def request(path: str, content: bytes, accept: str = "*/*") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: {accept}\r\nContent-Type: application/json"
    return f"{head}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


async def read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise RuntimeError(f"the server answered {head.splitlines()[0].decode(errors='replace')}")
    await reader.readexactly(int(length[1]))


async def load(
    port: int, path: str, bodies: Sequence[str], connections: int, seconds: float, accept: str
) -> dict[str, float]:
    """Rate, median and 99th percentile, as `benchmarks.generator.Load` has them."""
    requests = [request(path, each.encode(), accept) for each in bodies]
    times = sorted(await answers(port, requests, connections, 0, seconds))
    median, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    # An answer that took longer than the turn makes the turn longer.
    return {"rate": len(times) / max(seconds, times[-1]), "median_ms": median * 1000, "p99_ms": p99 * 1000}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--path", required=True)
    arguments.add_argument("--bodies", type=lambda file: json.loads(Path(file).read_text("utf-8")), required=True)
    arguments.add_argument("--connections", type=int, required=True)
    arguments.add_argument("--seconds", type=float, required=True)
    arguments.add_argument("--accept", required=True)
    print(json.dumps(uvloop.run(load(**vars(arguments.parse_args())))))
