"""The steps that a token's deletion changes in a layer with a window of words: those whose windows held the token.

Without token k its neighbours stand side by side. The windows of the steps that read k so hold other words, and their
gates are computed anew, from the words alone: no gate of a minimal cell sees the state. A window of n words has n - 1
such steps. All other steps keep their gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model.activations import normalised, sigmoid
from service.model.equations import CellName
from service.model.network import Layer, Network

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moved:
    """One direction, in the order in which it reads: for each token the steps that its deletion changes, ascending.

    `places` [tokens, changed] are their numbers, -1 past the text's ends. At such a step the share `kept` of the state
    stays, and `taken` is added to it, each [tokens, changed, units].
    """

    places: NDArray[np.intp]
    kept: Array
    taken: Array

    @classmethod
    def nothing(cls, tokens: int, units: int) -> Moved:
        """Without a window no step changes."""
        none = np.zeros((tokens, 0, units))
        return cls(np.zeros((tokens, 0), np.intp), none, none)

    def turned(self) -> Moved:
        """The same in the other order of reading."""
        last = len(self.places) - 1
        places = np.where(self.places < 0, -1, last - self.places)
        return Moved(places[::-1, ::-1], self.kept[::-1, ::-1], self.taken[::-1, ::-1])


def moved(network: Network, rows: NDArray[np.int32]) -> list[Moved]:
    """The changed steps of each direction of the only layer, for a text's rows [tokens, columns]."""
    manifest = network.manifest
    tokens = len(rows)
    before, after = manifest.window
    if not before and not after:
        return [Moved.nothing(tokens, manifest.hidden) for _ in manifest.directions]
    places, words = _places(tokens, before, after)
    vectors = network.embed(rows).astype(np.float64)
    vectors = np.vstack([vectors, np.zeros(vectors.shape[1])])  # the last row stands past the text's ends
    layer, found = network.layer(0), []
    for way, direction in enumerate(manifest.directions):
        kept, taken = _gates(manifest.cell, _sums(layer, way, vectors, words))
        forward = Moved(places, kept, taken)
        found.append(forward if direction == "forward" else forward.turned())
    return found


def _places(tokens: int, before: int, after: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The changed steps [tokens, changed], -1 past the ends, and the words of their new windows [tokens, changed,
    words], `tokens` past the ends."""
    gone = np.arange(tokens)[:, None]
    steps = gone + np.array([*range(-after, 0), *range(1, before + 1)])
    # numbers in the text without the token
    places = (steps - (steps > gone))[..., None] + np.arange(-before, after + 1)
    inside = (places >= 0) & (places < tokens - 1)
    words = np.where(inside, places + (places >= gone[..., None]), tokens)
    return np.where((steps >= 0) & (steps < tokens), steps, -1), words


def _sums(layer: Layer, way: int, vectors: Array, words: NDArray[np.intp]) -> dict[str, Array]:
    """W x + b of each part of the stack, for windows of these words: [tokens, changed, units]."""
    found = {}
    for part, weights in layer.w.items():
        each = np.split(weights[way].astype(np.float64), words.shape[-1], axis=1)  # a word's [units, numbers]
        products = (vectors @ w.T for w in each)
        total = sum(product[words[..., at]] for at, product in enumerate(products))
        found[part] = np.asarray(total + layer.bias[part][way], np.float64)
    return found


def _gates(cell: CellName, sums: Mapping[str, Array]) -> tuple[Array, Array]:
    """The kept share of the state, and what is added to it."""
    candidate = np.tanh(sums["candidate"])
    if cell == "mingru":
        update = sigmoid(sums["update"])
        return 1 - update, update * candidate
    forget, taken = normalised(sums["forget"], sums["input"])
    return forget, taken * candidate
