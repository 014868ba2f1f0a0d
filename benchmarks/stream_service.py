"""Streams of a real service with one worker: CPU of a word beside `/predict`, and memory of streams that wait.

``python -m benchmarks.stream_service --streams 2000`` prints the memory. CPU time and memory (PSS) are from
`/proc`. Clients write plain WebSocket frames, because 2,000 clients of a library would need most of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from benchmarks.load import HOST, TEXTS, body, request
from benchmarks.measure import Pair, in_turns
from benchmarks.resources import service
from benchmarks.serving import ROOT, ServingError, answers, megabytes
from service.model.bundle import Bundle, load, versions

WORDS = re.findall("[A-Za-z]+", " ".join(TEXTS))
"""Words without marks: with the space behind it, each completes one token."""
READ = 20
"""Words that a stream has read before it waits."""
MASK = bytes(4)
"""The mask of a client's frame (RFC 6455, 5.3), here one that changes nothing."""
_PING, _TEXT = 0x89, 0x81
_SCHEDULED = 2
"""CPUCLOCK_SCHED: in Linux the number of a process's CPU clock holds this and the complement of its id."""
_SPARE = 64
"""Files and connections beside those of the streams."""
_AT_ONCE = 50
_PATIENCE = 3600
"""Seconds that an idle connection of the measurement stays open."""
_CLOSED_WITHIN = 120.0
_HANDSHAKE = (
    f"GET /stream HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


@dataclass(frozen=True, slots=True)
class Memory:
    """KiB of the worker for each connection, beside none: keep-alive connections after a request, WebSockets before
    their opening message, and streams that have read `READ` words. `refusal` is the status of one stream too many."""

    kept_alive: float
    sockets: float
    streams: float
    refusal: int

    @property
    def beside(self) -> float:
        """A stream beside its WebSocket."""
        return self.streams - self.sockets


class Client(asyncio.Protocol):
    """One connection. It answers pings, so that an idle one stays open."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._events: list[bytes] = []
        self._frames = False
        self._more = asyncio.Event()

    @classmethod
    async def connect(cls, port: int) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._frames:
            self._read_frames()
        self._more.set()

    def _read_frames(self) -> None:
        """Take the complete frames out of the buffer: keep events, answer pings."""
        buffer = self._buffer
        while len(buffer) >= 2:
            start = {126: 4, 127: 10}.get(buffer[1], 2)
            size = buffer[1] if start == 2 else int.from_bytes(buffer[2:start], "big")
            if len(buffer) < start + size:
                return
            kind, content = buffer[0], bytes(buffer[start : start + size])
            del buffer[: start + size]
            if kind == _PING:
                self._transport.write(bytes((0x8A, 0x80 | size)) + MASK + content)
            elif kind == _TEXT:
                self._events.append(content)

    def connection_lost(self, exc: Exception | None) -> None:
        self._more.set()

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if self._transport.is_closing():
                raise RuntimeError("the service closed a connection")
            self._more.clear()
            await self._more.wait()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    async def _head(self) -> bytes:
        """The head of an answer, in lower case."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more.clear()
            await self._more.wait()
        return (await self._take(end + 4)).lower()

    async def upgrade(self) -> int:
        """Ask for a WebSocket. Returns the status."""
        self._transport.write(_HANDSHAKE)
        status = int((await self._head()).split()[1])
        self._frames = True
        self._read_frames()
        return status

    def send(self, message: object) -> None:
        content = json.dumps(message).encode()
        size = bytes((0x80 | len(content),)) if len(content) < 126 else b"\xfe" + len(content).to_bytes(2, "big")
        self._transport.write(b"\x81" + size + MASK + content)

    async def receive(self) -> dict[str, object]:
        """The next event."""
        while not self._events:
            if self._transport.is_closing():
                raise RuntimeError("the service closed a connection")
            self._more.clear()
            await self._more.wait()
        found: dict[str, object] = json.loads(self._events.pop(0))
        return found

    async def ask(self, content: bytes) -> None:
        """Send a request and read its answer."""
        self._transport.write(content)
        found = re.search(rb"\r\ncontent-length: (\d+)", await self._head())
        assert found is not None
        await self._take(int(found[1]))

    def close(self) -> None:
        self._transport.close()


async def words(client: Client, count: int) -> None:
    """Read a text of so many words with an open stream, each word a piece whose event is awaited, to its end."""
    for number in range(count):
        client.send({"text": f"{WORDS[number % len(WORDS)]} "})
        await client.receive()
    client.send({"end": True})
    if (ended := await client.receive())["type"] != "done":
        raise ServingError(f"{ended['type']} came in place of the end of a text")


async def growing(client: Client, model: str, count: int) -> None:
    """`/predict` of the text so far, again with each word, over one connection."""
    for number in range(1, count + 1):
        text = " ".join(WORDS[each % len(WORDS)] for each in range(number))
        await client.ask(request("/predict", body(model, text)))


def compared(bundle: Bundle, count: int, rounds: int) -> Iterator[Pair]:
    """Milliseconds of the worker's CPU for a text of `count` words: as a stream, and read again with each word."""
    model = bundle.name
    with service(bundle.path.parents[1], 1) as running:
        (worker,) = running.workers
        for _ in range(rounds):
            yield asyncio.run(_compare(running.port, worker, model, count))


async def _compare(port: int, worker: int, model: str, count: int) -> Pair:
    stream, asker = await Client.connect(port), await Client.connect(port)
    await stream.upgrade()
    stream.send({"model": model})
    await stream.receive()
    await asker.ask(request("/predict", body(model, "a film")))
    before = seconds(worker)
    await words(stream, count)
    between = seconds(worker)
    await growing(asker, model, count)
    after = seconds(worker)
    stream.close()
    asker.close()
    return 1000 * (between - before), 1000 * (after - between)


def gates(bundle: Bundle, names: Sequence[str], count: int, rounds: int) -> list[Pair]:
    """Milliseconds of the worker's CPU for a stream of `count` words, with gates of layer 0 in each event and
    with none."""
    with service(bundle.path.parents[1], 1) as running:
        (worker,) = running.workers

        def spent(**asked: object) -> float:
            return asyncio.run(_read(running.port, worker, {"model": bundle.name, **asked}, count))

        spent()
        turns = in_turns(rounds, lambda: spent(gates=names, layers=[0]), spent)
    return [(one, other) for one, other in turns]


async def _read(port: int, worker: int, opening: dict[str, object], count: int) -> float:
    """Milliseconds of the worker's CPU for a stream that is open already."""
    client = await Client.connect(port)
    await client.upgrade()
    client.send(opening)
    await client.receive()
    before = seconds(worker)
    await words(client, count)
    spent = seconds(worker) - before
    client.close()
    return 1000 * spent


def memory(bundle: Bundle, streams: int) -> Memory:
    """Open so many idle connections of each kind, one kind after the other, in one worker each time.

    The service allows exactly that many streams. Every worker has answered requests and read streams before.
    """
    allow_files(2 * streams + _SPARE)
    flags = ["--max-connections", str(streams + _SPARE), "--max-streams", str(streams)]
    flags += ["--idle-seconds", str(_PATIENCE), "--stream-idle-seconds", str(_PATIENCE)]
    found = []
    for kind in ("kept_alive", "sockets", "streams"):
        with service(bundle.path.parents[1], 1, *flags) as running:
            (worker,) = running.workers
            found.append(asyncio.run(_hold(running.port, worker, bundle.name, kind, streams)))
    (kept_alive, _), (sockets, _), (held, refusal) = found
    return Memory(kept_alive, sockets, held, refusal)


async def _hold(port: int, worker: int, model: str, kind: str, count: int) -> tuple[float, int]:
    """KiB for each connection of a kind, and the status of one WebSocket more."""
    for each in ("kept_alive", "sockets", "streams"):
        await asyncio.gather(*(_idle(port, model, each) for _ in range(min(_AT_ONCE, count))))  # warms up
        await _closed(port)
    before = megabytes(worker, "Pss")
    held: list[Client] = []
    while len(held) < count:
        held += await asyncio.gather(*(_open(port, model, kind) for _ in range(min(_AT_ONCE, count - len(held)))))
    await asyncio.sleep(0.5)
    size = 1024 * (megabytes(worker, "Pss") - before) / count
    if lost := sum(not client.is_open for client in held):
        raise ServingError(f"the service closed {lost} of {count} idle connections")
    extra = await Client.connect(port)
    status = await extra.upgrade()
    for client in (*held, extra):
        client.close()
    return size, status


async def _closed(port: int) -> None:
    """Wait until the service has seen its streams close: it would refuse others in their place."""
    limit = time.monotonic() + _CLOSED_WITHIN
    while not await asyncio.to_thread(answers, port, "/metrics", "\ngatelight_streams 0.0\n"):
        if time.monotonic() > limit:
            raise ServingError(f"the service has open streams {_CLOSED_WITHIN:g} seconds after their end")
        await asyncio.sleep(0.1)


async def _idle(port: int, model: str, kind: str) -> None:
    (await _open(port, model, kind)).close()


async def _open(port: int, model: str, kind: str) -> Client:
    client = await Client.connect(port)
    if kind == "kept_alive":
        await client.ask(request("/predict", body(model, "a film")))
        return client
    if (status := await client.upgrade()) != 101:
        raise RuntimeError(f"a WebSocket was answered {status}")
    if kind == "streams":
        client.send({"model": model})
        await client.receive()
        for number in range(READ):
            client.send({"text": f"{WORDS[number]} "})
            await client.receive()
    return client


def seconds(pid: int) -> float:
    """CPU seconds of a process so far, over all threads, those too that have ended."""
    return time.clock_gettime(~pid << 3 | _SCHEDULED)


def allow_files(count: int) -> None:
    """Let this process and those that it starts open so many files. Raises `OSError` beyond the system's limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise OSError(f"{count} open files are needed; `ulimit -Hn` allows {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000, help="idle streams in one worker (default: 2,000)")
    parser.add_argument("--model", default="sentiment-lstm", help="the model (default: sentiment-lstm)")
    asked = parser.parse_args()
    folder = ROOT / "models" / asked.model
    found = memory(load(folder / str(versions(folder)[-1])), asked.streams)
    print(f"{asked.streams} connections of one worker, KiB each (PSS):")
    print(f"keep-alive {found.kept_alive:.1f}, WebSocket {found.sockets:.1f}, stream {found.streams:.1f}")
    print(f"a stream beside its WebSocket {found.beside:.1f}; one stream too many: {found.refusal}")


if __name__ == "__main__":
    main()
