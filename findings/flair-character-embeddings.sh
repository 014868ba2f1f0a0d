#!/usr/bin/env bash
# flair 0.15.1: CharacterEmbeddings gives a word that occurs again in its sentence the embedding of another word. Words are
# sorted by length for the LSTM, and brought back by a table that names, for equal words, only the last of them: every earlier
# one keeps what lies at its place in the sorted order. Most sentences with two "the" are so, and one text in two places has
# two embeddings; each word alone is right. Moreover the backward half of every embedding is taken at the last letter, where the
# backward LSTM has read that letter alone: it says nothing of the rest of the word. The class names Lample et al. 2016 as its
# model, who take the last states of both directions. No error, no warning, and no issue is known that names either.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet flair==0.15.1 torch==2.13.0 numpy==2.4.6 transformers==4.57.6
FLAIR_CACHE_ROOT="$work" venv/bin/python -W ignore - <<'PY'
import warnings
from importlib.metadata import version

import flair
import numpy as np
import torch
from flair.data import Dictionary, Sentence
from flair.embeddings import CharacterEmbeddings

UNITS = 6
TEXTS = ["the small cat saw a dog", "the small cat saw the dog", "near the house the men met the mayor", "Paris , London , and Berlin"]


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def states(layer, word, end):
    """States of one direction of the LSTM over the letters of one word alone, in float64 NumPy."""
    weights = {name: values.detach().double().numpy() for name, values in layer.char_rnn.named_parameters()}
    w, r, b, b_r = (weights[f"{name}_l0{end}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    table = layer.char_embedding.weight.detach().double().numpy()
    h, c, found = np.zeros(UNITS), np.zeros(UNITS), []
    for letter in reversed(word) if end else word:
        i, f, g, o = np.split(w @ table[layer.char_dictionary.get_idx_for_item(letter)] + b + r @ h + b_r, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        found.append(h)
    return found


def off(one, two):
    return float(np.abs(one - two).max())


flair.device = torch.device("cpu")
torch.manual_seed(0)
letters = Dictionary()
for letter in sorted(set("".join(TEXTS).replace(" ", ""))):
    letters.add_item(letter)
layer = CharacterEmbeddings(letters, char_embedding_dim=5, hidden_size_char=UNITS)
with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    for values in layer.char_rnn.parameters():
        values.mul_(2)
    for text in TEXTS:
        words = text.split()
        sentence = Sentence(words)
        layer.embed(sentence)
        found = [token.get_embedding().numpy() for token in sentence]
        forward = [states(layer, word, "")[-1] for word in words]
        backward = [states(layer, word, "_reverse") for word in words]
        by_length = sorted(words, key=len, reverse=True)
        wrong = []
        for place, word in enumerate(words):
            distance = off(found[place][:UNITS], forward[place])
            if distance > 1e-5:
                wrong.append(f"{word} at {place} by {distance:.1f} (it has that of {by_length[place]})")
                assert word in words[place + 1 :] and off(found[place][:UNITS], forward[words.index(by_length[place])]) < 1e-5
            else:
                assert off(found[place][UNITS:], backward[place][0]) < 1e-5
                assert len(word) == 1 or off(found[place][UNITS:], backward[place][-1]) > 1e-3
        print(f"flair {version('flair')}, {text!r}: off: {', '.join(wrong) or 'none'}")
        again = [word in words[place + 1 :] and by_length[place] != word for place, word in enumerate(words)]
        assert len(wrong) == sum(again) and bool(wrong) == (len(set(words)) < len(words)), (wrong, again)
    apart = max(off(states(layer, word, "_reverse")[0], states(layer, word, "_reverse")[-1]) for word in words if len(word) > 1)
    print(f"The backward half is that of the last letter alone, up to {apart:.1f} from that of the whole word.")
assert not [str(one.message) for one in caught if "character" in str(one.message).lower()]
print("Embed each word as a sentence of its own; take the first place of the backward direction by hand.")
PY
