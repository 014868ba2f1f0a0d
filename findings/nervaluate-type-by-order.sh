#!/usr/bin/env bash
# nervaluate 1.2.1, scenario ent_type: one true entity, of which one part is predicted with its label and the other part
# with another one. It is correct if the part with the right label comes first in the sentence, and incorrect otherwise:
# F1 is 0.67 for a sentence and 0 for its mirror image.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet nervaluate==1.2.1
venv/bin/python - <<'PY'
from nervaluate import Evaluator

true = ["B-ORG", "I-ORG", "I-ORG", "I-ORG"]
first = ["B-ORG", "I-ORG", "B-LOC", "I-LOC"]
last = ["B-LOC", "I-LOC", "B-ORG", "I-ORG"]


def scored(predicted):
    """(correct, incorrect, spurious, F1) by type."""
    found = Evaluator([true], [predicted], tags=["ORG", "LOC"], loader="list").evaluate()["overall"]["ent_type"]
    return found.correct, found.incorrect, found.spurious, round(found.f1, 2)


print(f"the right label first: {scored(first)}; the right label last: {scored(last)}")
assert scored(first) == (1, 0, 1, 0.67)
assert scored(last) == (0, 1, 1, 0.0)  # the prediction with the right label counts as spurious
# One label alone is found wherever it stands.
assert scored(["B-ORG", "I-ORG", "O", "O"]) == scored(["O", "O", "B-ORG", "I-ORG"]) == (1, 0, 0, 1.0)
PY
