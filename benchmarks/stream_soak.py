"""Many streams for a long time, while workers are killed: ``python -m benchmarks.stream_soak --minutes 10``.

Each client reads texts over `WS /stream`, cut at random, and keeps the last state that it got. When its connection
ends, it goes on from that state with whichever worker answers. Every last answer is held against `/predict` of the
whole text. These must hold: no answer is wrong, every killed worker is replaced, streams, waiting bytes and connections
fall back to what they were before, and memory does not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.load import HOST
from benchmarks.serving import ROOT
from benchmarks.soak import GROWTH, LAST_CHARACTERS, killed, processes, resident, soaked
from benchmarks.stream_counts import counts, figure, left, told

MODELS = ("sentiment-lstm", "sentiment-mingru", "ner-lstm")
TEXTS = 100
STATE_EVERY = 5
"""Tokens between two states that a client gets."""
CLOSE = 1e-5
"""The most by which a stream's scores may differ from those of `/predict`."""
PATIENCE = 120.0
_WORDS = (
    "the film was not very good but great dull Ada Lovelace London e\u0301 \U0001f469\u200d\U0001f467 a lot of it. "
    "&amp; And Mr. Babbage, wonderful!\n"
)


@dataclass
class Run:
    """The load, the faults, and their results."""

    url: str
    pid: int
    pause: float
    texts: list[tuple[str, str]]
    """Model and text."""
    expected: list[Any] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    """Megabytes of the largest worker: at each look under load, and at last without a stream."""
    left: dict[str, float] = field(default_factory=dict)
    """The counts that did not fall back, with their excess."""
    most_open: int = 0
    going: bool = True

    @property
    def base(self) -> str:
        """The address of the service."""
        return self.url.replace("ws", "http", 1)[: -len("/stream")]

    async def follow(self, seed: int) -> None:
        """One client: text after text."""
        choice = random.Random(seed)  # noqa: S311  (load, not secrets)
        await asyncio.sleep(choice.random() * self.pause * 10)
        while self.going:
            number = choice.randrange(len(self.texts))
            found = await self._read(*self.texts[number], choice)
            self.outcomes["right" if equal(found, self.expected[number]) else "wrong"] += 1

    async def _read(self, model: str, text: str, choice: random.Random) -> Any:
        """Read one text, over as many connections as it takes. Returns the prediction."""
        last: dict[str, Any] | None = None
        while True:
            try:
                async with connect(self.url, open_timeout=PATIENCE, proxy=None, compression=None) as connection:
                    opening = {"model": model, "state_every": STATE_EVERY}
                    await connection.send(json.dumps({**opening, **({"state": last["state"]} if last else {})}))
                    sending = asyncio.create_task(self._send(connection, text[last["read"] if last else 0 :], choice))
                    try:
                        async for message in connection:
                            event = json.loads(message)
                            if event["type"] == "state":
                                last = event
                            elif event["type"] == "done":
                                return event["prediction"]
                            elif event["type"] == "error":
                                self.outcomes[f"error {event['status']}"] += 1
                    finally:
                        sending.cancel()
                        with suppress(asyncio.CancelledError, ConnectionClosed):
                            await sending
            except (OSError, InvalidHandshake, TimeoutError, ConnectionClosed):
                pass
            self.outcomes["gone on from a state" if last else "begun again"] += 1
            await asyncio.sleep(choice.random())

    async def _send(self, connection: ClientConnection, text: str, choice: random.Random) -> None:
        """Send a text in pieces of 1 to 12 characters, with a pause behind each."""
        at = 0
        while at < len(text):
            size = choice.randint(1, 12)
            await connection.send(json.dumps({"text": text[at : at + size]}))
            at += size
            await asyncio.sleep(self.pause * choice.uniform(0.5, 1.5))
        await connection.send(json.dumps({"end": True}))

    async def kill_a_worker(self, workers: int) -> None:
        """Kill one worker, and time its replacement."""
        seconds = await killed(self.pid, partial(self.metric, "ready"), workers, PATIENCE)
        if seconds is None:
            self.outcomes["not replaced"] += 1
        else:
            self.recoveries.append(seconds)

    async def metric(self, name: str) -> float:
        """A figure of `/metrics`, over all workers; -1 if no answer comes, or it has none."""
        with suppress(httpx.HTTPError, ValueError):
            async with httpx.AsyncClient(timeout=PATIENCE) as client:
                return figure((await client.get(f"{self.base}/metrics")).text, name)
        return -1.0

    def look_at_memory(self) -> float:
        """Note the memory of the largest worker, in megabytes."""
        self.memory.append(max(map(resident, processes(self.pid)), default=0.0))
        return self.memory[-1]


