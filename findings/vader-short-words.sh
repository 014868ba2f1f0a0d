#!/usr/bin/env bash
# vaderSentiment 3.3.2: a word of two letters keeps its full stop, comma or exclamation mark, and is then in no list:
# "It was ok" scores .30 and "It was ok." 0, "ha" .34 and "ha!" 0, and a "No." that answers a question counts for nothing, so the answer
# scores .44 with its full stop and .18 without. Marks at the edges of a word are taken off only if more than two characters
# stay, so that emoticons survive; but 34 words of two letters are in the lexicon, from "no" and "ok" to "ty" and "wp".
# All of them lose their score before a mark, as no word of three letters and more does.
# nltk 3.10.4 ships a copy of the same rules, and takes the marks off: with this very lexicon it scores both forms alike.
# The README says that "!" makes a score stronger. No error and no warning. No issue of its tracker is known that names it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet vaderSentiment==3.3.2 nltk==3.10.4
venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version
from pathlib import Path

import vaderSentiment.vaderSentiment as vader
from nltk.sentiment.vader import SentimentIntensityAnalyzer as Copy
from nltk.sentiment.vader import VaderConstants

ours = vader.SentimentIntensityAnalyzer()
copy = Copy.__new__(Copy)  # its own lexicon is a download; the one of the other package has the same form
copy.lexicon_file = (Path(vader.__file__).parent / "vader_lexicon.txt").read_text(encoding="utf-8")
copy.lexicon = copy.make_lex_dict()
copy.constants = VaderConstants()
assert copy.lexicon == ours.lexicon


def score(analyzer, text):
    return analyzer.polarity_scores(text)["compound"]


print("vaderSentiment", version("vaderSentiment"), "nltk", version("nltk"))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for plain, marked, seen in (
        ("It was ok", "It was ok.", (0.296, 0.0)),
        ("It was ok I think", "It was ok, I think", (0.296, 0.0)),
        ("ha ha", "ha! ha!", None),
        ("Was it any good? No", "Was it any good? No.", None),
        ("It was okay", "It was okay.", None),
    ):
        here, there = [(score(one, plain), score(one, marked)) for one in (ours, copy)]
        print(f"{plain!r} {here[0]}, {marked!r} {here[1]}; in nltk {there[0]} and {there[1]}")
        assert seen is None or here == seen, here
        if plain == "It was okay":
            assert here[0] == here[1], here
        else:
            assert abs(here[0] - here[1]) > 0.2, here

    words = [word for word in ours.lexicon if word.isascii() and word.isalpha()]
    lost = {count: 0 for count in (2, 3, 4)}
    of = dict(lost)
    for word in words:
        count = min(len(word), 4)
        if count > 1:
            of[count] += 1
            lost[count] += all(score(ours, word + mark) == 0 for mark in ".,;:") and score(ours, word) != 0
    print("words of the lexicon by letters:", of, "of them lose their score before . , ; and :", lost)
    assert lost[2] == of[2] > 30 and lost[3] == lost[4] == 0, (lost, of)
assert not caught, caught
print("Put a space before the marks of words of two letters.")
PY
