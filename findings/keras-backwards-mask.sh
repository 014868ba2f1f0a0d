#!/usr/bin/env bash
# keras 3.15.1: a layer with go_backwards=True and return_sequences=True turns its outputs around, and not the mask it hands on.
# The documentation: it returns "the reversed sequence". Behind a text padded on the right the steps of the padding come first
# then, but the mask still says that the first steps are the real ones. The next layer reads the padding for words and skips
# as many real ones: a text has other answers in a batch with longer texts than alone. Padded to twice its length or more,
# its answer has nothing of it left, and is the same for every text. So it is with LSTM, GRU and SimpleRNN, and with a pooling
# behind them that honours masks. A mask turned around by hand is right, and so is Bidirectional. No error and no warning.
# Seen with the backends jax and torch; this script uses jax. Its tracker had it twice (numbers 3737 of 2016 and 6022 of 2017,
# closed as stale).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export KERAS_HOME="$work" KERAS_BACKEND=jax
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings

warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
import keras
import numpy as np

WORDS, WIDTH, UNITS, LENGTH = 30, 6, 5, 4
keras.utils.set_random_seed(0)
random = np.random.default_rng(0)


def padded(texts, steps):
    return np.pad(texts, ((0, 0), (0, steps - texts.shape[1]))).astype(np.int32)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def lstm(x, weights):
    """All outputs of an LSTM for one text, in float64, gates in keras' order i, f, c, o."""
    w, r, b = (one.astype(np.float64) for one in weights)
    h = c = np.zeros(UNITS)
    outputs = []
    for step in x:
        i, f, candidate, o = np.split(step @ w + h @ r + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def network(kind, then):
    read = keras.Input((None,), dtype="int32")
    states = keras.layers.Embedding(WORDS, WIDTH, mask_zero=True)(read)
    layer = getattr(keras.layers, kind)
    states = layer(UNITS, go_backwards=True, return_sequences=True)(states)
    return keras.Model(read, (then or layer(UNITS))(states))


texts = random.integers(1, WORDS, (8, LENGTH))
for kind in ("LSTM", "GRU", "SimpleRNN"):
    for then in (None, keras.layers.GlobalAveragePooling1D()):
        model = network(kind, then)
        model.set_weights([random.normal(size=one.shape).astype(np.float32) for one in model.get_weights()])
        answers = {steps: np.asarray(model(padded(texts, steps))) for steps in (LENGTH, LENGTH + 1, 2 * LENGTH, 3 * LENGTH)}
        alone = answers.pop(LENGTH)
        off = {steps: round(float(np.abs(got - alone).max()), 2) for steps, got in answers.items()}
        same = [bool(np.allclose(got, got[0], atol=1e-6)) for got in answers.values()]
        behind = "pooling" if then else kind
        print(f"keras {keras.__version__}, {kind} backwards, then {behind}, {LENGTH} words padded to {list(off)}: off by {list(off.values())}; one answer for all texts: {same}")
        assert min(off.values()) > 0.02 and same == [False, True, True], (off, same)
        assert not np.allclose(alone, alone[0], atol=1e-2), "alone"
        if kind == "LSTM" and then is None:
            table, back, forth = model.get_weights()[0].astype(np.float64), model.get_weights()[1:4], model.get_weights()[4:]
            right = [lstm(lstm(table[text][::-1], back), forth)[-1] for text in texts]
            assert np.abs(alone - right).max() < 1e-5, "alone by hand"

# What is handed on: outputs that begin with the padding, and a mask that begins with the words.
words = padded(texts[:1], 2 * LENGTH)
embedding = keras.layers.Embedding(WORDS, WIDTH, mask_zero=True)
layer = keras.layers.LSTM(UNITS, go_backwards=True, return_sequences=True)
states = layer(embedding(words))
mask = np.asarray(keras.src.backend.get_keras_mask(states))[0]
full = np.asarray(states)[0].any(axis=-1)
print(f"Steps with an output: {full.astype(int).tolist()}, mask: {mask.astype(int).tolist()}")
assert full.tolist() == [False] * LENGTH + [True] * LENGTH and mask.tolist() == full[::-1].tolist()

# Right: the mask turned around by hand, and Bidirectional.
after = keras.layers.LSTM(UNITS)
alone = np.asarray(after(layer(embedding(texts[:1]))))
turned = np.asarray(after(states, mask=mask[None, ::-1].copy()))
assert np.abs(turned - alone).max() < 1e-5 and np.abs(np.asarray(after(states)) - alone).max() > 1e-3, (turned, alone)
both, last = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True)), keras.layers.LSTM(UNITS)
pair = [np.asarray(last(both(embedding(padded(texts, steps))))) for steps in (LENGTH, 3 * LENGTH)]
assert np.abs(pair[0] - pair[1]).max() < 1e-5, pair
print("Use Bidirectional, or turn the texts around before padding them.")
PY
