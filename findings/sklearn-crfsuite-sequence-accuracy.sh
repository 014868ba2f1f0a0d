#!/usr/bin/env bash
# sklearn-crfsuite 0.5.0: sequence_accuracy_score, the share of sequences whose tags are all right, counts tags instead
# where all sequences have one length: numpy makes a table of them, and the comparison goes tag by tag.
# Two wrong sentences of three tags score 1.0, two right ones 3.0. With one sentence of another length more the score is
# right. The scorer sequence_accuracy does the same, so a search for the best parameters by it chooses by another score.
# No error and no warning. No entry of the issue tracker is known.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet sklearn-crfsuite==0.5.0 python-crfsuite==0.9.12 scikit-learn==1.9.1 numpy==2.4.6
venv/bin/python - <<'PY'
import warnings
from importlib.metadata import version

from sklearn_crfsuite import CRF
from sklearn_crfsuite.metrics import flat_accuracy_score, sequence_accuracy_score
from sklearn_crfsuite.scorers import sequence_accuracy

warnings.simplefilter("error")


def wanted(true, predicted):
    return sum(list(a) == list(b) for a, b in zip(true, predicted, strict=True)) / len(true)


true = [["B-PER", "I-PER", "O"], ["O", "O", "B-LOC"]]
wrong = [["B-PER", "O", "O"], ["O", "O", "O"]]
short = ["O"]
seen = {
    "all right": (float(sequence_accuracy_score(true, true)), wanted(true, true)),
    "all wrong": (float(sequence_accuracy_score(true, wrong)), wanted(true, wrong)),
    "with one right of another length": (
        float(sequence_accuracy_score([*true, short], [*wrong, short])),
        wanted([*true, short], [*wrong, short]),
    ),
}
print("sklearn-crfsuite", version("sklearn-crfsuite"), "sequence accuracy (and the right one):", seen)
assert seen["all right"] == (3.0, 1.0), seen
assert seen["all wrong"] == (2.0, 0.0), seen  # four tags are right in two sentences
assert seen["with one right of another length"] == (1 / 3, 1 / 3), seen

# The scorer with a CRF that has seen one of the two sentences.
texts = [[{"word": word} for word in "Ann went home".split()], [{"word": word} for word in "Bob went home".split()]] * 2
tags = [["B-PER", "O", "O"], ["B-PER", "O", "B-LOC"]] * 2
model = CRF(algorithm="lbfgs", c2=0.01, max_iterations=50).fit(texts[:1], tags[:1])
predicted = model.predict(texts)
scored, right = sequence_accuracy(model, texts, tags), wanted(tags, predicted)
print(f"The scorer with a CRF: {scored}, right: {right}; share of right tags: {flat_accuracy_score(tags, predicted):.3f}")
assert scored > 1 and scored == 3 * flat_accuracy_score(tags, predicted) and right <= 0.5, (scored, right)
PY
