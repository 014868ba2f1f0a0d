"""The classic tests of long memory: the adding problem and the copy problem.

adding: a sequence of numbers drawn evenly from [0, 1], two of them marked; the answer is the sum of those two
(Hochreiter and Schmidhuber 1997, in the form of Le, Jaitly and Hinton 2015). The baseline always answers 1, the mean.
Its mean squared error is 1/6.

copy: ten symbols of eight, a pause of T - 1 blanks, then a bell and ten further steps, in which the ten symbols are to
be repeated (Hochreiter and Schmidhuber 1997; sizes of Arjovsky, Shah and Bengio 2016 and of Bai, Kolter and Koltun
2018). The baseline knows the place of the answer but not the symbols. Its cross-entropy is 10 ln 8 / (T + 20) nats a
step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.nets.cells import make

Problem = Literal["adding", "copy"]

_SYMBOLS, _COPIED = 8, 10
BLANK, BELL = 0, 9
SOLVED, LEARNING = 0.1, 0.9
"""A loss below these shares of the baseline's loss counts as solved, and as learning."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a cell is put to the test. Every cell gets the same, and the same sequences in the same order."""

    problem: Problem = "adding"
    length: int = 100
    """T: numbers to read, or the length of the pause."""
    hidden: int = 64
    rows: int = 32
    steps: int = 4000
    learning_rate: float = 2e-3
    """Adam's (Kingma and Ba 2015), constant."""
    clip: float = 1.0
    """Largest global norm of the gradient."""
    every: int = 100
    """Steps from one measurement to the next."""
    held_out: int = 512
    """Sequences that are never trained on, the same at every measurement."""
    stop: float = 0.02
    """Share of the baseline at which training ends: the problem is solved, and the rest of the curve flat."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement: after so many steps, the loss on held-out sequences, and the median norm of the gradient since
    the measurement before, as it was before clipping."""

    step: int
    loss: float
    gradient: float


@dataclass(frozen=True, slots=True)
class Curve:
    """How one cell fared."""

    cell: str
    settings: Settings
    baseline: float
    points: tuple[Point, ...]
    seconds: float
    parameters: int

    @property
    def best(self) -> float:
        """The lowest finite loss; infinity if there is none."""
        return min((point.loss for point in self.points if math.isfinite(point.loss)), default=math.inf)

    @property
    def solved_at(self) -> int | None:
        """The first measurement under a tenth of the baseline."""
        return next((point.step for point in self.points if point.loss < SOLVED * self.baseline), None)

    @property
    def verdict(self) -> str:
        if self.solved_at is not None:
            return f"solved after {self.solved_at:,} steps"
        if self.best < LEARNING * self.baseline:
            return f"learning, not solved in {self.points[-1].step:,} steps"
        return f"no idea after {self.points[-1].step:,} steps"


def baseline(problem: Problem, length: int) -> float:
    """The lowest loss without a look at the input: squared error for `adding`, nats a step for `copy`."""
    return 1 / 6 if problem == "adding" else _COPIED * math.log(_SYMBOLS) / (length + 2 * _COPIED)


def adding(length: int, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs [rows, length, 2], the number and the mark, and the sums [rows]. Needs a length of at least 2."""
    numbers = torch.rand(rows, length, generator=generator)
    marked = torch.rand(rows, length, generator=generator).topk(2).indices
    marks = torch.zeros(rows, length).scatter_(1, marked, 1.0)
    return torch.stack([numbers, marks], 2), numbers.gather(1, marked).sum(1)


def copy(length: int, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols int64 [rows, length + 20] and the expected answer at each step, both 0 to 9."""
    symbols = torch.randint(1, _SYMBOLS + 1, (rows, _COPIED), generator=generator)
    read = torch.full((rows, length + 2 * _COPIED), BLANK)
    read[:, :_COPIED] = symbols
    read[:, _COPIED + length - 1] = BELL
    wanted = torch.full_like(read, BLANK)
    wanted[:, -_COPIED:] = symbols
    return read, wanted


class Reader(nn.Module):
    """One cell, reading once from left to right, and a linear answer: at the end (adding) or at every step (copy)."""

    def __init__(self, problem: Problem, cell: str, hidden: int) -> None:
        super().__init__()
        self.problem = problem
        width = 2 if problem == "adding" else _SYMBOLS + 2
        self.cell = make(cell, width, hidden)
        self.head = nn.Linear(hidden, 1 if problem == "adding" else width)

    def loss(self, inputs: Tensor, wanted: Tensor) -> Tensor:
        """The mean square of the error, or the cross-entropy a step in nats."""
        if self.problem == "adding":
            return functional.mse_loss(self.head(self.cell(inputs)[:, -1]).squeeze(1), wanted)
        states = self.cell(functional.one_hot(inputs, _SYMBOLS + 2).float())
        return functional.cross_entropy(self.head(states).flatten(0, 1), wanted.flatten())


def learn(cell: str, settings: Settings, report: Callable[[Point], None], device: torch.device | None = None) -> Curve:
    """Put one cell to the test. `report` gets every measurement."""
    draw = adding if settings.problem == "adding" else copy
    torch.manual_seed(settings.seed)
    reader = Reader(settings.problem, cell, settings.hidden).to(device)
    optimizer = torch.optim.Adam(reader.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(settings.seed)
    held_out = draw(settings.length, settings.held_out, generator)
    goal = baseline(settings.problem, settings.length)
    started, points, norms = time.perf_counter(), [], []
    for step in range(1, settings.steps + 1):
        loss = reader.loss(*(each.to(device) for each in draw(settings.length, settings.rows, generator)))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norms.append(float(nn.utils.clip_grad_norm_(reader.parameters(), settings.clip)))
        optimizer.step()
        if step % settings.every == 0 or step == settings.steps:
            points.append(Point(step, _measure(reader, held_out, device), _median(norms)))
            norms = []
            report(points[-1])
            if not math.isfinite(points[-1].loss) or points[-1].loss < settings.stop * goal:
                break
    count = sum(parameter.numel() for parameter in reader.parameters())
    return Curve(cell, settings, goal, tuple(points), time.perf_counter() - started, count)


def _measure(reader: Reader, held_out: tuple[Tensor, Tensor], device: torch.device | None) -> float:
    with torch.inference_mode():
        return float(reader.loss(*(each.to(device) for each in held_out)))


def _median(norms: list[float]) -> float:
    return sorted(norms)[len(norms) // 2]
