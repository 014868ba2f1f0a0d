"""Two versions' answers to one input, side by side."""

from __future__ import annotations

from typing import Any

import pytest

from service.serving.comparison import brief, compare


def sentiment(label: str, positive: float) -> dict[str, Any]:
    scores = {"negative": 1 - positive, "positive": positive}
    return {"label": label, "score": scores[label], "scores": scores, "truncated": False}


def entities(*found: tuple[int, int, str, float]) -> dict[str, Any]:
    return {
        "entities": [
            {"start": start, "end": end, "label": label, "score": score, "text": "secret", "token_start": 0}
            for start, end, label, score in found
        ]
    }


def test_labels() -> None:
    same = compare(sentiment("positive", 0.9), sentiment("positive", 0.7))
    assert (same.agree, same.flips) == (True, ())
    assert same.changes == pytest.approx((-0.2,))
    other = compare(sentiment("positive", 0.9), sentiment("negative", 0.2))
    assert (other.agree, other.flips) == (False, (("positive", "negative"),))
    assert other.changes == pytest.approx((-0.7,)), "of the label that was answered"


def test_entities() -> None:
    one = entities((0, 3, "PER", 0.9), (5, 8, "LOC", 0.8), (10, 12, "LOC", 0.5))
    assert compare(one, one) == (True, (0.0, 0.0, 0.0), ())
    found = compare(one, entities((0, 3, "PER", 0.6), (5, 8, "PER", 0.8), (20, 22, "LOC", 0.5)))
    assert (found.agree, found.flips) == (False, (("LOC", "PER"), ("LOC", "O"), ("O", "LOC")))
    assert found.changes == pytest.approx((-0.3,))
    assert compare(entities(), entities()) == (True, (), ())


def test_a_brief_answer_has_words_only_where_texts_are_told() -> None:
    assert brief(sentiment("positive", 0.9), text=False) == {"label": "positive", "score": 0.9}
    one = entities((0, 3, "PER", 0.9))
    assert brief(one, text=False) == {"entities": [{"label": "PER", "start": 0, "end": 3, "score": 0.9}]}
    assert brief(one, text=True)["entities"][0]["text"] == "secret"
