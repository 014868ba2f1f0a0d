"""The cost of a shadow to the requests: the same service with a full shadow and without, at half of what it can do.

Two real processes serve one model, one of them with a second version as shadow of every request. Each is asked in turns
by a third process at a steady pace, half the rate that the service without a shadow reaches when it is asked as fast
as it answers. A request's time counts from the moment at which it was due: a server that falls behind is not spared.

Both services have one worker with one thread on the first CPU, and the load generator has another CPU, so that a
percentile says something about the service. Turns are short and many. The case names the interval of the median ratio
(95 %, from the order of the rounds' ratios).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import comb
from pathlib import Path
from statistics import median

import httpx
import uvloop

from benchmarks.load import HOST, TEXTS, answers, body, read_answer, request
from benchmarks.measure import Row, row
from benchmarks.serving import ServingError, pinned, server, shipped
from service.model.bundle import MANIFEST, UNITS, WEIGHTS, Bundle

SUBJECT, BASELINE = "with a full shadow", "without"
ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.1
"""The 99th percentile with a shadow, divided by that without, is at most this."""
_PATIENCE = 120.0
_STILL = 0.5
"""Seconds without a run, after which nothing waits for the shadow."""


@dataclass(frozen=True, slots=True)
class Size:
    """Connections, rounds, and the seconds of a turn: before counting, and counted; the share of the highest rate."""

    connections: int = 16
    rounds: int = 111
    warm_up: float = 0.3
    seconds: float = 1.5
    share: float = 0.5


FULL = Size()
QUICK = Size(connections=2, rounds=1, warm_up=0.1, seconds=0.5)


@dataclass(frozen=True, slots=True)
class Paced:
    """The answers of one turn, in milliseconds from when each request was due."""

    median_ms: float
    p99_ms: float
    requests: int


def measure(size: Size = FULL, bundle: Bundle | None = None) -> Iterator[Row]:
    """Two rows: the median and the 99th percentile. Raises `ServingError`, also where the shadow ran nothing."""
    with running(bundle or shipped()) as (model, shadowed, plain):
        rate = size.share * _most(plain, model, size)
        turns = []
        for number in range(size.rounds):
            order = (shadowed, plain)[:: -1 if number % 2 else 1]
            found = {}
            for port in order:
                found[port] = _run(port, model, rate, size)
                if port == shadowed:
                    _drain(port, model)
            turns.append((found[shadowed], found[plain]))
        report = _report(shadowed, model)
        case = f"{model}, {rate:.0f} requests/s, {report['requests']} shadowed, {report['dropped']} dropped"
        for measure, pairs in (
            ("ms, median", [(one.median_ms, other.median_ms) for one, other in turns]),
            ("ms, 99th percentile", [(one.p99_ms, other.p99_ms) for one, other in turns]),
        ):
            low, high = interval([one / other for one, other in pairs])
            yield row(f"{case}, median ratio between {low:.2f} and {high:.2f}", measure, pairs)


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The interval of at least 95 % for the median of the ratios' distribution, by the sign test; all of them if there
    are fewer than six."""
    count, ordered = len(ratios), sorted(ratios)
    outside, rank = 0.0, 0
    while (outside := outside + 2 * comb(count, rank) / 2**count) <= 0.05:
        rank += 1
    least = max(0, rank - 1)
    return ordered[least], ordered[count - 1 - least]


