#!/usr/bin/env bash
# thinc 9.1.1 and 8.3.14, the one that spaCy 3.8 takes: the layer LSTM runs forward rightly and is trained by wrong gradients.
# The gradient of its parameters begins at the parameters themselves, not at zero: with a loss that is zero already the
# gradient is the weights, bit for bit, so every update pulls all of them towards 0, as a weight decay of 1 would. Of the true
# gradient only a part is added. The step where a direction begins is left out: the first word of each text has a gradient of
# 0, and a text of one word none at all. In its source the recurrent weights are paired with the state after each step, not
# before it. Gradients of all other words are right in one layer of one direction. No error and no warning. The
# documentation has it as "an LSTM recurrent neural network" beside PyTorchLSTM, which uses torch and is not concerned.
# Seen with NumpyOps, thinc's operators for a CPU. No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > gradients.py <<'PY'
import numpy as np
import thinc
from thinc.api import LSTM, SGD, NumpyOps, with_padded

WIDTH, UNITS = 3, 4
SIZES = {"W": (4, UNITS, WIDTH), "b": (4, UNITS), "R": (4, UNITS, UNITS), "c": (4, UNITS)}
random = np.random.default_rng(0)
texts = [random.normal(size=(length, WIDTH)).astype(np.float32) for length in (4, 6, 1)]
wishes = [random.normal(size=(len(text), UNITS)).astype(np.float32) for text in texts]


def split(flat):
    """thinc's parameters as W, b, R and c, each with the gates in the order f, i, o, candidate."""
    parts, start = {}, 0
    for name, shape in SIZES.items():
        parts[name] = flat[start : start + np.prod(shape)].reshape(shape)
        start += np.prod(shape)
    return parts


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def outputs(flat, text):
    """All states of one text, by the equations of an LSTM in float64."""
    p = split(np.asarray(flat, np.float64))
    h = c = np.zeros(UNITS)
    states = []
    for x in np.asarray(text, np.float64):
        f, i, o, candidate = p["W"] @ x + p["b"] + p["R"] @ h + p["c"]
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def loss(flat, given):
    return sum(float((outputs(flat, text) * wish).sum()) for text, wish in zip(given, wishes[-len(given) :], strict=True))


def slope(function, at):
    """The gradient by central differences."""
    at = np.asarray(at, np.float64)
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-6
        found[place] = (function(at + step) - function(at - step)) / 2e-6
    return found


def layer():
    model = with_padded(LSTM(UNITS, WIDTH))
    model.initialize(X=texts, Y=wishes)
    (lstm,) = (one for one in model.walk() if one.name == "lstm")
    assert type(lstm.ops) is NumpyOps, type(lstm.ops)
    lstm.set_param("LSTM", (np.random.default_rng(1).normal(size=lstm.get_param("LSTM").shape) / 2).astype(np.float32))
    return model, lstm


def backward(given, wanted):
    model, lstm = layer()
    got, back = model(given, is_train=True)
    inputs = back([wish.copy() for wish in wanted])
    return got, inputs, lstm.get_grad("LSTM").copy(), lstm.get_param("LSTM").copy()


version = thinc.__version__
got, inputs, gradient, flat = backward(texts, wishes)
off = max(float(np.abs(one - outputs(flat, text)).max()) for one, text in zip(got, texts, strict=True))
print(f"thinc {version}, forward: off by {off:.0e}")
assert off < 1e-6, off

for number, (text, wish) in enumerate(zip(texts, wishes, strict=True)):
    right = slope(lambda x: float((outputs(flat, x) * wish).sum()), text)
    print(f"thinc {version}, text of {len(text)}: gradient of word 0 {inputs[number][0].tolist()}, right {[round(one, 3) for one in right[0].tolist()]}")
    assert not inputs[number][0].any() and np.abs(right[0]).max() > 0.01, (inputs[number], right)
    assert np.allclose(inputs[number][1:], right[1:], atol=1e-4), (inputs[number], right)

right, said, own = split(slope(lambda p: loss(p, texts), flat)), split(gradient), split(flat)
for name in "WR":
    apart = float(np.abs(said[name] - right[name]).max())
    print(f"thinc {version}, gradient of {name}: off by {apart:.2f}, largest of the right one {np.abs(right[name]).max():.2f}")
    assert apart > 0.5 and np.abs(said[name] - own[name] - right[name]).max() > 0.1, (name, apart)

alone, parts = slope(lambda p: loss(p, texts[-1:]), flat), split(backward(texts[-1:], wishes[-1:])[2])
print(f"thinc {version}, text of one word: right {np.abs(alone).max():.2f}, found what the weights are: {bool((parts['W'] == own['W']).all())}")
assert np.abs(alone).max() > 0.05 and all((parts[name] == own[name]).all() for name in "WR")
nothing = split(backward(texts, [np.zeros_like(wish) for wish in wishes])[2])
assert all((nothing[name] == own[name]).all() for name in "WR") and (nothing["b"] == own["b"] + own["c"]).all(), nothing

model, lstm = layer()
for _ in range(50):
    _, back = model(texts, is_train=True)
    back([np.zeros_like(wish) for wish in wishes])
    model.finish_update(SGD(0.1, L2=0.0, use_averages=False, grad_clip=0.0))
left = split(lstm.get_param("LSTM"))
share = float(np.abs(left["R"]).max() / np.abs(own["R"]).max())
print(f"thinc {version}, 50 updates by SGD with a loss of 0 and no weight decay: the recurrent weights keep {share:.1%}")
assert abs(share - 0.9**50) < 1e-4, share
PY
for release in 9.1.1 8.3.14; do
  python3 -m venv "venv-$release"
done
venv-9.1.1/bin/pip install --quiet thinc==9.1.1 numpy==2.4.6
venv-8.3.14/bin/pip install --quiet thinc==8.3.14 numpy==2.4.6
for release in 9.1.1 8.3.14; do
  "venv-$release/bin/python" -W ignore gradients.py
done
echo "Use PyTorchLSTM, or an LSTM of another library in one of thinc's wrappers."
