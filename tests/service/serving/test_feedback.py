"""Feedback: judged against the answer, whichever worker gave it."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import AnswerNotFound, InvalidField
from service.observability.metrics import Metrics
from service.serving.answered import Answered, memory
from service.serving.feedback import Feedback, Taken
from training.scoring.calibration import calibration_error

SENTIMENT: dict[str, Any] = {
    "model": "s",
    "version": "3",
    "content": "a" * 64,
    "labels": ["negative", "positive"],
    "answers": [[1, 0.9], [0, 0.6], [1, 0.51]],
}
NER = {
    "model": "n",
    "version": "1",
    "content": "b" * 64,
    "kinds": ["LOC", "PER"],
    "answers": [[30, [[0, 12, 1, 0.9], [22, 28, 0, 0.8]]]],
}


class Worker:
    """Two workers' memory, as the first sees it."""

    def __init__(self) -> None:
        answered, fed = memory(2), memory(2)
        self.metrics = Metrics()
        self.answered = Answered(answered, 0)
        self.other = Answered(answered, 1)
        self.feedback = Feedback(self.metrics, self.answered, Answered(fed, 0))
        self.others = Feedback(Metrics(), self.other, Answered(fed, 1))

    def value(self, name: str) -> float | None:
        for line in self.metrics.text().decode().splitlines():
            if line.startswith(f"gatelight_{name}"):
                return float(line.rpartition(" ")[2])
        return None


@pytest.fixture
def worker() -> Worker:
    made = Worker()
    made.other.note("sent", SENTIMENT)
    made.other.note("tagged", NER)
    return made


def test_labels_are_judged_and_counted(worker: Worker) -> None:
    outcomes = [
        worker.feedback.take("sent", number, label, None).outcome
        for number, label in enumerate(("positive", "positive", "negative"))
    ]
    assert outcomes == ["right", "wrong", "wrong"]
    assert worker.value('feedback_total{model="s",outcome="right",version="3"}') == 1
    assert worker.value("feedback_accuracy{") == pytest.approx(1 / 3)
    expected = calibration_error([0.9, 0.6, 0.51], [True, False, False])
    assert worker.value("feedback_calibration_error{") == pytest.approx(expected)
    assert worker.value("feedback_f1{") is None


def test_a_second_word_on_one_input_is_taken_and_not_counted(worker: Worker) -> None:
    assert worker.others.take("sent", 0, "positive", None).outcome == "right"
    assert worker.feedback.take("sent", 0, "negative", None).outcome == "repeated"
    assert worker.feedback.take("sent", 1, "negative", None).outcome == "right"
    assert worker.value("feedback_accuracy{") == 1


def test_an_id_that_came_again_is_judged_anew(worker: Worker) -> None:
    assert worker.feedback.take("sent", 0, "positive", None).outcome == "right"
    worker.answered.note("sent", {**SENTIMENT, "version": "4", "answers": [[0, 0.7]]})
    taken = worker.others.take("sent", 0, "positive", None)
    assert (taken.outcome, taken.version) == ("wrong", "4")
    assert worker.feedback.take("sent", 0, "positive", None).outcome == "repeated"


def test_entities_are_judged(worker: Worker) -> None:
    right = [(22, 28, "LOC"), (0, 12, "PER")]
    assert worker.feedback.take("tagged", 0, None, right).outcome == "right"
    worker.answered.note("again", NER)
    assert worker.feedback.take("again", 0, None, [(0, 3, "PER"), (22, 28, "LOC")]).outcome == "wrong"
    assert worker.value("feedback_accuracy{") == 0.5
    assert worker.value("feedback_f1{") == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    expected = calibration_error([0.9, 0.8, 0.9, 0.8], [True, True, False, True])
    assert worker.value("feedback_calibration_error{") == pytest.approx(expected)
    worker.answered.note("none", NER)
    assert worker.feedback.take("none", 0, None, []).outcome == "wrong"


@pytest.mark.parametrize(
    ("request_id", "number", "label", "entities", "pointer", "said"),
    [
        ("sent", 3, "positive", None, "/input", "had 3 inputs,"),
        ("sent", 0, "neutral", None, "/label", "negative, positive, not 'neutral'"),
        ("sent", 0, "Positive", None, "/label", "not 'Positive'"),
        ("sent", 0, None, [], "/entities", "entities are for taggers"),
        ("sent", 0, "positive", [], "/label", "not both"),
        ("sent", 0, None, None, "/label", "one of them"),
        ("tagged", 0, "PER", None, "/label", "finds entities"),
        ("tagged", 1, None, [], "/input", "had 1 input,"),
        ("tagged", 0, None, [(0, 3, "ORG")], "/entities/0/label", "LOC, PER, not 'ORG'"),
        ("tagged", 0, None, [(0, 3, "B-PER")], "/entities/0/label", "LOC, PER"),
        ("tagged", 0, None, [(4, 6, "PER"), (3, 3, "PER")], "/entities/1", "from 3 to 3"),
        ("tagged", 0, None, [(0, 31, "PER")], "/entities/0", "30 characters"),
        ("tagged", 0, None, [(-1, 3, "PER")], "/entities/0", "from -1"),
        ("tagged", 0, None, [(0, 5, "PER"), (4, 6, "LOC")], "/entities/1", "within another"),
    ],
)
def test_what_cannot_be_feedback(
    worker: Worker, request_id: str, number: int, label: str | None, entities: Any, pointer: str, said: str
) -> None:
    with pytest.raises(InvalidField) as error:
        worker.feedback.take(request_id, number, label, entities)
    assert error.value.problems[0].pointer == pointer
    assert said in error.value.detail
    assert worker.value("feedback_total{") is None


def test_an_unknown_id(worker: Worker) -> None:
    with pytest.raises(AnswerNotFound, match="'nobody' is among the last 10000"):
        worker.feedback.take("nobody", 0, "positive", None)
    with pytest.raises(AnswerNotFound) as error:
        worker.feedback.take("x" * 100_000, 0, "positive", None)
    assert len(error.value.detail) < 300


@pytest.mark.parametrize("before", [True, False], ids=["answered before", "answered by another worker"])
def test_an_answer_of_other_content_is_taken_and_not_counted(worker: Worker, before: bool) -> None:
    of = ("s", "3")
    if before:
        worker.metrics.judge(of, SENTIMENT["content"])
        assert worker.feedback.take("sent", 0, "positive", None).outcome == "right"
    worker.metrics.judge(of, "c" * 64)
    for number in (0, 1):
        assert worker.feedback.take("sent", number, "positive", None) == Taken("unscored", *of)
    with pytest.raises(InvalidField):
        worker.feedback.take("sent", 0, "neutral", None)
    assert not any(cells[0] for key, cells in worker.metrics.totals().items() if key[0].startswith("feedback_"))
    worker.answered.note("anew", {**SENTIMENT, "content": "c" * 64})
    assert worker.feedback.take("anew", 0, "negative", None).outcome == "wrong"
    assert worker.value("feedback_accuracy{") == 0


def test_an_answer_whose_detail_is_gone_is_taken_and_not_judged(worker: Worker) -> None:
    worker.answered.note("bare")
    assert worker.feedback.take("bare", 0, "anything", None).outcome == "unscored"
