"""A long run under load, with faults: ``python -m benchmarks.soak --minutes 30``.

Texts of random lengths with known answers go to several workers. Meanwhile workers are killed, the models folder
disappears and comes back, clients hang up, and ten times as many clients come at once. Three things must hold: no
answer is wrong, only requests of killed workers are lost, and memory does not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import uvloop
from matplotlib.figure import Figure

from benchmarks.serving import ROOT, Server, megabytes, server, workers_are_ready

QUEUE_TOKENS = 10_000
"""Small, so that ten times the callers are more than may wait."""
TEXTS = 256
FAULT_EVERY = 20.0
RESETS = 20
LAST_CHARACTERS = 20_000
"""Lines of the service's log that are shown if something did not hold."""
ANSWERS = ("right", "503", "504")
"""Statuses that may come: refused and late requests are those of too many clients."""
GOODPUT = 0.9
"""Least share of the rate before, with ten times as many clients."""
RECOVERY_SECONDS = 2.0
"""From a worker's death until as many as before are ready: at most, in the median."""
GROWTH = 0.1
"""Largest growth of the largest worker's memory."""


@dataclass
class Second:
    """The results of one second."""

    at: float
    memory: float
    """Resident megabytes of the largest worker."""
    p50: float
    p99: float
    """Milliseconds."""
    answered: int
    outcomes: Counter[str]
    phase: str


@dataclass
class Run:
    """The load, the faults, and their results."""

    port: int
    pid: int
    workers: int
    texts: list[bytes]
    expected: dict[int, bytes] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: list[Second] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    phase: str = "steady"
    pause: float = 0.0
    """Seconds for which a caller waits after each answer."""
    going: bool = True

    async def learn(self) -> None:
        """Ask for each text once, alone. Its answer is the expected one from now on."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for number, text in enumerate(self.texts):
            status, body = await _ask(reader, writer, text)
            if status != 200:
                raise SystemExit(f"the service answers {status} to a first request: {body!r}")
            self.expected[number] = body
        writer.close()

    async def call(self, seed: int) -> None:
        """One client that sends requests over one connection until it ends."""
        choose = random.Random(seed)  # noqa: S311  (load, not secrets)
        while self.going:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:
                self.outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.1)
                continue
            try:
                while self.going:
                    await self._once(reader, writer, choose.randrange(len(self.texts)))
                    if self.pause:
                        await asyncio.sleep(self.pause)
            except (OSError, EOFError, ValueError) as error:
                self.outcomes[type(error).__name__] += 1
            finally:
                writer.close()

    async def _once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        started = time.perf_counter()
        status, body = await _ask(reader, writer, self.texts[number])
        if status != 200:
            self.outcomes[str(status)] += 1
            await asyncio.sleep(0.05)  # less than Retry-After asks for: a caller without manners
        elif body != self.expected[number]:
            self.outcomes["wrong"] += 1
        else:
            self.outcomes["right"] += 1
            self.latencies.append(time.perf_counter() - started)

    async def watch(self) -> None:
        """Record the results of each second."""
        began, before = time.monotonic(), Counter(self.outcomes)
        while self.going:
            await asyncio.sleep(1)
            taken, self.latencies = self.latencies, []
            new, before = self.outcomes - before, Counter(self.outcomes)
            spread = quantiles(taken, n=100) if len(taken) > 1 else [0.0] * 99
            memory = max(map(resident, processes(self.pid)), default=0.0)
            at = time.monotonic() - began
            self.seconds.append(
                Second(at, memory, spread[49] * 1e3, spread[98] * 1e3, new.pop("right", 0), new, self.phase)
            )

    async def kill_a_worker(self) -> None:
        """Kill one, and see how long it takes until there are as many again that answer."""
        seconds = await killed(self.pid, partial(_ready, self.port), self.workers, 30)
        if seconds is None:
            self.outcomes["not replaced"] += 1
        else:
            self.recoveries.append(seconds)

    async def reset_connections(self) -> None:
        """Clients that hang up with a reset: in the middle of their request, or of their wait."""
        for number in range(RESETS):
            connection = socket.create_connection(("127.0.0.1", self.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            text = self.texts[number % len(self.texts)]
            connection.sendall(text[: len(text) // 2] if number % 2 else text)
            connection.close()
            await asyncio.sleep(0.01)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def _ready(port: int) -> float:
    """How many workers say that they are ready."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        _, text = await _ask(reader, writer, b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n")
    except (OSError, EOFError):
        return 0.0
    finally:
        writer.close()
    return float(text.partition(b"\ngatelight_ready ")[2].partition(b"\n")[0])


