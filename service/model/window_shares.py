"""The share of each word in a step that reads a window of words, for one layer of a minimal cell.

A step writes ``z_t * h~_t`` into the state, and both factors come from the words of its window alone. A word's share is
the mean change of this value as the word joins the others, over the orders in which the words can be added: the
Shapley value (1953), over all orders of up to `ALL_ORDERS` words. Wider windows take two orders, from left to right
and back, so that the time grows with the width and not with its factorial. The shares of a step's words, and the rest
that is there without any word, add up to the written value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from service.model.activations import normalised, sigmoid
from service.model.bundle import Manifest
from service.model.equations import MINIMAL, Direction
from service.model.network import Array, Layer, Network

ALL_ORDERS = 3
"""Words of the widest window of which all orders count: 8 sets of words for 3."""
STEPS = 256
"""Steps that are computed together: with 8 sets, 3 parts and 128 units 3 MB."""

Gates = Mapping[tuple[int, Direction, str], NDArray[np.float32]]
"""(layer, direction, gate name) to one input's activations [tokens, units]."""
Held = Mapping[tuple[int, Direction, str], NDArray[np.bool_]]
"""The same to the values that are set by hand, [tokens, units]."""


def has_word_shares(manifest: Manifest) -> bool:
    """True if the split needs the shares of words: one layer of a minimal cell with a window."""
    return manifest.cell in MINIMAL and manifest.layers == 1 and manifest.window_words > 1


def word_shares(network: Network, rows: NDArray[np.int32], gates: Gates, held: Held) -> list[Array] | None:
    """The shares of one text's rows [tokens, columns]: for each direction [words of a window, tokens, units], step by
    step in the order of the text. None for a network of which `has_word_shares` is false.

    `held` marks the values that are set by hand, as for `contributions`. Such a gate counts as given in `gates`, and no
    word has a share of a state that is set.
    """
    manifest = network.manifest
    if not has_word_shares(manifest):
        return None
    before, after = manifest.window
    vectors = np.pad(network.embed(rows), ((before, after), (0, 0)))
    layer = network.layer(0)
    found = []
    for way, direction in enumerate(manifest.directions):
        shares = np.empty((manifest.window_words, len(rows), manifest.hidden), np.float32)
        own = {name: values for (_, side, name), values in gates.items() if side == direction}
        fixed = {name: mask for (_, side, name), mask in held.items() if side == direction}
        for start in range(0, len(rows), STEPS):
            steps = slice(start, min(start + STEPS, len(rows)))
            here = vectors[start : steps.stop + before + after]
            shares[:, steps] = _of_steps(
                layer,
                way,
                here,
                manifest.window_words,
                {name: values[steps] for name, values in own.items()},
                {name: mask[steps] for name, mask in fixed.items()},
            )
        if "hidden" in fixed:
            shares[:, fixed["hidden"]] = 0
        found.append(shares)
    return found


def _of_steps(
    layer: Layer,
    way: int,
    vectors: Array,
    words: int,
    gates: Mapping[str, Array],
    held: Mapping[str, NDArray[np.bool_]],
) -> Array:
    """[words, steps, units] of one direction, from the vectors [steps + words - 1, numbers] of all its words."""
    steps, units = len(vectors) - words + 1, gates["hidden"].shape[1]
    # the addition of each word to the sums of each part of the stack
    products = np.empty((words, len(layer.w), steps, units), np.float32)
    for part, w in enumerate(layer.w.values()):
        for word, own in enumerate(np.split(w[way], words, axis=1)):
            np.matmul(vectors[word : word + steps], own.T, out=products[word, part])
    members, factors = _orders(words)
    sums = (members @ products.reshape(words, -1)).reshape(-1, *products.shape[1:])  # [sets, parts, steps, units]
    by_part = {name: sums[:, part] + layer.bias[name][way] for part, name in enumerate(layer.w)}
    written = _written(by_part, gates, held)
    return (factors @ written.reshape(len(written), -1)).reshape(words, steps, units)


def _written(sums: Mapping[str, Array], gates: Mapping[str, Array], held: Mapping[str, NDArray[np.bool_]]) -> Array:
    """The value that each step writes with each set of words, [sets, steps, units], from the sums of its gates."""
    if "update" in sums:
        name, z = "update", sigmoid(sums["update"])
    else:
        name, z = "input", normalised(sums["forget"], sums["input"])[1]
    candidate = np.tanh(sums["candidate"])
    for gate, values in ((name, z), ("candidate", candidate)):
        if gate in held:
            np.copyto(values, gates[gate], where=held[gate])
    candidate *= z
    return candidate


@cache
def _orders(words: int) -> tuple[Array, Array]:
    """Sets of words, [sets, words] with 1 for a member, and the factors [words, sets] by which the values of the sets
    make the words' shares."""
    line = tuple(range(words))
    orders = list(permutations(line)) if words <= ALL_ORDERS else [line, line[::-1]]
    factors: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for order in orders:
        for at, word in enumerate(order):
            for joined, sign in ((at + 1, 1), (at, -1)):
                chosen = tuple(sorted(order[:joined]))
                factors.setdefault(chosen, np.zeros(words))[word] += sign / len(orders)
    members = [[float(word in chosen) for word in line] for chosen in factors]
    return np.array(members, np.float32), np.stack(list(factors.values()), axis=1).astype(np.float32)
