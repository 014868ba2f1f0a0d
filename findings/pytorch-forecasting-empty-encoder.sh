#!/usr/bin/env bash
# pytorch-forecasting 1.8.0: its LSTM and GRU, made for sequences of length 0, give such a row another row's initial state.
# The states are copied with masked_scatter, which fills the empty rows in turn with the first rows of the batch. The LSTM
# copies the hidden state for the cell state as well. Right is the row's own initial state, as its comment says.
# TemporalFusionTransformer begins with a state made of each series' static variables, so the forecast of a new series, one
# without a past, depends on its place in the batch: behind another series it is that of another state. Cold starts
# are among the capabilities that its package names. Rows with a past are right. No error, no warning, no issue known.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pytorch-forecasting==1.8.0 torch==2.13.0 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import logging
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.models.nn.rnn import GRU, LSTM

INPUT, WIDE, STEPS, LENGTHS = 4, 3, 5, (5, 0, 3, 0)
RELEASE = version("pytorch-forecasting")
logging.disable(logging.INFO)
heard = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: heard.append(record.getMessage())
logging.getLogger().addHandler(handler)


def apart(one, two):
    return float((one - two).abs().max())


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def by_hand(layer, steps, h, c=None):
    """The last state after these steps, in float64 NumPy; that of no step is the first."""
    weights = {name: values.detach().double().numpy() for name, values in layer.named_parameters()}
    h, c = h.double().numpy(), None if c is None else c.double().numpy()
    for step in steps.double().numpy():
        of_input = weights["weight_ih_l0"] @ step + weights["bias_ih_l0"]
        of_state = weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
        if c is not None:
            i, f, g, o = np.split(of_input + of_state, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(of_input, 3), np.split(of_state, 3)
            z = sigmoid(z_x + z_h)
            h = (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h
    return h if c is None else np.concatenate([h, c])


def rows(state):
    return (torch.cat(state, 2) if isinstance(state, tuple) else state)[0]


x, lengths = torch.randn(len(LENGTHS), STEPS, INPUT, generator=torch.Generator().manual_seed(0)), torch.tensor(LENGTHS)
hidden = 1 + torch.arange(len(LENGTHS) * WIDE).view(1, -1, WIDE) / 10
cell = -hidden
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    for kind, start in ((LSTM, (hidden, cell)), (GRU, hidden)):
        torch.manual_seed(1)
        layer = kind(INPUT, WIDE, batch_first=True)
        got = rows(layer(x, start, lengths=lengths, enforce_sorted=False)[1])
        cells = cell[0] if kind is LSTM else [None] * len(LENGTHS)
        own = [by_hand(layer, x[n, :length], hidden[0, n], cells[n]) for n, length in enumerate(LENGTHS)]
        wanted = torch.tensor(np.stack(own)).float()
        off = [apart(got[row], wanted[row]) for row in range(len(LENGTHS))]
        taken = [bool((got[row, :WIDE] == hidden[0, of]).all()) for row, of in ((1, 0), (3, 1))]
        shown = ", ".join(f"{length}: {one:.1e}" for length, one in zip(LENGTHS, off))
        print(
            f"pytorch-forecasting {RELEASE}, {kind.__name__}, last states off by length: {shown}; "
            f"rows 1 and 3 have those of rows 0 and 1: {all(taken)}"
        )
        assert off[0] < 1e-5 and off[2] < 1e-5 and min(off[1], off[3]) > 0.2 and all(taken), (off, taken)
        if kind is LSTM:
            assert bool((got[[1, 3], WIDE:] == got[[1, 3], :WIDE]).all()), got
            print("The cell states of the empty rows are the hidden states.")

    random = np.random.default_rng(0)
    long, level = {"A": 3, "B": 9, "C": 9}, {"A": 5, "B": 5, "C": -5}
    made = [(name, time, level[name] + random.normal()) for name in long for time in range(long[name])]
    table = pd.DataFrame(made, columns=["series", "time", "y"])
    roles = {"static_categoricals": ["series"], "time_varying_known_reals": ["time"], "time_varying_unknown_reals": ["y"]}
    sizes = {"min_encoder_length": 0, "max_encoder_length": 6, "max_prediction_length": 3}
    data = TimeSeriesDataSet(table, time_idx="time", target="y", group_ids=["series"], **roles, **sizes)
    torch.manual_seed(0)
    network = TemporalFusionTransformer.from_dataset(data, hidden_size=8, attention_head_size=1, hidden_continuous_size=8).eval()
    batch = next(iter(data.to_dataloader(train=False, batch_size=100)))[0]
    past = batch["encoder_lengths"]
    new, known = int((past == 0).nonzero()[0]), (past == 6).nonzero().flatten().tolist()

    def forecast(*places):
        picked = {key: one[list(places)] if torch.is_tensor(one) else one for key, one in batch.items()}
        return network(picked)["prediction"]

    found = []
    for other in known:
        before, behind = forecast(new, other), forecast(other, new)
        found.append(behind[1])
        print(
            f"TemporalFusionTransformer: forecast of a new series before and behind series {'ABC'[int(batch['groups'][other])]}: "
            f"{apart(before[0], behind[1]):.2f} apart; that of the other {apart(before[1], behind[0]):.0e}"
        )
        assert apart(before[0], behind[1]) > 0.1 and apart(before[1], behind[0]) < 1e-5
print(f"Behind two different series: {apart(*found):.2f} apart.")
assert len(found) == 2 and apart(*found) > 0.01, found
text = " ".join([*heard, *(str(one.message) for one in caught)])
assert "encoder_length" not in text and "state" not in text and "scatter" not in text, text
print("Copy initial states with torch.where, or leave series without a past out.")
PY
