#!/usr/bin/env bash
# paddlepaddle 3.3.1: gradients of a bidirectional LSTM, GRU or SimpleRNN are wrong as soon as it has initial states other than 0
# and rows shorter than the batch has steps. The forward pass is right, to float64. Backward, the direction that reads from the
# end does not find the state that it began with: for LSTM and SimpleRNN the gradient of its recurrent weights is off by as
# much as it is large, for GRU that of all its weights and biases, of its initial state and of the last token of each short
# row too. With lengths that are all full, without initial states, in one direction, and of the forward direction, all is right;
# so is BiRNN with two cells of the same weights. It concerns one row as well as many, and stacks of layers.
# The documentation has initial_states and sequence_length as inputs that go together. No error and no warning. Seen on the CPU;
# no issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet paddlepaddle==3.3.1 numpy==2.4.6
cat > gradients.py <<'PY'
import contextlib
import os

import numpy as np

with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # Paddle recommends ccache
    import paddle

INPUT, HIDDEN, STEPS, LENGTHS = 3, 4, 5, (5, 3, 1)
GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
CELLS = {"LSTM": paddle.nn.LSTMCell, "GRU": paddle.nn.GRUCell, "SimpleRNN": paddle.nn.SimpleRNNCell}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
paddle.set_default_dtype("float64")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def direction(kind, x, h, c, w, r, b, d):
    """Outputs and last states of one row, by the equations of Paddle's documentation."""
    outputs = []
    for step in x:
        read, kept = w @ step + b, r @ h + d
        if kind == "LSTM":
            i, f, g, o = np.split(read + kept, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif kind == "GRU":
            (xr, xz, xn), (hr, hz, hn) = np.split(read, 3), np.split(kept, 3)
            z = sigmoid(xz + hz)
            h = z * h + (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn)
        else:
            h = np.tanh(read + kept)
        outputs.append(h)
    return outputs, h, c


def loss(kind, values, lengths, wish):
    """The sum of all outputs of real steps and all last states, each times a number of its own."""
    total = 0.0
    for side, end in enumerate(("", "_reverse")):
        weights = [values[name + end] for name in NAMES]
        for row, length in enumerate(lengths):
            x = values["x"][row, :length][:: -1 if side else 1]
            outputs, h, c = direction(kind, x, values["h"][side, row], values["c"][side, row], *weights)
            outputs = outputs[:: -1 if side else 1]
            total += (np.array(outputs) * wish["y"][row, :length, side * HIDDEN : (side + 1) * HIDDEN]).sum()
            total += (h * wish["h"][side, row]).sum() + (c * wish["c"][side, row]).sum() * (kind == "LSTM")
    return total


def slopes(kind, values, lengths, wish):
    """Gradients by central differences."""
    found = {}
    for name, value in values.items():
        found[name] = np.zeros_like(value)
        for place in np.ndindex(value.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = value.copy()
                moved[place] += step
                ends.append(loss(kind, values | {name: moved}, lengths, wish))
            found[name][place] = (ends[0] - ends[1]) / 2e-6
    return found


def by_paddle(kind, values, lengths, wish, cells=False):
    """The loss and its gradients by Paddle, of a layer of both directions, or of BiRNN with two cells."""
    if cells:
        sides = {"": CELLS[kind](INPUT, HIDDEN), "_reverse": CELLS[kind](INPUT, HIDDEN)}
        layer = paddle.nn.BiRNN(*sides.values())
        parameters = {name + end: getattr(cell, name) for end, cell in sides.items() for name in NAMES}
    else:
        layer = getattr(paddle.nn, kind)(INPUT, HIDDEN, direction="bidirect")
        parameters = {name: one for name, one in layer.named_parameters() if "_l0" in name}
        parameters = {name.replace("_l0", ""): one for name, one in parameters.items()}
    for name, one in parameters.items():
        one.set_value(values[name])
    x, h, c = (paddle.to_tensor(values[name], stop_gradient=False) for name in "xhc")
    state = (h, c) if kind == "LSTM" else h
    if cells:
        state = [(h[side], c[side]) if kind == "LSTM" else h[side] for side in (0, 1)]
    y, last = layer(x, state, sequence_length=paddle.to_tensor(lengths))
    if cells:
        last = [paddle.stack(parts) for parts in zip(*last, strict=True)] if kind == "LSTM" else paddle.stack(list(last))
    mask = (np.arange(STEPS) < np.array(lengths)[:, None])[..., None]
    total = (y * paddle.to_tensor(wish["y"] * mask)).sum()
    for part, name in zip(last if kind == "LSTM" else [last], "hc", strict=False):
        total = total + (part * paddle.to_tensor(wish[name])).sum()
    total.backward()
    grads = {name: one.grad.numpy() for name, one in (parameters | {"x": x, "h": h, "c": c}).items() if one.grad is not None}
    return float(total), grads


def wrong(kind, lengths, states=1.0, cells=False):
    """The names of what has a wrong gradient, and by how much of the largest right one."""
    random = np.random.default_rng(0)
    rows, shapes = len(lengths), {"weight_ih": INPUT, "weight_hh": HIDDEN, "bias_ih": None, "bias_hh": None}
    values = {"x": random.normal(size=(rows, STEPS, INPUT)), "h": states * random.normal(size=(2, rows, HIDDEN)), "c": states * random.normal(size=(2, rows, HIDDEN))}
    for end in ("", "_reverse"):
        for name, width in shapes.items():
            values[name + end] = random.normal(size=(GATES[kind] * HIDDEN, *([] if width is None else [width]))) / 2
    wish = {"y": random.normal(size=(rows, STEPS, 2 * HIDDEN)), "h": random.normal(size=(2, rows, HIDDEN)), "c": random.normal(size=(2, rows, HIDDEN))}
    total, grads = by_paddle(kind, values, lengths, wish, cells)
    assert abs(total - loss(kind, values, lengths, wish)) < 1e-9, "the forward pass"
    right = slopes(kind, values, lengths, wish)
    apart = {name: float(np.abs(grad - right[name]).max()) for name, grad in grads.items()}
    assert len(apart) == (11 if kind == "LSTM" else 10), sorted(apart)
    return {name: off / float(np.abs(right[name]).max()) for name, off in apart.items() if off > 1e-5}


for kind in GATES:
    found = wrong(kind, LENGTHS)
    shown = ", ".join(f"{name} {share:.0%}" for name, share in sorted(found.items()))
    print(f"paddlepaddle {paddle.__version__}, {kind}, lengths {LENGTHS}: wrong gradients, of the largest right one: {shown}")
    reverse = {name + "_reverse" for name in NAMES}
    assert set(found) == (reverse | {"x", "h"} if kind == "GRU" else {"weight_hh_reverse"}), found
    assert found["weight_hh_reverse"] > 0.2, found
    assert wrong(kind, (3,)), "a row alone"
    assert not wrong(kind, (STEPS,) * 3) and not wrong(kind, LENGTHS, states=0.0) and not wrong(kind, LENGTHS, cells=True)
print("All right: full lengths, initial states of 0, BiRNN with two cells. Use one of them.")
PY
GLOG_minloglevel=2 venv/bin/python -W ignore gradients.py
