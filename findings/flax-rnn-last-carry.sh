#!/usr/bin/env bash
# flax 0.12.8, jax 0.10.2: RNN with seq_lengths and return_carry takes the wrong last carry, in flax.nnx and in flax.linen.
# A row of length 0 gets the carry after the whole padding, not the initial_carry: the state of a text that got no new token
# in a piece is lost, and what stands in the padding takes its place. The outputs of the other rows are right.
# With two batch axes of one size, which the documentation allows (seq_lengths of shape (*batch)), the carry has an axis too
# many, and what it holds at [i, j] are the carries of all rows j at the length of row [i, j]; given back as initial_carry it is
# accepted, and the next outputs have that axis too. No error, no warning. With one batch axis and lengths from 1 all is right.
# The lines are the same in 0.12.12, the newest, which needs Python 3.12.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet flax==0.12.8 jax==0.10.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import flax
import jax
import numpy as np
from flax import linen, nnx

INPUT, UNITS, STEPS = 5, 4, 6
random = np.random.default_rng(0)


def values(*shape):
    return random.normal(size=shape).astype(np.float32)


def with_nnx():
    cell = nnx.SimpleCell(INPUT, UNITS, rngs=nnx.Rngs(0))
    weights = [cell.dense_i.kernel, cell.dense_h.kernel, cell.dense_i.bias]
    return weights, lambda x, **given: nnx.RNN(cell)(x, return_carry=True, **given)


def with_linen():
    layer = linen.RNN(linen.SimpleCell(UNITS))
    weights = layer.init(jax.random.key(0), values(1, STEPS, INPUT))
    cell = next(iter(weights["params"].values()))
    wanted = [cell["i"]["kernel"], cell["h"]["kernel"], cell["i"]["bias"]]
    return wanted, lambda x, **given: layer.apply(weights, x, return_carry=True, **given)


def last(weights, x, length, h):
    """h = tanh(x W + h R + b) over the first steps of one row, in NumPy, float64."""
    w, r, b = (np.asarray(one, np.float64) for one in weights)
    for step in x[:length].astype(np.float64):
        h = np.tanh(step @ w + h @ r + b)
    return h


def off(a, b):
    return float(np.abs(np.asarray(a) - b).max())


for name, made in (("nnx", with_nnx), ("linen", with_linen)):
    weights, layer = made()
    x, before, lengths = values(3, STEPS, INPUT), values(3, UNITS) / 4, np.array([6, 0, 4])
    wanted = np.stack([last(weights, *row) for row in zip(x, lengths, before, strict=True)])
    found = []
    for padding in (x[1], np.full((STEPS, INPUT), 9, np.float32)):
        x[1] = padding
        carry, _ = layer(x, seq_lengths=lengths, initial_carry=before)
        assert off(carry[0], wanted[0]) < 1e-5 and off(carry[2], wanted[2]) < 1e-5, (carry, wanted)
        assert off(carry[1], last(weights, padding, STEPS, before[1])) < 1e-5, "not the carry after the padding"
        found.append(off(carry[1], before[1]))
    print(f"flax {flax.__version__}, {name}: the carry of a row of length 0 is off by {found[0]:.2f} and, with other padding, {found[1]:.2f}")
    assert min(found) > 0.1, found

    size = 3
    x, lengths = values(size, size, STEPS, INPUT), random.integers(1, STEPS + 1, (size, size))
    wanted = np.stack([np.stack([last(weights, x[i, j], lengths[i, j], np.zeros(UNITS)) for j in range(size)]) for i in range(size)])
    carry, outputs = layer(x, seq_lengths=lengths)
    print(f"    two batch axes: carry of shape {list(carry.shape)}, not {list(wanted.shape)}")
    assert outputs.shape == (size, size, STEPS, UNITS) and carry.shape == (size, size, size, UNITS), (outputs.shape, carry.shape)
    for i, j, k in np.ndindex(size, size, size):
        assert off(carry[i, j, k], last(weights, x[j, k], lengths[i, j], np.zeros(UNITS))) < 1e-5, (i, j, k)
    picked = np.stack([np.asarray(outputs)[i, j, lengths[i, j] - 1] for i, j in np.ndindex(size, size)]).reshape(wanted.shape)
    assert off(picked, wanted) < 1e-5, "the outputs are wrong too"
    _, outputs = layer(x, initial_carry=carry)
    print(f"    the next outputs, from that carry: {list(outputs.shape)}, not {[size, size, STEPS, UNITS]}")
    assert outputs.ndim == 5, outputs.shape
print("Take the carry of rows of length 0 from initial_carry, and make one axis of several batch axes.")
PY
