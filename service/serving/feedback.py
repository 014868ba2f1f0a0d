"""Feedback: the right answer to an earlier request. It is compared with the answer given and counted for each
version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from service.errors import AnswerNotFound, InvalidField
from service.model.decoding import Prediction
from service.model.loading import Model
from service.observability.comparison_metrics import BINS, FEEDBACK_ACCURACY, FEEDBACK_CALIBRATION, FEEDBACK_F1
from service.observability.metrics import Metrics, Series, Totals, value_of
from service.observability.shared_metrics import Family
from service.serving.answered import ENTRIES, Answered

Verdict = Literal["right", "wrong", "repeated", "unscored"]

Span = tuple[int, int, str]
"""An entity: its first code point, its end, and its kind."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Accepted feedback. `model` and `version` are None if the details of the answer are overwritten. It is unscored
    then, and if the version has other content by now."""

    outcome: Verdict
    model: str | None = None
    version: str | None = None


class Feedback:
    """Takes feedback on the answers of all workers, and counts it on this process's board.

    `fed` remembers the inputs with feedback. Further feedback on them is accepted but not counted, until the id has a
    new answer.
    """

    def __init__(self, metrics: Metrics, answered: Answered, fed: Answered) -> None:
        self._metrics = metrics
        self._answered = answered
        self._fed = fed
        metrics.derived.append(_figures)

    def remember(
        self, request_id: str, model: Model, lengths: Sequence[int], predictions: Sequence[Prediction]
    ) -> None:
        """Remember an answer that is about to be sent: its client may give feedback at once. `lengths` are those of the
        texts, in code points."""
        self._answered.note(request_id, _detail(model, lengths, predictions))

    def take(
        self, request_id: str, number: int, label: str | None, entities: Sequence[tuple[int, int, str]] | None
    ) -> Taken:
        """Judge the answer to input `number`, from 0, against the right `label` or the right `entities`.

        Raises `AnswerNotFound`; `InvalidField` for an input number out of range, feedback for another task, and a label
        that the model does not have.
        """
        try:
            detail = self._answered.detail(request_id)
        except KeyError:
            raise AnswerNotFound(request_id, ENTRIES) from None
        if (label is None) == (entities is None):
            both = "not both" if label is not None else "one of them"
            raise InvalidField("/label", f"Either a label, or the entities of a tagger's input: {both}.")
        if detail is None:
            return Taken("unscored")
        answers = detail["answers"]
        if number >= len(answers):
            had = "1 input" if len(answers) == 1 else f"{len(answers)} inputs"
            raise InvalidField("/input", f"The request had {had}, numbered from 0; not {number}.")
        name, version = detail["model"], detail["version"]
        spans = set(_checked(entities, detail, answers[number])) if "kinds" in detail else None
        if spans is None and (label is None or label not in detail["labels"]):
            said = f"not {label!r}" if label is not None else "and entities are for taggers"
            raise InvalidField(
                "/label" if label is not None else "/entities",
                f"{name} has the labels {', '.join(detail['labels'])}, {said}.",
            )
        if not self._metrics.judges((name, version), detail["content"]):
            return Taken("unscored", name, version)
        key = f"{request_id}\0{number}"
        if self._fed.knows(key, after=self._answered.time(request_id)):  # an id that came again has a new answer
            outcome: Verdict = "repeated"
        elif spans is None:
            answered, score = answers[number]
            outcome = "right" if detail["labels"][answered] == label else "wrong"
            self._score(name, version, score, outcome == "right")
        else:
            outcome = self._judge(detail, answers[number][1], spans)
        if outcome != "repeated":
            self._fed.note(key)
        self._metrics.board.number("feedback_total", name, version, outcome).add()
        return Taken(outcome, name, version)

    def _judge(self, detail: dict[str, Any], answered: Iterable[Sequence[Any]], right: set[Span]) -> Verdict:
        """Compare a tagger's entities and count them."""
        name, version, kinds = detail["model"], detail["version"], detail["kinds"]
        found = {(start, end, kinds[kind]): score for start, end, kind, score in answered}
        for span, score in found.items():
            self._score(name, version, score, span in right)
        counts = {
            "right": len(found.keys() & right),
            "spurious": len(found.keys() - right),
            "missed": len(right - found.keys()),
        }
        for outcome, count in counts.items():
            self._metrics.board.number("feedback_entities_total", name, version, outcome).add(count)
        return "right" if found.keys() == right else "wrong"

    def _score(self, name: str, version: str, score: float, right: bool) -> None:
        """Count a score by its bin and its outcome."""
        place = str(min(int(score * BINS), BINS - 1))
        outcome = "right" if right else "wrong"
        self._metrics.board.number("feedback_scores_total", name, version, place, outcome).add()
        self._metrics.board.number("feedback_score_sum_total", name, version, place).add(score)


