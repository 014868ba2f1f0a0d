"""Training the cells that torch has no kernel for, against the nearest cell that it has one for: forward and backward.

Both read the same inputs in one direction, and give back the gradients of their weights and of the inputs. A cell's
weights do not change the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import Row, interleaved, row
from training.nets.cells import GRU, LSTM, Cell, Peephole, ResetBeforeGRU

SUBJECT, BASELINE = "our cell", "torch's kernel"
INPUTS = 100
PAIRS: dict[str, tuple[Callable[[int, int], Cell], Callable[[int, int], Cell]]] = {
    "peephole against LSTM": (Peephole, LSTM),
    "GRU, reset before against after": (ResetBeforeGRU, GRU),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Units of each cell, (rows, tokens) of each batch, rounds, and seconds of a turn."""

    hidden: tuple[int, ...] = (128, 256)
    batches: tuple[tuple[int, int], ...] = ((1, 40), (8, 40), (32, 40), (32, 200))
    rounds: int = 9
    seconds: float = 0.1


FULL = Size()
QUICK = Size(hidden=(8,), batches=((2, 5),), rounds=1, seconds=0.001)


def measure(size: Size = FULL) -> Iterator[Row]:
    """A row for each pair, number of units and batch: thousands of tokens a second."""
    for name, pair in PAIRS.items():
        for hidden in size.hidden:
            ours, theirs = (make(INPUTS, hidden) for make in pair)
            for rows, tokens in size.batches:
                inputs = torch.randn(rows, tokens, INPUTS, requires_grad=True)
                calls = (partial(train, ours, inputs), partial(train, theirs, inputs))
                seconds = interleaved(*calls, rounds=size.rounds, seconds=size.seconds)
                thousands = rows * tokens / 1000
                case = f"{name}, {hidden}, {rows} × {tokens} tokens"
                yield row(case, "1,000 tokens/s", [(thousands / one, thousands / other) for one, other in seconds])


def train(cell: Cell, inputs: Tensor) -> tuple[Tensor, ...]:
    """One pass forward and back: the gradients of the inputs and of every parameter."""
    states = cell(inputs)
    return torch.autograd.grad(states, (inputs, *cell.parameters()), torch.ones_like(states))
