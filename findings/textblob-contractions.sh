#!/usr/bin/env bash
# textblob 0.20.1: the default sentiment does not see n't. "The film wasn't good" has polarity .70, as "The film was good" has,
# and "The film was not good" -.35; "It isn't bad" is as bad as "It is bad". Its list of negations holds "n't", and its table
# of contractions cuts "n't" off; then the apostrophe is cut off as well, and "n", "'" and "t" are in no list.
# Of 18 contractions, from isn't to won't, none turns the polarity, where "not" turns it with each. Given as a list of words,
# with "n't" as one of them, as the documentation of its word tokenizer has it (do n't), the same rules negate.
# The documentation names no limit. No error and no warning. Open issue 181 of its tracker, of 2017, has the cause.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet textblob==0.20.1 nltk==3.10.4
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

from nltk.tokenize import TreebankWordTokenizer
from textblob import TextBlob
from textblob.en import sentiment

FORMS = "is are was were do does did has have had could would should must might need ca wo".split()
FULL = {"ca": "can", "wo": "will"}


def polarity(text):
    return round(TextBlob(text).sentiment.polarity, 2)


print("textblob", version("textblob"))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for text, seen in (
        ("The film was good.", 0.7),
        ("The film was not good.", -0.35),
        ("The film wasn't good.", 0.7),
        ("The film wasn\u2019t good.", 0.7),
        ("It is bad.", -0.7),
        ("It is not bad.", 0.35),
        ("It isn't bad.", -0.7),
    ):
        print(f"{text!r}: {polarity(text)}")
        assert polarity(text) == seen, (text, polarity(text))

    turned = {"n't": 0, "not": 0, "a list of words": 0}
    for form in FORMS:
        full = FULL.get(form, form)
        assert polarity(f"It {full} good") == 0.7  # of no use as English, but the rules look at words only
        turned["n't"] += polarity(f"It {form}n't good") < 0
        turned["not"] += polarity(f"It {full} not good") < 0
        words = TreebankWordTokenizer().tokenize(f"It {form}n't good")
        assert words == ["It", form, "n't", "good"], words
        turned["a list of words"] += sentiment(words)[0] < 0
    assert turned == {"n't": 0, "not": len(FORMS), "a list of words": len(FORMS)}, turned
    print(f"of {len(FORMS)} forms turned by:", turned)
assert not caught, caught
print("Replace n't by not before.")
PY
