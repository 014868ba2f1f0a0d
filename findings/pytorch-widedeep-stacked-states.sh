#!/usr/bin/env bash
# pytorch-widedeep 1.7.0: StackedAttentiveRNN hands its state from block to block in the wrong order. A block returns its cell
# state before its hidden state, the loop over the blocks reads them the other way round: each block but the first of an LSTM,
# the default, starts from the last cell state as hidden state and the last hidden state as cell state. Blocks of a GRU get
# the state of the block before the last one, the second zeros. With one block there is nothing to hand on, and all is right.
# The block's own signature takes the hidden state first. No error, no warning, and no issue is known that names it.
# torchvision, which its part for pictures needs, is left out here.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
PIP_NO_DEPS=1 venv/bin/pip install --quiet pytorch-widedeep==1.7.0
venv/bin/pip install --quiet torch==2.13.0 numpy==1.26.4 scipy==1.17.1 pandas==3.0.6 scikit-learn==1.9.1 gensim==4.4.0 spacy==3.8.18 opencv-python-headless==4.11.0.86
venv/bin/pip install --quiet tqdm==4.70.1 einops==0.8.2 wrapt==2.5.2 torchmetrics==1.9.0 pyarrow==26.0.1 transformers==5.24.0 numpy==1.26.4
venv/bin/python -W ignore - <<'PY'
import sys
import warnings
from importlib.metadata import version
from unittest.mock import MagicMock

import numpy as np
import torch
import torchmetrics  # noqa: F401 - loaded before the stand-in, which it would take for torchvision
import transformers  # noqa: F401 - likewise

sys.modules |= {f"torchvision{part}": MagicMock() for part in ("", ".transforms", ".models", ".models._api")}
from pytorch_widedeep.models import StackedAttentiveRNN  # noqa: E402 - needs the stand-in

WORDS, WIDE, BATCH, STEPS = 20, 8, 3, 6


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def by_hand(model, tokens, blocks, hand_on):
    """The model's output in float64 NumPy. hand_on: from all states (h, c) so far the one that the next block starts from."""
    weights = {name: values.detach().double().numpy() for name, values in model.named_parameters()}
    w, r, b, b_r = (weights[f"rnn.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    x = weights["word_embed.weight"][tokens.numpy()]
    zero = np.zeros((BATCH, WIDE))
    states = []
    for block in range(blocks):
        h, c = hand_on(states) if states else (zero, zero)
        outputs = []
        for step in x.transpose(1, 0, 2):
            if model.rnn_type == "lstm":
                i, f, g, o = np.split(step @ w.T + b + h @ r.T + b_r, 4, 1)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            else:
                (reset, z, n), (reset_h, z_h, n_h) = np.split(step @ w.T + b, 3, 1), np.split(h @ r.T + b_r, 3, 1)
                z = sigmoid(z + z_h)
                h = (1 - z) * np.tanh(n + sigmoid(reset + reset_h) * n_h) + z * h
            outputs.append(h)
        states.append((h, c))
        x = np.stack(outputs, 1)
        names = (f"attention_blks.{block}.attn.{name}" for name in ("inp_proj.weight", "inp_proj.bias", "context.weight"))
        inner, bias, context = (weights[name] for name in names)
        scores = np.exp(np.tanh(x @ inner.T + bias) @ context.T)
        x = scores / scores.sum(1, keepdims=True) * x
    return x.sum(1)


def off(one, two):
    return float(np.abs(one - two).max())


SWAPPED = {  # what the next block starts from, by the order that is read
    "lstm": ("with the two changed", lambda states: states[-1][::-1]),
    "gru": ("from that of the block before the last", lambda states: states[-2] if len(states) > 1 else (np.zeros((BATCH, WIDE)),) * 2),
}
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    for kind, (said, swapped) in SWAPPED.items():
        for blocks in (1, 2, 3):
            torch.manual_seed(0)
            model = StackedAttentiveRNN(WORDS, WIDE, rnn_type=kind, hidden_dim=WIDE, n_blocks=blocks).eval()
            for values in model.rnn.parameters():
                values.mul_(2)
            tokens = torch.randint(2, WORDS, (BATCH, STEPS))
            answer = model(tokens).numpy()
            right = off(answer, by_hand(model, tokens, blocks, lambda states: states[-1]))
            found = off(answer, by_hand(model, tokens, blocks, swapped))
            largest = np.abs(answer).max()
            print(
                f"pytorch-widedeep {version('pytorch-widedeep')}, {kind}, {blocks} blocks: off by {right:.0e} from the last state handed on, "
                f"by {found:.0e} {said}; answers reach {largest:.2f}"
            )
            assert found < 1e-5 and (right < 1e-5 if blocks == 1 else right > 0.01), (found, right)
assert not [str(one.message) for one in caught if "state" in str(one.message) or "hidden" in str(one.message)]
print("Use n_blocks=1, or AttentiveRNN with more layers.")
PY
