"""One step of each recurrent cell, for independent rows, from a bundle's weights.

Shapes: inputs [rows, inputs], states [rows, units]. Gates are stacked in ONNX's order; `service.model.equations` has
the equations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import Manifest
from service.model.equations import CellName, Form, one_graph
from service.model.weights_layout import INT8_BOUNDS, layer_name, scale_name

Array = NDArray[np.float32]
Weights = Mapping[str, NDArray[np.generic]]
"""A bundle's weights by their names in the file."""
Gates = dict[str, Array]
"""Gate name → activations [rows, units]."""

_HALF = np.float32(0.5)  # a NumPy scalar, because a Python float costs each operation half as much again


class Layer(Protocol):
    """A recurrent layer that reads forward."""

    sizes: tuple[int, ...]
    """The size of each state; the first is the hidden state."""

    def arrive(self, inputs: Array) -> Array:
        """The input's part of each gate, for any number of steps at once."""
        ...

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        """Change the states by one step. Returns every gate; the states themselves are among them."""
        ...


class _Stacked:
    """A layer's weights in float32: W [inputs, gates * units], R [units, gates * units], bias [gates * units], and the
    recurrent bias of a reset-after GRU."""

    states = 1
    halved = 0
    """The first so many gates are logistic and their sums are halved: logistic(x) = (1 + tanh(x / 2)) / 2."""

    def __init__(self, manifest: Manifest, weights: Weights, number: int) -> None:
        name = layer_name(number)
        self.units = manifest.hidden
        self.sizes: tuple[int, ...] = (self.units,) * self.states
        self.w = np.ascontiguousarray(np.asarray(weights[f"{name}.W"][0], np.float32).T)
        if f"{name}.R" in weights:  # the gates of a minimal cell do not see the state
            self.r = np.ascontiguousarray(np.asarray(weights[f"{name}.R"][0], np.float32).T)
        biases = np.asarray(weights[f"{name}.B"][0], np.float32)
        both = not one_graph(manifest.cell, manifest.form)
        self.bias, self.second = np.split(biases, 2) if both else (biases, biases)
        self.after = manifest.gru_reset == "after"
        peepholes = weights.get(f"{name}.P")
        self.peepholes = None if peepholes is None else np.asarray(peepholes[0], np.float32)
        if self.halved:
            share = np.ones(self.w.shape[1], np.float32)
            share[: self.halved * self.units] = _HALF
            self.w, self.r, self.bias = self.w * share, self.r * share, self.bias * share

    def arrive(self, inputs: Array) -> Array:
        arrived: Array = inputs.dot(self.w)
        arrived += self.bias
        return arrived


class _Rnn(_Stacked):
    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        (hidden,) = states
        np.tanh(arrived + hidden.dot(self.r), hidden)
        return {"hidden": hidden}


class _Lstm(_Stacked):
    """An LSTM with diagonal peepholes [3 * units] (input, output, forget), or without. Gates: input, output, forget,
    candidate."""

    states = 2
    halved = 3

    def __init__(self, manifest: Manifest, weights: Weights, number: int) -> None:
        super().__init__(manifest, weights, number)
        u = self.units
        slices = (slice(u), slice(u, 2 * u), slice(2 * u, 3 * u), slice(3 * u, 4 * u), slice(3 * u))
        self.parts = [(slice(None), each) for each in slices]
        """The four gates and, for one call, all that are logistic."""
        if self.peepholes is not None:
            self.peepholes = self.peepholes * _HALF

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        hidden, cell = states
        sums = hidden.dot(self.r)
        sums += arrived
        i, o, f, candidate, squashed = (sums[part] for part in self.parts)
        if self.peepholes is None:
            np.tanh(sums, sums)
            _end_squash(squashed)
        else:
            i += self.peepholes[: self.units] * cell
            f += self.peepholes[2 * self.units :] * cell
            for gate in (i, f):
                np.tanh(gate, gate)
                _end_squash(gate)
            np.tanh(candidate, candidate)
        cell *= f
        cell += i * candidate
        if self.peepholes is not None:
            o += self.peepholes[self.units : 2 * self.units] * cell
            np.tanh(o, o)
            _end_squash(o)
        np.tanh(cell, hidden)
        hidden *= o
        return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


class _FullPeephole(_Stacked):
    """Peepholes are matrices [4 * units, units], stacked like the gates; the candidate has one, too."""

    states = 2

    def __init__(self, manifest: Manifest, weights: Weights, number: int) -> None:
        super().__init__(manifest, weights, number)
        assert self.peepholes is not None
        apart = [*_parts(self.peepholes.T, self.units, 4)]  # [units, units] each
        self.output = np.ascontiguousarray(apart[1])
        apart[1] = np.zeros_like(self.output)  # the output gate sees the new cell
        self.early = np.ascontiguousarray(np.concatenate(apart, axis=1))

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        hidden, cell = states
        sums = arrived + hidden.dot(self.r) + cell.dot(self.early)
        i, o, f, candidate = _parts(sums, self.units, 4)
        _squash(i)
        _squash(f)
        np.tanh(candidate, candidate)
        cell *= f
        cell += i * candidate
        o += cell.dot(self.output)
        _squash(o)
        np.multiply(o, np.tanh(cell), hidden)
        return {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}


class _MinGru(_Stacked):
    """Gates: update, candidate. Neither sees the state."""

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        (hidden,) = states
        update, candidate = _parts(arrived, self.units, 2)
        update, candidate = update * _HALF, np.tanh(candidate)
        np.tanh(update, update)
        _end_squash(update)
        hidden += update * (candidate - hidden)
        return {"update": update, "candidate": candidate, "hidden": hidden}


