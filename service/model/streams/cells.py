"""One step of each recurrent cell, for rows that are independent of each other, from a bundle's weights.

Shapes: inputs [rows, inputs], states [rows, units]. Gates are stacked as ONNX has them; `service.model.equations` has
the equations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import Manifest
from service.model.equations import CellName, Form

Array = NDArray[np.float32]
_BOUNDS = 2
"""Columns and units of a layer of whole numbers that fix a range."""

Weights = Mapping[str, NDArray[np.generic]]
"""A bundle's weights by their names in the file."""
Gates = dict[str, Array]
"""Gate name → activations [rows, units]."""


class Layer(Protocol):
    """A recurrent layer that reads forward."""

    sizes: tuple[int, ...]
    """Numbers in each of the states that it carries; the first is the hidden state."""

    def arrive(self, inputs: Array) -> Array:
        """What the input gives to each gate: for any number of steps at once."""
        ...

    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        """The states after one step, from those before, and every gate."""
        ...


class _Stacked:
    """The weights of a layer in float32: W [inputs, gates * units], R [units, gates * units], B [1 or 2, the same].

    A cell whose gates do not see the state has no R, one without an operator of ONNX one bias a gate.
    """

    states = 1

    def __init__(self, manifest: Manifest, weights: Weights, number: int) -> None:
        w, b = (np.asarray(weights[f"recurrent.{number}.{part}"][0], np.float32) for part in "WB")
        r = weights.get(f"recurrent.{number}.R")
        self.units = manifest.hidden
        self.sizes: tuple[int, ...] = (self.units,) * self.states
        self.w = np.ascontiguousarray(w.T)
        self.r = np.zeros((0, 0), np.float32) if r is None else np.ascontiguousarray(r[0].T, np.float32)
        self.bias = b.reshape(-1, len(w))
        self.after = manifest.gru_reset == "after"
        peepholes = weights.get(f"recurrent.{number}.P")
        self.peepholes = None if peepholes is None else np.asarray(peepholes[0], np.float32)
        if self.peepholes is not None and self.peepholes.ndim == 1:
            self.peepholes = self.peepholes.reshape(3, -1)

    def arrive(self, inputs: Array) -> Array:
        arrived: Array = inputs @ self.w + self.bias[0]
        return arrived


class _Rnn(_Stacked):
    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        hidden = np.tanh(arrived + before[0] @ self.r)
        return [hidden], {"hidden": hidden}


class _Lstm(_Stacked):
    """With peepholes or without. Order of the gates: input, output, forget, candidate."""

    states = 2

    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        sums = arrived + before[0] @ self.r
        i, o, f, candidate = (sums[:, n * self.units : (n + 1) * self.units] for n in range(4))
        if self.peepholes is None:
            _squash(sums[:, : 3 * self.units])
        else:
            i += self.peepholes[0] * before[1]
            f += self.peepholes[2] * before[1]
            _squash(i)
            _squash(f)
        np.tanh(candidate, out=candidate)
        cell = f * before[1]
        cell += i * candidate
        if self.peepholes is not None:
            o += self.peepholes[1] * cell
            _squash(o)
        hidden = o * np.tanh(cell)
        gates = {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}
        return [hidden, cell], gates


class _FullPeephole(_Stacked):
    """Peepholes [gates * units, units]. Order of the gates: input, output, forget, candidate."""

    states = 2

    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        assert self.peepholes is not None
        units, seen = self.units, self.peepholes
        sums = arrived + before[0] @ self.r
        i, o, f, candidate = (sums[:, n * units : (n + 1) * units] for n in range(4))
        i += before[1] @ seen[:units].T
        sums[:, 2 * units :] += before[1] @ seen[2 * units :].T
        _squash(i)
        _squash(f)
        np.tanh(candidate, out=candidate)
        cell = f * before[1]
        cell += i * candidate
        o += cell @ seen[units : 2 * units].T
        _squash(o)
        hidden = o * np.tanh(cell)
        gates = {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}
        return [hidden, cell], gates


class _MinGru(_Stacked):
    """Order of the gates: update, candidate."""

    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        update, candidate = arrived[:, : self.units].copy(), np.tanh(arrived[:, self.units :])
        _squash(update)
        hidden = (1 - update) * before[0] + update * candidate
        return [hidden], {"update": update, "candidate": candidate, "hidden": hidden}


class _MinLstm(_Stacked):
    """Order of the gates: forget, input, candidate."""

    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        # 1 / sigmoid(x) = 1 + e^-x; the bound keeps the sum of two within float32.
        inverse = 1 + np.exp(-np.maximum(arrived[:, : 2 * self.units], np.float32(-80)))
        of_forget, of_input = inverse[:, : self.units], inverse[:, self.units :]
        total = of_forget + of_input
        forget, taken = of_input / total, of_forget / total
        candidate = np.tanh(arrived[:, 2 * self.units :])
        hidden = forget * before[0] + taken * candidate
        return [hidden], {"forget": forget, "input": taken, "candidate": candidate, "hidden": hidden}


