#!/usr/bin/env bash
# snntorch 1.0.0: SLSTM forgets everything at every step unless its input is as wide as its state. Before each step the state
# is compared with the shape of the input, not of the state, and replaced by zeros where they differ. The two states that the
# caller hands over, as the documentation asks, are thrown away, and so are those it keeps itself with init_hidden=True: the
# answer is that of the last token alone, and the recurrent weights never get a gradient. The documentation's own example,
# 784 inputs and 1000 units, is such a case. With equal sizes all is right. No error and no warning.
# Its equations name the states of the step before. SConv2dLSTM compares with the state's shape. No issue is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet snntorch==1.0.0 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
import snntorch
import torch

WIDE, BATCH, STEPS = 6, 2, 7


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def by_hand(cell, x):
    """The last hidden and cell state of an LSTM in float64 NumPy."""
    weights = {name: values.detach().double().numpy() for name, values in cell.named_parameters()}
    h, c = np.zeros((x.shape[1], WIDE)), np.zeros((x.shape[1], WIDE))
    for step in x.double().numpy():
        sums = step @ weights["weight_ih"].T + h @ weights["weight_hh"].T + weights["bias_ih"] + weights["bias_hh"]
        i, f, g, o = np.split(sums, 4, 1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return torch.tensor(h).float(), torch.tensor(c).float()


def run(layer, x, keeps):
    """The last states, handed from step to step or kept by the layer itself."""
    syn, mem = layer.reset_mem()
    for step in x:
        _, syn, mem = layer(step) if keeps else layer(step, syn, mem)
    return mem, syn


def apart(one, two):
    return max(float((a - b).abs().max()) for a, b in zip(one, two))


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for inputs in (5, WIDE, 9):
        for keeps in (False, True):
            torch.manual_seed(0)
            layer = snntorch.SLSTM(inputs, WIDE, init_hidden=keeps, output=keeps)
            x = torch.randn(STEPS, BATCH, inputs)
            states = run(layer, x, keeps)
            right, last = by_hand(layer.lstm_cell, x), by_hand(layer.lstm_cell, x[-1:])
            states[0].sum().backward()
            gradient = float(layer.lstm_cell.weight_hh.grad.abs().max())
            off, alone = apart(states, right), apart(states, last)
            print(
                f"snntorch {version('snntorch')}, SLSTM({inputs}, {WIDE}), init_hidden={keeps}, {STEPS} steps: states off by {off:.0e}, "
                f"from the last step alone {alone:.0e}; largest gradient of the recurrent weights {gradient:.0e}"
            )
            if inputs == WIDE:
                assert off < 1e-5 and alone > 0.05 and gradient > 0
            else:
                assert off > 0.05 and alone < 1e-6 and gradient == 0, (off, alone, gradient)
assert not [str(one.message) for one in caught if "shape" in str(one.message) or "state" in str(one.message)]
print("Put a linear layer before it that makes the input as wide as the state, or step its lstm_cell by hand.")
PY
