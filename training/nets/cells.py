"""The recurrent cells in torch, one direction each, and their weights by gate name.

A cell maps inputs [batch, time, inputs] to hidden states [batch, time, units], from a zero state or from one carried
over, reading left to right. Rows are padded on the right, which does not change the states of a left-to-right reader;
`networks` reverses rows for the backward direction. Each cell's docstring holds its equations, word for word those of
`service.model.equations`, with W [h_{t-1}, x_t] = W x_t + R h_{t-1}: W [units, inputs], R [units, units], b [units].

If torch has a fused kernel, the cell is torch's own module. It gets padded batches, not packed ones: on a CPU the
padded LSTM runs in oneDNN, several times faster than the packed one, with the same states (docs/benchmarks.md). The
others run on `training.nets.kernels` and, those without a recurrent matrix, on `training.nets.minimal`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.model.equations import CellName, Form
from training.nets import kernels
from training.nets.initial import Initial, initialise
from training.nets.minimal import minimal

State = tuple[Tensor, ...]
"""The state of a cell between steps, each [batch, units]: the hidden state and, if there is one, the cell state."""


@dataclass(frozen=True, slots=True)
class GateWeights:
    """One gate's parameters: W [units, inputs], R [units, units] if it sees the state, the two biases [units] of
    torch and cuDNN, and the gate's peephole if it has one: [units], or a matrix [units, units]."""

    w: Tensor
    r: Tensor | None
    w_bias: Tensor
    r_bias: Tensor
    peephole: Tensor | None = None


class Stacked(NamedTuple):
    """A cell's parameters, its gates' rows stacked in the order of `blocks`. A single bias counts as the input's; a
    cell with gates that do not see the state has no `r`."""

    w: Tensor
    r: Tensor | None
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

        `mask` has the shape of all recurrent weights, and multiplies them.
        """

    def mask(self) -> Tensor | None:
        """The mask that drops recurrent weights for a whole text; None if none are dropped."""
        r = self.stacked().r
        if r is None or not (self.training and self.weight_drop):
            return None
        return functional.dropout(torch.ones_like(r), self.weight_drop)

    @abstractmethod
    def stacked(self) -> Stacked:
        """The parameters themselves, not copies."""

    def matrices(self) -> list[Tensor]:
        """The parameters that are matrices; a bundle may keep them in float16."""
        return [part for part in self.stacked()[:2] if part is not None]

    def weights(self) -> dict[str, GateWeights]:
        """The parameters by gate name, detached, in float32 on the CPU."""
        w, r, w_bias, r_bias = self.stacked()
        second = torch.zeros_like(w_bias) if r_bias is None else r_bias
        ws, w_biases, r_biases = (self._by_block(part) for part in (w, w_bias, second))
        rs = [None for _ in self.blocks] if r is None else self._by_block(r)
        return {gate: GateWeights(ws[at], rs[at], w_biases[at], r_biases[at]) for at, gate in enumerate(self.blocks)}

    def _by_block(self, part: Tensor) -> Sequence[Tensor]:
        """The rows of each block, detached, in float32 on the CPU."""
        return part.detach().float().cpu().chunk(len(self.blocks))


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
        """The kernel; with a mask torch's functions, because the module uses only its own weights."""
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
    """The LSTM with gates that see the cell through diagonal weights p [units] (Gers and Schmidhuber 2000). Row
    `peephole` of `service.model.equations`:

        f_t = sigmoid(W_f [h_{t-1}, x_t] + p_f * C_{t-1} + b_f)
        i_t = sigmoid(W_i [h_{t-1}, x_t] + p_i * C_{t-1} + b_i)
        o_t = sigmoid(W_o [h_{t-1}, x_t] + p_o * C_t + b_o)
        C~_t = tanh(W_C [h_{t-1}, x_t] + b_C)
        C_t = f_t * C_{t-1} + i_t * C~_t
        h_t = o_t * tanh(C_t)

    The source, cuDNN's predecessors and ONNX have a weight a unit and none for the candidate: a unit's gates guard that
    unit's own cell. `FullPeephole` is the other form. Peepholes start at zero, which is a plain LSTM; the forget gate's
    bias starts at 1.
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
            found[gate] = replace(found[gate], peephole=peephole)
        return found


class FullPeephole(_Own):
    """The LSTM with gates and candidate that see the whole cell through matrices: the form in introductions. Row
    `peephole`, form `full`, of `service.model.equations`:

        f_t = sigmoid(W_f [h_{t-1}, x_t, C_{t-1}] + b_f)
        i_t = sigmoid(W_i [h_{t-1}, x_t, C_{t-1}] + b_i)
        o_t = sigmoid(W_o [h_{t-1}, x_t, C_t] + b_o)
        C~_t = tanh(W_C [h_{t-1}, x_t, C_{t-1}] + b_C)
        C_t = f_t * C_{t-1} + i_t * C~_t
        h_t = o_t * tanh(C_t)

    W is stored in three parts: over x, over h, and over C, the rows of `peepholes` [4 * units, units]. The last start
    at zero, which is a plain LSTM; the forget gate's bias starts at 1.
    """

    blocks = ("input", "forget", "candidate", "output")

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        self.peepholes = nn.Parameter(torch.zeros(len(self.blocks) * units, units))

    def read(self, inputs: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        sums, (hidden, cell) = self._begin(inputs, state, 2)
        states, last = kernels.full_peephole(sums, self._recurrent(mask), self.peepholes, hidden, cell)
        return states.transpose(0, 1), (states[-1], last)

    def matrices(self) -> list[Tensor]:
        return [*super().matrices(), self.peepholes]

    def weights(self) -> dict[str, GateWeights]:
        return {
            gate: replace(plain, peephole=peephole)
            for (gate, plain), peephole in zip(super().weights().items(), self._by_block(self.peepholes), strict=True)
        }


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


class Minimal(Cell):
    """A cell with gates that depend on the input alone: no recurrent matrix, and one bias a gate.

    A layer reads with both directions at once (`of_layer`), which is faster than one after the other.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        rows = len(self.blocks) * units
        self.w, self.bias = nn.Parameter(torch.empty(rows, inputs)), nn.Parameter(torch.empty(rows))
        initialise(self.stacked(), self.blocks, Initial())

    def stacked(self) -> Stacked:
        return Stacked(self.w, None, self.bias)

    def read(self, inputs: Tensor, state: State | None = None, mask: Tensor | None = None) -> tuple[Tensor, State]:
        states = Minimal.of_layer([self], inputs, None, state)
        return states, (states[:, -1],)

    @staticmethod
    def of_layer(
        cells: Sequence[Minimal], inputs: Tensor, lengths: Tensor | None, state: State | None = None
    ) -> Tensor:
        """The states of one direction or two, [batch, time, units of all directions]; the backward reader's are 0 in
        the padding. `state` is the forward reader's first state."""
        hidden = inputs.new_zeros(len(inputs), cells[0].units) if state is None else state[0]
        weights = [parameter for cell in cells for parameter in (cell.w, cell.bias)]
        return minimal(inputs.transpose(0, 1), lengths, hidden, weights).transpose(0, 1)


