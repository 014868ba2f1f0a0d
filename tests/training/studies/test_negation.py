"""Sentences in which negation decides: both ways, and none of the check's words in what training sees."""

from __future__ import annotations

import re
from collections import Counter

from training.studies.negation import BAD, BLAME, GOOD, PATTERNS, PRAISE, beginning, check, drawn, training


def test_training_sees_no_word_of_the_check_and_no_new_pattern() -> None:
    learned = [example for _, example in drawn(3000)]
    words = set(re.findall(r"[a-z]+", " ".join(str(each.value).lower() for each in learned)))
    assert not words & {*GOOD, *BAD}
    assert words & set(PRAISE)
    assert words & set(BLAME)
    new = [pattern.text.split("{")[0] for pattern in PATTERNS if pattern.new]
    assert not [each for each in learned if str(each.value).startswith(tuple(part for part in new if len(part) > 6))]


def test_one_seed_makes_the_same_sentences_once_each_and_half_of_them_positive() -> None:
    assert drawn(500) == drawn(500)
    assert drawn(500) != drawn(500, seed=2)
    assert len({each.value for _, each in drawn(500)}) == 500
    counts = Counter(each.label for _, each in drawn(500))
    assert abs(counts["positive"] - counts["negative"]) < 60


def test_a_negation_turns_a_word_around_and_nothing_else_does() -> None:
    found = {str(example.value): (kind, example.label) for kind, _, example in check()}
    assert found["It wasn't boring at all."] == ("negation", "positive")
    assert found["It is not good."] == ("negation", "negative")
    assert found["It could not be more dull."] == ("kept", "negative")
    assert found["very good"] == ("intensity", "positive")
    assert found["Never have I been so disappointed."] == ("kept", "negative")
    assert found["I wasn't disappointed."] == ("negation", "positive")
    assert found["I have had smarter."] == ("negation", "negative")
    assert found["We have yet to find a duller film."] == ("kept", "negative")
    assert found["It could have been smarter."] == ("negation", "negative")
    assert found["It could not have been duller."] == ("kept", "negative")
    assert found["The film never disappoints."] == ("verdict", "positive")
    assert found["The film deserves 1 star."] == ("rating", "negative")
    assert {label for kind, label in found.values() if kind == "contrast"} == {"negative", "positive"}


def test_the_check_has_as_many_sentences_each_way() -> None:
    counts = Counter((kind, example.label) for kind, _, example in check())
    for kind in ("negation", "kept", "contrast", "intensity", "verdict", "rating"):
        assert counts[kind, "positive"] == counts[kind, "negative"] > 20
    assert all(" a a" not in str(each.value) and " a e" not in str(each.value) for _, _, each in check())


def test_training_has_every_kind_and_no_verdict_or_rating_of_the_check() -> None:
    learned = {str(each.value) for _, each in drawn(3000)}
    for part in (
        "1 star\n",
        "3/10\n",
        "Don't bother.",
        " out of 5",
        "I have never been so ",
        "doesn't get better",
        "is not only ",
    ):
        assert any(part in f"{each}\n" for each in learned)
    assert not learned & {str(example.value) for _, _, example in check()}


def test_the_beginning_has_the_first_patterns_alone() -> None:
    learned = [str(each.value) for each in beginning(600)]
    assert learned == [str(each.value) for each in beginning(600)]
    assert len(set(learned)) == 600
    for part in ("It isn't ", "It could not be more ", "It started ", "What an incredibly "):
        assert any(each.startswith(part) for each in learned)
    for part in (" stars", "Not exactly ", "Don't bother", "It doesn't get "):
        assert not any(part in each for each in learned)


def test_the_model_learns_from_the_first_patterns_and_ratings() -> None:
    learned = training(60, 600)
    assert learned[:60] == beginning(60)
    ratings = [example for kind, example in drawn(600) if kind == "rating"]
    assert len(ratings) > 60
    assert learned[60:] != ratings  # in random order
    assert sorted(str(each.value) for each in learned[60:]) == sorted(str(each.value) for each in ratings)
    assert {each.label for each in ratings} == {"negative", "positive"}
