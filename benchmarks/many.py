"""Many texts at once: texts a second, as a share of the rate of the same threads in process.

The ceiling tokenises every text, sorts by length, cuts into batches of like length and runs them through the engine, on
as many threads as there are CPUs: without requests, decoding or output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.field import texts
from benchmarks.generator import run
from benchmarks.measure import Row, row
from benchmarks.serving import ROOT, ServingError, server, shipped
from service.cpus import usable_cpus
from service.model.bundle import Bundle
from service.model.loading import Model
from service.scoring import repository
from service.scoring.work import BATCH_ROWS, BATCH_TOKENS
from service.serving.queueing import batches

SUBJECT, BASELINE = "the project", "in process"
_MEAN, _LONGEST = 39, 200
_LIMIT = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """Texts in a request and in a file, rounds, and seconds of a turn."""

    request: int = 256
    file: int = 20_000
    rounds: int = 5
    seconds: float = 3.0


FULL = Size()
QUICK = Size(request=8, file=64, rounds=1, seconds=1.0)


def measure(size: Size = FULL, bundle: Bundle | None = None) -> Iterator[Row]:
    """A request of mixed lengths, asked over one connection and over two; a file, scored from the command line.

    Raises `ServingError` or `LoadError`.
    """
    bundle = bundle or shipped()
    sample = mixed(max(size.request, size.file))
    with ThreadPoolExecutor(usable_cpus()) as pool:
        ceiling = _Ceiling(repository.load(bundle.path, "cpu", BATCH_TOKENS), pool)
        with server("service", "serve", "--models", str(bundle.path.parents[1]), "--provider", "cpu") as service:
            asked = json.dumps({"model": bundle.name, "inputs": sample[: size.request]}).encode()
            for connections in (1, 2):
                pairs = []
                for number in range(size.rounds + 1):
                    mine = run(service.port, "/predict", [asked], connections, size.seconds).rate * size.request
                    if number:  # the first round warms up
                        pairs.append((mine, ceiling.rate(sample[: size.request], size.seconds)))
                case = f"{size.request} texts a request, {connections} connection{'s' if connections > 1 else ''}"
                yield row(case, "texts/s", pairs)
        ceiling.rate(sample[: size.file], 0.0)
        pairs = [
            (_command(bundle, sample[: size.file]), ceiling.rate(sample[: size.file], size.seconds))
            for _ in range(max(1, size.rounds - 2))
        ]
        yield row(f"python -m service predict, {size.file:,} texts", "texts/s", pairs)


def mixed(number: int) -> list[str]:
    """Texts of many lengths, half of them under 28 tokens, a few of 200."""
    lengths = np.clip(np.random.default_rng(0).exponential(_MEAN, number).astype(int), 1, _LONGEST)
    words = texts(_LONGEST)
    return [" ".join(words[place % len(words)].split()[:length]) for place, length in enumerate(lengths)]


class _Ceiling:
    def __init__(self, model: Model, pool: ThreadPoolExecutor) -> None:
        self._model, self._pool = model, pool

    def rate(self, sample: Sequence[str], seconds: float) -> float:
        """Texts a second, over as many whole passes as fill the time."""
        started, passes = time.perf_counter(), 0
        while not passes or time.perf_counter() - started < seconds:
            self._once(sample)
            passes += 1
        return passes * len(sample) / (time.perf_counter() - started)

    def _once(self, sample: Sequence[str]) -> None:
        rows = [self._model.encode(text, truncate=True).rows for text in sample]
        predict = self._model.engine.predict
        cut = batches([len(each) for each in rows], BATCH_ROWS, BATCH_TOKENS)
        for _ in self._pool.map(lambda places: predict([rows[place] for place in places]), cut):
            pass


def _command(bundle: Bundle, sample: Sequence[str]) -> float:
    """Texts a second from the command line, without start and end: the time of a file with one text is subtracted."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        one, all_ = Path(folder) / "one.txt", Path(folder) / "all.txt"
        one.write_text(sample[0] + "\n", "utf-8")
        all_.write_text("".join(f"{text}\n" for text in sample), "utf-8")
        seconds = _score(bundle, all_) - _score(bundle, one)
    return (len(sample) - 1) / seconds


def _score(bundle: Bundle, file: Path) -> float:
    command = [sys.executable, "-m", "service", "predict", "--model", str(bundle.path), "--quiet", "--truncate"]
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603 # our own program, no shell
        [*command, "--output", str(file.with_suffix(".jsonl")), str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    if done.returncode:
        raise ServingError(f"predict failed: {done.stderr.strip()}")
    return time.perf_counter() - started
