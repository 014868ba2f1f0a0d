#!/usr/bin/env bash
# ncps 1.0.1: two settings of the torch layer CfC do something else than they say. backbone_dropout is dropped with the
# default of one backbone layer, and left out behind the first of several: two runs in training are equal at a rate of .9.
# ncps.keras has a Dropout behind every layer. timespans, times since the step before, one for each text and step, go to the
# units and not to the texts: unit k of every text gets the time of text k. Where the batch has as many texts as the layer
# has units, and 32 or 64 of both is no rare choice, it runs, and a text's answer depends on the times of the others; alone,
# or with one time for all, it is right. Other batches raise an error. LTC does the same. No error and no warning here.
# The documentation calls the first the "dropout rate in the backbone layers", and says nothing of the shape of the second.
# Open issue 83 of its tracker has the times, which were in earlier releases; the dropout is not known there.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet ncps==1.0.1 torch==2.13.0 numpy==2.4.6 keras==3.15.1
KERAS_BACKEND=torch venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import keras
import numpy as np
import ncps.keras
import torch
from ncps.torch import LTC, CfC

UNITS, WIDE, STEPS = 8, 3, 5
torch.manual_seed(0)
print("ncps", version("ncps"), "torch", torch.__version__)


def apart(one, two):
    return float((one - two).abs().max())


def by_hand(layer, steps, times):
    """The states of CfC for one text in float64 NumPy; `times` has one row a step: a number, or one for each unit."""
    cell = layer.rnn_cell
    weights = {name: values.detach().double().numpy() for name, values in cell.named_parameters()}
    h, found = np.zeros(UNITS), []

    def dense(name, x):
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    for step, time in zip(steps.double().numpy(), times):
        x = 1.7159 * np.tanh(0.666 * dense("backbone.0", np.concatenate([step, h])))
        gate = 1 / (1 + np.exp(-(dense("time_a", x) * time + dense("time_b", x))))
        h = np.tanh(dense("ff1", x)) * (1 - gate) + gate * np.tanh(dense("ff2", x))
        found.append(h)
    return torch.tensor(np.stack(found)).float()


texts = torch.randn(UNITS, STEPS, WIDE)  # as many texts as units
times = torch.rand(UNITS, STEPS) * 3
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    for layers in (1, 2):
        layer = CfC(WIDE, UNITS, backbone_layers=layers, backbone_dropout=0.9).train()
        inside = sum(isinstance(one, torch.nn.Dropout) for one in layer.modules())
        gap = apart(layer(texts)[0], layer(texts)[0])
        print(f"backbone_dropout=.9, {layers} layer(s): {inside} Dropout inside, two runs in training differ by {gap:.2f}")
        assert inside == layers - 1 and (gap == 0) == (layers == 1), (inside, gap)
        other = ncps.keras.CfC(UNITS, backbone_layers=layers, backbone_dropout=0.9, return_sequences=True)
        gap = apart(*(other(keras.ops.convert_to_tensor(texts), training=True) for _ in range(2)))
        print(f"  ncps.keras: two runs in training differ by {gap:.2f}")
        assert gap > 0.01

    for kind in (CfC, LTC):
        layer = kind(WIDE, UNITS).eval()
        together = layer(texts, timespans=times)[0]
        alone = torch.cat([layer(texts[n : n + 1], timespans=times[n : n + 1])[0] for n in range(UNITS)])
        later = times.clone()
        later[1:] += 1  # the times of all texts but the first
        others = apart(together[0], layer(texts, timespans=later)[0][0])
        equal = times[:1].expand(UNITS, STEPS)
        level = apart(layer(texts)[0], layer(texts, timespans=torch.ones(UNITS, STEPS))[0])
        print(
            f"{kind.__name__} {UNITS} texts, {UNITS} units: off from alone by {apart(together, alone):.2f}; "
            f"the first text with other times for the others: by {others:.2f}; with 1 for all: by {level:.0e}"
        )
        assert apart(together, alone) > 0.02 and others > 0.02 and level < 1e-5
        if kind is CfC:
            wanted = torch.stack([by_hand(layer, text, time.tolist()) for text, time in zip(texts, times)])
            swapped = torch.stack([by_hand(layer, text, times.T.numpy()) for text in texts])
            print(f"  by hand: alone {apart(alone, wanted):.0e}; text k's time for unit k {apart(together, swapped):.0e}")
            assert apart(alone, wanted) < 1e-5 and apart(together, swapped) < 1e-5
        try:
            layer(texts[:5], timespans=times[:5])
            raise AssertionError("five texts run now")
        except RuntimeError as error:
            print("  five texts:", type(error).__name__)
assert not [one for one in caught if "dropout" in str(one.message).lower() or "time" in str(one.message).lower()]
print("Add a Dropout of your own; give the batch text by text where times differ.")
PY
