"""The share of each token in each logit, from the gates alone: no gradients, no second run of the network.

A cell's state is a sum over tokens: ``C_T = sum_k (prod_{m>k} f_m) * i_k * C~_k`` for the LSTM, and
``h_T = sum_k (prod_{m>k} (1 - z_m)) * z_k * h~_k`` for the GRU (Murdoch and Szlam 2017, arXiv:1702.02540). The head is
linear in the pooled state, so each token's share of the state is a share of every logit. The gates count as given: a
token's effect on later gates is not part of its share. In a minimal cell no token moves a later gate of its layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model.activations import softmax
from service.model.bundle import Head, Manifest
from service.model.equations import CellName, Direction, equations

Array = NDArray[np.float64]
Gates = Mapping[tuple[int, Direction, str], NDArray[np.float32]]
"""(layer, direction, gate name) to one input's activations [tokens, units]; the top layer's are read."""

_LSTM_METHOD = (
    "cell-state decomposition (Murdoch and Szlam 2017): token k gives i_k * C~_k times the later forget gates to C_t; "
    "a share of C_t counts o_t * tanh(C_t) / C_t in h_t"
)
_METHODS: dict[CellName, str] = {
    "lstm": _LSTM_METHOD,
    "peephole": _LSTM_METHOD,
    "gru": (
        "hidden-state decomposition (after Murdoch and Szlam 2017): token k gives z_k * h~_k times the later 1 - z "
        "to h_t, exactly"
    ),
    "mingru": (
        "share of the state: token k gives z_k * h~_k times the later 1 - z to h_t; exactly, as no gate sees the state"
    ),
    "minlstm": (
        "share of the state: token k gives i'_k * h~_k times the later f' to h_t; exactly, as no gate sees the state"
    ),
}
_NO_STATE = (
    f"The Elman cell has no additive state: {equations('rnn')['hidden']} passes the whole past through tanh at every "
    "step, so its logits do not split into one share a token."
)
_NOTHING_PICKED = (
    "A tagger has logits for every token: set explain to the number of the token whose logits are to be split."
)


class Contributions(TypedDict):
    """For every label, ``bias + sum over tokens = logits``. Arrays are float64 and C-contiguous, never rounded."""

    labels: list[str]
    bias: Array  # [labels]
    tokens: Array  # [tokens, labels]
    logits: Array  # [labels]
    of: Literal["tokens", "top-layer positions"]
    method: str


def note(manifest: Manifest, explain: int | None) -> str | None:
    """Why a model's contributions are null; None when they are not."""
    if manifest.cell not in _METHODS:
        return _NO_STATE
    return _NOTHING_PICKED if manifest.head == "tagger" and explain is None else None


def check_explain(explain: int | None, lengths: Sequence[int]) -> None:
    """Refuse a token number that one of a request's inputs has not, before any work is done on them.

    Raises `InvalidField`.
    """
    if explain is None:
        return
    for position, length in enumerate(lengths):
        if not 0 <= explain < length:
            there = f"tokens 0 to {length - 1}" if length > 1 else "token 0 alone"
            raise InvalidField("/explain", f"token {explain} is out of range: input {position} has {there}.")


def contributions(
    manifest: Manifest,
    head_weight: NDArray[np.float32],
    head_bias: NDArray[np.float32],
    gates: Gates,
    explain: int | None = None,
    query: NDArray[np.float32] | None = None,
    held: Mapping[tuple[int, Direction, str], NDArray[np.bool_]] = MappingProxyType({}),
) -> Contributions | None:
    """Split one input's logits, W pooled + b, over its tokens; None if it cannot be split; `note` then has the reason.

    `head_weight` is [labels, units of all directions], forward first, `head_bias` [labels]. `explain` is, for a
    tagger, the number of the token to explain; for other heads it has no meaning. `query` [units of all directions]
    belongs to the attention head; its weights count as given, like the gates. `held` marks the states of the top layer
    that are set by hand, [tokens, units] by (layer, direction, ``cell`` or ``hidden``): such a state counts as given by
    its own token, and by none before it. Raises `InvalidField` when `explain` is out of range.
    """
    if note(manifest, explain) is not None:
        return None
    layer, directions = manifest.layers - 1, manifest.directions
    length = len(gates[layer, directions[0], "hidden"])
    if manifest.head == "tagger":
        check_explain(explain, [length])
    weight, bias = head_weight.astype(np.float64), head_bias.astype(np.float64)
    logits, tokens = bias.copy(), np.zeros((length, len(bias)))
    attention = None
    if manifest.head == "attention":
        assert query is not None
        attention = _attention(np.hstack([gates[layer, direction, "hidden"] for direction in directions]), query)
    for direction, half in zip(directions, np.hsplit(weight, len(directions)), strict=True):
        top = {name: rows for (at, side, name), rows in gates.items() if (at, side) == (layer, direction)}
        fixed = {name: mask for (at, side, name), mask in held.items() if (at, side) == (layer, direction)}
        pooled, shares = _split(manifest, top, direction, explain, attention, fixed)
        logits += half @ pooled
        tokens += shares @ half.T
    return {
        "labels": list(manifest.labels),
        "bias": bias,
        "tokens": tokens,
        "logits": logits,
        "of": "tokens" if manifest.layers == 1 else "top-layer positions",
        "method": _METHODS[manifest.cell],
    }