@contextmanager
def running(bundle: Bundle) -> Iterator[tuple[str, int, int]]:
    """The model's name and the ports of both services, ready. Raises `ServingError`."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        folder = Path(scratch) / "models" / bundle.name
        for version in (1, 2):
            shutil.copytree(bundle.path, folder / str(version))
        _alter(folder / "2")
        settings = ("--models", str(folder.parent), "--provider", "cpu", "--versions", f"{bundle.name}=1")
        serve = ("service", "serve", *settings, "--workers", "1", "--threads", "1")
        with ExitStack() as stack:
            with pinned(0):
                shadowed = stack.enter_context(server(*serve, "--shadow", f"{bundle.name}=2"))
                without = stack.enter_context(server(*serve))
            with pinned(-1):
                yield bundle.name, shadowed.port, without.port


def _alter(version: Path) -> None:
    """Change one weight by its lowest bits. Equal weights would be in memory once, and in the caches for both."""
    content = bytearray((version / WEIGHTS).read_bytes())
    content[-4] ^= 1
    (version / WEIGHTS).write_bytes(content)
    manifest = version / MANIFEST
    plain = json.loads(manifest.read_text(encoding="utf-8"))
    plain["files"][WEIGHTS] = sha256(content).hexdigest()
    if plain["files"].pop(UNITS, None):
        (version / UNITS).unlink()  # the cards of the units are those of the weights that were
    manifest.write_text(json.dumps(plain), encoding="utf-8")


def _drain(port: int, model: str) -> None:
    """Wait until the shadow has run all that waits: it must not take CPU time from the turn without it."""
    seen, limit = -1, time.monotonic() + _PATIENCE
    while time.monotonic() < limit:
        report = _report(port, model)
        # On a busy machine the shadow may begin long after the answers.
        if report["requests"] and seen == (seen := report["requests"] + report["dropped"]):
            return
        time.sleep(_STILL)
    raise ServingError(f"the shadow did not come to its end, or ran nothing: {report}")


def _most(port: int, model: str, size: Size) -> float:
    """The requests a second that a service answers when it is asked as fast as it answers."""
    found = _run(port, model, 0.0, size)
    return found.requests / max(size.seconds, found.median_ms / 1000)


def _run(port: int, model: str, rate: float, size: Size) -> Paced:
    """One turn of the load generator, this module as a process of its own."""
    options = {"port": port, "model": model, "rate": rate, "connections": size.connections}
    options |= {"warm-up": size.warm_up, "seconds": size.seconds}
    command = [sys.executable, "-m", "benchmarks.shadow", *(f"--{name}={value}" for name, value in options.items())]
    limit = size.warm_up + size.seconds + _PATIENCE
    try:
        done = subprocess.run(  # noqa: S603 # our own program, no shell
            command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise ServingError(f"the load generator took longer than {limit:g} seconds") from error
    except subprocess.CalledProcessError as error:
        raise ServingError(f"the load generator failed: {error.stderr.strip()}") from error
    return Paced(**json.loads(done.stdout))


def _report(port: int, model: str) -> dict[str, int]:
    response = httpx.get(f"http://{HOST}:{port}/models/{model}/shadow", timeout=_PATIENCE)
    if response.status_code != 200:
        raise ServingError(f"there is no report on the shadow: {response.text[:200]}")
    found: dict[str, int] = response.json()
    return found


async def paced(port: int, requests: Sequence[bytes], rate: float, connections: int, seconds: float) -> list[float]:
    """The seconds from when each request was due to its answer. Requests are due at random (Poisson), `rate` a second;
    one that is due while no connection is free waits for one, and that counts."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await asyncio.open_connection(HOST, port))
    times: list[float] = []
    draw = random.Random(7)  # noqa: S311 # a load, no secret

    async def ask(due: float, content: bytes) -> None:
        reader, writer = await free.get()
        writer.write(content)
        await read_answer(reader)
        times.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    begin = due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        number = 0
        while due < begin + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(ask(due, requests[number % len(requests)]))
            number += 1
            due += draw.expovariate(rate)
    while not free.empty():
        _, writer = free.get_nowait()
        writer.close()
    return times


async def turn(port: int, model: str, rate: float, connections: int, warm_up: float, seconds: float) -> Paced:
    """As fast as answers come where `rate` is 0, else at that rate."""
    requests = [request("/predict", body(model, text)) for text in TEXTS]
    if rate:
        await paced(port, requests, rate, connections, warm_up)
        times = await paced(port, requests, rate, connections, seconds)
    else:
        times = await answers(port, requests, connections, warm_up, seconds)
    ordered = sorted(times)
    return Paced(median(ordered) * 1000, ordered[int(0.99 * (len(ordered) - 1))] * 1000, len(ordered))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--rate", type=float, required=True)
    arguments.add_argument("--connections", type=int, required=True)
    arguments.add_argument("--warm-up", type=float, required=True)
    arguments.add_argument("--seconds", type=float, required=True)
    print(json.dumps(asdict(uvloop.run(turn(**vars(arguments.parse_args()))))))
