"""Threads of torch in a training step beside busy programs: how much longer a step takes with more of them than one.

``python -m benchmarks.threads`` prints a line for each number of threads. The step is that of a layer of an LSTM with
two directions, forward and back. The busy programs are processes that count, one for each CPU unless --busy says
otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median

import click
import torch

from benchmarks.measure import in_turns
from benchmarks.minimal import INPUTS, train
from service.cpus import usable_cpus
from service.model.bundle import Feature
from service.model.equations import Direction
from training.loop.threads import flush_denormals
from training.nets.networks import Architecture, Layer

_BUSY = "while True: pass"


@dataclass(frozen=True, slots=True)
class Size:
    """Units of each direction, rows of the batch, tokens of each row, and rounds."""

    hidden: int = 128
    rows: int = 16
    tokens: int = 25
    rounds: int = 15


def measure(threads: Sequence[int], busy: int, size: Size) -> dict[int, float]:
    """Milliseconds of a training step by number of threads: medians of interleaved rounds, beside busy processes."""
    flush_denormals()
    labels = ("negative", "positive")
    ways: tuple[Direction, ...] = ("forward", "backward")
    shape = Architecture("sentiment", "lstm", ways, 1, size.hidden, "max", labels, (Feature(name="word", size=2),))
    layer = Layer(shape, INPUTS)
    inputs = torch.randn(size.rows, size.tokens, INPUTS, requires_grad=True)  # (B, T, I)
    lengths = torch.full((size.rows,), size.tokens)
    before = torch.get_num_threads()

    def step(number: int) -> float:
        torch.set_num_threads(number)
        train(layer, inputs, lengths)  # starts the threads
        started = time.perf_counter()
        train(layer, inputs, lengths)
        return 1000 * (time.perf_counter() - started)

    try:
        with _busy(busy):
            rounds = in_turns(size.rounds, *(partial(step, number) for number in threads))
    finally:
        torch.set_num_threads(before)
    return {number: median(found) for number, found in zip(threads, zip(*rounds, strict=True), strict=True)}


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Processes that keep a CPU busy each, while the block runs."""
    running = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]  # noqa: S603 # our own program, no shell
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


@click.command(help=__doc__)
@click.option("--threads", type=click.IntRange(2), multiple=True, help="Threads to compare with one. Default: 2.")
@click.option("--busy", type=click.IntRange(0), help="Busy programs beside. Default: one for each CPU.")
@click.option("--hidden", type=click.IntRange(1), default=Size().hidden, show_default=True, help="Units.")
@click.option("--rounds", type=click.IntRange(1), default=Size().rounds, show_default=True, help="Rounds.")
def main(threads: tuple[int, ...], busy: int | None, hidden: int, rounds: int) -> None:
    """Measure and print."""
    beside = usable_cpus() if busy is None else busy
    found = measure((1, *(threads or (2,))), beside, Size(hidden=hidden, rounds=rounds))
    for number, milliseconds in found.items():
        ratio = milliseconds / found[1]
        print(f"{number} thread{'s' * (number > 1)} beside {beside} busy: {milliseconds:.1f} ms, {ratio:.1f} times one")


if __name__ == "__main__":
    main()
