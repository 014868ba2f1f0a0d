"""What a bundle computes, in float64 NumPy, from the weights in its file alone: each token's vector, one step of each
cell, and the head. It knows ONNX's layout of the weights and shares nothing with the graphs' operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.bundle import Feature, Manifest

Float64 = NDArray[np.float64]
Stored = Mapping[str, NDArray[np.generic]]
"""The arrays of a weights file, as they lie there."""
Weights = Mapping[str, Float64]
Integers = NDArray[np.integer]

_ORDER = {"lstm": ("input", "output", "forget", "candidate"), "gru": ("keep", "reset", "candidate"), "rnn": ("hidden",)}
_ORDER["peephole"] = _ORDER["lstm"]
_PEEPHOLES = ("input", "output", "forget")
_CNN = {"embedding.character", "character.bias"}
_LSTM = {"embedding.character", "character.W", "character.R", "character.B"}


def names(manifest: Manifest) -> set[str]:
    """The weights that can stand in a bundle's file: a network with others has no reference here."""
    known = {f"embedding.{feature.name}" for feature in manifest.features} | {"head.weight", "head.bias"}
    known |= {f"recurrent.{layer}.{part}" for layer in range(manifest.layers) for part in "WRBP"}
    known |= {"embedding.word.scale", "embedding.word.fine"}
    known |= {"head.query"} if manifest.head == "attention" else set()
    return known | {"cnn": _CNN, "lstm": _LSTM, None: set()}[manifest.characters]


def embed(manifest: Manifest, stored: Stored, row: Integers) -> Float64:
    """Each token's vector [tokens, inputs], of its numbers [tokens, columns]."""
    found, at = [], 0
    for feature in manifest.features:
        columns = row[:, at : at + feature.columns]
        found.append(
            _characters(manifest, stored, columns)
            if feature.name == "character"
            else _looked_up(feature, stored, columns[:, 0])
        )
        at += feature.columns
    return np.concatenate(found, axis=1)


def _looked_up(feature: Feature, stored: Stored, rows: Integers) -> Float64:
    """A table's rows: of floats; or of whole numbers, 8 or 4 bits each, with what one of them is worth in each row."""
    name = f"embedding.{feature.name}"
    found = stored[name][rows]
    if f"{name}.scale" not in stored:
        return found.astype(np.float64)
    whole = found.astype(np.float64)
    if f"{name}.fine" in stored:
        fine = stored[f"{name}.fine"]
        lower = _nibbles(fine[np.minimum(rows, len(fine) - 1)])  # the last row stands for all that have none
        whole = 16 * _nibbles(found) + lower - 128
    return whole * stored[f"{name}.scale"][rows].astype(np.float64)


def _nibbles(packed: NDArray[np.generic]) -> Float64:
    """The lower four bits of each byte of [rows, n], then the upper ones: [rows, 2n]."""
    whole = packed.astype(np.int64)
    return np.concatenate([whole & 15, whole >> 4], axis=1).astype(np.float64)


