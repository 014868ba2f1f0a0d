#!/usr/bin/env bash
# keras 3.15.1: the padded steps of a masked LSTM repeat the last real output; inside Bidirectional they are 0.
# So y[:, -1] of right-padded texts is the last state for LSTM(return_sequences=True),
# and becomes 0 in both directions when the layer is wrapped. A head on it then sees only its bias for each short text.
# The same for GRU and SimpleRNN. This script uses the jax backend, jax 0.10.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import os

os.environ["KERAS_BACKEND"] = "jax"
import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(1, 5, 3)).astype("float32")
mask = np.array([[1, 1, 1, 0, 0]], dtype=bool)
for name in ("LSTM", "GRU", "SimpleRNN"):
    kind = getattr(keras.layers, name)
    one = np.asarray(kind(4, return_sequences=True)(x, mask=mask))
    both = np.asarray(keras.layers.Bidirectional(kind(4, return_sequences=True))(x, mask=mask))
    repeats = bool((one[0, 3:] == one[0, 2]).all() and one[0, 2].any())
    zero = not both[0, 3:].any() and bool(both[0, :3].all())
    print(f"keras {keras.__version__}, {name}: padding repeats the last output: {repeats}; in Bidirectional it is 0: {zero}")
    assert repeats and zero, (one, both)
print("Wrapping a masked layer in Bidirectional changes what its padded steps hold, from the last output to 0.")
PY
