#!/usr/bin/env bash
# speechbrain 1.1.2: LSTM, GRU and RNN lose the last step of about 4 rows in 100 of a padded batch. Lengths are given as a
# part of the longest row, as its own PaddedBatch makes them; times the number of steps a length comes back as 12.999999,
# and the fraction is cut off, not rounded: 13 of 22 steps become 12, as do 3 of 37 and 7 of 23. The last output is 0, and the
# last state and the whole backward direction are those of a text without its last word. No error and no warning.
# Which lengths depends on the longest row beside them, so a row's answer changes with the batch it is in.
# Its losses round, and its length_to_mask keeps the step. Its tracker knows the cut in ctc_loss (1129, mended), not here.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet speechbrain==1.1.2 torch==2.13.0 torchaudio==2.11.1 numpy==2.4.6
rm -f venv/lib/python3*/site-packages/torchaudio/lib/*.so # its compiled part wants CUDA, and nothing here wants it
venv/bin/python -W ignore - <<'PY'
import logging
import warnings
from importlib.metadata import version

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.dataio import length_to_mask
from speechbrain.nnet import RNN as layers

INPUT, WIDE, LONG = 4, 6, 22
RELEASE = version("speechbrain")
heard = []
handler = logging.Handler(logging.WARNING)
handler.emit = lambda record: heard.append(record.getMessage())
logging.getLogger().addHandler(handler)


def apart(one, two):
    return float((one - two).abs().max())


def first(state):
    return state[0] if isinstance(state, tuple) else state


def by_hand(layer, steps):
    """The states of nn.RNN's one layer over these steps alone, in float64 NumPy."""
    weights = {name: values.detach().double().numpy() for name, values in layer.rnn.named_parameters()}
    h, found = np.zeros(WIDE), []
    for step in steps.double().numpy():
        sums = weights["weight_ih_l0"] @ step + weights["bias_ih_l0"] + weights["weight_hh_l0"] @ h + weights["bias_hh_l0"]
        h = np.tanh(sums)
        found.append(h)
    return torch.tensor(np.stack(found)).float()


with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    for kind in ("RNN", "GRU", "LSTM"):
        torch.manual_seed(0)
        layer = getattr(layers, kind)(hidden_size=WIDE, input_size=INPUT, **({"nonlinearity": "tanh"} if kind == "RNN" else {}))
        both = getattr(layers, kind)(hidden_size=WIDE, input_size=INPUT, bidirectional=True)
        for length in (12, 13, 14):
            rows = [torch.randn(LONG, INPUT), torch.randn(length, INPUT)]
            batch = PaddedBatch([{"id": str(n), "steps": row} for n, row in enumerate(rows)])
            padded, lengths = batch.steps
            assert int(length_to_mask(lengths * LONG)[1].sum()) == length
            got, state = layer(padded, lengths=lengths)
            wanted, last = layer(rows[1][None])
            if kind == "RNN":
                assert apart(wanted[0], by_hand(layer, rows[1])) < 1e-5
            steps = apart(got[1, : length - 1], wanted[0, :-1])
            end, behind = apart(got[1, length - 1], wanted[0, -1]), apart(first(state)[0, 1], first(last)[0, 0])
            backward = apart(both(padded, lengths=lengths)[0][1, 0, WIDE:], both(rows[1][None])[0][0, 0, WIDE:])
            lost = bool((got[1, length - 1] == 0).all())
            print(
                f"speechbrain {RELEASE}, {kind}, {length} of {LONG} steps: last output off by {end:.1e} (0: {lost}), the ones before "
                f"{steps:.0e}; state {behind:.1e}; backward direction {backward:.1e}"
            )
            assert steps < 1e-5
            if length == 13:
                assert lost and end > 0.01 and behind > 0.01 and backward > 2e-5, (end, behind, backward)
            else:
                assert not lost and end < 1e-5 and behind < 1e-5 and backward < 1e-5, (end, behind, backward)

    cut = of = 0
    for longest in range(2, 201):
        _, relative = PaddedBatch([{"id": "", "x": torch.zeros(n, 1)} for n in range(longest, 1, -1)]).x
        packed = layers.pack_padded_sequence(torch.zeros(longest - 1, longest, 1), relative)
        real = sum(range(2, longest + 1))
        cut, of = cut + real - len(packed.data), of + longest - 1
print(f"Of all lengths from 2 in batches of up to 200 steps {cut} of {of}, {100 * cut / of:.1f} %, lose a step.")
assert 0.02 < cut / of < 0.06, (cut, of)
text = " ".join([*heard, *(str(one.message) for one in caught)]).lower()
assert "length" not in text and "round" not in text and "trunc" not in text, text
print("Give lengths that are rounded up by a little: lengths + 1e-4 / steps.")
PY