def _detail(model: Model, lengths: Sequence[int], predictions: Sequence[Any]) -> dict[str, Any]:
    """The part of an answer that feedback needs, without texts. Numbers stand for labels and kinds of entities."""
    manifest = model.bundle.manifest
    labels = manifest.labels
    of = {"model": model.name, "version": model.version, "content": model.bundle.digest}
    if manifest.head != "tagger":
        answers: list[Any] = [[labels.index(each["label"]), each["score"]] for each in predictions]
        return {**of, "labels": labels, "answers": answers}
    kinds = list(dict.fromkeys(label[2:] for label in labels if label[1:2] == "-"))
    numbers = {kind: number for number, kind in enumerate(kinds)}
    answers = [
        [
            length,
            [[each["start"], each["end"], numbers[each["label"]], each["score"]] for each in prediction["entities"]],
        ]
        for length, prediction in zip(lengths, predictions, strict=True)
    ]
    return {**of, "kinds": kinds, "answers": answers}


def _checked(
    entities: Sequence[tuple[int, int, str]] | None, detail: dict[str, Any], answer: Sequence[Any]
) -> Iterator[Span]:
    """A tagger's entities after checks: within the text, of the model's kinds, no overlap."""
    if entities is None:
        raise InvalidField(
            "/label", f"{detail['model']} finds entities; send them, as in the answer, or an empty list."
        )
    length, end = answer[0], 0
    for at, (start, stop, kind) in sorted(enumerate(entities), key=lambda each: each[1]):
        if kind not in detail["kinds"]:
            have = ", ".join(detail["kinds"])
            raise InvalidField(f"/entities/{at}/label", f"{detail['model']} has the labels {have}, not {kind!r}.")
        if not 0 <= start < stop <= length:
            raise InvalidField(
                f"/entities/{at}", f"It goes from {start} to {stop}, and the text has {length} characters."
            )
        if start < end:
            raise InvalidField(f"/entities/{at}", "It begins within another; entities stand side by side.")
        end = stop
        yield start, stop, kind


def _figures(totals: Totals) -> Iterator[tuple[Family, Series]]:
    """Accuracy, calibration error and F1 of each version, from the counts of all workers."""
    accuracy: Series = []
    calibration: Series = []
    f1: Series = []
    for of in sorted({(key[1], key[2]) for key in totals if key[0] == "feedback_total"}):
        right, wrong = (value_of(totals, "feedback_total", *of, outcome) for outcome in ("right", "wrong"))
        if right + wrong:
            accuracy.append((of, [right / (right + wrong)]))
        gaps, judged = 0.0, 0.0
        for place in map(str, range(BINS)):
            hits, misses = (value_of(totals, "feedback_scores_total", *of, place, each) for each in ("right", "wrong"))
            gaps += abs(value_of(totals, "feedback_score_sum_total", *of, place) - hits)
            judged += hits + misses
        if judged:
            calibration.append((of, [gaps / judged]))
        found, spurious, missed = (
            value_of(totals, "feedback_entities_total", *of, each) for each in ("right", "spurious", "missed")
        )
        if found + spurious + missed:
            f1.append((of, [2 * found / (2 * found + spurious + missed)]))
    yield FEEDBACK_ACCURACY, accuracy
    yield FEEDBACK_CALIBRATION, calibration
    yield FEEDBACK_F1, f1
