#!/usr/bin/env bash
# reservoirpy 0.4.2: fit() of LocalPlasticityReservoir never steps its state on. Each token is taken from the state before the
# first, zeros in a new reservoir, so the state of the sending unit in its rules is 0 at every step: the Hebbian, anti-Hebbian
# and BCM rules change no weight at all, whatever eta and epochs are, and Oja's rules only shrink or grow each weight by itself.
# The state after fit() is that before it. The documentation has the rules applied at each step of the recurrence; IPReservoir,
# its neighbour, steps on. No error and no warning. The request that added the node does not name it, nor does a known issue.
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
from reservoirpy.nodes import LocalPlasticityReservoir

UNITS, STEPS, ETA, THETA = 6, 40, 1e-3, 0.1
random = np.random.default_rng(0)
x = random.normal(size=(STEPS, 2))
w, w_in = random.normal(size=(UNITS, UNITS)) / 3, random.normal(size=(UNITS, 2)) / 2
bias = random.normal(size=UNITS) / 10
RULES = {
    "hebbian": lambda w, before, after: np.outer(after, before),
    "anti-hebbian": lambda w, before, after: -np.outer(after, before),
    "bcm": lambda w, before, after: np.outer(after * (after - THETA), before),
    "oja": lambda w, before, after: after[:, None] * (before - after[:, None] * w),
    "anti-oja": lambda w, before, after: -after[:, None] * (before - after[:, None] * w),
}


def by_hand(rule, steps_on):
    """The recurrent weights after the documented rule in float64 NumPy."""
    weights, before, out = w.copy(), np.zeros(UNITS), np.zeros(UNITS)
    for step in x:
        after = weights @ out + w_in @ step + bias
        weights = weights + ETA * RULES[rule](weights, before, after)
        if steps_on:
            before, out = after, np.tanh(after)
    return weights


def off(one, two):
    return float(np.abs(one - two).max())


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for rule in RULES:
        layer = LocalPlasticityReservoir(W=w.copy(), Win=w_in, bias=bias, local_rule=rule, eta=ETA, bcm_theta=THETA)
        layer.fit(x)
        wanted, stuck = by_hand(rule, True), by_hand(rule, False)
        moved, asked = off(layer.W, w), off(wanted, w)
        print(
            f"reservoirpy {version('reservoirpy')}, {rule}: weights moved by {moved:.0e}, by the rule {asked:.0e}; off by "
            f"{off(layer.W, wanted):.0e}, from the rule with the state at zero {off(layer.W, stuck):.0e}"
        )
        assert asked > 0.01 and off(layer.W, wanted) > 0.01 and off(layer.W, stuck) < 1e-12, (moved, asked)
        assert (moved == 0) == (rule in ("hebbian", "anti-hebbian", "bcm")) and not layer.state["internal"].any()
        answers = layer.run(x)
        assert np.abs(answers[1:] - answers[:-1]).max() > 0.1 and layer.state["internal"].any()
assert not [str(one.message) for one in caught if "state" in str(one.message) or "weight" in str(one.message)]
print("Step the layer and apply the rule to its W by hand.")
PY
