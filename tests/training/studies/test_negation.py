"""Sentences in which negation decides: both ways, and none of the check's words in what training sees."""

from __future__ import annotations

import re
from collections import Counter

from training.studies.negation import BAD, BLAME, GOOD, PATTERNS, PRAISE, check, training


def test_training_sees_no_word_of_the_check_and_no_new_pattern() -> None:
    learned = training(3000)
    words = set(re.findall(r"[a-z]+", " ".join(str(each.value).lower() for each in learned)))
    assert not words & {*GOOD, *BAD}
    assert words & set(PRAISE)
    assert words & set(BLAME)
    new = [pattern.text.split("{")[0] for pattern in PATTERNS if pattern.new]
    assert not [each for each in learned if str(each.value).startswith(tuple(part for part in new if len(part) > 6))]


def test_one_seed_makes_the_same_sentences_once_each_and_half_of_them_positive() -> None:
    assert training(500) == training(500)
    assert training(500) != training(500, seed=2)
    assert len({each.value for each in training(500)}) == 500
    counts = Counter(each.label for each in training(500))
    assert abs(counts["positive"] - counts["negative"]) < 60


def test_a_negation_turns_a_word_around_and_nothing_else_does() -> None:
    found = {str(example.value): (kind, example.label) for kind, _, example in check()}
    assert found["It wasn't boring at all."] == ("negation", "positive")
    assert found["It is not good."] == ("negation", "negative")
    assert found["It could not be more dull."] == ("kept", "negative")
    assert found["very good"] == ("intensity", "positive")
    assert {label for kind, label in found.values() if kind == "contrast"} == {"negative", "positive"}


def test_the_check_has_as_many_sentences_each_way() -> None:
    counts = Counter((kind, example.label) for kind, _, example in check())
    for kind in ("negation", "kept", "contrast", "intensity"):
        assert counts[kind, "positive"] == counts[kind, "negative"] > 50
    assert all(" a a" not in str(each.value) and " a e" not in str(each.value) for _, _, each in check())
