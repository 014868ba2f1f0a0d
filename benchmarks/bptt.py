"""Truncated BPTT against whole texts: peak memory and speed of a training step.

Each contestant takes its step in a process of its own. Memory is the peak of the process above its size before the
step, as the system counts it: the operating system's high-water mark, reset before (Linux).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Row, row
from service.model.bundle import Feature, Head, Task
from training.data.batches import Sample
from training.loop.fit import Recipe, fit, seed_everything
from training.nets.networks import Architecture, Network

SUBJECT, BASELINE = "windows of 100", "whole texts"
_WORDS, _WINDOW = 1000, 100
_HEADS: dict[Task, Head] = {"sentiment": "max", "ner": "tagger"}


@dataclass(frozen=True, slots=True)
class Size:
    """Units, rows of the batch, tokens of its texts, tasks, and rounds."""

    hidden: int = 128
    rows: int = 4
    tokens: tuple[int, ...] = (500, 2000, 8000)
    tasks: tuple[Task, ...] = ("sentiment", "ner")
    rounds: int = 3


FULL = Size()
QUICK = Size(hidden=8, rows=1, tokens=(250,), tasks=("sentiment",), rounds=1)


def measure(size: Size = FULL) -> Iterator[Row]:
    """Two rows for each task and length: peak megabytes, and thousands of tokens a second."""
    for task in size.tasks:
        for tokens in size.tokens:
            rounds = []
            for number in range(size.rounds):
                order = (_WINDOW, 0) if number % 2 else (0, _WINDOW)
                found = {bptt: _in_a_process(task, size.hidden, size.rows, tokens, bptt) for bptt in order}
                rounds.append((found[_WINDOW], found[0]))
            case = f"LSTM {size.hidden}, {'classifier' if task == 'sentiment' else 'tagger'}, {size.rows} × {tokens:,}"
            yield row(case, "MB, peak", [(ours[0], theirs[0]) for ours, theirs in rounds])
            thousands = size.rows * tokens / 1000
            speeds = [(thousands / ours[1], thousands / theirs[1]) for ours, theirs in rounds]
            yield row(case, "1,000 tokens/s", speeds)


def _in_a_process(task: Task, hidden: int, rows: int, tokens: int, bptt: int) -> tuple[float, float]:
    arguments = [task, *map(str, (hidden, rows, tokens, bptt, torch.get_num_threads()))]
    command = [sys.executable, "-m", "benchmarks.bptt", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 # our own program, no shell
    megabytes, seconds = map(float, done.stdout.split())
    return megabytes, seconds


def step(task: Task, hidden: int, rows: int, tokens: int, bptt: int) -> tuple[float, float]:
    """One training step: the megabytes that it took at most, and its seconds."""
    seed_everything(1)
    generator = np.random.default_rng(1)
    feature = Feature(name="word", size=_WORDS)
    labels = ("negative", "positive") if task == "sentiment" else ("O", "B-PER", "I-PER")
    network = Network(Architecture(task, "lstm", ("forward",), 1, hidden, _HEADS[task], labels, (feature,)))

    def train(length: int) -> None:
        samples = [
            Sample(
                generator.integers(0, _WORDS, (length, 1)).astype(np.int32),
                generator.integers(0, len(labels), 1 if task == "sentiment" else length),
            )
            for _ in range(rows)
        ]
        recipe = Recipe(epochs=1, batch_rows=rows, batch_tokens=rows * length, bptt=bptt)
        fit(network, samples, recipe, lambda _: 0.0, lambda _: None, torch.device("cpu"))

    train(_WINDOW)  # to warm up: libraries, the optimiser's memory
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # resets the high-water mark to the current size
    before, started = _status("VmHWM"), time.perf_counter()
    train(tokens)
    seconds = time.perf_counter() - started
    return max(_status("VmHWM") - before, 0.01), seconds


def _status(name: str) -> float:
    """A line of this process's status in the kernel, in megabytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return float(kilobytes) * 1024 / 1e6


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    units, texts, length, width, threads = map(int, numbers)
    torch.set_num_threads(threads)
    print(*step("ner" if kind == "ner" else "sentiment", units, texts, length, width))