def equal(found: Any, expected: Any) -> bool:
    """True if predictions agree: labels and places exactly, scores closely."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return bool(abs(found - expected) <= CLOSE if isinstance(expected, float) else found == expected)


def texts(seed: int = 0) -> list[tuple[str, str]]:
    """Texts of 3 to 60 words, each with a model."""
    choice, words = random.Random(seed), _WORDS.split(" ")  # noqa: S311  (load, not secrets)
    return [
        (MODELS[number % len(MODELS)], " ".join(choice.choices(words, k=choice.randint(3, 60))))
        for number in range(TEXTS)
    ]


async def play(run: Run, minutes: float, streams: int, workers: int, kill_every: float) -> None:
    """Learn the right answers, then load for so long, with a worker killed now and then."""
    before = await asyncio.to_thread(counts, run.base)
    async with httpx.AsyncClient(base_url=run.base, timeout=PATIENCE) as client:
        for model, text in run.texts:
            answer = (await client.post("/predict", json={"model": model, "inputs": text})).raise_for_status()
            run.expected.append(answer.json()["predictions"][0])
    end = time.monotonic() + 60 * minutes
    clients = [asyncio.create_task(run.follow(seed)) for seed in range(streams)]
    while time.monotonic() < end:
        await asyncio.sleep(min(kill_every, max(0.0, end - time.monotonic())))
        run.most_open = max(run.most_open, int(await run.metric("streams")))
        memory = run.look_at_memory()
        if time.monotonic() < end:
            await run.kill_a_worker(workers)
        print(
            f"{len(run.recoveries)} killed, {run.most_open} open at most, {memory:.0f} MB, {dict(run.outcomes)}",
            flush=True,
        )
    run.going = False
    await asyncio.gather(*clients)
    run.left = await asyncio.to_thread(left, run.base, before)
    run.look_at_memory()


def verdicts(run: Run) -> dict[str, bool]:
    """The conditions, each with its result."""
    right, wrong = run.outcomes["right"], run.outcomes["wrong"]
    first, last = run.memory[0], run.memory[-1]
    growth = last / first - 1 if first and last else 1.0  # no worker was there to be looked at
    return {
        f"no answer is wrong: {right} right, {wrong} wrong": right > 0 and not wrong,
        f"each of {len(run.recoveries)} killed workers is replaced": not run.outcomes["not replaced"],
        f"streams, waiting bytes and connections are back to what they were; over: {told(run.left)}": not run.left,
        f"the largest worker, {first:.0f} MB under the first load, grows by no more than {GROWTH:.0%} "
        f"and has {last:.0f} MB at the end": growth <= GROWTH,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument("--streams", type=int, default=500, help="streams at once (default: 500)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    parser.add_argument("--pause", type=float, default=1.0, help="mean seconds between two pieces (default: 1)")
    parser.add_argument("--kill-every", type=float, default=30, help="seconds between two kills (default: 30)")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="the models")
    asked = parser.parse_args()
    flags = {"workers": asked.workers, "models": asked.models, "max-connections": 2 * asked.streams + 64}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with soaked(flags, log) as service:
            run = Run(f"ws://{HOST}:{service.port}/stream", service.process.pid, asked.pause, texts())
            asyncio.run(play(run, asked.minutes, asked.streams, asked.workers, asked.kill_every))
        lines, status = log.read_text(encoding="utf-8", errors="replace"), service.process.returncode
    print(f"clients: {dict(run.outcomes)}; {run.most_open} streams open at most")
    print(f"recoveries of killed workers, seconds: {[round(each, 1) for each in run.recoveries]}")
    print(f"memory of the largest worker, MB: {min(run.memory):.0f} to {max(run.memory):.0f}")
    held = verdicts(run) | {
        "no error is unexpected": "unexpected error" not in lines,
        f"the exit status after SIGTERM is 0: {status}": not status,
    }
    for what, so in held.items():
        print(f"{'held' if so else 'FAILED'}: {what}", flush=True)
    if not all(held.values()):
        print(lines[-LAST_CHARACTERS:])
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
