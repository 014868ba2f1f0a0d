#!/usr/bin/env bash
# scikit-learn 1.9.1: CalibratedClassifierCV with method="temperature" takes whole numbers in y as positions of classes.
# Labels of text are encoded first, numbers are not: of stars from 1 to 3 star 1 is taken for the second class, star 2 for
# the third, and star 3 is left out of the loss; so is -1 of -1 and 1. The temperature is then that of other labels: here
# the inverse temperature falls to its bound with 1, 2, 3, and to a two-hundredth with -1 and 1, so that every class has
# nearly the same probability for every text. predict stays right, so accuracy does not show it.
# The same data with labels 0, 1, 2 or "1", "2", "3" is calibrated right; so is any label with "sigmoid" and "isotonic".
# No error and no warning. Encode y to 0, 1, ... first. No entry of the issue tracker is known.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet scikit-learn==1.9.1 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings

import numpy as np
import sklearn
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

warnings.simplefilter("error")
rng = np.random.default_rng(0)
features = rng.normal(size=(900, 5))
three = (features @ rng.normal(size=(5, 3)) * 2 + rng.gumbel(size=(900, 3))).argmax(axis=1)
two = (three == 0).astype(int)
FIT, HELD, TEST = slice(0, 300), slice(300, 600), slice(600, 900)


def wanted(scores, classes):
    """The inverse temperature of least log loss for these scores and classes."""
    scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores

    def loss(log_beta):
        return -log_softmax(np.exp(log_beta) * scores, axis=1)[np.arange(len(classes)), classes].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-10, 10), method="bounded", options={"xatol": 1e-10}).x))


def calibrated(classes, labels, method="temperature"):
    """With the classes under these names: inverse temperature, largest probability, log loss, agreement with the
    classifier, and the best inverse temperature."""
    names = np.array(labels)
    y = names[classes]
    base = LogisticRegression(C=100).fit(features[FIT], y[FIT])
    model = CalibratedClassifierCV(FrozenEstimator(base), method=method).fit(features[HELD], y[HELD])
    chances = model.predict_proba(features[TEST])
    truth = np.searchsorted(model.classes_, y[TEST])
    calibrator = model.calibrated_classifiers_[0].calibrators[0]
    beta = float(calibrator.beta_) if method == "temperature" else None
    loss = float(-np.log(np.maximum(chances[np.arange(300), truth], 1e-12)).mean())
    same = float((model.predict(features[TEST]) == base.predict(features[TEST])).mean())
    return beta, float(chances.max()), loss, same, wanted(base.decision_function(features[HELD]), classes[HELD])


print("scikit-learn", sklearn.__version__)
for classes, labels, right in (
    (three, [0, 1, 2], True),
    (three, ["1", "2", "3"], True),
    (three, [1, 2, 3], False),
    (three, [-1, 0, 1], False),
    (two, [0, 1], True),
    (two, ["-1", "1"], True),
    (two, [-1, 1], False),
    (two, [1, 2], False),
):
    beta, highest, loss, same, best = calibrated(classes, labels)
    print(f"labels {labels}: inverse temperature {beta:.5f} (best {best:.5f}), largest probability {highest:.4f}, log loss {loss:.3f}")
    assert same == 1.0  # the classes named are those of the classifier
    if right:
        assert abs(beta / best - 1) < 1e-3 and highest > 0.99, (labels, beta, best)
    else:
        # exp(-10) is the least inverse temperature that the search allows
        assert beta < (0.004 if labels == [-1, 1] else 5e-5) and best > 0.4, (labels, beta, best)
        assert highest < 1 / len(labels) + 0.02 and abs(loss - np.log(len(labels))) < 0.01, (labels, highest, loss)
        for method in ("sigmoid", "isotonic"):
            assert calibrated(classes, labels, method)[1] > 0.95
PY