class _Gru(_Stacked):
    """Order of the gates: keep (1 - update), reset, candidate."""

    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        hidden, two = before[0], 2 * self.units
        if self.after:
            past = hidden @ self.r
            both = arrived[:, :two] + past[:, :two]
            _squash(both)
            keep, reset = both[:, : self.units], both[:, self.units :]
            candidate = np.tanh(arrived[:, two:] + reset * (past[:, two:] + self.bias[1, two:]))
        else:
            both = arrived[:, :two] + hidden @ self.r[:, :two]
            _squash(both)
            keep, reset = both[:, : self.units], both[:, self.units :]
            candidate = np.tanh(arrived[:, two:] + (reset * hidden) @ self.r[:, two:])
        after = candidate + keep * (hidden - candidate)
        return [after], {"update": 1 - keep, "reset": reset, "candidate": candidate, "hidden": after}


class _Integers:
    """An LSTM's layer whose weights are whole numbers: what ONNX Runtime's DynamicQuantizeLSTM computes, row by row.

    The inputs, and the states before each step, are rounded to 256 steps between the least and the largest of them.
    Two units more than the manifest's, and two columns, fix that range (`training.export.onnx.integers`), so that a
    stream carries them too. W is int8 [columns, gates * units], R alike; both are here with their two units.
    """

    def __init__(self, manifest: Manifest, weights: Weights, number: int) -> None:
        name = f"recurrent.{number}"
        self._units = manifest.hidden
        self._wide = manifest.hidden + _BOUNDS
        self.sizes: tuple[int, ...] = (self._wide, self._wide)
        # Whole numbers in float32: sums of products stay under 2^24, so that they are exact.
        self._w, self._r = (np.asarray(weights[f"{name}.{part}"][0], np.float32) for part in "WR")
        self._w_scale, self._r_scale = (np.asarray(weights[f"{name}.{part}.scale"][0], np.float32) for part in "WR")
        self._bias = np.asarray(weights[f"{name}.B"][0], np.float32).reshape(2, -1).sum(axis=0)

    def arrive(self, inputs: Array) -> Array:
        bounds = np.tile(np.array([1.0, -1.0], np.float32), (len(inputs), 1))
        whole, scale = _rounded(np.concatenate([inputs[:, : len(self._w) - _BOUNDS], bounds], axis=1))
        arrived: Array = (whole @ self._w) * (scale * self._w_scale) + self._bias
        return arrived

    def step(self, arrived: Array, before: list[Array]) -> tuple[list[Array], Gates]:
        whole, scale = _rounded(before[0])
        sums = arrived + (whole @ self._r) * (scale * self._r_scale)
        i, o, f, candidate = (sums[:, n * self._wide : (n + 1) * self._wide] for n in range(4))
        _squash(sums[:, : 3 * self._wide])
        np.tanh(candidate, out=candidate)
        cell = f * before[1]
        cell += i * candidate
        hidden = o * np.tanh(cell)
        gates = {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}
        return [hidden, cell], {name: activations[:, : self._units] for name, activations in gates.items()}


def _rounded(numbers: Array) -> tuple[Array, Array]:
    """Each row [rows, columns] in whole numbers, and what one of them is worth [rows, 1]."""
    least, most = (np.minimum(numbers.min(axis=1), 0), np.maximum(numbers.max(axis=1), 0))
    scale = ((most - least) / np.float32(255))[:, None].astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1))
    zero = np.clip(np.rint(-least[:, None] / safe), 0, 255)
    return np.clip(np.rint(numbers / safe), -zero, 255 - zero), safe


def layer(manifest: Manifest, weights: Weights, number: int) -> Layer:
    """A layer of a model, by its cell and its precision."""
    if f"recurrent.{number}.W.scale" in weights:
        return _Integers(manifest, weights, number)
    return LAYERS[manifest.cell, manifest.form](manifest, weights, number)


LAYERS: dict[tuple[CellName, Form | None], Callable[[Manifest, Weights, int], Layer]] = {
    ("rnn", None): _Rnn,
    ("lstm", None): _Lstm,
    ("peephole", "diagonal"): _Lstm,
    ("peephole", "full"): _FullPeephole,
    ("gru", "after"): _Gru,
    ("gru", "before"): _Gru,
    ("mingru", None): _MinGru,
    ("minlstm", None): _MinLstm,
}
"""By cell, and its form where it has two."""


def _squash(sums: Array) -> None:
    """The logistic function, in place; it never overflows."""
    sums *= 0.5
    np.tanh(sums, out=sums)
    sums *= 0.5
    sums += 0.5
