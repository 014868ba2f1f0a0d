"""The minimal cells against the LSTM of the same size: training, prediction, and the gates.

Training reads ragged batches with a layer of two directions, forward and back, as a network does. Predictions and
traces are of classifiers with random weights, two directions and one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Row, interleaved, row
from benchmarks.trace import random_engine
from service.model.bundle import Feature
from service.model.equations import CellName
from training.loop.threads import flush_denormals
from training.nets.networks import Architecture, Layer

SUBJECT, BASELINE = "minimal cell", "LSTM of the same size"
CELLS: tuple[CellName, ...] = ("mingru", "minlstm")
INPUTS, WORDS = 100, 1000


@dataclass(frozen=True, slots=True)
class Size:
    """Units of each network, (rows, tokens) of batches to learn from and to predict, rounds, and seconds of a turn."""

    hidden: tuple[int, ...] = (128, 256)
    learned: tuple[tuple[int, int], ...] = ((32, 25), (32, 200))
    predicted: tuple[tuple[int, int], ...] = ((1, 20), (8, 20), (1, 230))
    rounds: int = 15
    seconds: float = 0.03


FULL = Size()
QUICK = Size(hidden=(8,), learned=((2, 5),), predicted=((2, 5),), rounds=1, seconds=0.001)


def measure(size: Size = FULL) -> Iterator[Row]:
    """Rows for each cell and number of units: training in thousands of tokens a second, prediction in milliseconds,
    and a trace in milliseconds against a prediction of the same model."""
    flush_denormals()
    for cell, hidden in product(CELLS, size.hidden):
        yield from _training(cell, hidden, size)
        yield from _serving(cell, hidden, size)


def _training(cell: CellName, hidden: int, size: Size) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (Layer(_shape(each, hidden), INPUTS) for each in (cell, "lstm"))
    for rows, tokens in size.learned:
        inputs = torch.randn(rows, tokens, INPUTS, generator=generator, requires_grad=True)
        lengths = torch.randint(max(1, tokens * 4 // 5), tokens + 1, (rows,), generator=generator)
        calls = (partial(train, ours, inputs, lengths), partial(train, theirs, inputs, lengths))
        seconds = interleaved(*calls, rounds=size.rounds, seconds=size.seconds)
        thousands = int(lengths.sum()) / 1000
        case = f"training {cell} {hidden}, {rows} × {tokens} tokens"
        yield row(case, "1,000 tokens/s", [(thousands / one, thousands / other) for one, other in seconds])


def _serving(cell: CellName, hidden: int, size: Size) -> Iterator[Row]:
    generator = np.random.default_rng(0)
    ours, theirs = random_engine(cell, hidden), random_engine("lstm", hidden)
    for rows, tokens in size.predicted:
        batch = [generator.integers(0, WORDS, (tokens, 1)).astype(np.int32) for _ in range(rows)]
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "prediction": (partial(ours.predict, batch), partial(theirs.predict, batch)),
            "trace against its own prediction": (partial(ours.trace, batch), partial(ours.predict, batch)),
        }
        for what, calls in pairs.items():
            seconds = interleaved(*calls, rounds=size.rounds, seconds=size.seconds)
            milliseconds = [(one * 1000, other * 1000) for one, other in seconds]
            yield row(f"{what} {cell} {hidden}, {rows} × {tokens} tokens", "ms", milliseconds)


def _shape(cell: CellName, hidden: int) -> Architecture:
    features = (Feature(name="word", size=WORDS),)
    labels = ("negative", "positive")
    return Architecture("sentiment", cell, ("forward", "backward"), 1, hidden, "max", labels, features)


def train(layer: Layer, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    """One pass forward and back: the gradients of the inputs and of every parameter."""
    states = layer(inputs, lengths)
    return torch.autograd.grad(states, (inputs, *layer.parameters()), torch.ones_like(states))