def processes(pid: int) -> list[int]:
    """The processes of a supervisor, in the order in which they were started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def resident(pid: int) -> float:
    """Megabytes that a process has in memory; 0 for one that has gone."""
    with suppress(OSError):
        return megabytes(pid)
    return 0.0


async def killed(pid: int, ready: Callable[[], Awaitable[float]], workers: int, patience: float) -> float | None:
    """Kill a worker of a supervisor. Returns the seconds until as many as before are ready, and it has gone; None if
    they are not within `patience` seconds."""
    victim, began = random.choice(processes(pid)), time.monotonic()  # noqa: S311  (a victim, not a secret)
    os.kill(victim, signal.SIGKILL)
    while victim in processes(pid) or await ready() < workers:
        await asyncio.sleep(0.05)
        if time.monotonic() - began > patience:
            return None
    return time.monotonic() - began


def requests(count: int, longest: int, seed: int = 0) -> list[bytes]:
    """Requests of one text each, 1 to `longest` tokens, short ones as likely as long ones."""
    choose = random.Random(seed)  # noqa: S311  (load, not secrets)
    words = ["the", "a", "film", "was", "it", "not", "very", "good", "bad", "great", "dull", "but", "Ada", "London"]
    made = []
    for _ in range(count):
        text = " ".join(choose.choices(words, k=round(longest ** choose.random())))
        body = json.dumps({"inputs": text, "task": choose.choice(["sentiment", "sentiment", "ner"])}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        made.append(head.encode() + b"\r\n\r\n" + body)
    return made


async def delete(folder: Path, seconds: float) -> None:
    """Have a folder be gone for so long: deleted file by file, and put back at once."""
    copy = folder.with_name("copy")
    await asyncio.to_thread(shutil.copytree, folder, copy)
    await asyncio.to_thread(shutil.rmtree, folder)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(copy.rename, folder)


async def play(run: Run, models: Path, minutes: float, callers: int) -> None:
    """Load for so long, a fault now and then; at last the same callers without a pause, and ten times as many."""
    await run.learn()
    tasks = [asyncio.create_task(run.call(seed)) for seed in range(callers)]
    tasks.append(asyncio.create_task(run.watch()))
    loop = asyncio.get_running_loop()
    end, overload = loop.time() + minutes * 60, min(60.0, minutes * 10)
    turn = 0
    while loop.time() < end - 2 * overload - 5:
        run.phase = "steady"
        await asyncio.sleep(FAULT_EVERY)
        run.phase = "faults"
        if turn % 3 == 0:
            await run.kill_a_worker()
        elif turn % 3 == 1:
            await run.reset_connections()
        else:
            await delete(models, 3)
        await asyncio.sleep(2)
        turn += 1
    run.phase, run.pause = "peak", 0.0
    await asyncio.sleep(overload)
    run.phase = "overload"
    tasks += [asyncio.create_task(run.call(1000 + seed)) for seed in range(9 * callers)]
    await asyncio.sleep(overload)
    run.going = False
    await asyncio.gather(*tasks)


def report(run: Run, callers: int, out: Path) -> bool:
    """Print the results and draw the curves. True if everything held."""
    steady = [second for second in run.seconds if second.phase == "steady"]
    peak, over = ([s for s in run.seconds if s.phase == phase][2:] for phase in ("peak", "overload"))
    after_start = steady[min(len(steady) // 4, 60) :]
    growth = median(s.memory for s in after_start[-10:]) / median(s.memory for s in after_start[:10]) - 1
    rate, rate_over = median(s.answered for s in peak), median(s.answered for s in over)
    print(f"answered right: {run.outcomes['right']}; all else: {dict(run.outcomes - Counter(right=10**12))}")
    print(f"recoveries of a killed worker, seconds: {[round(each, 2) for each in run.recoveries]}")
    print(f"goodput with ten times the callers: {rate_over / rate:.2f} of {rate:.0f} a second")
    print(f"steady load: {median(s.answered for s in steady):.0f} a second over {len(steady) / 60:.0f} minutes")
    print(f"p50 {median(s.p50 for s in steady):.1f} ms, p99 {median(s.p99 for s in steady):.1f} ms")
    print(f"memory of the largest worker: {steady[-1].memory:.0f} MB, growth {growth:+.1%}", flush=True)
    lost = [float((s.outcomes - Counter({"503": 10**9})).total()) for s in run.seconds]
    curves = {
        "Memory of the largest worker, MB": [s.memory for s in run.seconds],
        "Latency, ms, 99th of a hundred": [s.p99 for s in run.seconds],
        "Latency, ms, median": [s.p50 for s in run.seconds],
        "Right answers a second": [float(s.answered) for s in run.seconds],
        "Refused (503) a second": [float(s.outcomes["503"]) for s in run.seconds],
        "Lost or wrong a second": lost,
    }
    draw(out, [second.at / 60 for second in run.seconds], curves)
    held = verdicts(run, callers, rate_over / rate, growth)
    for what, so in held.items():
        print(f"{'held' if so else 'FAILED'}: {what}", flush=True)
    return all(held.values())


def draw(out: Path, minutes: Sequence[float], curves: Mapping[str, Sequence[float]]) -> None:
    """Each curve in a panel of its own, one below the other, over the minutes."""
    figure = Figure(figsize=(9, 1.6 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), sharex=True)
    for axes, (title, values) in zip(panels, curves.items(), strict=True):
        axes.plot(minutes, values, linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_title(title, loc="left", fontsize="medium")
    panels[-1].set_xlabel("minutes")
    figure.savefig(out)


def verdicts(run: Run, callers: int, goodput: float, growth: float) -> dict[str, bool]:
    """The conditions, each with its result."""
    answers = {outcome: count for outcome, count in run.outcomes.items() if outcome.isdigit() or outcome == "wrong"}
    missing = run.outcomes["not replaced"]
    cut = run.outcomes.total() - run.outcomes["right"] - sum(answers.values()) - missing
    within = median(run.recoveries or [0.0])
    return {
        f"every answer is right, or 503, or 504: {answers}": answers.keys() <= set(ANSWERS),
        f"every killed worker is replaced, in the median within {RECOVERY_SECONDS:g} s: {within:.2f}": not missing
        and within <= RECOVERY_SECONDS,
        f"no more is cut off than callers could have at hand in {len(run.recoveries)} killed workers: {cut}": cut
        <= callers * len(run.recoveries),
        f"goodput with ten times the callers is {GOODPUT:g} of that before: {goodput:.2f}": goodput >= GOODPUT,
        f"the largest worker grows by no more than {GROWTH:.0%}: {growth:+.1%}": growth <= GROWTH,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    parser.add_argument("--callers", type=int, default=16, help="callers at once; ten times as many at the end")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between a caller's requests (default: 0.05)")
    parser.add_argument("--longest", type=int, default=2000, help="tokens in the longest text (default: 2000)")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="the models, which are copied")
    parser.add_argument("--out", type=Path, default=ROOT / "soak.svg", help="the picture (default: soak.svg)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models, log = Path(folder) / "models", Path(folder) / "log"
        shutil.copytree(asked.models, models)
        flags = {"workers": asked.workers, "models": models, "reload": 1, "queue-tokens": QUEUE_TOKENS}
        with soaked(flags, log) as service:
            texts = requests(TEXTS, asked.longest)
            run = Run(service.port, service.process.pid, asked.workers, texts, pause=asked.pause)
            uvloop.run(play(run, models, asked.minutes, asked.callers))
            held = report(run, asked.callers, asked.out)
        print(f"exit status after SIGTERM: {service.process.returncode}")
        if not held:
            print(log.read_text(encoding="utf-8", errors="replace")[-LAST_CHARACTERS:])
    sys.exit(0 if held and not service.process.returncode else 1)


def soaked(flags: Mapping[str, object], log: Path) -> AbstractContextManager[Server]:
    """A service with these flags, whose warnings go into a file; ready when all its workers are."""
    words = [f"--{name}={value}" for name, value in flags.items()]
    ready = workers_are_ready(int(str(flags["workers"])))
    return server("service", "serve", *words, "--log-level=warning", ready=ready, log=log)


if __name__ == "__main__":
    main()
