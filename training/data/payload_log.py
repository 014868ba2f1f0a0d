"""The service's payload log and the feedback beside it, as labelled data.

The setting `payload_log` names the log. Several workers and rotation add to the name: ``log.jsonl``, ``log.0.jsonl``,
``log.0.jsonl.1``, and ``log.feedback.jsonl`` and the like for feedback. Only inputs with feedback and a logged text
become examples.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.model.bundle import Task
from training.data import corpora
from training.data.corpora import CorpusError
from training.data.sources import Example, cut, some, text_of

PREDICTION, FEEDBACK = "gatelight.prediction.v1", "gatelight.feedback.v1"
"""The types of events, as the service writes them."""
SHOWN = 5
"""Conflicts, and ids, that are named; the others are counted."""

_SPACE = re.compile(r"\s+")

Label = str | tuple[tuple[int, int, str], ...]
"""A class, or a tagger's entities (first code point, end, kind), in order."""


class _Part(BaseModel):
    """Those members of an event that are read; others may stand beside them."""

    model_config = ConfigDict(strict=True, frozen=True)


_Pairs = list[Annotated[list[int], Field(min_length=2, max_length=2)]]
"""The beginning and the end of each token, or sentence."""


class _Request(_Part):
    inputs: list[str | list[str] | dict[str, Any] | None]
    """Texts, lists of tokens, or the lengths of a text that was not logged. A hook that redacts may leave none."""


class _Answer(_Part):
    model: str
    task: Task


class _Logged(_Part):
    request: _Request
    answer: _Answer
    spans: list[_Pairs] = []
    sentences: list[_Pairs] = []


class _Prediction(_Part):
    id: str
    time: str
    data: _Logged


class _Entity(_Part):
    start: int
    end: int
    label: str = Field(min_length=1)


class _Said(_Part):
    request_id: str
    input: int = Field(ge=0)
    label: str | None = Field(None, min_length=1)
    entities: list[_Entity] | None = None


class _Feedback(_Part):
    time: str
    data: _Said


@dataclass(slots=True)
class Read:
    """The result of reading a log. `notes` are lines for people: how much was left out, and why."""

    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    task: Task = "sentiment"


@dataclass(frozen=True, slots=True)
class _Answered:
    """One input of a logged request."""

    request_id: str
    number: int
    text: str | tuple[str, ...]
    spans: Sequence[tuple[int, int]]
    sentences: Sequence[tuple[int, int]]

    @property
    def where(self) -> str:
        return f"{self.request_id} input {self.number}"


def read(log: Path, *, task: Task | None = None, model: str | None = None) -> Read:
    """The examples of a log, each text once.

    `task` and `model` keep to the answers of one. Raises `CorpusError` if there is no log, if it holds answers of
    both tasks and none is chosen, and if nothing is left to learn from.
    """
    files = files_of(log)
    if not files:
        raise CorpusError(log, "there is no such log; name the file that the service's setting payload_log names")
    found = Read()
    requests: dict[str, list[_Prediction]] = {}
    feedback: list[dict[str, Any]] = []
    for event in _events(files, found.notes):
        if isinstance(event, dict):
            if model is None or event.get("inferenceservicename", model) == model:
                feedback.append(event)
        elif model is None or event.data.answer.model == model:
            requests.setdefault(event.id, []).append(event)
    tasks: set[Task] = {each.data.answer.task for events in requests.values() for each in events}
    if task is None and len(tasks) > 1:
        raise CorpusError(log, f"it holds answers of the tasks {' and '.join(sorted(tasks))}; choose one with --task")
    if task is not None or tasks:
        found.task = task or tasks.pop()
    labelled = list(_labelled(requests, feedback, found))
    found.examples = _examples(labelled, found)
    if not found.examples:
        why = "; ".join(found.notes) or "no request has feedback"
        raise CorpusError(log, f"nothing to learn from: {why}")
    return found


def files_of(log: Path) -> list[Path]:
    """The files of a log: those of every worker, the rotated ones, and the feedback."""
    stem, suffix = re.escape(log.stem), re.escape(log.suffix)
    name = re.compile(rf"{stem}(\.\d+)?(\.feedback)?(\.\d+)?{suffix}(\.\d+)?")
    if not log.parent.is_dir():
        return []
    return sorted(each for each in log.parent.iterdir() if name.fullmatch(each.name) and each.is_file())


def write(found: Read, out: Path) -> int:
    """Write the examples, in the format that the ending stands for; how many. Raises `CorpusError`."""
    corpora.write(found.examples, out, found.task)
    return len(found.examples)


def _events(files: Iterable[Path], notes: list[str]) -> Iterator[_Prediction | dict[str, Any]]:
    """Every prediction, and feedback as it is; lines that hold no event, or a prediction that lacks a part, are
    counted."""
    for path in files:
        wrong = []
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
                if event["type"] == PREDICTION:
                    event = _Prediction.model_validate(event)
                elif event["type"] != FEEDBACK:
                    continue
            except (ValueError, KeyError, TypeError):
                wrong.append(number)
            else:
                yield event
        if wrong:
            notes.append(f"{path.name}: no event, or one that lacks a part, passed over: {some(wrong)}")


