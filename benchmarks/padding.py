"""The cost of padding in training: `training.nets.networks.Layer`, fed padded batches, against torch's packed
sequences.

Both have the same weights, get the same padded inputs, and give back padded states: the packed layer packs and unpacks
within its time. One call is a forward and a backward pass. Padding is no token: only an input's own tokens count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.measure import Row, interleaved, row
from service.model.bundle import Feature
from service.model.equations import CellName
from training.nets.networks import EMBEDDING_SIZES, Architecture, Layer

SUBJECT, BASELINE = "padded layer", "packed sequences"
INPUTS = EMBEDDING_SIZES["word"]
KERNELS: dict[CellName, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True, slots=True)
class Size:
    """Units of each direction, rows of a batch, its longest row in tokens, rounds, and seconds of a turn."""

    hidden: int = 128
    rows: int = 32
    longest: tuple[int, ...] = (24, 200)
    rounds: int = 5
    seconds: float = 0.2


FULL = Size()
QUICK = Size(hidden=8, rows=4, longest=(5,), rounds=1, seconds=0.001)


def measure(size: Size = FULL) -> Iterator[Row]:
    """A row for each cell, longest row, and kind of batch: thousands of tokens a second."""
    for cell, longest, like in product(KERNELS, size.longest, (True, False)):
        shortest = -(-longest * 9 // 10) if like else 1
        task = Task(cell, size.hidden, row_lengths(size.rows, shortest, longest))
        seconds = interleaved(task.padded, task.packed, size.rounds, size.seconds)
        thousands = task.tokens / 1000
        case = f"Bi{cell.upper()} {size.hidden}, {size.rows} × {shortest}–{longest} tokens"
        yield row(case, "1,000 tokens/s", [(thousands / ours, thousands / theirs) for ours, theirs in seconds])


def row_lengths(rows: int, shortest: int, longest: int) -> list[int]:
    """Lengths of a batch's rows, the longest first, so that packing need not sort them; one row is the longest."""
    generator = np.random.default_rng(0)
    return sorted([longest, *generator.integers(shortest, longest + 1, rows - 1).tolist()], reverse=True)


class Task:
    """One batch, and two bidirectional layers of the same weights to pass it through."""

    def __init__(self, cell: CellName, hidden: int, lengths: list[int]) -> None:
        torch.manual_seed(0)
        features = (Feature(name="word", size=1),)
        architecture = Architecture("sentiment", cell, ("forward", "backward"), 1, hidden, "max", ("a", "b"), features)
        self.layer = Layer(architecture, INPUTS)
        self.kernel = KERNELS[cell](INPUTS, hidden, batch_first=True, bidirectional=True)
        for direction, weights in zip(self.layer.directions(), self.kernel.all_weights, strict=True):
            for ours, theirs in zip(direction.stacked(), weights, strict=True):
                assert ours is not None  # torch's kernels have both biases
                theirs.data.copy_(ours.data)
        self.tokens = sum(lengths)
        self.lengths = torch.tensor(lengths)
        self.inputs = torch.randn(len(lengths), lengths[0], INPUTS, requires_grad=True)
        valid = torch.arange(lengths[0]) < self.lengths[:, None]
        # The gradient at padding is zero, because no loss depends on it.
        self.gradient = torch.randn(len(lengths), lengths[0], 2 * hidden) * valid[..., None]

    def padded(self) -> Tensor:
        """Forward and backward, padded: the gradient at the inputs."""
        return self._backward(self.layer(self.inputs, self.lengths))

    def packed(self) -> Tensor:
        """Forward and backward, packed: the gradient at the inputs."""
        states, _ = self.kernel(pack_padded_sequence(self.inputs, self.lengths, batch_first=True))
        return self._backward(pad_packed_sequence(states, batch_first=True)[0])

    def _backward(self, states: Tensor) -> Tensor:
        for parameter in (self.inputs, *self.layer.parameters(), *self.kernel.parameters()):
            parameter.grad = None
        states.backward(self.gradient)  # type: ignore[no-untyped-call]  # torch has no annotation here
        assert self.inputs.grad is not None
        return self.inputs.grad
