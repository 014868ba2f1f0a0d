"""The share of each token in each logit, from the gates alone: no gradients, no second run of the network.

A cell's state is a sum over tokens: ``C_T = sum_k (prod_{m>k} f_m) * i_k * C~_k`` for the LSTM, and
``h_T = sum_k (prod_{m>k} (1 - z_m)) * z_k * h~_k`` for the GRU (Murdoch and Szlam 2017, arXiv:1702.02540). The head is
linear in the pooled state, so each token's share of the state is a share of every logit. The gates count as given: a
token's effect on later gates is not part of its share. In a minimal cell no token moves a later gate of its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model.activations import softmax
from service.model.bundle import Head, Manifest
from service.model.equations import CellName, Direction, equations
from service.model.gates import numbered
from service.model.window_shares import ALL_ORDERS, Gates, Held

Array = NDArray[np.float64]

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
_WINDOW = {
    True: "Shapley value over all orders of the words",
    False: "mean change as the words join from left to right and from right to left",
}
_NO_STATE = (
    f"The Elman cell has no additive state: {equations('rnn')['hidden']} passes the whole past through tanh at every "
    "step, so its logits do not split into one share a token."
)
_NOTHING_PICKED = (
    "A tagger has logits for every token: set explain to the number of the token whose logits are to be split."
)


Split = Literal["tokens", "top-layer positions"]
"""The units of a split: tokens, or, with layers below, positions of the top layer."""


class Contributions(TypedDict):
    """For every label, ``bias + sum over tokens = logits``. Arrays are float64 and C-contiguous, never rounded."""

    labels: list[str]
    bias: Array  # [labels]
    tokens: Array  # [tokens, labels]
    logits: Array  # [labels]
    of: Split
    method: str


def note(manifest: Manifest, explain: int | None) -> str | None:
    """Why a model's contributions are null; None when they are not."""
    if manifest.cell not in _METHODS:
        return _NO_STATE
    return _NOTHING_PICKED if manifest.head == "tagger" and explain is None else None


def _method(manifest: Manifest) -> str:
    found = _METHODS[manifest.cell]
    if manifest.layers > 1 or manifest.window_words == 1:
        return found
    return f"{found}; the words of a step's window share what it writes: {_WINDOW[manifest.window_words <= ALL_ORDERS]}"


def check_explain(explain: int | None, lengths: Sequence[int], pointer: str = "/explain") -> None:
    """Refuse a token number that one of a request's inputs has not, before any work is done on them.

    Raises `InvalidField` with the pointer.
    """
    if explain is None:
        return
    for position, length in enumerate(lengths):
        if not 0 <= explain < length:
            has = numbered("token", length)
            raise InvalidField(pointer, f"token {explain} is out of range: input {position} has {has}.")


def contributions(
    manifest: Manifest,
    head_weight: NDArray[np.float32],
    head_bias: NDArray[np.float32],
    gates: Gates,
    explain: int | None = None,
    query: NDArray[np.float32] | None = None,
    held: Held = MappingProxyType({}),
    words: Sequence[NDArray[np.float32]] | None = None,
) -> Contributions | None:
    """Split one input's logits, W pooled + b, over its tokens; None if it cannot be split; `note` then has the reason.

    `head_weight` is [labels, units of all directions], forward first, `head_bias` [labels]. `explain` is, for a
    tagger, the number of the token to explain; for other heads it has no meaning. `query` [units of all directions]
    belongs to the attention head; its weights count as given, like the gates. `held` marks the values of the top layer
    that are set by hand, [tokens, units] by (layer, direction, gate): a state that is set counts as given by its own
    token, and by none before it. `words` is the result of `word_shares`, for one layer with a window of words. Raises
    `InvalidField` when `explain` is out of range.
    """
    if note(manifest, explain) is not None:
        return None
    top = _TopLayer(manifest, gates)
    if manifest.head == "tagger":
        check_explain(explain, [top.length])
    weight, bias = head_weight.astype(np.float64), head_bias.astype(np.float64)
    pooling = _pooling(manifest.head, top, explain) if query is None else _attention(top, query)
    shares, factors = _shares(manifest.cell, top, pooling, held)
    tokens = np.zeros((top.length, len(bias)))
    units = shares.shape[2]
    for way, direction in enumerate(top.directions):
        own, of_way = turned(shares[:, way], direction), weight[:, way * units : (way + 1) * units].T
        tokens += own @ of_way
        if words is not None:
            _hand_over(tokens, turned(factors[:, way], direction), words[way], manifest.window[0], of_way)
    return {
        "labels": list(manifest.labels),
        "bias": bias,
        "tokens": tokens,
        "logits": bias + weight @ (pooling * top.read("hidden")).sum(axis=0).reshape(-1),
        "of": "tokens" if manifest.layers == 1 else "top-layer positions",
        "method": _method(manifest),
    }


def _hand_over(tokens: Array, factors: Array, words: NDArray[np.float32], before: int, weight: Array) -> None:
    """In place: the shares of a step's neighbours go from its own token to them. `tokens` is [tokens, labels],
    `factors` [tokens, units], `words` [words of a window, tokens, units], `weight` [units, labels]."""
    length = len(tokens)
    for at, shares in enumerate(words):
        offset = at - before
        first, end = max(0, -offset), min(length, length - offset)  # the steps whose neighbour is in the text
        if offset and first < end:
            given = (factors[first:end] * shares[first:end]) @ weight
            tokens[first:end] -= given
            tokens[first + offset : end + offset] += given


