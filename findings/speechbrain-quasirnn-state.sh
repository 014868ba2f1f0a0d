#!/usr/bin/env bash
# speechbrain 1.1.2: the state that QuasiRNN returns is not that of the last step of each row, but that of all steps of the
# last row. It has a row a step, not a row a text, and the other texts have none. Where a piece has as many steps as the
# batch has rows the shapes agree, so the next piece is read from it: the outputs differ from those of the whole, without an
# error or a warning. Given the right state, taken from the outputs, pieces are right. Its RNN, LSTM and GRU carry on rightly.
# The layer's arguments are an input and an "initial hidden state". No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet speechbrain==1.1.2 torch==2.13.0 torchaudio==2.11.1 numpy==2.4.6
rm -f venv/lib/python3*/site-packages/torchaudio/lib/*.so # its compiled part wants CUDA, and nothing here wants it
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
import torch
from speechbrain.nnet.RNN import GRU, LSTM, QuasiRNN

INPUT, WIDE, BATCH, STEPS = 5, 6, 4, 8


def apart(one, two):
    return float((one - two).abs().max())


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def by_hand(network, x):
    """Outputs and last state of one layer in float64 NumPy: c = f z + (1 - f) c, h = o c, as its paper has it."""
    weights = network.qrnn[0].w
    sums = x.double().numpy() @ weights.weight.detach().double().numpy().T + weights.bias.detach().double().numpy()
    z, f, o = np.split(sums, 3, -1)
    c, found = np.zeros((len(x), WIDE)), []
    for step in range(x.shape[1]):
        keep = sigmoid(f[:, step])
        c = keep * np.tanh(z[:, step]) + (1 - keep) * c
        found.append(sigmoid(o[:, step]) * c)
    return torch.tensor(np.stack(found, 1)).float(), torch.tensor(c).float()


x = torch.randn(BATCH, STEPS, INPUT, generator=torch.Generator().manual_seed(0))
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    torch.manual_seed(1)
    network = QuasiRNN(WIDE, input_size=INPUT).eval()
    whole, _ = network(x)
    outputs, _ = by_hand(network, x)
    half = x[:, : STEPS // 2]
    _, right = by_hand(network, half)
    _, state = network(half)
    last_row = torch.stack([by_hand(network, half[-1:, : n + 1])[1][0] for n in range(STEPS // 2)])
    off, taken = apart(state[0], right), apart(state[0], last_row)
    pieces = torch.cat([network(half)[0], network(x[:, STEPS // 2 :], state)[0]], 1)
    mended = torch.cat([network(half)[0], network(x[:, STEPS // 2 :], right[None])[0]], 1)
    shape = tuple(network(x)[1].shape)
    print(
        f"speechbrain {version('speechbrain')}, QuasiRNN, {BATCH} rows of {STEPS} steps: outputs off by {apart(whole, outputs):.0e}; "
        f"state of shape {shape}, not {(1, BATCH, WIDE)}; of the first {STEPS // 2} steps off by {off:.2f}, and by {taken:.0e} from all "
        f"steps of the last row; in two pieces off by {apart(pieces, whole):.2f}, from the right state {apart(mended, whole):.0e}"
    )
    assert apart(whole, outputs) < 1e-5 and apart(mended, whole) < 1e-5 and taken < 1e-5
    assert off > 0.05 and apart(pieces, whole) > 0.02 and shape == (1, STEPS, WIDE), (off, shape)
    for kind in (LSTM, GRU):
        torch.manual_seed(1)
        network = kind(WIDE, input_size=INPUT).eval()
        first, state = network(half)
        halves = torch.cat([first, network(x[:, STEPS // 2 :], state)[0]], 1)
        print(f"{kind.__name__}: in two pieces off by {apart(halves, network(x)[0]):.0e}")
        assert apart(halves, network(x)[0]) < 1e-5
assert not [str(one.message) for one in caught if "hidden" in str(one.message) or "state" in str(one.message)]
print("Take no state from QuasiRNN, or its layers' cell states by hand.")
PY
