"""Predictions from logits, against enumeration of every label sequence."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from service.errors import BundleError
from service.model.bundle import Feature
from service.model.crf import viterbi
from service.model.decoding import Classifier, Tagger, decoder, log_softmax, softmax
from service.model.tokenizer import UNKNOWN, Encoded, build

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TOKENIZER = build([UNKNOWN], [Feature(name="word", size=1)])


def encoded(tokens: int, *, truncated: bool = False) -> Encoded:
    """An input of so many one-letter tokens."""
    spans = [(2 * token, 2 * token + 1) for token in range(tokens)]
    return Encoded(" ".join("x" * tokens), spans, np.zeros((tokens, 1), np.int32), truncated)


def logits_of(labels: Sequence[str], margin: float = 8.0) -> NDArray[np.float32]:
    """Logits [1, T, L] that prefer these labels."""
    rows = np.array([[margin if label == known else 0 for known in LABELS] for label in labels], np.float32)
    return rows[None]


def is_legal(labels: Sequence[str]) -> bool:
    return all(
        label[0] != "I" or (before[0] in "BI" and before[2:] == label[2:])
        for before, label in zip(("O", *labels), labels, strict=False)
    )


def tagged(prediction: dict[str, Any]) -> list[str]:
    return [token["label"] for token in prediction["tokens"]]


finite = st.floats(-6, 6, width=32)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**126), 2.0**126, width=32)))
def test_softmax_is_a_distribution_however_large_the_logits(logits: NDArray[np.float32]) -> None:
    for row in logits.tolist():
        probabilities = softmax(row)
        assert all(0 <= probability <= 1 for probability in probabilities)
        assert abs(sum(probabilities) - 1) < 1e-12
    assert np.isfinite(log_softmax(logits)).all()


def test_softmax_matches_the_definition() -> None:
    logits = np.array([0.5, -1.25, 2.0], np.float32)
    total = sum(math.exp(float(value)) for value in logits)
    expected = [math.exp(float(value)) / total for value in logits]
    assert softmax(logits.tolist()) == pytest.approx(expected, abs=1e-15)
    assert np.exp(log_softmax(logits)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_an_error_not_an_answer(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Classifier(("negative", "positive")).decode(np.array([[bad, 0]], np.float32), [encoded(1)])
    logits = np.zeros((1, 2, len(LABELS)), np.float32)
    logits[0, 1, 0] = bad
    with pytest.raises(ValueError, match="not finite"):
        Tagger(LABELS).decode(logits, [encoded(2)])


def test_a_classifier_answers_label_score_and_all_scores() -> None:
    logits = np.array([[0, math.log(3)], [200, -200]], np.float32)
    first, second = Classifier(("negative", "positive")).decode(logits, [encoded(1), encoded(2, truncated=True)])
    assert first["label"] == "positive"
    assert first["score"] == pytest.approx(0.75)
    assert first["scores"] == pytest.approx({"negative": 0.25, "positive": 0.75})
    assert first["truncated"] is False
    assert second == {
        "label": "negative",
        "score": 1.0,
        "scores": {"negative": 1.0, "positive": pytest.approx(0)},
        "truncated": True,
    }


@settings(deadline=None)
@given(hnp.arrays(np.float32, (5, 3), elements=finite))
def test_a_classifier_answers_each_row_of_a_batch_as_it_would_alone(logits: NDArray[np.float32]) -> None:
    classifier, inputs = Classifier(("a", "b", "c")), [encoded(1)] * 5
    together = classifier.decode(logits, inputs)
    assert together == [classifier.decode(row[None], inputs[:1])[0] for row in logits]
    assert json.loads(json.dumps(together, allow_nan=False)) == together


def test_the_example_of_the_contract() -> None:
    source = TOKENIZER.encode("Ada Lovelace lived in London.", 10)
    labels = ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    [prediction] = Tagger(LABELS).decode(logits_of(labels), [source], tokens=True)
    each = softmax(logits_of(labels)[0, 0].tolist())[1]
    person, place = {"label": "PER", "text": "Ada Lovelace"}, {"label": "LOC", "text": "London"}
    assert prediction["entities"] == [
        {**person, "start": 0, "end": 12, "score": pytest.approx(each**2), "token_start": 0, "token_end": 2},
        {**place, "start": 22, "end": 28, "score": pytest.approx(each), "token_start": 4, "token_end": 5},
    ]
    assert tagged(prediction) == labels
    assert prediction["tokens"][1] == {  # type: ignore[index]  # a prediction's values are plain objects
        "text": "Lovelace",
        "start": 4,
        "end": 12,
        "label": "I-PER",
        "score": pytest.approx(each),
    }
    assert "tokens" not in Tagger(LABELS).decode(logits_of(labels), [source])[0]


@pytest.mark.parametrize(
    ("labels", "spans"),
    [
        (["B-PER", "B-PER", "I-PER"], [("PER", 0, 1), ("PER", 1, 3)]),
        (["O", "B-LOC", "I-LOC", "I-LOC"], [("LOC", 1, 4)]),
        (["B-LOC", "I-LOC", "B-PER", "O", "B-PER"], [("LOC", 0, 2), ("PER", 2, 3), ("PER", 4, 5)]),
        (["O", "O"], []),
    ],
)
def test_entities_end_where_the_next_begins(labels: list[str], spans: list[tuple[str, int, int]]) -> None:
    [prediction] = Tagger(LABELS).decode(logits_of(labels), [encoded(len(labels))], tokens=False)
    entities: Any = prediction["entities"]
    assert [(e["label"], e["token_start"], e["token_end"]) for e in entities] == spans


@pytest.mark.parametrize(
    "value", ["🙂 Émile  Zola\u2003in 東京 — e\u0301tude", ["🙂", "Émile Zola", "東京", "e\u0301", "a", "b", "c"]]
)
def test_entity_text_is_the_exact_slice_of_the_text_as_sent(value: str | list[str]) -> None:
    source = TOKENIZER.encode(value, 20)
    labels = ["O", *["B-PER", "I-PER"] * len(source)][: len(source)]
    [prediction] = Tagger(LABELS).decode(logits_of(labels), [source])
    entities: Any = prediction["entities"]
    sent = value if isinstance(value, str) else " ".join(value)
    assert len(entities) == len(source) // 2
    for entity in entities:
        assert entity["text"] == sent[entity["start"] : entity["end"]]
        assert entity["start"] == source.spans[entity["token_start"]][0]
        assert entity["end"] == source.spans[entity["token_end"] - 1][1]


@functools.cache
def every_legal(steps: int) -> list[tuple[int, ...]]:
    sequences = itertools.product(range(len(LABELS)), repeat=steps)
    return [sequence for sequence in sequences if is_legal([LABELS[label] for label in sequence])]


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(1, 4))
def test_the_labels_are_the_best_of_all_legal_sequences(data: st.DataObject, steps: int) -> None:
    logits = data.draw(hnp.arrays(np.float32, (1, steps, len(LABELS)), elements=finite))
    [prediction] = Tagger(LABELS).decode(logits, [encoded(steps)], tokens=True)
    labels, scores = tagged(prediction), log_softmax(logits)[0]
    assert is_legal(labels)
    best = max(sum(scores[step, label] for step, label in enumerate(path)) for path in every_legal(steps))
    assert sum(scores[step, LABELS.index(label)] for step, label in enumerate(labels)) == pytest.approx(best)
    tokens: Any = prediction["tokens"]
    entities: Any = prediction["entities"]
    probabilities = [math.exp(scores[step, LABELS.index(label)]) for step, label in enumerate(labels)]
    assert [token["score"] for token in tokens] == pytest.approx(probabilities)
    for entity in entities:
        assert entity["score"] == pytest.approx(math.prod(probabilities[entity["token_start"] : entity["token_end"]]))


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 4))
def test_learned_transitions_join_the_rules(data: st.DataObject, steps: int) -> None:
    size = len(LABELS)
    logits = data.draw(hnp.arrays(np.float32, (1, steps, size), elements=finite))
    transitions = data.draw(hnp.arrays(np.float32, (size, size), elements=finite))
    start = data.draw(hnp.arrays(np.float32, (size,), elements=finite))

    def total(path: Sequence[int]) -> float:
        moves = sum(float(transitions[a, b]) for a, b in itertools.pairwise(path))
        return float(start[path[0]]) + moves + sum(float(logits[0, step, label]) for step, label in enumerate(path))

    tagger = Tagger(LABELS, transitions=transitions, start=start)
    labels = tagged(tagger.decode(logits, [encoded(steps)], tokens=True)[0])
    assert is_legal(labels)
    assert total([LABELS.index(label) for label in labels]) == pytest.approx(max(map(total, every_legal(steps))))


@settings(deadline=None, max_examples=60)
@given(st.data(), st.booleans())
def test_a_ragged_batch_answers_each_row_as_it_would_alone(data: st.DataObject, learned: bool) -> None:
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    logits = data.draw(hnp.arrays(np.float32, (len(lengths), max(lengths) + 1, len(LABELS)), elements=finite))
    for row, length in zip(logits, lengths, strict=True):
        row[length:] = np.nan
    moves = np.sin(np.arange(len(LABELS) ** 2)).reshape(len(LABELS), -1) if learned else None
    tagger, inputs = Tagger(LABELS, transitions=moves), [encoded(length) for length in lengths]
    together = tagger.decode(logits, inputs, tokens=True)
    for row, source, prediction in zip(logits, inputs, together, strict=True):
        assert tagger.decode(row[None, : len(source)], [source], tokens=True) == [prediction]
    entities: list[Any] = [prediction["entities"] for prediction in together]
    assert tagger.spans(logits, lengths) == [
        [(each["label"], each["token_start"], each["token_end"]) for each in found] for found in entities
    ]
    assert json.loads(json.dumps(together, allow_nan=False)) == together


def test_viterbi_leaves_no_trace_of_longer_neighbours() -> None:
    scores = np.array([[[0, 1.0], [5, 0]], [[2, 0], [0, 9]]])
    transitions = np.array([[0, -np.inf], [0, 0]])
    paths = viterbi(scores, np.array([1, 2]), transitions, np.zeros(2))
    assert paths[0, 0] == 1
    assert paths[1].tolist() == [1, 1]


def test_a_long_text_of_doubtful_labels_stays_finite() -> None:
    logits = np.random.default_rng(1).normal(0, 30, (1, 4096, len(LABELS))).astype(np.float32)
    [prediction] = Tagger(LABELS).decode(logits, [encoded(4096, truncated=True)], tokens=True)
    assert is_legal(tagged(prediction))
    assert prediction["truncated"] is True
    json.dumps(prediction, allow_nan=False)


@pytest.mark.parametrize("labels", [("B-PER", "I-PER"), ("O", "PER"), ("O", "B-"), ("O", "S-PER")])
def test_labels_that_are_not_iob2_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(BundleError):
        decoder("ner", labels)


def test_the_task_picks_the_decoder() -> None:
    assert isinstance(decoder("ner", LABELS), Tagger)
    assert isinstance(decoder("sentiment", ("negative", "positive")), Classifier)
