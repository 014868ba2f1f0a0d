"""How far a learning signal reaches: the part of a gradient at the last state that is left some steps back.

A gradient of norm 1 is put on the last hidden state, in a random direction, as some loss would put it there, and is
followed back through the cell, step by step: ``|dL / dh_t|`` and, if the cell has C, ``|dL / dC_t|``. The loss itself
does not matter. On the way back its gradient is multiplied with the Jacobian of each step: it vanishes if they shrink
vectors, and explodes if they stretch them (Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.nets.cells import Cell

FADED = 1e-3
"""The share of its start under which a signal counts as gone."""
_ALIKE = 0.02
"""A decay a step within this of 1 counts as neither vanishing nor exploding."""


@dataclass(frozen=True, slots=True)
class Reach:
    """The signal of one cell, by its distance from the loss: medians over texts and directions; at distance 0, 1."""

    name: str
    hidden: tuple[float, ...]
    cell: tuple[float, ...]
    """Norms at the cell state; empty for cells without one. 0 at distance 0, because the signal starts at the hidden
    state."""

    @property
    def signal(self) -> tuple[float, ...]:
        """The larger of both norms at each distance: the next step back sees both paths."""
        return tuple(map(max, self.hidden, self.cell)) if self.cell else self.hidden

    @property
    def decay(self) -> float:
        """The factor a step, as a geometric mean over the distance; 0 if a signal is lost to float64."""
        steps = len(self.signal) - 1
        first, last = self.signal[0], self.signal[-1]
        return (last / first) ** (1 / steps) if steps and last > 0 and math.isfinite(last) else 0.0

    @property
    def gone_at(self) -> int | None:
        """The first distance from which on the signal stays under a thousandth of its start."""
        limit = FADED * self.signal[0]
        there = [distance for distance, norm in enumerate(self.signal) if norm >= limit]
        return there[-1] + 1 if there[-1] + 1 < len(self.signal) else None

    @property
    def verdict(self) -> str:
        where = "" if self.gone_at is None else f", under {FADED:g} of its start {self.gone_at} steps back"
        if self.decay > 1 + _ALIKE:
            return f"explodes: {self.decay:.3f} a step"
        if self.decay < 1 - _ALIKE:
            return f"vanishes: {self.decay:.3f} a step{where}"
        return f"carries: {self.decay:.3f} a step{where}"


def reach(name: str, cell: Cell, inputs: Tensor, seed: int = 1) -> Reach:
    """Follow the signal back through a cell over inputs [rows, time, inputs]; rows are of one length, at least 2."""
    cell = cell.double().eval()
    zero = inputs.new_zeros(len(inputs), cell.units, dtype=torch.float64)
    with torch.no_grad():
        count = len(cell.read(inputs[:, :1].double())[1])
    state = (zero.requires_grad_(),) * count
    passed = []
    for step in inputs.double().unbind(1):
        _, after = cell.read(step[:, None], state)
        passed.append(after)
        state = after
    generator = torch.Generator().manual_seed(seed)
    arriving = torch.randn(len(inputs), cell.units, generator=generator, dtype=torch.float64)
    arriving /= arriving.norm(dim=1, keepdim=True)
    wanted = [part for after in passed for part in after]
    found = torch.autograd.grad(passed[-1][0], wanted, arriving, allow_unused=True)
    norms = [torch.zeros(()) if each is None else each.norm(dim=1).median() for each in found]
    parts = [tuple(float(norm) for norm in norms[part::count])[::-1] for part in range(count)]
    return Reach(name, parts[0], parts[1] if count == 2 else ())
