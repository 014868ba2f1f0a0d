#!/usr/bin/env bash
# reservoirpy 0.4.2: a model with feedback forgets the state of its reservoir at the end of each run(). Its delayed feedback is
# kept, the states of its nodes are not: the step-by-step branch that feedback needs fills the outputs and returns an empty set
# of states. So a series in two pieces has other answers than in one, its second piece begins from the state before the first,
# and a warm-up before the real series does nothing for the reservoir. Without feedback, and by step(), all is right.
# reset() is the documented way to begin anew, and was not called. No error, no warning, and no issue is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet reservoirpy==0.4.2 numpy==2.4.6 scipy==1.17.1 joblib==1.5.3
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from reservoirpy import ESN

UNITS, STEPS = 8, 30
random = np.random.default_rng(0)
series, test = random.normal(size=(200, 1)), random.normal(size=(2 * STEPS, 1))
target = np.convolve(series[:, 0], [0.5, 0.3, 0.2])[:200, None]


def dense(matrix):
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def by_hand(model, x, state, last):
    """Answers for x in float64 NumPy from a state and a last answer, which is fed back; also the state and answer after it."""
    w, w_in = dense(model.reservoir.W), dense(model.reservoir.Win)
    answers = []
    for step in x:
        inputs = np.concatenate([step, last]) if model.feedback else step
        state = 0.7 * state + 0.3 * np.tanh(w @ state + w_in @ inputs)
        last = state @ model.readout.Wout + model.readout.bias
        answers.append(last)
    return np.array(answers), state, last


def off(one, two):
    return float(np.abs(one - two).max())


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for feedback in (True, False):
        model = ESN(
            units=UNITS, lr=0.3, feedback=feedback, ridge=1e-3, seed=1, rc_connectivity=1.0, input_connectivity=1.0
        )
        model.fit(series, target, warmup=10)
        zero = np.zeros(UNITS), np.zeros(1)
        right, _, _ = by_hand(model, test, *zero)
        _, state, last = by_hand(model, test[:STEPS], *zero)
        forgotten, _, _ = by_hand(model, test[STEPS:], zero[0], last)
        model.reset()
        whole = model.run(test)
        model.reset()
        steps = np.array([model.step(step) for step in test])
        model.reset()
        first, second = model.run(test[:STEPS]), model.run(test[STEPS:])
        print(
            f"reservoirpy {version('reservoirpy')}, feedback={feedback}: {2 * STEPS} steps in one run() off by {off(whole, right):.0e}, by "
            f"step() {off(steps, right):.0e}; of two run() of {STEPS} the second {off(second, right[STEPS:]):.0e}, from those of a "
            f"reservoir at zero {off(second, forgotten):.0e}"
        )
        assert off(whole, right) < 1e-9 and off(steps, right) < 1e-9 and off(first, right[:STEPS]) < 1e-9
        if feedback:
            assert off(second, right[STEPS:]) > 0.05 and off(second, forgotten) < 1e-9
        else:
            assert off(second, right[STEPS:]) < 1e-9 and off(second, forgotten) > 0.05
assert not [str(one.message) for one in caught if "feedback" in str(one.message) or "state" in str(one.message)]
print("Give the whole series to one run(), or call step() for each of its steps.")
PY