def _split(
    manifest: Manifest,
    gates: Mapping[str, NDArray[np.float32]],
    direction: Direction,
    explain: int | None,
    attention: Array | None,
    held: Mapping[str, NDArray[np.bool_]],
) -> tuple[Array, Array]:
    """One direction's pooled vector [units], and the share of each token in it [tokens, units]."""
    hidden = gates["hidden"]
    if attention is None:
        pooling = _pooling(manifest.head, hidden, direction, explain)
    else:
        pooling = np.broadcast_to(attention[:, None], hidden.shape)
    written, kept, counted = _terms(manifest.cell, gates)
    outputs = np.zeros_like(counted)  # set by hand behind the additive state
    state = "cell" if "cell" in gates else "hidden"
    for name, mask in held.items():
        if name == state:
            written[mask], kept[mask] = gates[name][mask], 0
        else:
            outputs[mask], counted[mask] = gates[name][mask], 0
    counted *= pooling
    outputs *= pooling
    if direction == "forward":
        _accumulate(counted, kept)
    else:
        _accumulate(counted[::-1], kept[::-1])
    counted *= written
    counted += outputs
    return np.einsum("tu,tu->u", pooling, hidden), counted


def _attention(states: NDArray[np.float32], query: NDArray[np.float32]) -> Array:
    """How much the attention head makes of each state: the softmax of its products with the query, [tokens]."""
    found: Array = softmax(states.astype(np.float64) @ query)
    return found


def _pooling(head: Head, hidden: NDArray[np.float32], direction: Direction, explain: int | None) -> Array:
    """How the head weighs each state, so that ``pooled = sum over tokens of pooling * hidden``: [tokens, units]."""
    weights = np.zeros(hidden.shape)
    if head == "mean":
        weights[:] = 1 / len(hidden)
    elif head == "max":
        # Equal states give equal logits whichever is taken, but not equal shares: the first token wins.
        np.put_along_axis(weights, hidden.argmax(axis=0)[None], 1.0, axis=0)
    elif head == "tagger":
        weights[explain] = 1
    else:
        weights[-1 if direction == "forward" else 0] = 1
    return weights


def _terms(cell: CellName, gates: Mapping[str, NDArray[np.float32]]) -> tuple[Array, Array, Array]:
    """The cell's additive state, each [tokens, units]: the value that step k writes, the factor that step k keeps of
    the previous state, and the factor from the state to ``h_k``."""
    if cell == "minlstm":
        taken = np.multiply(gates["input"], gates["candidate"], dtype=np.float64)
        return taken, gates["forget"].astype(np.float64), np.ones_like(taken)
    if cell in ("gru", "mingru"):
        update = gates["update"].astype(np.float64)
        return update * gates["candidate"], 1 - update, np.ones_like(update)
    state = gates["cell"].astype(np.float64)
    counted = np.tanh(state)
    np.divide(counted, state, out=counted, where=state != 0)
    counted[state == 0] = 1
    counted *= gates["output"]
    written = np.multiply(gates["input"], gates["candidate"], dtype=np.float64)
    return written, gates["forget"].astype(np.float64), counted


def _accumulate(counted: Array, kept: Array) -> None:
    """In place: the factor from the value that step k writes to the pooled vector, ``A_k = counted_k + kept_{k+1} *
    A_{k+1}``.

    Rows are in the order in which the direction reads. This sums over all later steps the products of all gates
    between, without dividing: a quotient of cumulative products is 0 / 0 as soon as a product underflows.
    """
    for row, kept_after, after in zip(counted[-2::-1], kept[:0:-1], counted[:0:-1], strict=True):
        row += kept_after * after
