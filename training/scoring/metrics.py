"""Scores: accuracy, F1 and confusion of labels; precision, recall and F1 of entities by the CoNLL definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Span = tuple[str, int, int]
"""An entity: its type, its first token, and the token after its last."""


class Scored(NamedTuple):
    """A predicted entity: its type, its score in 0..1, and whether it is right."""

    kind: str
    score: float
    right: bool


def accuracy(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """The share of labels that are right. Raises `ValueError` for none, or when the two differ in length."""
    _check_pairs(gold, predicted)
    return sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(gold)


def confusion(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> NDArray[np.int64]:
    """How often each label was taken for each: int64 [labels, labels], gold in rows, predicted in columns.

    Raises `ValueError` for no pair, a difference in length, or a label that is not among `labels`.
    """
    _check_pairs(gold, predicted)
    number = {label: row for row, label in enumerate(labels)}
    try:
        cells = [number[g] * len(number) + number[p] for g, p in zip(gold, predicted, strict=True)]
    except KeyError as error:
        raise ValueError(f"{error.args[0]!r} is not among the labels {', '.join(labels)}") from error
    return np.bincount(cells, minlength=len(number) ** 2).reshape(len(number), -1)


def macro_f1(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """The mean over labels of F1, each label counting the same.

    Over the labels that occur in `gold` or `predicted`: one with neither support nor prediction is left out, one with
    only either counts 0 (scikit-learn's ``f1_score(average="macro", zero_division=0)``).
    Raises `ValueError` as `accuracy` does.
    """
    counts = confusion(gold, predicted, sorted({*gold, *predicted}))
    return float(np.mean(2 * counts.diagonal() / (counts.sum(axis=0) + counts.sum(axis=1))))


def macro_recall(gold: Sequence[str], predicted: Sequence[str]) -> float:
    """The mean over `gold`'s labels of the share of each that was found. Raises `ValueError` as `accuracy` does."""
    counts = confusion(gold, predicted, sorted({*gold, *predicted}))
    there = counts.sum(axis=1)
    return float(np.mean(counts.diagonal()[there > 0] / there[there > 0]))


@dataclass(frozen=True, slots=True)
class EntityScores:
    """How many entities were right, predicted, and there; the same for each type in `types`, by name.

    A ratio of nothing to nothing is 0, as in conlleval.
    """

    correct: int
    predicted: int
    support: int
    types: Mapping[str, EntityScores] = field(default_factory=dict)

    @property
    def precision(self) -> float:
        return _ratio(self.correct, self.predicted)

    @property
    def recall(self) -> float:
        return _ratio(self.correct, self.support)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.correct, self.predicted + self.support)


def entity_scores(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> EntityScores:
    """Precision, recall and F1 of entities in tagged sentences, over all (micro) and by type. An entity is right if
    span and type are exact. Raises `ValueError` if the two sides differ in sentences or tokens, and for an invalid tag.
    """
    there, found = [], []
    for number, (truth, guess) in enumerate(zip(gold, predicted, strict=True), start=1):
        if len(truth) != len(guess):
            raise ValueError(f"sentence {number}: {len(truth)} gold tags but {len(guess)} predicted")
        there.append(spans(truth))
        found.append(spans(guess))
    return scores_of_spans(there, found)


def scores_of_spans(gold: Iterable[Collection[Span]], predicted: Iterable[Collection[Span]]) -> EntityScores:
    """The same for entities by their positions, of tokens or of characters.

    Raises `ValueError` when the two differ in sentences.
    """
    right, seen, real = list[str](), list[str](), list[str]()
    for there, found in zip(gold, predicted, strict=True):
        real += [kind for kind, _, _ in there]
        seen += [kind for kind, _, _ in found]
        if there and found:
            right += [kind for kind, _, _ in set(there).intersection(found)]
    correct, guessed, support = Counter(right), Counter(seen), Counter(real)
    kinds = sorted(support.keys() | guessed.keys())
    types = {kind: EntityScores(correct[kind], guessed[kind], support[kind]) for kind in kinds}
    return EntityScores(correct.total(), guessed.total(), support.total(), types)


def spans(tags: Iterable[str]) -> list[Span]:
    """The entities of one sentence's tags (IOB2, or IOB1), in order.

    Tags that IOB2 does not allow are read as in conlleval: an ``I-TYPE`` that follows ``O``, another type or nothing
    begins an entity. Raises `ValueError` for a tag that is not ``O``, ``B-TYPE`` or ``I-TYPE``.
    """
    found: list[Span] = []
    kind, start, end = "", 0, 0
    for position, tag in enumerate(tags):
        if tag == "O":  # most are
            if kind:
                found.append((kind, start, position))
                kind = ""
            continue
        prefix, _, new = tag.partition("-")
        if prefix not in ("B", "I") or not new:
            raise ValueError(f"{tag!r} is no tag; a tag is O, B-TYPE or I-TYPE")
        end = position + 1
        if prefix == "I" and new == kind:
            continue
        if kind:
            found.append((kind, start, position))
        kind, start = new, position
    if kind:
        found.append((kind, start, end))
    return found


def _check_pairs(gold: Sequence[str], predicted: Sequence[str]) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels but {len(predicted)} predicted")
    if not gold:
        raise ValueError("there is nothing to score")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