_Any = TypeVar("_Any", bound=np.generic)


def turned(rows: NDArray[_Any], direction: Direction) -> NDArray[_Any]:
    """Rows by token in the order in which a direction reads, or back: a view."""
    return rows[::-1] if direction == "backward" else rows


class _TopLayer:
    """The top layer of one input, both directions together: arrays are [tokens, directions, units], in the order in
    which each direction reads. Steps of both then cost what the steps of one do."""

    def __init__(self, manifest: Manifest, gates: Gates) -> None:
        self.layer, self.directions, self._gates = manifest.layers - 1, manifest.directions, gates
        self.length = len(gates[self.layer, self.directions[0], "hidden"])

    def has(self, gate: str) -> bool:
        return (self.layer, self.directions[0], gate) in self._gates

    def by_token(self, gate: str) -> list[NDArray[np.float32]]:
        """Each direction's activations [tokens, units], in the order of the text."""
        return [self._gates[self.layer, direction, gate] for direction in self.directions]

    def read(self, gate: str) -> Array:
        return self.in_order(self.by_token(gate))

    def in_order(self, by_token: Sequence[NDArray[np.generic]]) -> Array:
        """Arrays [tokens, units] of each direction, from the order of the text."""
        found = np.empty((self.length, len(self.directions), by_token[0].shape[1]))
        for way, rows in enumerate(by_token):
            found[:, way] = turned(rows, self.directions[way])
        return found


def _shares(cell: CellName, top: _TopLayer, pooling: Array, held: Held) -> tuple[Array, Array]:
    """The share of each step in the pooled states, and the factor to them from the value that it writes: both [tokens,
    directions, units], in reading order."""
    written, kept, counted = _terms(cell, top)
    outputs = None
    state = "cell" if top.has("cell") else "hidden"
    for (layer, direction, name), mask in held.items():
        if layer != top.layer or name not in ("cell", "hidden"):
            continue
        way, here = top.directions.index(direction), turned(mask, direction)
        values = top.read(name)[:, way][here]
        if name == state:
            written[:, way][here], kept[:, way][here] = values, 0
        else:  # set by hand behind the additive state
            outputs = np.zeros_like(counted) if outputs is None else outputs
            outputs[:, way][here], counted[:, way][here] = values, 0
    counted *= pooling
    _accumulate(counted, kept)
    shares = counted * written
    return shares if outputs is None else shares + outputs * pooling, counted


def _attention(top: _TopLayer, query: NDArray[np.float32]) -> Array:
    """How much the attention head makes of each state: the softmax of its products with the query, [tokens, directions,
    1], in reading order."""
    states = np.hstack(top.by_token("hidden")).astype(np.float64)  # [tokens, units of all directions]
    found: Array = softmax(states @ query)
    return top.in_order([found[:, None]] * len(top.directions))


def _pooling(head: Head, top: _TopLayer, explain: int | None) -> Array:
    """How the head weighs each state, so that ``pooled = sum over tokens of pooling * hidden``: [tokens, directions,
    units], or with one column for all units, in reading order."""
    shape = (top.length, len(top.directions), 1)
    if head == "mean":
        return np.full(shape, 1 / top.length)
    if head == "max":
        # Equal states give equal logits whichever is taken, but not equal shares: the first token wins.
        hidden = top.by_token("hidden")
        weights = [np.zeros(rows.shape) for rows in hidden]
        for each, rows in zip(weights, hidden, strict=True):
            np.put_along_axis(each, rows.argmax(axis=0)[None], 1.0, axis=0)
        return top.in_order(weights)
    if head == "tagger":
        picked = np.zeros((top.length, 1))
        picked[explain] = 1
        return top.in_order([picked] * len(top.directions))
    last = np.zeros(shape)
    last[-1] = 1  # the token that each direction reads last
    return last


def _terms(cell: CellName, top: _TopLayer) -> tuple[Array, Array, Array]:
    """The cell's additive state, as arrays in reading order: the value that step k writes, the factor that step k keeps
    of the previous state, and the factor from the state to ``h_k``."""
    candidate = top.read("candidate")
    if cell == "minlstm":
        return top.read("input") * candidate, top.read("forget"), np.ones_like(candidate)
    if cell in ("gru", "mingru"):
        update = top.read("update")
        return update * candidate, 1 - update, np.ones_like(update)
    state = top.read("cell")
    counted = np.tanh(state)
    empty = state == 0
    if empty.any():
        counted[empty] = state[empty] = 1  # the limit of tanh(C) / C
    counted /= state
    counted *= top.read("output")
    return top.read("input") * candidate, top.read("forget"), counted


def _accumulate(counted: Array, kept: Array) -> None:
    """In place: the factor from the value that step k writes to the pooled vector, ``A_k = counted_k + kept_{k+1} *
    A_{k+1}``.

    This sums over all later steps the products of all gates between, without dividing: a quotient of cumulative
    products is 0 / 0 as soon as a product underflows.
    """
    for row, kept_after, after in zip(counted[-2::-1], kept[:0:-1], counted[:0:-1], strict=True):
        row += kept_after * after
