#!/usr/bin/env bash
# spaCy 3.8.18: Doc(ents=...) reads IOB1 tags, except where the text begins with an entity: it raises E093.
# In IOB1, the scheme of the original CoNLL-2003 files, I- opens an entity and B- only separates two of one type.
# After another entity or an O, spaCy takes I- as the start of an entity; on the first token it does not.
# Reading such a corpus works for sentences that begin with O and fails on the others.
# iob_to_biluo of the same package reads the same tags right, so convert with it first and then with biluo_to_iob.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet spacy==3.8.18 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import spacy
from spacy.tokens import Doc
from spacy.training import biluo_to_iob, iob_to_biluo

vocab = spacy.blank("en").vocab


def entities(tags):
    doc = Doc(vocab, words=["word"] * len(tags), ents=tags)
    return [(one.start, one.end, one.label_) for one in doc.ents]


later = ["O", "I-PER", "I-PER", "B-PER", "I-LOC"]
assert entities(later) == [(1, 3, "PER"), (3, 4, "PER"), (4, 5, "LOC")], entities(later)
print("spaCy", spacy.__version__, "reads", later, "as", entities(later))
first = later[1:]
try:
    entities(first)
except ValueError as error:
    assert "E093" in str(error), error
    print("The same tags without the O in front:", str(error).splitlines()[0])
else:
    raise AssertionError("IOB1 is read on the first token now")
converted = biluo_to_iob(iob_to_biluo(first))
assert converted == ["B-PER", "I-PER", "B-PER", "B-LOC"], converted
assert entities(converted) == [(0, 2, "PER"), (2, 3, "PER"), (3, 4, "LOC")]
print("Converted with iob_to_biluo and biluo_to_iob they are read:", entities(converted))
PY
