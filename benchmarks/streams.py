"""The cost of streams: a late token beside an early one, many streams together, gates in events, memory, and latency.

CPU time is of one process without HTTP, unless a row says otherwise. Memory is a real worker's, and latency is from a
piece to its event, over WebSockets.

``python -m benchmarks.streams --scripts 10000 URL`` plays random scripts of messages against a service without other
clients, and compares its streams, waiting bytes and connections after them with those before.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median, quantiles

import click
from httpx import HTTPError, InvalidURL
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake

from benchmarks import step_graph, stream_service
from benchmarks.load import HOST, TEXTS
from benchmarks.measure import Pair, Row, in_turns, row
from benchmarks.serving import ROOT, pinned, server
from benchmarks.stream_counts import counts, left, told
from benchmarks.stream_scripts import play, service_url
from benchmarks.stream_service import compared, memory
from service.http.render import dumps
from service.model import bundle as bundles
from service.model.bundle import Bundle
from service.model.equations import gate_names
from service.model.loading import Model, loader
from service.model.streams.stepping import StepJob, Stepper
from service.model.streams.stream import Stream, Wanted, wanted

SUBJECT, BASELINE = "the stream", "compared with"
NAME = "sentiment-lstm"
"""The model; it reads forward."""
MOST_KIB = 16.0
"""The target for the memory of an idle stream beside its socket."""
RATE = 20.0
"""Tokens a second of each stream while latency is measured."""
WORDS = " ".join(TEXTS).split()


@dataclass(frozen=True, slots=True)
class Size:
    """Rounds, streams at once, the late position, words of a text, and seconds of latency."""

    rounds: int = 9
    streams: int = 64
    late: int = 10_000
    words: int = 100
    idle: int = 2000
    seconds: float = 5.0


FULL = Size()
QUICK = Size(rounds=1, streams=4, late=200, words=10, idle=5, seconds=0.5)


def measure(size: Size = FULL, bundle: Bundle | None = None) -> Iterator[Row]:
    """A row for each target. Raises `ServingError`, and `BundleError` for a bundle that does not match its manifest."""
    folder = ROOT / "models" / NAME
    bundle = bundle or bundles.load(folder / str(bundles.versions(folder)[-1]))
    model = loader("cpu", 1, 4096)(bundle)
    stepper = Stepper(model.engine.network)
    yield row(f"a token at position {size.late:,}; at 100", "ms of CPU", late(model, stepper, size))
    yield row(f"a step of {size.streams} streams together; one by one", "tokens/CPU-s", together(model, stepper, size))
    yield row(
        f"{size.words} words as a stream; /predict of each growing text", "ms of CPU", naive(model, stepper, size)
    )
    case = f"{size.words} words over a WebSocket; over HTTP, /predict of each growing text"
    yield from over_sockets(case, lambda: list(compared(bundle, size.words, size.rounds)))
    for streams in (1, size.streams) if step_graph.fits(model.engine.network) else ():
        case = f"a step of {streams} {'stream' if streams == 1 else 'streams'} in NumPy; with a graph of ONNX"
        yield row(case, "ms of CPU", stepped(model, stepper, streams, size))
    every = gate_names(bundle.manifest.cell)
    of_layer = f"all {len(every)} gates of a layer in each event"
    yield row("one gate in each event; none", "ms of CPU", gates(model, stepper, every[:1], size))
    yield row(f"{of_layer}; none", "ms of CPU", gates(model, stepper, every, size))
    case = f"{of_layer}, over a WebSocket; none"
    yield from over_sockets(case, lambda: stream_service.gates(bundle, every, 3 * size.words, size.rounds))
    held = memory(bundle, size.idle)
    yield row(f"each of {size.idle:,} idle streams, beside its WebSocket; the target", "KiB", [(held.beside, MOST_KIB)])
    yield row(
        f"each of {size.idle:,} idle streams, beside a keep-alive connection; the target",
        "KiB",
        [(held.streams - held.kept_alive, MOST_KIB)],
    )
    with server("service", "serve", "--models", str(bundle.path.parents[1]), "--workers", "1") as service:
        case = f"{size.streams} streams of {RATE:g} tokens/s, 99th percentile; one stream, median"
        yield row(case, "ms", list(latencies(service.port, bundle.name, size)))


def over_sockets(case: str, pairs: Callable[[], list[Pair]]) -> Iterator[Row]:
    """A worker's CPU, with its client on any CPU, and with both on one: there no message wakes a CPU, which can take as
    long as the service itself."""
    yield row(case, "ms of CPU of the worker", pairs())
    with pinned(0):
        yield row(f"{case}; both on one CPU", "ms of CPU of the worker", pairs())


def seconds(act: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    act()
    return time.process_time() - started


def read(stream: Stream, stepper: Stepper, words: int, first: int = 0) -> None:
    """Read so many words, each a piece of its own, and write their events."""
    for number in range(first, first + words):
        stream.feed(f"{WORDS[number % len(WORDS)]} ")
        while (job := stream.job()) is not None:
            for event in stream.took(stepper.run([job])[0]):
                dumps(event)


def late(model: Model, stepper: Stepper, size: Size = FULL) -> list[Pair]:
    """Milliseconds a token, late and early in a text."""
    early, old = (Stream(model, stepper, Wanted()) for _ in range(2))
    read(early, stepper, 100)
    read(old, stepper, size.late)
    per = 1000 / size.words
    return [
        (per * seconds(lambda: read(old, stepper, size.words)), per * seconds(lambda: read(early, stepper, size.words)))
        for _ in range(size.rounds)
    ]


def together(model: Model, stepper: Stepper, size: Size = FULL) -> list[Pair]:
    """Tokens a second of the step, of all streams in one batch and one after the other."""
    rows = [model.tokenizer.row("film")]
    jobs = [StepJob(rows, stepper.start) for _ in range(size.streams)]
    tokens = 10 * size.streams
    return [
        (
            tokens / seconds(lambda: [stepper.run(jobs) for _ in range(10)]),
            tokens / seconds(lambda: [stepper.run([job]) for job in jobs * 10]),
        )
        for _ in range(size.rounds)
    ]


def naive(model: Model, stepper: Stepper, size: Size = FULL) -> list[Pair]:
    """Milliseconds for a text that grows word by word: as a stream, and read again with each word."""

    def again() -> None:
        for count in range(1, size.words + 1):
            encoded = model.encode(" ".join(WORDS[n % len(WORDS)] for n in range(count)), truncate=False)
            dumps(model.decoder.decode(model.engine.predict([encoded.rows]), [encoded]))

    return [
        (1000 * seconds(lambda: read(Stream(model, stepper, Wanted()), stepper, size.words)), 1000 * seconds(again))
        for _ in range(size.rounds)
    ]


def stepped(model: Model, stepper: Stepper, streams: int, size: Size = FULL) -> list[Pair]:
    """Milliseconds of a step of so many streams, in NumPy and with a graph of ONNX."""
    graph = step_graph.run(model.engine.network)
    jobs = [StepJob([model.tokenizer.row("film")], stepper.start)] * streams
    times = size.words * (5 if streams == 1 else 1)
    return [
        (1000 * one / times, 1000 * other / times)
        for one, other in in_turns(
            size.rounds,
            lambda: seconds(lambda: [stepper.run(jobs) for _ in range(times)]),
            lambda: seconds(lambda: [graph(jobs) for _ in range(times)]),
        )
    ]


def gates(model: Model, stepper: Stepper, names: Sequence[str], size: Size = FULL) -> list[Pair]:
    """Milliseconds of a text, with these gates of layer 0 in each event and with none."""
    asked = wanted(model.bundle.manifest, names, [0], None, 1, 4)
    return [
        (
            1000 * seconds(lambda: read(Stream(model, stepper, asked), stepper, 3 * size.words)),
            1000 * seconds(lambda: read(Stream(model, stepper, Wanted()), stepper, 3 * size.words)),
        )
        for _ in range(size.rounds)
    ]


def latencies(port: int, model: str, size: Size) -> Iterator[Pair]:
    """Milliseconds from a piece to its event: the 99th percentile of many streams, and the median of one."""
    for _ in range(min(3, size.rounds)):
        alone = asyncio.run(_paced(port, model, 1, size.seconds))
        many = asyncio.run(_paced(port, model, size.streams, size.seconds))
        yield quantiles(many, n=100)[98], median(alone)


async def _paced(port: int, model: str, streams: int, duration: float) -> list[float]:
    """Milliseconds from each piece to its event. Streams do not begin together."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(streams):
            connection = await stack.enter_async_context(
                connect(f"ws://{HOST}:{port}/stream", proxy=None, open_timeout=60)
            )
            await connection.send(json.dumps({"model": model}))
            await connection.recv()  # ready
            opened.append(connection)
        follows = [_follow(each, number / streams / RATE, duration) for number, each in enumerate(opened)]
        return [1000 * each for found in await asyncio.gather(*follows) for each in found]


