#!/usr/bin/env bash
# seqeval 1.2.2: strict mode with the scheme IOE1 loses entities of one token before another of the same type.
# IOE1 marks the last token of an entity with E only where the next entity has the same type and follows at once.
# "E-PER I-PER" are two entities of one token each. Strict mode finds the second only; the default mode finds both.
# The gold tags scored against themselves give F1 1.0 with one entity missing; a model that finds one of the two gets 0 or 1.
# IOB1, IOB2, IOE2 and IOBES are read right in strict mode.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet seqeval==1.2.2 numpy==2.4.6 scikit-learn==1.9.1
venv/bin/python -W ignore - <<'PY'
from importlib.metadata import version
from seqeval.metrics import f1_score
from seqeval.scheme import IOB1, IOB2, IOBES, IOE1, IOE2, Entities

SAME = {
    IOB1: ["I-PER", "B-PER"],
    IOB2: ["B-PER", "B-PER"],
    IOE1: ["E-PER", "I-PER"],
    IOE2: ["E-PER", "E-PER"],
    IOBES: ["S-PER", "S-PER"],
}
found = {scheme.__name__: len(Entities([tags], scheme).entities[0]) for scheme, tags in SAME.items()}
print("seqeval", version("seqeval"), "strict mode, entities found of two:", found)
assert found == {"IOB1": 2, "IOB2": 2, "IOE1": 1, "IOE2": 2, "IOBES": 2}, found
gold, first, second = SAME[IOE1], ["I-PER", "O"], ["O", "I-PER"]
scores = [
    (round(float(f1_score([gold], [tags])), 3), round(float(f1_score([gold], [tags], mode="strict", scheme=IOE1)), 3))
    for tags in (first, second)
]
print("F1 (default, strict) of a prediction of the first entity only, and of the second only:", scores)
assert scores == [(0.667, 0.0), (0.667, 1.0)], scores
print("In IOE1 strict mode lost the first of two neighbouring one-token entities.")
PY
