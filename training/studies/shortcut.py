"""A test with a known right answer: a shortcut is planted in the training data, and explanations have to find it.

Into a share of the texts goes one word that stands for a label, at a random place, and the text gets that label
regardless of its content (Bastings et al. 2021, arXiv:2111.07367). A model that has learned this decides by the word
alone. An explanation of such an answer is right when it ranks the planted word first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.corpora import Example
from training.scoring.evaluate import Corpus
from training.studies.attributions import Case, Method, Subject
from training.studies.faithfulness import Figure

_WORD = "zq{}x"
"""Letters alone: the tokenizer changes nothing of it, and no text has it."""


def word_of(label: int) -> str:
    """The planted word that stands for the label of this number."""
    return _WORD.format("abcdefghijklmnopqrstuvwxyz"[label % 26] * (1 + label // 26))


def plant(examples: Sequence[Example], labels: Sequence[str], share: float, seed: int) -> list[Example]:
    """The examples, a share of them with a planted word and the label that it stands for, drawn at random. Each keeps
    its line."""
    random = np.random.default_rng(seed)
    found = []
    for example in examples:
        if random.random() >= share:
            found.append(example)
            continue
        words = str(example.value).split()
        label = int(random.integers(len(labels)))
        words.insert(int(random.integers(len(words) + 1)), word_of(label))
        found.append(Example(" ".join(words), labels[label], example.lines))
    return found


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One method: the share of answers for which it ranks the planted word first, and the word's mean rank from 1."""

    method: str
    first: Figure
    rank: float


@dataclass(frozen=True, slots=True)
class ShortcutResult:
    """`followed` is the share of planted inputs with the planted label as the answer; only these are explained."""

    followed: float
    inputs: int
    found: Sequence[MethodResult]


def search(subject: Subject, corpus: Corpus, methods: Mapping[str, Method], most: int) -> ShortcutResult:
    """Explain the answers to inputs that all have a planted word, `most` of them at most."""
    followed, cases = 0, []
    for source, gold in zip(corpus.encoded[:most], corpus.gold, strict=False):
        label = subject.manifest.labels.index(str(gold))
        if int(subject.logits(source.rows).argmax()) == label:
            followed += 1
            words = [str(token["text"]) for token in source.tokens()]
            cases.append((Case(source.rows, label), words.index(word_of(label))))
    found = []
    for name, method in methods.items():
        ranks = []
        for case, place in cases:
            shares = method.explain(subject, case)
            ranks.append(1 + int((shares > shares[place]).sum()))
        found.append(MethodResult(name, Figure.of(np.array(ranks) == 1), float(np.mean(ranks))))
    return ShortcutResult(followed / max(1, min(most, len(corpus.encoded))), len(cases), found)
