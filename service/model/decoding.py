"""Logits to predictions: labels with scores for a classifier, entities for a tagger.

A batch's answer for each row is that row's answer alone: padding is never read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleError
from service.model.bundle import Crf, Task
from service.model.crf import forwarded, marginals, products, viterbi
from service.model.tokenizer import Encoded

OUTSIDE = "O"
_BEGIN, _INSIDE = "B-", "I-"

NOT_FINITE = "the model's logits are not finite"

Prediction = dict[str, object]
"""One input's prediction in plain Python values, as `/predict` answers it."""


def softmax(logits: Sequence[float]) -> list[float]:
    """Probabilities of one row. Raises `ValueError` for a logit that is not finite.

    Plain Python: for the few labels of a text an array's overhead is ten times the arithmetic.
    """
    if not all(map(math.isfinite, logits)):
        raise ValueError(NOT_FINITE)
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-probabilities along the last axis, always finite. Raises `ValueError` for a logit that is not finite."""
    shifted = logits.astype(np.float64)
    if not np.isfinite(shifted).all():
        raise ValueError(NOT_FINITE)
    shifted -= shifted.max(axis=-1, keepdims=True)  # so that no exponential overflows
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


class Classifier:
    """One label for each input."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)

    def decode(
        self, logits: NDArray[np.float32], encoded: Sequence[Encoded], *, tokens: bool = False
    ) -> list[Prediction]:
        """Predictions from logits [B, L]; `tokens` has no meaning for a classifier.

        Raises `ValueError` for a logit that is not finite.
        """
        predictions: list[Prediction] = []
        for row, source in zip(logits.tolist(), encoded, strict=True):
            scores = softmax(row)
            best = max(range(len(scores)), key=scores.__getitem__)
            predictions.append(
                {
                    "label": self.labels[best],
                    "score": scores[best],
                    "scores": dict(zip(self.labels, scores, strict=True)),
                    "truncated": source.truncated,
                }
            )
        return predictions

    def probability(self, logits: Sequence[NDArray[np.float32]], label: int) -> list[float]:
        """The probability of one label, by number, for each of some inputs' logits [L]."""
        return [softmax(row.tolist())[label] for row in logits]


@dataclass(frozen=True, slots=True)
class Before:
    """The context in front of some tokens of a sentence: the settled label just before them and, with a CRF, the
    log-weights [L] that all earlier sequences give to the labels of the first token."""

    label: int
    forward: NDArray[np.float64]


class Reading(NamedTuple):
    """Results for tokens of a row: label numbers, the labels' probabilities, and (first token, end, score) of
    entities."""

    labels: list[int]
    probabilities: list[float]
    entities: list[tuple[int, int, float]]


