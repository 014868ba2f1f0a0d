"""A wrong step of streams, for tests of the places that must see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from service.model.streams import cells, stepping
from service.model.streams.cells import Array, Gates


@dataclass
class _Wrong:
    """A layer whose step is followed by `change`, of its gates and its states."""

    layer: cells.Layer
    change: Callable[[Gates, Sequence[Array]], Gates]

    def __post_init__(self) -> None:
        self.sizes = self.layer.sizes

    def arrive(self, inputs: Array) -> Array:
        return self.layer.arrive(inputs)

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        return self.change(self.layer.step(arrived, states), states)


def steps(monkeypatch: pytest.MonkeyPatch, change: Callable[[Gates, Sequence[Array]], Gates]) -> None:
    """Change the outcome of every step."""
    monkeypatch.setattr(stepping, "layer", lambda *of: _Wrong(cells.layer(*of), change))


def add(amount: float) -> Callable[[Gates, Sequence[Array]], Gates]:
    """A hidden state that is off by `amount`."""

    def change(gates: Gates, states: Sequence[Array]) -> Gates:
        states[0][...] += np.float32(amount)
        return gates

    return change


def forget(gates: Gates, states: Sequence[Array]) -> Gates:
    """The last state is not carried on: an LSTM forgets its cell, and any other its output."""
    gates = {name: found.copy() for name, found in gates.items()}
    states[-1][...] = 0
    return gates


def swap(gates: Gates, states: Sequence[Array]) -> Gates:
    """Two gates under each other's names: every answer stays right."""
    first, second, *_ = gates
    return {**gates, first: gates[second], second: gates[first]}


def no_number(gates: Gates, states: Sequence[Array]) -> Gates:
    return add(np.nan)(gates, states)


CHANGES: dict[str, Any] = {"off by a little": add(1e-3), "forgetful": forget, "swapped": swap, "no number": no_number}
