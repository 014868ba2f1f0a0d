#!/usr/bin/env bash
# puncc 0.9.3: prediction sets of APS and RAPS hold at most as many classes as the batch has texts. The number of classes in a
# set is bounded by the number of rows, where the number of classes is meant (the comment there speaks of badly normalised
# logits). Six classes in batches of two: every set has two classes, and .63 of the sets hold the right one, where .90 were
# asked for and .91 hold it in batches of 100, .97 without the random draw. The same text has another set in a small batch
# than in a large one, so a test in one piece says nothing of a service that answers texts as they come. No error and no
# warning; only one text alone raises an error. LAC, which has no such bound, is right in batches of any other size.
# The documentation speaks of "guaranteed marginal coverage" for new samples, and names no least size of a batch.
# No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet puncc==0.9.3 numpy==1.26.4 pandas==3.0.6 scikit-learn==1.9.1
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import numpy as np
from deel.puncc.api.prediction import BasePredictor
from deel.puncc.classification import APS, LAC, RAPS

random = np.random.default_rng(0)
CLASSES, CALIBRATE, TEXTS, ALPHA = 6, 1000, 2400, 0.1
logits = random.normal(size=(CALIBRATE + TEXTS, CLASSES))
chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
truth = (logits + random.gumbel(size=logits.shape)).argmax(axis=1)  # drawn by these very chances
held, test, gold = chances[:CALIBRATE], chances[CALIBRATE:], truth[CALIBRATE:]


class Given:
    """A model that answers with the chances that it is given."""

    def fit(self, *args, **kwargs):
        pass

    def predict(self, rows, **kwargs):
        return rows


def sets(method, batch):
    return [kept for n in range(0, TEXTS, batch) for kept in method.predict(test[n : n + batch], alpha=ALPHA)[1]]


def by_hand():
    """Sets of APS without its draw: classes by falling chance up to the quantile of the calibration scores."""
    rank = np.argsort(-held, axis=1)
    mass = np.take_along_axis(held, rank, axis=1).cumsum(axis=1)
    place = (rank == truth[:CALIBRATE, None]).argmax(axis=1)
    scores = np.sort(mass[np.arange(CALIBRATE), place])
    bound = scores[int(np.ceil((CALIBRATE + 1) * (1 - ALPHA))) - 1]
    rank = np.argsort(-test, axis=1)
    mass = np.take_along_axis(test, rank, axis=1).cumsum(axis=1)
    return [set(row[: (sums < bound).sum() + 1]) for row, sums in zip(rank, mass)]


def covered(found):
    return float(np.mean([label in kept for label, kept in zip(gold, found)]))


KINDS = ((APS, {"rand": False}), (RAPS, {"rand": False, "lambd": 0.05, "k_reg": 2}), (APS, {}), (LAC, {}))
print("puncc", version("puncc"), f"{CLASSES} classes, {1 - ALPHA:.2f} asked for")
wanted = by_hand()
print(f"APS by hand: {covered(wanted):.3f} of the sets hold the right class, {np.mean([*map(len, wanted)]):.2f} classes each")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for kind, settings in KINDS:
        method = kind(BasePredictor(Given(), is_trained=True), train=False, **settings)
        method.fit(X_calib=held, y_calib=truth[:CALIBRATE])
        for batch in (100, 6, 4, 3, 2):
            found = sets(method, batch)
            share, most = covered(found), max(len(one) for one in found)
            print(f"{kind.__name__} {settings}, batches of {batch}: {share:.3f}, at most {most} classes")
            if kind is LAC or batch >= CLASSES:
                assert share > 0.86, (kind, batch, share)
            else:
                assert most == batch and share < {4: 0.9, 3: 0.82, 2: 0.7}[batch], (kind, batch, share, most)
            if kind is APS and settings:
                same = sum(set(one) == two for one, two in zip(found, wanted)) / TEXTS
                print(f"  the sets by hand: {same:.3f} of all")
                assert same == 1 if batch >= CLASSES else same < 0.6, (batch, same)
        try:
            alone = len(method.predict(test[:1], alpha=ALPHA)[1])
        except (TypeError, ValueError) as error:
            alone = type(error).__name__
        print(f"  one text alone: {alone}")
assert not [one for one in caught if issubclass(one.category, UserWarning)], [str(one.message) for one in caught]
print("Give predict at least as many rows as there are classes: repeat the text, and take the first set.")
PY
