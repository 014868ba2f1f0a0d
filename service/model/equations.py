"""The one table of recurrent cells: each gate's name, equation and range.

Everything that names a gate (graphs, traces, answers, documentation) reads it here. Notation: x_t the input at
step t, h the hidden state, C the cell state, * element-wise, W [h_{t-1}, x_t] a matrix times the concatenation.

Sources: Elman 1990 (rnn); Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000 (lstm); Gers and
Schmidhuber 2000 (peephole, diagonal; the full form has matrices and lets the candidate see the cell); Cho et al. 2014
(gru, reset before; the reset-after GRU is cuDNN's and torch's); Feng et al. 2024, arXiv:2410.01201 (mingru, minlstm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CellName = Literal["rnn", "lstm", "peephole", "gru", "mingru", "minlstm"]
Direction = Literal["forward", "backward"]
GruReset = Literal["after", "before"]
Peepholes = Literal["diagonal", "full"]
Form = GruReset | Peepholes
"""One of a cell's two forms: the reset before or after the GRU's matrix, or an LSTM's peepholes as vectors or
matrices."""
MINIMAL: frozenset[CellName] = frozenset({"mingru", "minlstm"})
"""Cells with gates of the input alone: h_t is linear in h_{t-1}, with factors that no state changes."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One named activation of a cell: its equation, and the interval in which every value lies."""

    name: str
    equation: str
    low: float = 0.0
    high: float = 1.0


def _logistic(name: str, symbol: str, sees: str = "h_{t-1}, x_t", peephole: str = "") -> Gate:
    """A gate whose matrix reads what it `sees`."""
    return Gate(name, f"{symbol}_t = sigmoid(W_{symbol} [{sees}] + {peephole}b_{symbol})")


_INF = float("inf")
_LSTM_STATES = (
    Gate("candidate", "C~_t = tanh(W_C [h_{t-1}, x_t] + b_C)", -1.0),
    Gate("cell", "C_t = f_t * C_{t-1} + i_t * C~_t", -_INF, _INF),
    Gate("hidden", "h_t = o_t * tanh(C_t)", -1.0),
)
_NORMALISED = "  (f_t = sigmoid(W_f x_t + b_f), i_t = sigmoid(W_i x_t + b_i))"
_MINIMAL_CANDIDATE = Gate("candidate", "h~_t = tanh(W_h x_t + b_h)", -1.0)

_GATES: dict[CellName, tuple[Gate, ...]] = {
    "rnn": (Gate("hidden", "h_t = tanh(W [h_{t-1}, x_t] + b)", -1.0),),
    "lstm": (_logistic("forget", "f"), _logistic("input", "i"), _logistic("output", "o"), *_LSTM_STATES),
    "peephole": (
        _logistic("forget", "f", peephole="p_f * C_{t-1} + "),
        _logistic("input", "i", peephole="p_i * C_{t-1} + "),
        _logistic("output", "o", peephole="p_o * C_t + "),
        *_LSTM_STATES,
    ),
    "gru": (
        Gate("update", "z_t = sigmoid(W_z [h_{t-1}, x_t] + b_z)  (torch and ONNX call 1 - z_t the update gate)"),
        _logistic("reset", "r"),
        Gate("candidate", "h~_t = tanh(W_h x_t + b_h + r_t * (R_h h_{t-1} + c_h))", -1.0),
        Gate("hidden", "h_t = (1 - z_t) * h_{t-1} + z_t * h~_t", -1.0),
    ),
    "mingru": (
        Gate("update", "z_t = sigmoid(W_z x_t + b_z)"),
        _MINIMAL_CANDIDATE,
        Gate("hidden", "h_t = (1 - z_t) * h_{t-1} + z_t * h~_t", -1.0),
    ),
    "minlstm": (
        Gate("forget", f"f'_t = f_t / (f_t + i_t){_NORMALISED}"),
        Gate("input", f"i'_t = i_t / (f_t + i_t){_NORMALISED}"),
        _MINIMAL_CANDIDATE,
        Gate("hidden", "h_t = f'_t * h_{t-1} + i'_t * h~_t", -1.0),
    ),
}
_OTHER_FORMS: dict[tuple[CellName, Form | None], tuple[Gate, ...]] = {
    ("gru", "before"): (
        *_GATES["gru"][:2],
        Gate("candidate", "h~_t = tanh(W_h [r_t * h_{t-1}, x_t] + b_h)", -1.0),
        *_GATES["gru"][3:],
    ),
    ("peephole", "full"): (
        _logistic("forget", "f", "h_{t-1}, x_t, C_{t-1}"),
        _logistic("input", "i", "h_{t-1}, x_t, C_{t-1}"),
        _logistic("output", "o", "h_{t-1}, x_t, C_t"),
        Gate("candidate", "C~_t = tanh(W_C [h_{t-1}, x_t, C_{t-1}] + b_C)", -1.0),
        *_LSTM_STATES[1:],
    ),
}


@dataclass(frozen=True, slots=True)
class Keeper:
    """The gate that gives the share of its state that a unit keeps at a step: its activation, or 1 minus it."""

    gate: str
    complement: bool = False


_KEEPERS: dict[CellName, Keeper] = {
    "lstm": Keeper("forget"),
    "peephole": Keeper("forget"),
    "gru": Keeper("update", complement=True),
    "mingru": Keeper("update", complement=True),
    "minlstm": Keeper("forget"),
}


def one_graph(cell: CellName, form: Form | None) -> bool:
    """True if ``model.onnx`` gives predictions and gates. It does if ONNX has no fused operator for the cell: the
    prediction then goes step by step, and the gates are intermediate values."""
    return cell in MINIMAL or form == "full"


def keeper(cell: CellName) -> Keeper | None:
    """The gate that gives the share of its state that a unit keeps; None for a cell without such a gate."""
    return _KEEPERS.get(cell)


def gates(cell: CellName, form: Form | None = None) -> tuple[Gate, ...]:
    """The gates of a cell, in the order in which they are shown. `form` matters for the GRU (``after`` by default) and
    the peephole LSTM (``diagonal`` by default)."""
    return _OTHER_FORMS.get((cell, form), _GATES[cell])


def gate_names(cell: CellName) -> tuple[str, ...]:
    """The names of a cell's gates: ``("forget", "input", …)``."""
    return tuple(gate.name for gate in gates(cell))


def tensor_key(layer: int, gate: str, direction: Direction | None = None, separator: str = ".") -> str:
    """The key of a gate's tensor: layer, direction, gate. The graph's outputs, which hold both directions, have
    ``0.forget``; the Open Inference Protocol ``gate.0.forward.forget``; safetensors ``0/0/forward/forget``, after the
    number of the input."""
    parts = (str(layer), gate) if direction is None else (str(layer), direction, gate)
    return separator.join(parts)


def equations(cell: CellName, form: Form | None = None, window: str | None = None) -> dict[str, str]:
    """Gate name to equation, as `/gates` and `/models` print it. `window` is what x_t is in the first layer of a model
    with a window of words, from `service.model.windows`."""
    note = f"  (in layer 0 {window}, e_t being the vector of word t)" if window else ""
    return {gate.name: gate.equation + note * ("x_t" in gate.equation) for gate in gates(cell, form)}