def _characters(manifest: Manifest, stored: Stored, ids: Integers) -> Float64:
    """What each token's characters say, by the network that reads them: [tokens, width]."""
    table = stored["embedding.character"].astype(np.float64)
    if manifest.characters == "lstm":
        parts = {part: stored[f"character.{part}"].astype(np.float64) for part in "WRB"}
        return np.stack([_spelt(parts, table[token[: np.count_nonzero(token)]]) for token in ids])
    bias = stored["character.bias"].astype(np.float64)
    width = len(bias)
    reach = table.shape[1] // width
    padded = np.pad(ids, ((0, 0), (reach // 2, reach // 2)))
    places = ids.shape[1]
    sums = sum(table[padded[:, at : at + places], at * width : (at + 1) * width] for at in range(reach))
    total: Float64 = np.asarray(sums).max(axis=1) + bias
    return total


def _spelt(parts: Weights, letters: Float64) -> Float64:
    """Where an LSTM in each direction ends after these letters: both hidden states."""
    ends = []
    for way, read in enumerate((letters, letters[::-1])):
        mine = {part: array[way] for part, array in parts.items()}
        units = mine["R"].shape[1]
        before = {"hidden": np.zeros((1, units)), "cell": np.zeros((1, units))}
        for letter in read:
            before = dict(_lstm(mine, letter[None], before))
        ends.append(before["hidden"][0])
    return np.concatenate(ends)


def step(manifest: Manifest, parts: Weights, inputs: Float64, before: Weights) -> Weights:
    """One step of a cell for every row at once: its gates [rows, units]."""
    if manifest.cell == "rnn":
        wx, rh = _products("rnn", parts, inputs, before["hidden"])
        return {"hidden": np.tanh(wx["hidden"] + rh["hidden"])}
    if manifest.cell == "gru":
        return _gru(manifest, parts, inputs, before["hidden"])
    return _lstm(parts, inputs, before)


def _products(cell: str, parts: Weights, inputs: Float64, hidden: Float64) -> tuple[Weights, Weights]:
    """By gate, W x and R h, each with its bias."""
    at = _blocks(_ORDER[cell], hidden.shape[1])
    biases = parts["B"].reshape(2, -1)
    wx = {gate: inputs @ parts["W"][part].T + biases[0, part] for gate, part in at.items()}
    return wx, {gate: hidden @ parts["R"][part].T + biases[1, part] for gate, part in at.items()}


def _blocks(order: Sequence[str], units: int) -> dict[str, slice]:
    return {gate: slice(number * units, (number + 1) * units) for number, gate in enumerate(order)}


def _gru(manifest: Manifest, parts: Weights, inputs: Float64, hidden: Float64) -> Weights:
    wx, rh = _products("gru", parts, inputs, hidden)
    keep, reset = (_sigmoid(wx[gate] + rh[gate]) for gate in ("keep", "reset"))
    past = reset * rh["candidate"]
    if manifest.gru_reset == "before":
        part = _blocks(_ORDER["gru"], hidden.shape[1])["candidate"]
        past = (reset * hidden) @ parts["R"][part].T + parts["B"].reshape(2, -1)[1, part]
    candidate = np.tanh(wx["candidate"] + past)
    return {
        "update": 1 - keep,
        "reset": reset,
        "candidate": candidate,
        "hidden": (1 - keep) * candidate + keep * hidden,
    }


def _lstm(parts: Weights, inputs: Float64, before: Weights) -> Weights:
    """With peepholes or without."""
    wx, rh = _products("lstm", parts, inputs, before["hidden"])
    units = before["hidden"].shape[1]
    p = dict(zip(_PEEPHOLES, parts.get("P", np.zeros(3 * units)).reshape(3, units), strict=True))
    i, f = (_sigmoid(wx[gate] + rh[gate] + p[gate] * before["cell"]) for gate in ("input", "forget"))
    candidate = np.tanh(wx["candidate"] + rh["candidate"])
    cell = f * before["cell"] + i * candidate
    o = _sigmoid(wx["output"] + rh["output"] + p["output"] * cell)
    hidden = o * np.tanh(cell)
    return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


def head(manifest: Manifest, stored: Stored, states: Float64) -> Float64:
    """The logits of one input's top states [tokens, units of all directions]."""
    weight, bias = (stored[f"head.{part}"].astype(np.float64) for part in ("weight", "bias"))
    logits: Float64 = _pooled(manifest, stored, states) @ weight.T + bias
    return logits


def _pooled(manifest: Manifest, stored: Stored, states: Float64) -> Float64:
    if manifest.head == "attention":
        products = states @ stored["head.query"].astype(np.float64)
        shares = np.exp(products - products.max())
        mean: Float64 = shares @ states / shares.sum()
        return mean
    units = manifest.hidden
    pooled: dict[str, Float64] = {
        "tagger": states,
        "max": states.max(axis=0),
        "mean": states.mean(axis=0),
        "last": np.concatenate([states[-1, :units], states[0, units:]]),
    }
    return pooled[manifest.head]


def _sigmoid(x: Float64) -> Float64:
    return 0.5 * (1 + np.tanh(0.5 * x))  # never overflows
