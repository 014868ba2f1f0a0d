"""Each token's deletion from one forward pass, for one layer of a minimal cell: the effect on every logit, exactly.

No gate sees the state, so that without token k all other gates stay as they were. With a_j the share of the state that
step j keeps and ``d_k = h_k - h_{k-1}``, which is ``z_k (h~_k - h_{k-1})``, every state after k moves by
``-(a_{k+1} * … * a_t) * d_k`` and none before it moves. A last or mean head follows for all tokens in one pass over the
text. A maximum and attention are computed anew for each token, in time that grows with the square of the text's length.
The effects of two tokens do not add up: the first token's effect passes through the second token's gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.model.activations import softmax
from service.model.bundle import Manifest
from service.model.equations import MINIMAL, Direction
from service.model.faithfulness import DeletionEffects

METHOD = (
    "closed form: no gate sees the state, so without token k each later h_t changes by the shares kept from k+1 to t, "
    "times h_{k-1} - h_k"
)
MAX_SQUARE_TOKENS = 512
"""Limit for a max or attention head: 512 tokens take about a quarter of a second."""

Array = NDArray[np.float64]
Gates = Mapping[tuple[int, Direction, str], NDArray[np.float32]]


def has_closed_form(manifest: Manifest) -> bool:
    """True if one forward pass gives the effect of deleting each token: one layer of minGRU or minLSTM, with any head,
    in one direction or two."""
    return manifest.cell in MINIMAL and manifest.layers == 1


def is_square(manifest: Manifest) -> bool:
    """Whether the closed form takes time that grows with the square of the text's length."""
    return manifest.head in ("max", "attention")


def closed_form(
    manifest: Manifest,
    weight: NDArray[np.float32],
    gates: Gates,
    explain: int | None = None,
    query: NDArray[np.float32] | None = None,
) -> DeletionEffects:
    """The effects for one input, from its gates by (layer, direction, name), each [tokens, units].

    `weight` [labels, units of all directions] and `query` are the head's. `explain` is a tagger's token to explain;
    its own row is None. A text that loses its only token has the head's bias left: its pooled state is 0.
    """
    ways = [_Reader(manifest, gates, direction) for direction in manifest.directions]
    if manifest.head == "tagger":
        assert explain is not None
        moved = np.hstack([way.at(explain) for way in ways])  # [tokens, units of all directions]
    elif manifest.head == "last":
        moved = np.hstack([way.at_end() for way in ways])
    elif manifest.head == "mean":
        moved = np.hstack([way.mean() for way in ways])
    else:
        moved = _anew(ways, query)
    changes = moved @ weight.astype(np.float64).T  # [tokens, labels]
    rows = [None if token == explain else change.tolist() for token, change in enumerate(changes)]
    return {"labels": list(manifest.labels), "tokens": rows, "exact": True, "method": METHOD}


class _Reader:
    """One direction's states, and the share kept at each step, in the order in which it reads: [tokens, units]."""

    def __init__(self, manifest: Manifest, gates: Gates, direction: Direction) -> None:
        self.turned = direction == "backward"
        updates = manifest.cell == "mingru"
        kept = self._in_order(gates[0, direction, "update" if updates else "forget"]).astype(np.float64)
        self.kept: Array = 1 - kept if updates else kept
        self.states: Array = self._in_order(gates[0, direction, "hidden"]).astype(np.float64)
        self.steps: Array = np.diff(self.states, axis=0, prepend=0.0)
        """``h_k - h_{k-1}``."""

    def _in_order(self, rows: NDArray[np.generic]) -> NDArray[np.generic]:
        return rows[::-1] if self.turned else rows

    def _by_token(self, rows: Array) -> Array:
        return rows[::-1] if self.turned else rows

    def at_end(self) -> Array:
        """The change of the last state by each token's deletion: [tokens, units]. A single token leaves no state."""
        return self._by_token(-self._carried(len(self.states)) * self.steps)

    def at(self, token: int) -> Array:
        """The same at the state of one token. That token's own row means nothing."""
        place = len(self.states) - 1 - token if self.turned else token
        moved = np.zeros_like(self.states)
        moved[: place + 1] = -self._carried(place + 1) * self.steps[: place + 1]
        return self._by_token(moved)

    def _carried(self, end: int) -> Array:
        """Of each step before `end`, the product of the shares kept by the steps after it: [end, units]."""
        shares = np.ones_like(self.kept[:end])
        for k in range(end - 2, -1, -1):
            shares[k] = shares[k + 1] * self.kept[k + 1]
        return shares

    def mean(self) -> Array:
        """The same for the mean of the states: ``(sum of h - h_k - A_k d_k) / (T - 1)`` in place of ``sum of h / T``,
        with ``A_k = a_{k+1} (1 + A_{k+1})``."""
        count = len(self.states)
        if count == 1:
            return -self.states
        later = np.zeros_like(self.states)
        for k in range(count - 2, -1, -1):
            later[k] = self.kept[k + 1] * (1 + later[k + 1])
        total = self.states.sum(axis=0)
        return self._by_token((total - self.states - later * self.steps) / (count - 1) - total / count)

    def without(self, token: int) -> NDArray[np.float32]:
        """All states but that token's, once it is gone: [tokens - 1, units], row by row as the text has them."""
        k = len(self.states) - 1 - token if self.turned else token
        left = np.delete(self.states, k, axis=0).astype(np.float32)
        shares = np.cumprod(self.kept[k + 1 :].astype(np.float32), axis=0)
        left[k:] -= shares * self.steps[k].astype(np.float32)
        return left[::-1] if self.turned else left


def _anew(ways: list[_Reader], query: NDArray[np.float32] | None) -> Array:
    """The change of the pooled vector by each token's deletion, for a maximum, or for attention with a `query`."""

    def pooled(states: NDArray[np.floating]) -> Array:
        found: Any = states.max(axis=0) if query is None else softmax(states @ query) @ states
        return np.asarray(found, np.float64)

    tokens = len(ways[0].states)
    full = pooled(np.hstack([way.states[::-1] if way.turned else way.states for way in ways]))
    if tokens == 1:
        return -full[None]
    moved: Array = np.stack([pooled(np.hstack([way.without(token) for way in ways])) for token in range(tokens)])
    moved -= full
    return moved
