#!/usr/bin/env bash
# spacy 3.8.18 and floret 0.10.5: a table that floret wrote with minn below 2 gives other vectors in spaCy than in floret.
# floret leaves out an n-gram that is the mark before or behind a word alone; spaCy adds "<" and ">" of every word. With
# minn=0, where floret begins at one character, spaCy adds the empty n-gram too, once for each place it fits.
# Every vector then has the same few rows mixed in: with minn=1 it is off by 9 % of its size, "a" by 19 %; with minn=0 and
# maxn=0, words without n-grams, by 86 %, as the empty one, which no training touched, outnumbers the word itself.
# Loaded as by `spacy init vectors --mode floret`; no error and no warning. With minn of 2 or more both agree.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet spacy==3.8.18 floret==0.10.5 mmh3==5.3.1 numpy==2.2.6
venv/bin/python -W ignore - <<'PY'
import random
from importlib.metadata import version
from pathlib import Path

import floret
import mmh3
import numpy as np
import spacy
from spacy.training.initialize import convert_vectors

ROWS, SEED = 500, 2166136261
WORDS = "the film was good bad a an i naïve actor movie plot slow cat dog house story end".split()
random.seed(0)
Path("texts").write_text("\n".join(" ".join(random.choices(WORDS, k=12)) for _ in range(400)), "utf-8")


def grams(word, least, most, marks):
    """The word between its marks, and its n-grams; with `marks`, a mark alone and the empty n-gram too."""
    whole = f"<{word}>"
    found = [whole]
    for size in range(least, most + 1):
        for start in range(len(whole) - size + 1):
            gram = whole[start : start + size]
            if marks or gram not in ("", "<", ">"):
                found.append(gram)
    return found


def mean(table, parts):
    """The mean of the two rows to which each part is hashed."""
    halves = [mmh3.hash128(part.encode(), SEED, x64arch=True) & (2**64 - 1) for part in parts]
    return table[[row % ROWS for half in halves for row in (half & 0xFFFFFFFF, half >> 32)]].mean(0)


print(f"spacy {version('spacy')}, floret {version('floret')}")
for least, most in [(0, 0), (0, 3), (1, 1), (1, 3), (2, 3), (4, 5)]:
    settings = dict(mode="floret", hashCount=2, bucket=ROWS, minn=least, maxn=most)
    model = floret.train_unsupervised("texts", dim=8, lr=0.1, minCount=1, thread=1, verbose=0, **settings)
    model.save_floret_vectors("table")
    nlp = spacy.blank("en")
    convert_vectors(nlp, Path("table"), truncate=0, prune=-1, mode="floret")
    first = [model.get_word_vector(word) for word in WORDS]
    second = [nlp.vocab[word].vector for word in WORDS]
    table = nlp.vocab.vectors.data
    apart = [np.linalg.norm(two - one) / np.linalg.norm(one) for one, two in zip(first, second, strict=True)]
    worst = int(np.argmax(apart))
    print(
        f"minn={least}, maxn={most}: spaCy's vectors are off by {np.mean(apart):.0%} of their size, "
        f"'{WORDS[worst]}' by {apart[worst]:.0%}"
    )
    for word, one, two in zip(WORDS, first, second, strict=True):
        assert np.abs(mean(table, grams(word, least, most, False)) - one).max() < 1e-4, ("floret", word)
        assert np.abs(mean(table, grams(word, least, most, True)) - two).max() < 1e-4, ("spacy", word)
    if least < 2:
        assert min(apart) > 0.01, apart
    else:
        assert max(apart) < 1e-4, apart
print("Train with minn of 2 or more, or take the vectors from floret itself.")
PY