class _MinLstm(_Stacked):
    """Gates: forget, input, candidate. Forget and input are normalised by their logarithms, which stay finite if both
    are near 0."""

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        f, i, candidate = _parts(arrived, self.units, 3)
        share: Array = np.logaddexp(np.float32(0), -i) - np.logaddexp(np.float32(0), -f)  # of the sigmoids
        forget, taken = share, -share
        _squash(forget)
        _squash(taken)
        candidate = np.tanh(candidate)
        (hidden,) = states
        hidden *= forget
        hidden += taken * candidate
        return {"forget": forget, "input": taken, "candidate": candidate, "hidden": hidden}


class _Gru(_Stacked):
    """Gates: keep (1 - update), reset, candidate."""

    halved = 2

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        (hidden,), two = states, 2 * self.units
        if self.after:
            past = hidden.dot(self.r)
            both = arrived[:, :two] + past[:, :two]
        else:
            both = arrived[:, :two] + hidden.dot(self.r[:, :two])
        np.tanh(both, both)
        _end_squash(both)
        keep, reset = _parts(both, self.units, 2)
        candidate = reset * (past[:, two:] + self.second[two:]) if self.after else (reset * hidden).dot(self.r[:, two:])
        candidate += arrived[:, two:]
        np.tanh(candidate, candidate)
        hidden -= candidate
        hidden *= keep
        hidden += candidate
        return {"update": 1 - keep, "reset": reset, "candidate": candidate, "hidden": hidden}


class _Integers:
    """An LSTM layer with integer weights: ONNX Runtime's DynamicQuantizeLSTM, computed row by row.

    The inputs, and the states before each step, are rounded to 256 levels between their minimum and maximum. Two extra
    units and two extra columns fix that range (`training.export.onnx.integers`), so a stream carries them, too. W is
    int8 [columns, gates * units], and R alike; both include the extra units.
    """

    def __init__(self, manifest: Manifest, weights: Weights, number: int) -> None:
        name = layer_name(number)
        self._units = manifest.hidden
        self._wide = manifest.hidden + INT8_BOUNDS
        self.sizes: tuple[int, ...] = (self._wide, self._wide)
        # Integers in float32: sums of products stay under 2^24 and are exact.
        self._w, self._r = (np.asarray(weights[f"{name}.{part}"][0], np.float32) for part in "WR")
        self._w_scale, self._r_scale = (
            np.asarray(weights[scale_name(f"{name}.{part}")][0], np.float32) for part in "WR"
        )
        self._bias = np.asarray(weights[f"{name}.B"][0], np.float32).reshape(2, -1).sum(axis=0)

    def arrive(self, inputs: Array) -> Array:
        bounds = np.tile(np.array([1.0, -1.0], np.float32), (len(inputs), 1))
        whole, scale = _rounded(np.concatenate([inputs[:, : len(self._w) - INT8_BOUNDS], bounds], axis=1))
        arrived: Array = (whole @ self._w) * (scale * self._w_scale) + self._bias
        return arrived

    def step(self, arrived: Array, states: Sequence[Array]) -> Gates:
        hidden, cell = states
        whole, scale = _rounded(hidden)
        sums = arrived + (whole @ self._r) * (scale * self._r_scale)
        i, o, f, candidate = _parts(sums, self._wide, 4)
        _squash(sums[:, : 3 * self._wide])
        np.tanh(candidate, candidate)
        cell *= f
        cell += i * candidate
        np.multiply(o, np.tanh(cell), hidden)
        gates = {"forget": f, "input": i, "output": o, "candidate": candidate, "cell": cell, "hidden": hidden}
        return {name: activations[:, : self._units] for name, activations in gates.items()}


def _rounded(numbers: Array) -> tuple[Array, Array]:
    """Each row [rows, columns] in integers, and its scale [rows, 1]."""
    least, most = (np.minimum(numbers.min(axis=1), 0), np.maximum(numbers.max(axis=1), 0))
    scale = ((most - least) / np.float32(255))[:, None].astype(np.float32)
    safe = np.where(scale > 0, scale, np.float32(1))
    zero = np.clip(np.rint(-least[:, None] / safe), 0, 255)
    return np.clip(np.rint(numbers / safe), -zero, 255 - zero), safe


def layer(manifest: Manifest, weights: Weights, number: int) -> Layer:
    """A layer of a model, by its cell and its precision."""
    if scale_name(f"{layer_name(number)}.W") in weights:
        return _Integers(manifest, weights, number)
    return _LAYERS[manifest.cell, manifest.form](manifest, weights, number)


_LAYERS: dict[tuple[CellName, Form | None], Callable[[Manifest, Weights, int], Layer]] = {
    ("rnn", None): _Rnn,
    ("lstm", None): _Lstm,
    ("peephole", "diagonal"): _Lstm,
    ("peephole", "full"): _FullPeephole,
    ("gru", "after"): _Gru,
    ("gru", "before"): _Gru,
    ("mingru", None): _MinGru,
    ("minlstm", None): _MinLstm,
}
"""By cell, and by its form if it has two."""


def _parts(stacked: Array, units: int, count: int) -> list[Array]:
    """Views of the gates stacked along the last axis."""
    return [stacked[:, number * units : (number + 1) * units] for number in range(count)]


def _squash(sums: Array) -> None:
    """The logistic function, in place. It never overflows."""
    sums *= _HALF
    np.tanh(sums, sums)
    _end_squash(sums)


def _end_squash(halves: Array) -> None:
    """The logistic function of x, in place, from tanh(x / 2)."""
    halves *= _HALF
    halves += _HALF