async def _follow(connection: ClientConnection, begins: float, duration: float) -> list[float]:
    due: list[float] = []
    found: list[float] = []
    count = max(2, round(duration * RATE))

    async def receive() -> None:
        for number in range(count):
            await connection.recv()
            found.append(time.perf_counter() - due[number])

    receiving = asyncio.create_task(receive())
    started = time.perf_counter() + begins
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        due.append(time.perf_counter())
        await connection.send('{"text": "film "}')
    await receiving
    return found


@click.command()
@click.option("--scripts", type=click.IntRange(1), required=True, metavar="COUNT", help="How many to play.")
@click.argument("address", metavar="URL")
def main(scripts: int, address: str) -> None:
    """Play scripts against the service at URL. The figures are those of `python -m benchmarks streams`."""
    try:
        url = service_url(address)
        before = counts(url)
        done = sum(play(url, seed) for seed in range(scripts))
        over = left(url, before)
    except (ValueError, OSError, InvalidHandshake, HTTPError, InvalidURL) as error:
        sys.exit(f"error: {address}: {error}")
    print(f"{done} of {scripts} scripts came to an answer, and none hung")
    if over:
        sys.exit(f"error: {address}: over what they were before: {told(over)} (no other client may be there)")
    print("streams, waiting bytes and connections are back to what they were")


if __name__ == "__main__":
    main()
