#!/usr/bin/env bash
# keras 3.15.1: an operator between an embedding and a recurrent layer drops the mask, without a word.
# Embedding(mask_zero=True) hides the padding from the LSTM behind it. After x * 2, x + y, a slice or keras.ops.tanh(x) the
# LSTM runs through the padding: a text has other answers in a batch with longer texts than alone.
# Layers of the same arithmetic (Add, Activation) keep the mask, and Lambda warns that it is lost.
# The mask is lost where the model is built; the backend is of no account. This script uses numpy.
# The tracker of keras has it since 2023 (numbers 18416, closed, and keras-core 798, open); its layers are mended, operators not.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export KERAS_HOME="$work" KERAS_BACKEND=numpy
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings
import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
long, short = np.array([[3, 4, 5, 0, 0, 0]]), np.array([[3, 4, 5]])
ids = keras.Input((None,), dtype="int32")
vectors, lstm = layers.Embedding(9, 4, mask_zero=True)(ids), layers.LSTM(5)
between = {
    "nothing": lambda x: x,
    "layer Add": lambda x: layers.Add()([x, x]),
    "layer Activation": layers.Activation("tanh"),
    "operator *": lambda x: x * 2.0,
    "operator +": lambda x: x + x,
    "slice": lambda x: x[:, :, :2],
    "keras.ops.tanh": keras.ops.tanh,
    "layer Lambda": layers.Lambda(lambda x: x * 2.0),
}
kept = ("nothing", "layer Add", "layer Activation")
for name, step in between.items():
    recurrent = layers.LSTM(5) if name == "slice" else lstm
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = keras.Model(ids, recurrent(step(vectors)))
        off = float(np.abs(np.asarray(model(long)) - np.asarray(model(short))).max())
    told = any("mask" in str(one.message) for one in caught)
    print(f"keras {keras.__version__}, {name}: a padded text is off by {off:.1e}; a warning names the mask: {told}")
    assert (off < 1e-6) == (name in kept) and told == (name == "layer Lambda"), (name, off, told)
print("Pass the mask by hand after an operator, or use the layer of the same name.")
PY
