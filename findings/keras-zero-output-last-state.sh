#!/usr/bin/env bash
# keras 3.15.1: zero_output_for_mask=True makes LSTM, GRU and SimpleRNN answer 0 for every text that ends in padding.
# The documentation says that the option is only used when return_sequences is True. With return_sequences=False, where
# the answer is the last output, it is used all the same: the last step is masked, so the answer is 0. The state beside it
# is right. Without the option, and with padding on the left, the answer equals the state. Seen with the backends numpy
# and torch; this script uses numpy. keras knows a part of it since 2023 (number 17596, open: only go_backwards).
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

warnings.simplefilter("error")
warnings.simplefilter("ignore", DeprecationWarning)
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
right = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]], dtype=bool)
for name in ("LSTM", "GRU", "SimpleRNN"):
    layer = getattr(keras.layers, name)(5, return_state=True, zero_output_for_mask=True)
    plain = getattr(keras.layers, name)(5, return_state=True)
    plain.build(x.shape)
    layer.build(x.shape)
    plain.set_weights(layer.get_weights())
    alone = np.asarray(plain(x[1:, :3])[0])[0]
    answer, state = (np.asarray(each) for each in layer(x, mask=right)[:2])
    usual = np.asarray(plain(x, mask=right)[0])
    left = np.asarray(layer(x[:, ::-1], mask=right[:, ::-1])[0])
    assert alone.any() and np.allclose(usual[1], alone, atol=1e-6) and np.allclose(state[1], alone, atol=1e-6)
    assert np.allclose(answer[0], state[0]) and left[1].any()
    print(f"keras {keras.__version__}, {name}: answer for a padded text: {answer[1].tolist()}, for the same text alone: {[round(float(each), 2) for each in alone]}")
    assert not answer[1].any(), answer
print("With zero_output_for_mask, take the last state, not the answer.")
PY
