"""Each token's deletion from one forward pass, for one layer of a minimal cell: the effect on every logit, exactly.

No gate sees the state, so that without token k all other gates stay as they were. With a_j the share of the state that
step j keeps and ``d_k = h_k - h_{k-1}``, which is ``z_k (h~_k - h_{k-1})``, every state after k moves by
``-(a_{k+1} * … * a_t) * d_k`` and none before it moves. A last or mean head follows for all tokens in one pass over the
text. A maximum and attention are computed anew for each token, in time that grows with the square of the text's length.

With a window of words the few steps whose windows held token k get other gates. These are computed from the words
(`service.model.window_deletion`), the states of these steps follow, and after the last of them the change fades in the
same way. The effects of two tokens do not add up: the first token's effect passes through the second token's gates.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import Manifest
from service.model.equations import MINIMAL, Direction
from service.model.faithfulness import DeletionEffects
from service.model.network import Network, pooled
from service.model.weights_layout import HEAD_QUERY, HEAD_WEIGHT
from service.model.window_deletion import Moved, moved
from service.model.window_shares import Gates

METHOD = (
    "closed form: no gate sees the state, so without token k each later h_t changes by the shares kept from k+1 to t, "
    "times h_{k-1} - h_k"
)
WINDOW_METHOD = (
    "closed form: no gate sees the state, so without token k only the steps whose windows held it get other gates, "
    "which are computed; each later h_t changes by the shares kept since, times the change at the last of these steps"
)
MAX_LIMITED_TOKENS = 512
"""Limit for a max or attention head, and for a window of words: 512 tokens take about a quarter of a
second, with two directions half a second."""

_Any = TypeVar("_Any", bound=np.generic)
Array = NDArray[np.float64]


def has_closed_form(manifest: Manifest) -> bool:
    """True if one forward pass gives the effect of deleting each token: one layer of minGRU or minLSTM, with any head,
    any window of words, in one direction or two."""
    return manifest.cell in MINIMAL and manifest.layers == 1


def is_limited(manifest: Manifest) -> bool:
    """True if the closed form is for at most `MAX_LIMITED_TOKENS`: its time grows with the square of the text's length,
    or it computes gates anew for each token."""
    return manifest.head in ("max", "attention") or manifest.window_words > 1


def closed_form(network: Network, rows: NDArray[np.int32], gates: Gates, explain: int | None = None) -> DeletionEffects:
    """The effects for one input: its rows [tokens, columns], and its gates by (layer, direction, name), each [tokens,
    units].

    `explain` is a tagger's token to explain; its own row is None. A text that loses its only token has the head's bias
    left: its pooled state is 0.
    """
    manifest = network.manifest
    ways = [
        _Reader(manifest, gates, direction, changed)
        for direction, changed in zip(manifest.directions, moved(network, rows), strict=True)
    ]
    if manifest.head == "tagger":
        assert explain is not None
        change = np.hstack([way.at(explain) for way in ways])  # [tokens, units of all directions]
    elif manifest.head == "last":
        change = np.hstack([way.at_end() for way in ways])
    elif manifest.head == "mean":
        change = np.hstack([way.mean() for way in ways])
    else:
        change = _anew(network, ways)
    changes = change @ network.arrays[HEAD_WEIGHT].astype(np.float64).T  # [tokens, labels]
    found = [None if token == explain else row.tolist() for token, row in enumerate(changes)]
    method = METHOD if manifest.window_words == 1 else WINDOW_METHOD
    return {"labels": list(manifest.labels), "tokens": found, "exact": True, "method": method}


class _Reader:
    """One direction's states, and the share kept at each step, in the order in which it reads: [tokens, units].

    Without token k the steps of `changed` have the states `anew`. `ends` [tokens] is the last of them, or k, and `gaps`
    [tokens, units] is how far the state is then from that step's own one. From there on the gap fades by the shares.
    """

    def __init__(self, manifest: Manifest, gates: Gates, direction: Direction, changed: Moved) -> None:
        self.turned = direction == "backward"
        updates = manifest.cell == "mingru"
        kept = self.in_order(gates[0, direction, "update" if updates else "forget"]).astype(np.float64)
        self.kept: Array = 1 - kept if updates else kept
        self.states: Array = self.in_order(gates[0, direction, "hidden"]).astype(np.float64)
        self.places = changed.places
        tokens = np.arange(len(self.states))
        first = np.where(self.places < 0, tokens[:, None], self.places).min(axis=1, initial=len(tokens))
        state = np.vstack([np.zeros_like(self.states[:1]), self.states])[np.minimum(first, tokens)]
        self.anew: Array = np.zeros_like(changed.kept)
        for number in range(self.places.shape[1]):
            there = self.places[:, number, None] >= 0
            state = np.where(there, changed.kept[:, number] * state + changed.taken[:, number], state)
            self.anew[:, number] = state
        self.ends = np.maximum(tokens, self.places.max(axis=1, initial=-1))
        self.gaps: Array = state - self.states[self.ends]

    def in_order(self, rows: NDArray[_Any]) -> NDArray[_Any]:
        """Rows by token in the order in which this direction reads, or back: a view."""
        return rows[::-1] if self.turned else rows

    def at_end(self) -> Array:
        """The change of the last state by each token's deletion: [tokens, units]. A single token leaves no state."""
        return self.in_order(self._carried(len(self.states))[self.ends] * self.gaps)

    def at(self, token: int) -> Array:
        """The same at the state of one token. That token's own row means nothing."""
        place = len(self.states) - 1 - token if self.turned else token
        change = np.zeros_like(self.states)
        past = self.ends <= place
        change[past] = self._carried(place + 1)[self.ends[past]] * self.gaps[past]
        gone, number = np.nonzero(self.places == place)
        change[gone] = self.anew[gone, number] - self.states[place]
        return self.in_order(change)

    def _carried(self, end: int) -> Array:
        """For each step before `end`, the product of the shares kept by the steps after it: [end, units]."""
        shares = np.ones_like(self.kept[:end])
        for k in range(end - 2, -1, -1):
            shares[k] = shares[k + 1] * self.kept[k + 1]
        return shares

    def mean(self) -> Array:
        """The same for the mean of the states: ``(sum of h - h_k + A_k g_k) / (T - 1)`` in place of ``sum of h / T``,
        with ``A_k = a_{k+1} (1 + A_{k+1})`` from the gap g_k on; changed steps count with their new states."""
        count = len(self.states)
        if count == 1:
            return -self.states
        later = np.zeros_like(self.states)
        for k in range(count - 2, -1, -1):
            later[k] = self.kept[k + 1] * (1 + later[k + 1])
        total = self.states.sum(axis=0)
        there = (self.places >= 0)[..., None]
        others = (there * (self.anew - self.states[self.places])).sum(axis=1)
        without = total - self.states + others + later[self.ends] * self.gaps
        return self.in_order(without / (count - 1) - total / count)

    def without(self, token: int) -> NDArray[np.float32]:
        """All states but that token's, once it is gone: [tokens - 1, units], row by row as the text has them."""
        k = len(self.states) - 1 - token if self.turned else token
        states = self.states.astype(np.float32)
        there = self.places[k] >= 0
        states[self.places[k][there]] = self.anew[k][there]
        end = self.ends[k] + 1
        states[end:] += np.cumprod(self.kept[end:].astype(np.float32), axis=0) * self.gaps[k].astype(np.float32)
        left = np.delete(states, k, axis=0)
        return self.in_order(left)


def _anew(network: Network, ways: list[_Reader]) -> Array:
    """The change of the pooled vector by each token's deletion, for a head that is a maximum or attention."""
    stored = network.arrays.get(HEAD_QUERY)
    query = None if stored is None else stored.astype(np.float32)
    full = pooled(network.manifest, np.hstack([way.in_order(way.states) for way in ways]), query).astype(np.float64)
    tokens = len(ways[0].states)
    if tokens == 1:
        return -full[None]
    states = (np.hstack([way.without(token) for way in ways]) for token in range(tokens))
    moved: Array = np.stack([pooled(network.manifest, each, query) for each in states]).astype(np.float64)
    moved -= full
    return moved
