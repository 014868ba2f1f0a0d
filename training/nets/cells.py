"""The recurrent cells in torch, one direction each, and their weights by gate name.

A cell maps inputs [batch, time, inputs] to hidden states [batch, time, units], from a zero state or from one carried
over, reading left to right. Rows are padded on the right, which a left-to-right reader never notices; `networks` turns
rows around for the backward direction. Each cell's docstring holds its equations, word for word those of
`service.model.equations`, where W [h_{t-1}, x_t] is W x_t + R h_{t-1}: W [units, inputs], R [units, units], b [units].

Where torch has a fused kernel the cell is torch's own module. It is fed padded batches and not packed ones: on a CPU
the padded LSTM runs in oneDNN, several times faster than the packed one, with the same states (docs/benchmarks.md).
The others run on `training.nets.kernels`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.model.equations import CellName, GruReset
from training.nets import kernels
from training.nets.initial import Initial, initialise

State = tuple[Tensor, ...]
"""What a cell carries from step to step, each [batch, units]: the hidden state, and the cell state where it has one."""


@dataclass(frozen=True, slots=True)
class GateWeights:
    """One gate's parameters: W [units, inputs], R [units, units], the two biases [units] of torch and cuDNN, and the
    gate's peephole [units] where it has one."""

    w: Tensor
    r: Tensor
    w_bias: Tensor
    r_bias: Tensor
    peephole: Tensor | None = None


class Stacked(NamedTuple):
    """A cell's parameters, its gates' rows stacked in the order of `blocks`. A single bias counts as the input's."""

    w: Tensor
    r: Tensor
    w_bias: Tensor
    r_bias: Tensor | None = None


class Cell(nn.Module, ABC):
    """One direction of one layer. Subclasses name their `blocks`: the gates, in the order of the stacked rows."""

    blocks: tuple[str, ...] = ()
    weight_drop = 0.0
    """Share of the recurrent weights that are dropped in training, the same at every step of a pass (DropConnect on
    the hidden-to-hidden matrices: Merity, Keskar and Socher 2018)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.inputs, self.units = inputs, units

    def forward(self, inputs: Tensor, state: State | None = None) -> Tensor:
        """Inputs [batch, time, inputs] → hidden states [batch, time, units]."""
        return self.read(inputs, state, self.mask())[0]

    @abstractmethod
    def read(self, inputs: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        """The hidden states, and the state after the last column; `state` None is a zero state.

        `mask`, of the shape of all recurrent weights, is what these are multiplied with.
        """

    def mask(self) -> Tensor | None:
        """What drops recurrent weights, for a whole text; None where none are dropped."""
        if not (self.training and self.weight_drop):
            return None
        return functional.dropout(torch.ones_like(self.stacked().r), self.weight_drop)

    @abstractmethod
    def stacked(self) -> Stacked:
        """The parameters themselves, not copies."""

    def weights(self) -> dict[str, GateWeights]:
        """The parameters by gate name, detached, in float32 on the CPU."""
        w, r, w_bias, r_bias = self.stacked()
        second = torch.zeros_like(w_bias) if r_bias is None else r_bias
        parts = [part.detach().float().cpu().chunk(len(self.blocks)) for part in (w, r, w_bias, second)]
        return {gate: GateWeights(*of_gate) for gate, *of_gate in zip(self.blocks, *parts, strict=True)}


class _Fused(Cell):
    """A cell on torch's own kernel, which keeps a layer's axis in front of its states."""

    def __init__(self, kernel: nn.RNNBase) -> None:
        super().__init__(kernel.input_size, kernel.hidden_size)
        self.kernel = kernel
        initialise(self.stacked(), self.blocks, Initial())

    def read(self, inputs: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        states, last = self._run(inputs, None if state is None else state[0][None], mask)
        return states, (last[0],)

    def stacked(self) -> Stacked:
        return Stacked(*self.kernel.all_weights[0])

    def _run(self, inputs: Tensor, state: Any, mask: Tensor | None) -> Any:
        """What the kernel does; with a mask by torch's functions, as the module takes no weights but its own."""
        if mask is None:
            return self.kernel(inputs, state)
        w, r, w_bias, r_bias = self.kernel.all_weights[0]
        weights = [w, r * mask, w_bias, r_bias]
        zero = inputs.new_zeros(1, len(inputs), self.units)
        options = (weights, True, 1, 0.0, True, False, True)
        if isinstance(self.kernel, nn.LSTM):
            states, *last = torch.lstm(inputs, state or (zero, zero), *options)
            return states, tuple(last)
        run = torch.gru if isinstance(self.kernel, nn.GRU) else torch.rnn_tanh
        return run(inputs, zero if state is None else state, *options)


