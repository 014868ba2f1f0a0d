"""Initialisation of a cell's weights, under the usual names. Each gate is drawn by itself, as a layer of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

InputStart = Literal["xavier", "he"]
RecurrentStart = Literal["orthogonal", "xavier", "he"]


@dataclass(frozen=True, slots=True)
class Initial:
    """Input weights, recurrent weights, and the forget gate's bias. Other biases, and peepholes, begin at zero."""

    input: InputStart = "xavier"
    recurrent: RecurrentStart = "orthogonal"
    forget_bias: float = 1.0
    """Value of the *sum* of the two biases that torch adds (Jozefowicz et al. 2015). Cells without the gate ignore
    it."""


def _he(weights: Tensor) -> Tensor:
    return nn.init.kaiming_normal_(weights, nonlinearity="relu")


_STARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "xavier": nn.init.xavier_uniform_,  # Glorot and Bengio 2010
    "he": _he,  # He et al. 2015: made for ReLU, larger than tanh cells want
    "orthogonal": nn.init.orthogonal_,  # Saxe et al. 2014
}


def initialise(
    stacked: tuple[Tensor, Tensor | None, Tensor, Tensor | None], blocks: Sequence[str], initial: Initial
) -> None:
    """Draw a cell's weights anew.

    `stacked` are its input weights, recurrent weights or None, and one bias or two, each with the rows of one gate
    after the other; `blocks` names the gates in that order.
    """
    w, r, w_bias, r_bias = stacked
    units = len(w) // len(blocks)
    for number, gate in enumerate(blocks):
        rows = slice(number * units, (number + 1) * units)
        _STARTS[initial.input](w.data[rows])
        if r is not None:
            _STARTS[initial.recurrent](r.data[rows])
        w_bias.data[rows] = initial.forget_bias if gate == "forget" else 0.0
        if r_bias is not None:
            r_bias.data[rows] = 0.0
