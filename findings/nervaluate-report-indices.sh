#!/usr/bin/env bash
# nervaluate 1.2.1 counts right, and names other entities in summary_report_indices. Missed entities are numbered among
# the true ones and looked up among the predicted ones. With mode="entities" the numbers are those within one label, and
# are looked up among all labels: the correct LOC is shown as a PER.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet nervaluate==1.2.1
venv/bin/python - <<'PY'
from nervaluate import Evaluator

# A person at 0 and a place at 2, twice. The prediction misses the person of sentence 0.
true = [["B-PER", "O", "B-LOC"], ["B-PER", "O", "B-LOC"]]
pred = [["O", "O", "B-LOC"], ["B-PER", "O", "B-LOC"]]
evaluator = Evaluator(true, pred, tags=["PER", "LOC"], loader="list")


def shown(report, category):
    """The sentence and the details of a category's lines: Label=PER, Start=0, End=0."""
    lines = [line.split(maxsplit=3) for line in report.splitlines()]
    return [(int(line[1]), line[3].strip()) for line in lines if line[:1] == [category] and line[1] != "-"]


strict = evaluator.evaluate()["overall"]["strict"]
assert (strict.correct, strict.missed, strict.incorrect, strict.spurious) == (3, 1, 0, 0)

missed = shown(evaluator.summary_report_indices(mode="overall", scenario="strict"), "Missed")
print(f"missed is the PER at 0 of sentence 0; the report says {missed}")
assert missed == [(0, "Label=LOC, Start=2, End=2")]

by_label = evaluator.summary_report_indices(mode="entities", scenario="strict")
parts = {part.split()[0]: part for part in by_label.split("Entity Type: ")[1:]}
correct = shown(parts["LOC"], "Correct")
print(f"correct LOCs are at 2 of both sentences; the report says {correct}")
assert correct == [(0, "Label=LOC, Start=2, End=2"), (1, "Label=PER, Start=0, End=0")]
PY