class Tagger:
    """One IOB2 label for each token (``O``, ``B-X``, ``I-X``), and the entities that they spell.

    The labels are the most probable *legal* sequence: I-X stands only behind B-X or I-X. A conditional random field
    gives its learned `transitions` [L, L] and `start` [L], which are added to those rules.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        transitions: NDArray[np.floating] | None = None,
        start: NDArray[np.floating] | None = None,
    ) -> None:
        self.labels = tuple(labels)
        self._transitions, self._start = legal(self.labels)
        self._learned = transitions is not None or start is not None
        if transitions is not None:
            self._transitions = self._transitions + transitions
        if start is not None:
            self._start = self._start + start
        self._begin, self._inside = (
            np.array([label.startswith(prefix) for label in self.labels]) for prefix in (_BEGIN, _INSIDE)
        )
        self._kinds = tuple(label[len(_BEGIN) :] for label in self.labels)
        self._continues = np.array(
            [[after.startswith(_INSIDE) and before[2:] == after[2:] for after in self.labels] for before in self.labels]
        )

    def decode(
        self, logits: NDArray[np.float32], encoded: Sequence[Encoded], *, tokens: bool = False
    ) -> list[Prediction]:
        """Predictions from logits [B, T, L]; T may exceed every input's length. `tokens` adds every token's label.

        A token's score is the softmax probability of its label, or, with a CRF's scores, its marginal probability.
        Raises `ValueError` for a logit that is not finite.
        """
        lengths = np.array([len(source) for source in encoded], np.intp)
        scores, inputs = _scores(logits, lengths)
        paths, probabilities, (rows, firsts, ends), chances = self._labelled(scores, lengths, inputs, None)
        entities: list[list[dict[str, object]]] = [[] for _ in encoded]
        for row, label, score, first, end in zip(
            *(array.tolist() for array in (rows, paths[rows, firsts], chances, firsts, ends)), strict=True
        ):
            source = encoded[row]
            left, right = source.spans[first][0], source.spans[end - 1][1]
            entities[row].append(self.entity(label, score, source.text[left:right], (left, right), first, end))
        predictions: list[Prediction] = [
            {"entities": found, "truncated": source.truncated} for found, source in zip(entities, encoded, strict=True)
        ]
        if tokens:
            names = np.array(self.labels, object)[paths].tolist()
            for prediction, source, labels, scores_ in zip(
                predictions, encoded, names, probabilities.tolist(), strict=True
            ):
                prediction["tokens"] = [
                    {**token, "label": label, "score": score}
                    for token, label, score in zip(source.tokens(), labels, scores_, strict=False)
                ]
        return predictions

    def spans(self, logits: NDArray[np.float32], lengths: Sequence[int]) -> list[list[tuple[str, int, int]]]:
        """The entities of `decode` without their scores: each row's, as type, first token, and the token after its
        last."""
        ends = np.array(lengths, np.intp)
        scores, inputs = _scores(logits, ends)
        paths = self._paths(scores, ends, inputs, self._start)
        found: list[list[tuple[str, int, int]]] = [[] for _ in lengths]
        rows, firsts, after = self._spans(paths, inputs)
        for row, kind, first, end in zip(
            *map(np.ndarray.tolist, (rows, paths[rows, firsts], firsts, after)), strict=True
        ):
            found[row].append((self._kinds[kind], first, end))
        return found

    def path(self, logits: NDArray[np.float32]) -> list[int]:
        """The label numbers of one input's tokens, from its logits [T, L]."""
        found: list[int] = self._paths(
            log_softmax(logits[None]), np.array([len(logits)]), np.ones((1, len(logits)), np.bool_), self._start
        )[0].tolist()
        return found

    def probability(self, logits: Sequence[NDArray[np.float32]], label: int, places: Sequence[int]) -> list[float]:
        """The probability of one label, by number, at a place of each of some inputs, from their logits [T, L]: the
        softmax's, or with a CRF's scores the marginal one. It is 0 if no legal sequence has the label there."""
        if not self._learned:
            return [float(np.exp(log_softmax(row[place])[label])) for row, place in zip(logits, places, strict=True)]
        lengths = np.array([len(row) for row in logits], np.intp)
        scores = np.zeros((len(logits), int(lengths.max()), len(self.labels)))
        for number, row in enumerate(logits):
            scores[number, : len(row)] = log_softmax(row)
        paths = np.full(scores.shape[:2], label, np.intp)
        found = marginals(scores, lengths, self._transitions, self._start, self._continues, paths).tokens
        return [float(found[number, place]) for number, place in enumerate(places)]

    def read(self, scores: NDArray[np.float64], before: Before | None = None) -> Reading:
        """Decode the log-probabilities [T, L] of some tokens of a row; `before` is their context in the sentence."""
        inputs = np.ones((1, len(scores)), bool)
        paths, probabilities, (_, firsts, ends), chances = self._labelled(
            scores[None], np.array([len(scores)]), inputs, before
        )
        spans = zip(firsts.tolist(), ends.tolist(), chances.tolist(), strict=True)
        return Reading(paths[0].tolist(), probabilities[0].tolist(), list(spans))

    def first(self, before: Before | None) -> NDArray[np.float64]:
        """The scores [L] that the context adds to those of the first label."""
        return self._start if before is None else self._transitions[before.label]

    def onward(self, best: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The label from which the best sequence comes to each label, and its score without that of the label itself.

        `best` [L] are the scores of the best sequences that end in each label.
        """
        arriving = best[:, None] + self._transitions
        return arriving.argmax(axis=0), arriving.max(axis=0)

    def after(self, scores: NDArray[np.float64], label: int, before: Before | None) -> Before:
        """The context for the tokens behind these; the last label of these is settled. Scores [T, L]."""
        if not self._learned:
            return Before(label, self._start)
        forward = None if before is None else before.forward
        return Before(label, forwarded(scores, self._transitions, self._start, forward))

    def entity(
        self, label: int, score: float, text: str, span: tuple[int, int], first: int, end: int
    ) -> dict[str, object]:
        """An entity that begins with a label; `span` is the start and end of its text, its tokens are first to end - 1.

        Its score is the probability that every one of its tokens bears its label: under a softmax head the product
        of the tokens' probabilities, because given the text each token's label is drawn independently; under a CRF the
        marginal probability of the labels together, and of no continuation.
        """
        return {
            "label": self._kinds[label],
            "text": text,
            "start": span[0],
            "end": span[1],
            "score": score,
            "token_start": first,
            "token_end": end,
        }

    def _labelled(
        self,
        scores: NDArray[np.float64],
        lengths: NDArray[np.intp],
        inputs: NDArray[np.bool_],
        before: Before | None,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], tuple[NDArray[np.intp], ...], NDArray[np.float64]]:
        """Decode log-probabilities [B, T, L] to labels, the tokens' probabilities, the entities and their
        probabilities."""
        start = self.first(before)
        paths = self._paths(scores, lengths, inputs, start)
        spans = self._spans(paths, inputs)
        if self._learned:
            forward = self._start if before is None else before.forward
            field = marginals(scores, lengths, self._transitions, forward, self._continues, paths)
            return paths, field.tokens, spans, field.spans(*spans)
        probabilities = np.exp(np.take_along_axis(scores, paths[:, :, None], axis=2)[:, :, 0])
        return paths, probabilities, spans, products(probabilities, *spans)

    def _spans(self, paths: NDArray[np.intp], inputs: NDArray[np.bool_]) -> tuple[NDArray[np.intp], ...]:
        """Row, first token and end of each entity, in order. In legal sequences every I-X continues the token before
        it."""
        rows, firsts = (self._begin[paths] & inputs).nonzero()
        steps = paths.shape[1]
        places = np.where(self._inside[paths] & inputs, steps, np.arange(steps))
        after = np.minimum.accumulate(places[:, ::-1], axis=1)[:, ::-1]  # the first place from here on outside of I-X
        after = np.concatenate([after, np.full((len(paths), 1), steps)], axis=1)
        return rows, firsts, after[rows, firsts + 1]

    def _paths(
        self,
        scores: NDArray[np.float64],
        lengths: NDArray[np.intp],
        inputs: NDArray[np.bool_],
        start: NDArray[np.float64],
    ) -> NDArray[np.intp]:
        if self._learned:
            return viterbi(scores, lengths, self._transitions, start)
        # each token's best label: if these make a legal sequence, no other scores higher
        paths: NDArray[np.intp] = scores.argmax(axis=2)
        steps = self._transitions[paths[:, :-1], paths[:, 1:]]
        broken = (start[paths[:, 0]] < 0) | ((steps < 0) & inputs[:, 1:]).any(axis=1)
        if broken.any():
            longest = lengths[broken].max()
            paths[broken, :longest] = viterbi(scores[broken, :longest], lengths[broken], self._transitions, start)
        return paths


def decoder(task: Task, labels: Sequence[str], crf: Crf | None = None) -> Classifier | Tagger:
    """A decoder from a task's logits to predictions. Raises `BundleError` for labels that a tagger cannot have."""
    if task == "sentiment":
        return Classifier(labels)
    return Tagger(labels, transitions=np.array(crf.transitions), start=np.array(crf.start)) if crf else Tagger(labels)


def _scores(logits: NDArray[np.float32], lengths: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probabilities [B, T, L] of padded logits, cut to the longest row, and which tokens are a row's own [B, T]."""
    logits = logits[:, : lengths.max()]
    inputs = np.arange(logits.shape[1]) < lengths[:, None]
    return log_softmax(np.where(inputs[:, :, None], logits, np.float32(0))), inputs


def legal(labels: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IOB2's rules as transition scores [L, L] and start scores [L]: 0 if the label is allowed, -inf if it is not."""
    if OUTSIDE not in labels:
        raise BundleError(f"a tagger needs the label {OUTSIDE!r}")
    for label in labels:
        if label != OUTSIDE and not (label.startswith((_BEGIN, _INSIDE)) and len(label) > len(_BEGIN)):
            raise BundleError(f"{label!r} is no IOB2 label: O, B-X or I-X")
    transitions, start = np.zeros((len(labels), len(labels))), np.zeros(len(labels))
    for column, label in enumerate(labels):
        if label.startswith(_INSIDE):
            start[column] = -np.inf
            for row, before in enumerate(labels):
                if before == OUTSIDE or before[2:] != label[2:]:
                    transitions[row, column] = -np.inf
    return transitions, start