def _labelled(
    requests: dict[str, list[_Prediction]], feedback: Sequence[dict[str, Any]], found: Read
) -> Iterator[tuple[_Answered, Label]]:
    """The inputs with feedback, each with its corrected label. Repeated or contradictory feedback is reported."""
    said: dict[_Answered, list[Label]] = {}
    lacking: Counter[str] = Counter()
    for event in feedback:
        try:
            told = _Feedback.model_validate(event)
            data, label = told.data, _label(told.data)
            before = [each for each in requests.get(data.request_id, ()) if each.time <= told.time]
            if not before:
                lacking["whose request is not in the log"] += 1
                continue
            request = max(before, key=lambda each: each.time).data
            if request.answer.task != found.task or isinstance(label, str) != (found.task == "sentiment"):
                continue
            answered = _input(data.request_id, data.input, request)
        except (ValueError, IndexError):
            lacking["that cannot be read"] += 1
            continue
        if answered is None:
            lacking["whose text was not logged (the service's settings payload_text and payload_redact)"] += 1
        else:
            said.setdefault(answered, []).append(label)
    found.notes += [f"feedback {what}: {count:,}" for what, count in lacking.items()]
    repeated = [each.where for each, labels in said.items() if len(labels) > 1 and len(set(labels)) == 1]
    _name(found.notes, "repeated feedback, taken once", repeated)
    conflicts = [each.where for each, labels in said.items() if len(set(labels)) > 1]
    _name(found.notes, "feedback that contradicts itself, left out", conflicts)
    yield from ((each, labels[0]) for each, labels in said.items() if len(set(labels)) == 1)


def _input(request_id: str, number: int, request: _Logged) -> _Answered | None:
    """One input of a request; None if its text was not logged. Raises `IndexError`."""
    value = request.request.inputs[number]
    if value is None or isinstance(value, dict):
        return None
    spans = [(start, end) for start, end in (request.spans[number] if request.spans else ())]
    sentences = [(first, end) for first, end in (request.sentences[number] if request.sentences else ())]
    text = value if isinstance(value, str) else tuple(value)
    return _Answered(request_id, number, text, tuple(spans), tuple(sentences or [(0, len(spans))]))


def _label(said: _Said) -> Label:
    """The right label. Raises `ValueError` if there is none."""
    if said.label is not None:
        return said.label
    if said.entities is None:
        raise ValueError("neither a label nor entities")
    return tuple(sorted((each.start, each.end, each.label) for each in said.entities))


def _examples(labelled: Sequence[tuple[_Answered, Label]], found: Read) -> list[Example]:
    """Each text once; texts with several labels are named and left out."""
    by_text: dict[object, dict[Label, list[_Answered]]] = {}
    for answered, label in labelled:
        text = answered.text if isinstance(answered.text, str) else " ".join(answered.text)
        by_text.setdefault((text, tuple(answered.spans)), {}).setdefault(label, []).append(answered)
    conflicts = [
        f"{_shown(next(iter(labels.values()))[0])} is {_either(sorted(map(_said, labels)))}"
        for labels in by_text.values()
        if len(labels) > 1
    ]
    _name(found.notes, "texts with several labels, left out", conflicts)
    again = sum(len(each) - 1 for labels in by_text.values() if len(labels) == 1 for each in labels.values())
    if again:
        found.notes.append(f"texts that came again with the same label, taken once: {again:,}")
    examples: list[Example] = []
    beside: list[str] = []
    for labels in by_text.values():
        if len(labels) > 1:
            continue
        ((label, (answered, *_)),) = labels.items()
        made = _tagged(answered, label) if not isinstance(label, str) else [Example(_whole(answered), label)]
        if made is None:
            beside.append(answered.where)
        else:
            examples += made
    _name(found.notes, "entities that begin or end inside a token, or cross sentences, left out", beside)
    return examples


def _whole(answered: _Answered) -> str:
    return answered.text if isinstance(answered.text, str) else " ".join(answered.text)


def _tagged(answered: _Answered, entities: Sequence[tuple[int, int, str]]) -> list[Example] | None:
    """A text's sentences with a tag for each token, IOB2; None if an entity is no run of whole tokens of one."""
    text = _whole(answered)
    tags = ["O"] * len(answered.spans)
    starts = {start: number for number, (start, _) in enumerate(answered.spans)}
    ends = {end: number for number, (_, end) in enumerate(answered.spans)}
    firsts = {first for first, _ in answered.sentences}
    for start, end, kind in entities:
        if start not in starts or end not in ends:
            return None
        first, last = starts[start], ends[end]
        if first > last or any(number in firsts for number in range(first + 1, last + 1)):
            return None
        tags[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
    tokens = [text[start:end] for start, end in answered.spans]
    return [
        Example(tuple(tokens[first:end]), tuple(tags[first:end])) for first, end in answered.sentences if end > first
    ]


def _name(notes: list[str], what: str, which: Sequence[str]) -> None:
    if which:
        more = f" and {len(which) - SHOWN:,} more" if len(which) > SHOWN else ""
        notes.append(f"{what}: {len(which):,} ({'; '.join(which[:SHOWN])}{more})")


def _shown(answered: _Answered) -> str:
    text = _SPACE.sub(" ", _whole(answered))
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _either(labels: Sequence[str]) -> str:
    more = [f"{len(labels) - SHOWN:,} more"] if len(labels) > SHOWN else []
    return " and ".join([*map(cut, labels[:SHOWN]), *more])


def _said(label: Label) -> str:
    return label if isinstance(label, str) else f"{len(label)} entities"
