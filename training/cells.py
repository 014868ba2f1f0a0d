"""The recurrent cells in torch, one direction each, and their weights by gate name.

A cell maps inputs [batch, time, inputs] to hidden states [batch, time, units], from a zero state, reading left to
right. Rows are padded on the right, which a left-to-right reader never notices; `networks` turns rows around for the
backward direction. Equations, names and sources: `service.equations`.

Where torch has a fused kernel the cell is torch's own module. It is fed padded batches and not packed ones: on a CPU
the padded LSTM runs in oneDNN, several times faster than the packed one, with the same states (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from service.equations import CellName


@dataclass(frozen=True, slots=True)
class GateWeights:
    """One gate's parameters: W [units, inputs], R [units, units] and the two biases [units] of torch and cuDNN."""

    w: Tensor
    r: Tensor
    w_bias: Tensor
    r_bias: Tensor


class Cell(nn.Module):
    """One direction of one layer. Subclasses name their `blocks`: the gates, in the order of torch's stacked rows."""

    blocks: tuple[str, ...] = ()

    def __init__(self, kernel: nn.RNNBase) -> None:
        super().__init__()
        self.kernel = kernel
        self._initialise()

    def forward(self, inputs: Tensor) -> Tensor:
        states: Tensor = self.kernel(inputs)[0]
        return states

    def weights(self) -> dict[str, GateWeights]:
        """The parameters by gate name, detached, in float32 on the CPU."""
        count = len(self.blocks)
        w, r, w_bias, r_bias = (
            parameter.detach().float().cpu().chunk(count) for parameter in self.kernel.all_weights[0]
        )
        return {gate: GateWeights(w[k], r[k], w_bias[k], r_bias[k]) for k, gate in enumerate(self.blocks)}

    def _initialise(self) -> None:
        """Input weights Xavier (Glorot 2010), recurrent weights orthogonal (Saxe 2014), biases zero."""
        w, r, w_bias, r_bias = self.kernel.all_weights[0]
        for block in range(len(self.blocks)):
            units = self.kernel.hidden_size
            rows = slice(block * units, (block + 1) * units)
            nn.init.xavier_uniform_(w.data[rows])
            nn.init.orthogonal_(r.data[rows])
        nn.init.zeros_(w_bias)
        nn.init.zeros_(r_bias)


class LSTM(Cell):
    """Hochreiter and Schmidhuber 1997, with forget gates (Gers et al. 2000). Row `lstm` of `service.equations`.

    The forget gate's bias starts at 1 (Jozefowicz et al. 2015): torch adds two biases, so one is 1 and the other 0.
    """

    blocks = ("input", "forget", "candidate", "output")

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(nn.LSTM(inputs, units, batch_first=True))

    def _initialise(self) -> None:
        super()._initialise()
        units, w_bias = self.kernel.hidden_size, self.kernel.all_weights[0][2]
        w_bias.data[units : 2 * units] = 1.0


class GRU(Cell):
    """The reset-after GRU of cuDNN and torch (after Cho et al. 2014). Row `gru` of `service.equations`.

    torch's update gate is the complement of the table's: it keeps the old state, so it is named `keep` here.
    """

    blocks = ("reset", "keep", "candidate")

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(nn.GRU(inputs, units, batch_first=True))


CELLS: dict[CellName, Callable[[int, int], Cell]] = {"lstm": LSTM, "gru": GRU}
"""(inputs, units) → a cell. The cells that can be trained."""
