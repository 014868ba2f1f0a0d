#!/usr/bin/env bash
# sktime 1.2.0: GRUClassifier with its defaults runs along the batch, not along time. It hands its network rows first and
# builds the GRU with batch_first=False, so the first row of a batch is the first "step", the second row goes on from its
# state, and so on; of each row only the last time step is read. A row's probabilities change with the rows in front of it:
# the same row alone and in its place differ by nearly 1, and a shuffled test set gets other answers. All steps but the last
# may be replaced, and nothing changes. Training runs the same way. No error and no warning.
# With batch_first=True a row has one answer everywhere, that of its own steps. GRUFCNNClassifier has the same default.
# The documentation calls batch_first the order "of the input and output tensors", but predict takes none but (row, dimension,
# time). Open issue 9108 of its tracker is on the order of these axes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet sktime==1.2.0 torch==2.13.0 numpy==2.4.6 pandas==3.0.6 scikit-learn==1.9.1
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from scipy.special import expit, softmax
from sktime.classification.deep_learning.gru import GRUClassifier, GRUFCNNClassifier

random = np.random.default_rng(0)
ROWS, WIDE, STEPS = 64, 3, 10
series = random.normal(size=(ROWS, WIDE, STEPS))  # sktime's order: row, dimension, time
labels = (series[:, 0].mean(axis=1) > 0).astype(int)
other = series.copy()
other[:, :, :-1] = random.normal(size=(ROWS, WIDE, STEPS - 1))  # all but the last step replaced
order = random.permutation(ROWS)
RELEASE = version("sktime")


def apart(one, two):
    return float(np.abs(one - two).max())


def in_order(model, by):
    """Probabilities of the set in another order, put back."""
    back = np.empty((ROWS, 2))
    back[by] = model.predict_proba(series[by])
    return back


def by_hand(model, steps):
    """Probabilities of one row in float64 NumPy: one GRU layer over these steps, then the linear layer."""
    weights = {name: values.detach().double().numpy() for name, values in model.network.named_parameters()}
    state = np.zeros(model.hidden_dim)
    for step in steps:
        ours = np.split(weights["gru.weight_ih_l0"] @ step + weights["gru.bias_ih_l0"], 3)
        past = np.split(weights["gru.weight_hh_l0"] @ state + weights["gru.bias_hh_l0"], 3)
        reset, update = expit(ours[0] + past[0]), expit(ours[1] + past[1])
        state = (1 - update) * np.tanh(ours[2] + reset * past[2]) + update * state
    return softmax(weights["fc.weight"] @ state + weights["fc.bias"])


def seen(kind, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = kind(num_epochs=30, batch_size=8, lr=0.01, random_state=0, **settings).fit(series, labels)
        together = model.predict_proba(series)
    assert not [one for one in caught if "batch" in str(one.message).lower()], [str(one.message) for one in caught]
    alone = np.concatenate([model.predict_proba(series[n : n + 1]) for n in range(ROWS)])
    found = {
        "alone or among others": apart(together, alone),
        "shuffled": apart(together, in_order(model, order)),
        "steps before the last replaced": apart(together, model.predict_proba(other)),
    }
    print(f"sktime {RELEASE}, {kind.__name__} {settings}: {({name: round(gap, 4) for name, gap in found.items()})}")
    return model, together, found


SMALL = {"hidden_dim": 16, "n_layers": 1}
model, together, found = seen(GRUClassifier, **SMALL)
assert found["alone or among others"] > 0.5 and found["shuffled"] > 0.5, found
assert found["steps before the last replaced"] == 0, found
# What it computes: the last steps of the rows of a batch of 8, one after the other.
chain = [by_hand(model, series[8 * (n // 8) : n + 1, :, -1]) for n in range(ROWS)]
print(f"  off from a GRU over the last steps of the rows before it by {apart(together, np.array(chain)):.0e},", end=" ")
own = np.array([by_hand(model, row.T) for row in series])
print(f"from a GRU over the row's own steps by {apart(together, own):.2f}")
assert apart(together, np.array(chain)) < 1e-4 and apart(together, own) > 0.5

model, together, found = seen(GRUClassifier, batch_first=True, **SMALL)
assert found["alone or among others"] < 1e-5 and found["shuffled"] < 1e-5, found
assert found["steps before the last replaced"] > 0.5, found
own = np.array([by_hand(model, row.T) for row in series])
print(f"  off from a GRU over the row's own steps by {apart(together, own):.0e}")
assert apart(together, own) < 1e-4

_, _, found = seen(GRUFCNNClassifier, hidden_dim=16, gru_layers=1, conv_layers=[8, 8, 8])
assert found["shuffled"] > 1e-3, found
_, _, found = seen(GRUFCNNClassifier, batch_first=True, hidden_dim=16, gru_layers=1, conv_layers=[8, 8, 8])
assert found["shuffled"] < 1e-5, found
print("Pass batch_first=True.")
PY
