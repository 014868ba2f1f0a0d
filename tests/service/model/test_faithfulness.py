"""Orders of deletion, the runs that measure them, and what the runs' probabilities come to."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.model.decoding import Classifier, Tagger
from service.model.faithfulness import (
    PERCENTS,
    DeletionPlan,
    count,
    effects,
    label_of,
    order_of,
    probabilities,
    rows_of,
    without_each,
)
from service.model.tokenizer import Encoded

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def encoded(tokens: int, sentences: list[tuple[int, int]] | None = None) -> Encoded:
    spans = [(2 * number, 2 * number + 1) for number in range(tokens)]
    source = Encoded("x " * tokens, spans, np.arange(2 * tokens, dtype=np.int32).reshape(tokens, 2), False)
    source.sentences = sentences
    return source


def test_the_largest_share_goes_first_and_the_explained_token_never() -> None:
    shares = np.array([0.1, -3.0, 2.0, 0.1, 0.0])
    assert order_of(shares) == [2, 0, 3, 4, 1]
    assert order_of(shares, explained=2) == [0, 3, 4, 1, 2]


@given(st.integers(1, 300), st.sampled_from(PERCENTS))
def test_percentages_are_rounded_up(tokens: int, percent: int) -> None:
    assert count(percent, tokens) == math.ceil(percent * tokens / 100)


def importance(kept: list[int]) -> float:
    """A made-up probability that depends on which tokens are there."""
    return 1 / (1 + math.exp(-sum((-1) ** token * (token + 1) for token in kept) / 10))


@given(st.permutations(range(12)), st.integers(1, 12), st.booleans())
def test_a_summary_is_what_its_definition_says(numbers: list[int], tokens: int, tagger: bool) -> None:
    order = [number for number in numbers if number < tokens]
    explained = order[-1] if tagger else None
    plan = DeletionPlan(order, explained)
    found = plan.summary("positive", [importance(kept) for kept in plan.kept()])
    whole = importance(list(range(tokens)))
    assert found["score"] == whole
    assert found["deletion"]["order"] == order
    assert found["deletion"]["scores"] == pytest.approx(
        [importance([token for token in range(tokens) if token not in order[:gone]]) for gone in range(1, tokens)]
    )
    lost, short = [], []
    for percent in (1, 5, 10, 20, 50):
        top = math.ceil(percent * tokens / 100)
        kept = set(order[:top]) | ({explained} if explained is not None else set())
        gone = order[: min(top, tokens - 1)]
        lost.append(whole - importance([token for token in range(tokens) if token not in gone]))
        short.append(whole - importance(sorted(kept)))
    assert found["comprehensiveness"] == pytest.approx(np.mean(lost))
    assert found["sufficiency"] == pytest.approx(np.mean(short))


def test_a_text_of_one_token_loses_nothing() -> None:
    plan = DeletionPlan([0])
    found = plan.summary("positive", [0.9] * len(plan.kept()))
    assert found["deletion"] == {"order": [0], "scores": []}
    assert (found["comprehensiveness"], found["sufficiency"]) == (0, 0)


def test_each_selection_of_tokens_is_run_once() -> None:
    plan = DeletionPlan([3, 1, 0, 2])
    places, runs = rows_of(encoded(4), plan.kept(), None)
    assert len(places) == 4 + len(PERCENTS)
    assert len({run.tokens for run in runs}) == len(runs) < len(places)
    for place, kept in zip(places, plan.kept(), strict=True):
        assert list(runs[place].tokens) == kept
        assert runs[place].row[:, 0].tolist() == [2 * token for token in kept]


def test_only_the_sentence_of_the_explained_token_is_run() -> None:
    source = encoded(7, [(0, 2), (2, 5), (5, 7)])
    plan = DeletionPlan(order_of(np.array([7.0, 6, 5, 4, 3, 2, 1]), 3), 3)
    places, runs = rows_of(source, plan.kept(), 3)
    assert {run.tokens for run in runs} == {(2, 3, 4), (3, 4), (3,)}
    assert runs[places[0]].tokens == runs[places[2]].tokens == (2, 3, 4)  # without 0, without 0 and 1: all the same
    assert all(run.tokens[run.explained or 0] == 3 for run in runs)


def logits(random: np.random.Generator, tokens: int) -> NDArray[np.float32]:
    return random.normal(size=(tokens, len(LABELS))).astype(np.float32) * 2


def brute_force(tagger: Tagger, rows: NDArray[np.float32], label: int, place: int) -> float:
    """The label's share of all sequences' weights, with their numbers written out."""
    scores = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    weights = {}
    for path in product(range(len(LABELS)), repeat=len(rows)):
        weight = tagger._start[path[0]] + sum(scores[token, each] for token, each in enumerate(path))
        weight += sum(tagger._transitions[path[token - 1], path[token]] for token in range(1, len(path)))
        weights[path] = math.exp(weight)
    return sum(weight for path, weight in weights.items() if path[place] == label) / sum(weights.values())


def test_a_fields_probability_is_the_share_of_the_sequences_that_have_the_label() -> None:
    random = np.random.default_rng(5)
    tagger = Tagger(LABELS, transitions=random.normal(size=(5, 5)), start=random.normal(size=5))
    batch = [logits(random, tokens) for tokens in (4, 1, 3)]
    places = [2, 0, 0]
    for label in range(len(LABELS)):
        found = tagger.probability(batch, label, places)
        expected = [brute_force(tagger, rows, label, place) for rows, place in zip(batch, places, strict=True)]
        assert found == pytest.approx(expected, abs=1e-7)


def test_probabilities_are_those_of_the_answers() -> None:
    random = np.random.default_rng(6)
    for tagger in (Tagger(LABELS), Tagger(LABELS, transitions=random.normal(size=(5, 5)), start=random.normal(size=5))):
        source, rows = encoded(6), logits(random, 6)
        answer = tagger.decode(rows[None], [source], tokens=True)[0]
        tokens: list[dict[str, object]] = answer["tokens"]  # type: ignore[assignment]  # values of a plain answer
        for place in range(6):
            label = label_of(tagger, rows, source, place)
            assert LABELS[label] == tokens[place]["label"]
            _, runs = rows_of(source, [list(range(6))], place)
            assert probabilities(tagger, runs, [rows], label) == pytest.approx([tokens[place]["score"]], abs=1e-6)


def test_a_classifiers_probabilities_are_those_of_its_answers() -> None:
    classifier, source = Classifier(("negative", "positive")), encoded(3)
    rows = [np.array([0.2, 1.4], np.float32), np.array([3.0, -1.0], np.float32)]
    label = label_of(classifier, rows[0], source, None)
    assert label == 1
    _, runs = rows_of(source, [[0, 1, 2], [0, 2]], None)
    expected = [each["scores"]["positive"] for each in classifier.decode(np.stack(rows), [source] * 2)]  # type: ignore[index]  # values of a plain answer
    assert probabilities(classifier, runs, rows, label) == pytest.approx(expected)


def test_effects_are_differences_and_none_for_what_goes_itself() -> None:
    assert without_each(3, None) == [[0, 1, 2], [1, 2], [0, 2], [0, 1]]
    assert without_each(3, 1) == [[0, 1, 2], [1, 2], [0, 1]]
    rows = [np.array([1.0, 2.0]), np.array([1.5, 2.0]), np.array([0.0, 4.0])]
    assert effects(("a", "b"), 3, 1, np.zeros(2), rows)["tokens"] == [[0.5, 0.0], None, [-1.0, 2.0]]


def test_a_text_without_its_only_token_has_the_bias_left() -> None:
    assert without_each(1, None) == [[0]]
    found = effects(("a", "b"), 1, None, np.array([0.25, 0.5]), [np.array([1.0, 2.0])])
    assert found["tokens"] == [[-0.75, -1.5]]
    assert effects(("a", "b"), 1, 0, np.zeros(2), [np.array([1.0, 2.0])])["tokens"] == [None]