class MinGRU(Minimal):
    """The minimal GRU (Feng et al. 2024, arXiv:2410.01201). Row `mingru` of `service.model.equations`:

        z_t = sigmoid(W_z x_t + b_z)
        h~_t = tanh(W_h x_t + b_h)
        h_t = (1 - z_t) * h_{t-1} + z_t * h~_t

    The paper leaves the candidate linear, or bends it for its computation in log space. With tanh states stay within
    -1 and 1, and deep networks learned better (docs/explanation/minimal-cells.md).
    """

    blocks = ("update", "candidate")


class MinLSTM(Minimal):
    """The minimal LSTM of the same paper: two gates, normalised to a sum of 1, and no output gate. Row `minlstm` of
    `service.model.equations`:

        f'_t = f_t / (f_t + i_t)
        i'_t = i_t / (f_t + i_t)
        h~_t = tanh(W_h x_t + b_h)
        h_t = f'_t * h_{t-1} + i'_t * h~_t

    with f_t = sigmoid(W_f x_t + b_f) and i_t = sigmoid(W_i x_t + b_i). The forget gate's bias starts at 1.
    """

    blocks = ("forget", "input", "candidate")


CELLS: dict[tuple[CellName, Form | None], Callable[[int, int], Cell]] = {
    ("rnn", None): Elman,
    ("lstm", None): LSTM,
    ("peephole", "diagonal"): Peephole,
    ("peephole", "full"): FullPeephole,
    ("gru", "after"): GRU,
    ("gru", "before"): ResetBeforeGRU,
    ("mingru", None): MinGRU,
    ("minlstm", None): MinLSTM,
}
"""(cell, its form if it has two) → (inputs, units) → a cell. The cells that can be trained."""

NAMED: dict[str, tuple[CellName, Form | None]] = {
    cell if form in (None, "diagonal", "after") else f"{cell}-{form}": (cell, form) for cell, form in CELLS
}
"""Every cell by one word, for tables and plots that compare them."""


def make(name: str, inputs: int, units: int) -> Cell:
    """A fresh cell by its word in `NAMED`. Raises `KeyError` for another."""
    return CELLS[NAMED[name]](inputs, units)


def word_of(cell: CellName, form: Form | None) -> str:
    """A cell's word in `NAMED`."""
    return next(word for word, named in NAMED.items() if named == (cell, form))
