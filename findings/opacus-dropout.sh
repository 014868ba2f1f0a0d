#!/usr/bin/env bash
# opacus 1.6.0: dropout of DPLSTM, DPGRU and DPRNN zeroes the hidden state itself, at every step and in every layer, the last
# one and an only one too. They are "drop-in replacements", for whose parameters one is sent to nn.LSTM's documentation:
# there it drops the outputs of each layer except the last. The recurrence of nn.LSTM never loses a unit. Here each step
# forgets another half of the state; the outputs that a classifier reads are half zeros, and so is the returned state.
# With one layer dropout of nn.LSTM does nothing, and opacus gives the same warning as torch, that it comes "after all but
# last recurrent layer". In evaluation both agree. ModuleValidator.fix puts these layers in the place of nn.LSTM and nn.GRU,
# dropout included, so the fixed network trains otherwise. No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet opacus==1.6.0 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import opacus
import torch
from opacus.layers import DPGRU, DPLSTM, DPRNN
from opacus.validators import ModuleValidator
from torch import nn

BATCH, STEPS, WIDE, INPUT = 64, 30, 32, 8
torch.manual_seed(0)
x = torch.randn(BATCH, STEPS, INPUT, dtype=torch.float64)


def hidden(state):
    return state[0] if isinstance(state, tuple) else state


def zeros(values):
    return float((values == 0).double().mean())


text, known = " ".join(DPLSTM.__doc__.split()), " ".join(nn.LSTM.__doc__.split())
assert "drop-in replacement" in text and "Refer to ``torch.nn.LSTM`` documentation" in text, text
assert "on the outputs of each LSTM layer except the last layer" in known, known
fixed = ModuleValidator.fix(nn.Sequential(nn.LSTM(INPUT, WIDE, num_layers=2, dropout=0.5)))[0]
assert isinstance(fixed, DPLSTM) and fixed.dropout == 0.5
for name, plain, private in (("LSTM", nn.LSTM, DPLSTM), ("GRU", nn.GRU, DPGRU), ("RNN", nn.RNN, DPRNN)):
    for layers in (1, 2):
        torch.manual_seed(1)
        known = plain(INPUT, WIDE, num_layers=layers, batch_first=True, dropout=0.5).double()
        layer = private(INPUT, WIDE, num_layers=layers, batch_first=True, dropout=0.5).double()
        layer.load_state_dict(known.state_dict())
        with torch.no_grad():
            same = float((layer.eval()(x)[0] - known.eval()(x)[0]).abs().max())
            undropped = known(x)[0]
            wanted, got = known.train()(x), layer.train()(x)
            off = float((got[0] - undropped).abs().max())
        print(
            f"opacus {opacus.__version__}, {name}, {layers} layer{'s' * (layers > 1)}, dropout .5, in training: outputs at 0: "
            f"nn.{name} {zeros(wanted[0]):.2f}, DP{name} {zeros(got[0]):.2f}; states at 0: {zeros(hidden(wanted[1])):.2f}, "
            f"{zeros(hidden(got[1])):.2f}; from evaluation {off:.2f}; in evaluation they differ by {same:.0e}"
        )
        assert same < 1e-12, same
        assert zeros(wanted[0]) == 0 and zeros(hidden(wanted[1])) == 0
        assert abs(zeros(got[0]) - 0.5) < 0.05 and abs(zeros(hidden(got[1])) - 0.5) < 0.05
        if layers == 1:
            assert torch.equal(wanted[0], undropped) and off > 0.1, off

# The state that is carried on is the dropped one: a GRU whose update gate is 1 keeps its state for ever.
layer, start = DPGRU(1, WIDE, batch_first=True, dropout=0.5), torch.ones(1, BATCH, WIDE)
with torch.no_grad():
    for key, weights in layer.named_parameters():
        weights.zero_()
        if key == "bias_ih_l0":
            weights[WIDE : 2 * WIDE] = 50.0
    kept = zeros(layer.train()(torch.zeros(BATCH, STEPS, 1), start)[1])
    before = zeros(layer.eval()(torch.zeros(BATCH, STEPS, 1), start)[1])
print(f"A GRU that keeps its state of ones: after {STEPS} steps {before:.2f} of it is 0, with dropout .5 {kept:.2f}.")
assert before == 0 and kept > 0.99, (before, kept)
print("Leave dropout at 0 and put nn.Dropout between layers of one.")
PY
