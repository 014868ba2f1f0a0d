"""Scores against cases worked by hand, and against definitions written out the long way."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from training.scoring.metrics import EntityScores, accuracy, confusion, entity_scores, macro_f1, spans

PROPERTY = settings(max_examples=300, deadline=None)


# Labels of whole texts.

GOLD = ["cat", "cat", "cat", "dog", "dog", "fish"]
SEEN = ["cat", "dog", "cat", "dog", "dog", "cat"]


def test_accuracy_by_hand() -> None:
    assert accuracy(GOLD, SEEN) == pytest.approx(4 / 6)
    assert accuracy(GOLD, GOLD) == 1.0
    assert accuracy(["a"], ["b"]) == 0.0


def test_confusion_by_hand() -> None:
    counts = confusion(GOLD, SEEN, ["cat", "dog", "fish", "owl"])
    assert counts.dtype == np.int64
    assert counts.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_macro_f1_by_hand() -> None:
    # cat: precision 2/3, recall 2/3; dog: precision 2/3, recall 1; fish is never predicted.
    assert macro_f1(GOLD, SEEN) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        pytest.param(["a", "a"], ["a", "a"], 1.0, id="one-label-alone"),
        pytest.param(["a", "b"], ["b", "a"], 0.0, id="all-wrong"),
        pytest.param(["a", "a"], ["a", "b"], 1 / 3, id="predicted-without-support"),
        pytest.param(["a", "b"], ["a", "a"], 1 / 3, id="support-without-prediction"),
    ],
)
def test_macro_f1_of_absent_labels(gold: list[str], predicted: list[str], expected: float) -> None:
    assert macro_f1(gold, predicted) == pytest.approx(expected)


def test_what_cannot_be_scored() -> None:
    for score in (accuracy, macro_f1):
        with pytest.raises(ValueError, match="there is nothing to score"):
            score([], [])
        with pytest.raises(ValueError, match="2 gold labels but 1 predicted"):
            score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="'c' is not among the labels a, b"):
        confusion(["a"], ["c"], ["a", "b"])


PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=12)


@PROPERTY
@given(PAIRS)
def test_labels_against_the_definitions(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert accuracy(gold, predicted) == pytest.approx(len([pair for pair in pairs if pair[0] == pair[1]]) / len(pairs))
    counts = confusion(gold, predicted, "abcd")
    assert counts.tolist() == [[pairs.count((truth, guess)) for guess in "abcd"] for truth in "abcd"]
    each = []
    for label in {*gold, *predicted}:
        precision = Fraction(pairs.count((label, label)), predicted.count(label) or 1)
        recall = Fraction(pairs.count((label, label)), gold.count(label) or 1)
        each.append(2 * precision * recall / (precision + recall) if precision + recall else Fraction(0))
    assert macro_f1(gold, predicted) == pytest.approx(float(sum(each) / len(each)))


# Entities.


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("O O", [], id="outside"),
        pytest.param("B-PER", [("PER", 0, 1)], id="one"),
        pytest.param("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)], id="two"),
        pytest.param("O B-PER I-PER I-PER", [("PER", 1, 4)], id="to-the-end"),
        pytest.param("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)], id="neighbours"),
        pytest.param("B-PER B-LOC", [("PER", 0, 1), ("LOC", 1, 2)], id="neighbours-of-two-types"),
        pytest.param("I-PER I-PER O", [("PER", 0, 2)], id="iob1"),
        pytest.param("I-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)], id="iob1-neighbours"),
        pytest.param("O I-LOC", [("LOC", 1, 2)], id="inside-after-outside"),
        pytest.param("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)], id="inside-of-another-type"),
        pytest.param("B-PER I-LOC I-PER", [("PER", 0, 1), ("LOC", 1, 2), ("PER", 2, 3)], id="there-and-back"),
        pytest.param("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)], id="inside-after-a-gap"),
        pytest.param("B-a-b I-a-b I-a", [("a-b", 0, 2), ("a", 2, 3)], id="types-with-hyphens"),
        pytest.param("B-O I-O O", [("O", 0, 2)], id="type-named-O"),
    ],
)
def test_spans_by_hand(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == expected
    assert spans(iter(tags.split())) == expected


@pytest.mark.parametrize("tag", ["", "B", "I", "B-", "I-", "E-PER", "S-PER", "PER", "o", "O-PER", "b-PER"])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(ValueError, match="is no tag; a tag is O, B-TYPE or I-TYPE"):
        spans(["B-PER", tag])


def test_entities_by_hand() -> None:
    gold = ["B-PER I-PER O B-LOC", "O B-ORG I-ORG", "B-LOC O O"]
    seen = ["B-PER I-PER O B-ORG", "O B-ORG O", "B-LOC O B-LOC"]
    scores = entity_scores([tags.split() for tags in gold], [tags.split() for tags in seen])
    # Right: PER and the first sentence's end apart, LOC of the third. Wrong: a type, a right boundary, one too many.
    assert (scores.correct, scores.predicted, scores.support) == (2, 5, 4)
    assert scores.precision == pytest.approx(2 / 5)
    assert scores.recall == pytest.approx(2 / 4)
    assert scores.f1 == pytest.approx(4 / 9)
    assert scores.types == {
        "LOC": EntityScores(correct=1, predicted=2, support=2),
        "ORG": EntityScores(correct=0, predicted=2, support=1),
        "PER": EntityScores(correct=1, predicted=1, support=1),
    }
    assert list(scores.types) == ["LOC", "ORG", "PER"]


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        pytest.param("B-PER I-PER", "B-PER O", id="right-end"),
        pytest.param("B-PER I-PER", "O B-PER", id="left-end"),
        pytest.param("B-PER I-PER", "B-PER B-PER", id="split"),
        pytest.param("B-PER B-PER", "B-PER I-PER", id="joined"),
        pytest.param("B-PER I-PER", "B-LOC I-LOC", id="type"),
        pytest.param("B-PER I-PER", "O O", id="missed"),
    ],
)
def test_nearly_right_is_wrong(gold: str, predicted: str) -> None:
    scores = entity_scores([gold.split()], [predicted.split()])
    assert (scores.correct, scores.precision, scores.recall, scores.f1) == (0, 0.0, 0.0, 0.0)


def test_tags_that_mean_the_same_score_the_same() -> None:
    assert entity_scores([["B-PER", "I-PER", "O"]], [["I-PER", "I-PER", "O"]]).f1 == 1.0


def test_nothing_to_find_scores_nothing() -> None:
    for sentences in ([], [["O", "O"]]):
        scores = entity_scores(sentences, sentences)
        assert scores == EntityScores(0, 0, 0, {})
        assert (scores.precision, scores.recall, scores.f1) == (0.0, 0.0, 0.0)


def test_entities_do_not_reach_over_sentences() -> None:
    scores = entity_scores([["B-PER"], ["B-PER"]], [["B-PER"], ["I-PER"]])
    assert (scores.correct, scores.predicted) == (2, 2)


def test_sentences_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="sentence 2: 2 gold tags but 1 predicted"):
        entity_scores([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="shorter"):
        entity_scores([["O"], ["O"]], [["O"]])
    with pytest.raises(ValueError, match="'S-PER' is no tag"):
        entity_scores([["B-PER"]], [["S-PER"]])


# The definition once more, by looking at boundaries from outside: conlleval's `startOfChunk` and `endOfChunk`.


def begins(before: str, tag: str) -> bool:
    """Whether an entity begins at `tag`."""
    if tag == "O":
        return False
    return tag[0] == "B" or before == "O" or before[2:] != tag[2:]


def brute_spans(tags: list[str]) -> set[tuple[str, int, int]]:
    """Of every stretch of tokens: those which begin, never begin again, and end where an entity ends."""
    padded = ["O", *tags, "O"]
    found = set()
    for start in range(len(tags)):
        for end in range(start + 1, len(tags) + 1):
            stretch = padded[start + 1 : end + 1]
            within = all(tag != "O" for tag in stretch)
            whole = begins(padded[start], stretch[0]) and not any(map(begins, stretch, stretch[1:]))
            ends = padded[end + 1] == "O" or begins(stretch[-1], padded[end + 1])
            if within and whole and ends:
                found.add((stretch[0][2:], start, end))
    return found


TAG = st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y", "B-x-y", "I-x-y"])
TAGGED = st.lists(st.lists(st.tuples(TAG, TAG), max_size=9), max_size=5)


@PROPERTY
@given(st.lists(TAG, max_size=12))
def test_spans_against_every_stretch(tags: list[str]) -> None:
    found = spans(tags)
    assert len(set(found)) == len(found)
    assert set(found) == brute_spans(tags)
    assert found == sorted(found, key=lambda span: span[1])


@PROPERTY
@given(TAGGED)
@example([[("B-X", "B-X"), ("I-X", "I-X"), ("O", "I-X")]])
def test_entities_against_every_stretch(sentences: list[list[tuple[str, str]]]) -> None:
    gold = [[pair[0] for pair in pairs] for pairs in sentences]
    predicted = [[pair[1] for pair in pairs] for pairs in sentences]
    there = {(number, *span) for number, tags in enumerate(gold) for span in brute_spans(tags)}
    found = {(number, *span) for number, tags in enumerate(predicted) for span in brute_spans(tags)}
    scores = entity_scores(gold, predicted)
    assert (scores.correct, scores.predicted, scores.support) == (len(there & found), len(found), len(there))
    if there & found:
        precision, recall = Fraction(len(there & found), len(found)), Fraction(len(there & found), len(there))
        assert scores.precision == pytest.approx(float(precision))
        assert scores.recall == pytest.approx(float(recall))
        assert scores.f1 == pytest.approx(float(2 * precision * recall / (precision + recall)))
    assert set(scores.types) == {span[1] for span in there | found}
    for kind, of_kind in scores.types.items():
        right, seen, real = ({s for s in group if s[1] == kind} for group in (there & found, found, there))
        assert (of_kind.correct, of_kind.predicted, of_kind.support) == (len(right), len(seen), len(real))


@pytest.mark.timeout(60)  # a quadratic comparison of 30,000 entities would take longer
def test_a_hundred_thousand_tokens_are_scored() -> None:
    gold = [["B-PER", "I-PER", "O", "O", "B-LOC", "O", "B-ORG", "I-ORG", "I-ORG", "O"]] * 10_000
    assert entity_scores(gold, gold).support == 30_000