class _Own(Cell):
    """A cell on `training.nets.kernels`, with one bias a gate."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        rows = len(self.blocks) * units
        self.w, self.r = nn.Parameter(torch.empty(rows, inputs)), nn.Parameter(torch.empty(rows, units))
        self.bias = nn.Parameter(torch.empty(rows))
        initialise(self.stacked(), self.blocks, Initial())

    def stacked(self) -> Stacked:
        return Stacked(self.w, self.r, self.bias)

    def _begin(self, inputs: Tensor, state: State | None, states: int) -> tuple[Tensor, State]:
        """``W x + b`` for all steps, [time, batch, blocks * units], and the state to begin with."""
        sums = functional.linear(inputs.transpose(0, 1), self.w, self.bias)
        return sums, state or (sums.new_zeros(len(inputs), self.units),) * states

    def _recurrent(self, mask: Tensor | None) -> Tensor:
        return self.r if mask is None else self.r * mask


class Elman(_Fused):
    """Elman 1990. Row `rnn` of `service.model.equations`:

    h_t = tanh(W [h_{t-1}, x_t] + b)
    """

    blocks = ("hidden",)

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(nn.RNN(inputs, units, batch_first=True))


class LSTM(_Fused):
    """Hochreiter and Schmidhuber 1997, with forget gates (Gers et al. 2000). Row `lstm` of `service.model.equations`:

        f_t = sigmoid(W_f [h_{t-1}, x_t] + b_f)
        i_t = sigmoid(W_i [h_{t-1}, x_t] + b_i)
        o_t = sigmoid(W_o [h_{t-1}, x_t] + b_o)
        C~_t = tanh(W_C [h_{t-1}, x_t] + b_C)
        C_t = f_t * C_{t-1} + i_t * C~_t
        h_t = o_t * tanh(C_t)

    torch adds two biases; the forget gate's begin at a sum of 1 (`training.nets.initial`).
    """

    blocks = ("input", "forget", "candidate", "output")

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(nn.LSTM(inputs, units, batch_first=True))

    def read(self, inputs: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        before = None if state is None else (state[0][None], state[1][None])
        states, (hidden, cell) = self._run(inputs, before, mask)
        return states, (hidden[0], cell[0])


class Peephole(_Own):
    """The LSTM whose gates see the cell through diagonal weights p [units] (Gers and Schmidhuber 2000). Row `peephole`
    of `service.model.equations`:

        f_t = sigmoid(W_f [h_{t-1}, x_t] + p_f * C_{t-1} + b_f)
        i_t = sigmoid(W_i [h_{t-1}, x_t] + p_i * C_{t-1} + b_i)
        o_t = sigmoid(W_o [h_{t-1}, x_t] + p_o * C_t + b_o)
        C~_t = tanh(W_C [h_{t-1}, x_t] + b_C)
        C_t = f_t * C_{t-1} + i_t * C~_t
        h_t = o_t * tanh(C_t)

    Some primers write full matrices over [C, h, x], and let the candidate see the cell too. The source, cuDNN's
    predecessors and ONNX have a weight a unit and none for the candidate: a unit's gates guard that unit's own cell.
    Peepholes start at zero, which is a plain LSTM; the forget gate's bias starts at 1.
    """

    blocks = ("input", "forget", "candidate", "output")
    seeing = ("input", "forget", "output")
    """The gates with a peephole, in the order of the rows of `peepholes` [3, units]."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        self.peepholes = nn.Parameter(torch.zeros(len(self.seeing), units))

    def read(self, inputs: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        sums, (hidden, cell) = self._begin(inputs, state, 2)
        states, last = kernels.peephole(sums, self._recurrent(mask), self.peepholes, hidden, cell)
        return states.transpose(0, 1), (states[-1], last)

    def weights(self) -> dict[str, GateWeights]:
        found = super().weights()
        for gate, peephole in zip(self.seeing, self.peepholes.detach().float().cpu(), strict=True):
            plain = found[gate]
            found[gate] = GateWeights(plain.w, plain.r, plain.w_bias, plain.r_bias, peephole)
        return found


class GRU(_Fused):
    """The reset-after GRU of cuDNN and torch (after Cho et al. 2014). Row `gru` of `service.model.equations`:

        z_t = sigmoid(W_z [h_{t-1}, x_t] + b_z)
        r_t = sigmoid(W_r [h_{t-1}, x_t] + b_r)
        h~_t = tanh(W_h x_t + b_h + r_t * (R_h h_{t-1} + c_h))
        h_t = (1 - z_t) * h_{t-1} + z_t * h~_t

    torch's update gate is the complement of the table's: it keeps the old state, so it is named `keep` here.
    """

    blocks = ("reset", "keep", "candidate")

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(nn.GRU(inputs, units, batch_first=True))


class ResetBeforeGRU(_Own):
    """The GRU as Cho et al. 2014 wrote it: the reset gate acts before the product. Row `gru` of
    `service.model.equations`:

        z_t = sigmoid(W_z [h_{t-1}, x_t] + b_z)
        r_t = sigmoid(W_r [h_{t-1}, x_t] + b_r)
        h~_t = tanh(W_h [r_t * h_{t-1}, x_t] + b_h)
        h_t = (1 - z_t) * h_{t-1} + z_t * h~_t

    `keep` is the complement of z, as in `GRU`.
    """

    blocks = ("reset", "keep", "candidate")

    def read(self, inputs: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        sums, (hidden,) = self._begin(inputs, state, 1)
        states = kernels.reset_before(sums, self._recurrent(mask), hidden)
        return states.transpose(0, 1), (states[-1],)


CELLS: dict[tuple[CellName, GruReset | None], Callable[[int, int], Cell]] = {
    ("rnn", None): Elman,
    ("lstm", None): LSTM,
    ("peephole", None): Peephole,
    ("gru", "after"): GRU,
    ("gru", "before"): ResetBeforeGRU,
}
"""(cell, where a GRU's reset gate acts) → (inputs, units) → a cell. The cells that can be trained."""

NAMED: dict[str, tuple[CellName, GruReset | None]] = {
    "rnn": ("rnn", None),
    "lstm": ("lstm", None),
    "peephole": ("peephole", None),
    "gru": ("gru", "after"),
    "gru-before": ("gru", "before"),
}
"""Every cell by one word, for tables and pictures that compare them."""


def make(name: str, inputs: int, units: int) -> Cell:
    """A fresh cell by its word in `NAMED`. Raises `KeyError` for another."""
    return CELLS[NAMED[name]](inputs, units)
