#!/usr/bin/env bash
# shap 0.51.0: a text masker with a pattern, as the documentation has it for models of any kind, cuts off how a text ends.
# What the pattern finds between two words goes with the first of them; what it finds behind the last word, "!", "?", "...",
# a closing quote or bracket, is in no token: no masked text has it, not even the one with nothing masked. The explanation is
# then of another text: base value and values sum to the score of "The film is good", not of "The film is good!!!". With
# vaderSentiment 3.3.2, which weighs exclamation marks, .58 is explained as .44, and -.78 as -.74. Punctuation inside is kept.
# No error and no warning; a pattern that leaves punctuation to the words, \s+, is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet shap==0.51.0 vaderSentiment==3.3.2 numpy==2.4.6
venv/bin/python -W ignore - <<'PY'
import re
from importlib.metadata import version

import numpy as np
import shap
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

analyzer = SentimentIntensityAnalyzer()
seen = set()


def score(texts):
    if isinstance(texts, np.ndarray):  # of shap
        seen.update(map(str, texts))
    return np.array([analyzer.polarity_scores(str(text))["compound"] for text in texts])


CASES = [  # pattern, text, whether the explanation is one of the text
    (r"\W+", "The film is good", True),
    (r"\W+", "The film is good!!!", False),
    (r"\W", "The film is good!!!", False),
    (r"\W+", "A terrible, terrible film!!", False),
    (r"\W+", "Is the plot good???", False),
    (r"\W+", "Good!!! The plot is not", True),
    (r"\s+", "The film is good!!!", True),
]
print(f"shap {version('shap')}, vaderSentiment {version('vaderSentiment')}")
for pattern, text, right in CASES:
    seen.clear()
    explained = shap.Explainer(score, shap.maskers.Text(pattern), silent=True)([text])
    total, whole = float(explained.values[0].sum() + explained.base_values[0]), float(score(iter([text]))[0])
    print(f"{pattern} {text!r}: score {whole:.4f}, base value and values {total:.4f}, tokens {list(explained.data[0])}")
    assert (abs(total - whole) < 1e-6) == right == (text in seen), (text, total, whole)
    bare = re.sub(f"(?:{pattern})$", "", text)  # without the last match of the pattern
    assert bare in seen and abs(total - float(score(iter([bare]))[0])) < 1e-6, (bare, seen)
print("Compare base value and values with the score of the text, and take a pattern that keeps punctuation.")
PY
