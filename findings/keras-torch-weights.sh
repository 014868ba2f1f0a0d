#!/usr/bin/env bash
# keras 3.15.1 with the backend torch: a loss changes the sample weights it is given, wherever the predictions carry a mask.
# The mask of the padding, scaled by all steps over real steps, is multiplied into the caller's tensor in place. The same call
# again has another loss, .87, 1.67, 3.18, 6.08, so in a training loop that keeps its weights in a tensor the loss grows with
# each epoch; test_on_batch, train_on_batch and fit of a PyDataset do the same to the tensors they are given. In fit and
# evaluate of arrays, whose loss is right, weighted metrics are computed after it and see the changed weights: each step
# counts as often as its batch has steps for a real one, 233 false negatives in place of 75, an accuracy of .49 in place of
# .60. Weights in arrays of NumPy are copied, so their loss is right; without a mask, and with the backends jax, tensorflow
# and numpy, all is right. No error and no warning; the documentation has sample_weight as an input alone. No issue of its
# tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export KERAS_HOME="$work" KERAS_BACKEND=torch
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 torch==2.13.0 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings

warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
import keras
import numpy as np
import torch

ROWS, STEPS, WORDS = 64, 12, 20
keras.utils.set_random_seed(0)
random = np.random.default_rng(0)
lengths = np.concatenate([random.integers(1, 4, ROWS // 2), random.integers(9, STEPS + 1, ROWS // 2)])
words = random.integers(1, WORDS, (ROWS, STEPS))
words[np.arange(STEPS) >= lengths[:, None]] = 0
real = words > 0
labels = (((words % 3 == 0) == (lengths > 3)[:, None]) & real).astype(np.float32)[..., None]
weights = random.uniform(0.5, 2, (ROWS, STEPS)).astype(np.float32)

read = keras.Input((None,), dtype="int32")
states = keras.layers.LSTM(8, return_sequences=True)(keras.layers.Embedding(WORDS, 8, mask_zero=True)(read))
tagger = keras.Model(read, keras.layers.Dense(1, activation="sigmoid")(states))
scores = np.asarray(tagger.predict(words, verbose=0), np.float64)[..., 0]
truth = labels[..., 0].astype(np.float64)


def wanted(rows=slice(None)):
    """The weighted cross entropy of real steps, by hand."""
    each = -(truth * np.log(scores) + (1 - truth) * np.log(1 - scores)) * weights
    return float(each[rows][real[rows]].sum() / real[rows].sum())


# 1. The loss itself, called as in a loop of one's own.
loss = keras.losses.BinaryCrossentropy()
given = torch.tensor(weights)
with torch.no_grad():
    masked = tagger(words)
called = [float(loss(labels, masked, sample_weight=given)) for _ in range(4)]
growth = real.size / real.sum()
print(f"keras {keras.__version__}, torch, one loss called four times: {[round(one, 2) for one in called]}, right is {wanted():.2f}")
assert abs(called[0] - wanted()) < 1e-5
assert np.allclose(called, [called[0] * growth**time for time in range(4)], rtol=1e-4), called
assert np.allclose(given.numpy(), weights * np.where(real, growth**4, 0), rtol=1e-4), "the weights stay as they were now"
arrays = [float(loss(labels, masked, sample_weight=weights)) for _ in range(4)]
assert np.allclose(arrays, wanted(), rtol=1e-5), arrays
unmasked = keras.ops.convert_to_tensor(np.asarray(scores[..., None], np.float32))
kept = torch.tensor(weights)
loss(labels, unmasked, sample_weight=kept)
assert (kept.numpy() == weights).all(), "without a mask"

# 2. A training loop by batches, with the weights of the whole set in a tensor.
tagger.compile("sgd", loss="binary_crossentropy")
given = torch.tensor(weights)
seen = [float(tagger.test_on_batch(words, labels, sample_weight=given)) for _ in range(3)]
print(f"test_on_batch three times, the weights in a tensor: {[round(one, 2) for one in seen]}")
assert np.allclose(seen, [wanted() * growth**time for time in range(3)], rtol=1e-4), seen



class Batches(keras.utils.PyDataset):
    """One batch, the same tensors each time it is asked for."""

    kept = torch.tensor(weights)

    def __len__(self):
        return 1

    def __getitem__(self, number):
        return words, labels, self.kept


tagger.compile(keras.optimizers.SGD(0.0), loss="binary_crossentropy")
epochs = tagger.fit(Batches(), epochs=3, verbose=0).history["loss"]
print(f"fit of a PyDataset that keeps its tensors, three epochs without a step: {[round(one, 2) for one in epochs]}")
assert np.allclose(epochs, seen, rtol=1e-4), epochs

# 3. evaluate: the loss is right, what is computed after it is not.
misses = keras.metrics.FalseNegatives(name="misses")
accuracy = keras.metrics.BinaryAccuracy(name="accuracy")
tagger.compile("sgd", loss="binary_crossentropy", weighted_metrics=[misses, accuracy])
got = tagger.evaluate(words, labels, sample_weight=weights, batch_size=ROWS // 2, verbose=0, return_dict=True)
halves = slice(None, ROWS // 2), slice(ROWS // 2, None)
growths = np.repeat([real[half].size / real[half].sum() for half in halves], ROWS // 2)[:, None]
missed, hit = (scores < 0.5) & (truth > 0), (scores >= 0.5) == (truth > 0)


def counted(scale):
    """Weighted misses and accuracy of real steps, each row's weights times a number."""
    scaled = weights * scale * real
    return float((scaled * missed).sum()), float((scaled * hit).sum() / scaled.sum())


right, changed = counted(1), counted(growths)
print(f"evaluate: loss {got['loss']:.3f}, right {np.mean([wanted(half) for half in halves]):.3f}")
print(f"evaluate: weighted misses {got['misses']:.1f}, right {right[0]:.1f}; weighted accuracy {got['accuracy']:.3f}, right {right[1]:.3f}")
assert abs(got["loss"] - np.mean([wanted(half) for half in halves])) < 1e-4
assert np.allclose([got["misses"], got["accuracy"]], changed, rtol=1e-3), (got, changed)
assert got["misses"] > 1.5 * right[0] and abs(got["accuracy"] - right[1]) > 0.05, (got, right)
print("Give the loss a copy of the weights, or an array of NumPy.")
PY
