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
from typing import Any

from service.model.bundle import Task
from training.data import corpora
from training.data.corpora import CorpusError
from training.data.sources import Example, some, text_of

PREDICTION, FEEDBACK = "gatelight.prediction.v1", "gatelight.feedback.v1"
"""The types of events, as the service writes them."""
SHOWN = 5
"""Conflicts, and ids, that are named; the others are counted."""

_SPACE = re.compile(r"\s+")

Label = str | tuple[tuple[int, int, str], ...]
"""A class, or a tagger's entities (first code point, end, kind), in order."""


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
    requests: dict[str, list[dict[str, Any]]] = {}
    feedback: list[dict[str, Any]] = []
    for event in _events(files, found.notes):
        data = event["data"]
        if event["type"] == FEEDBACK:
            if model is None or event.get("inferenceservicename", model) == model:
                feedback.append(event)
        elif model is None or data["answer"]["model"] == model:
            requests.setdefault(event["id"], []).append(event)
    tasks: set[Task] = {each["data"]["answer"]["task"] for events in requests.values() for each in events}
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


def _events(files: Iterable[Path], notes: list[str]) -> Iterator[dict[str, Any]]:
    """Every event of the service's own types; lines that hold none are counted."""
    for path in files:
        wrong = []
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                event = json.loads(line)
                if event["type"] in (PREDICTION, FEEDBACK) and isinstance(event["data"], dict):
                    yield event
            except (ValueError, KeyError, TypeError):
                wrong.append(number)
        if wrong:
            notes.append(f"{path.name}: no event, passed over: {some(wrong)}")


def _labelled(
    requests: dict[str, list[dict[str, Any]]], feedback: Sequence[dict[str, Any]], found: Read
) -> Iterator[tuple[_Answered, Label]]:
    """The inputs with feedback, each with its corrected label. Repeated or contradictory feedback is reported."""
    said: dict[_Answered, list[Label]] = {}
    lacking: Counter[str] = Counter()
    for event in feedback:
        data = event["data"]
        try:
            kind = "sentiment" if "label" in data else "ner"
            label: Label = data["label"] if kind == "sentiment" else _spans(data["entities"])
            before = [each for each in requests.get(data["request_id"], ()) if each["time"] <= event["time"]]
            if not before:
                lacking["whose request is not in the log"] += 1
                continue
            request = max(before, key=lambda each: str(each["time"]))["data"]
            if request["answer"]["task"] != found.task or kind != found.task:
                continue
            answered = _input(data["request_id"], data["input"], request)
            if answered is None:
                lacking["whose text was not logged (the service's setting payload_text)"] += 1
                continue
            said.setdefault(answered, []).append(label)
        except (KeyError, TypeError, IndexError, ValueError):
            lacking["that cannot be read"] += 1
    found.notes += [f"feedback {what}: {count:,}" for what, count in lacking.items()]
    repeated = [each.where for each, labels in said.items() if len(labels) > 1 and len(set(labels)) == 1]
    _name(found.notes, "repeated feedback, taken once", repeated)
    conflicts = [each.where for each, labels in said.items() if len(set(labels)) > 1]
    _name(found.notes, "feedback that contradicts itself, left out", conflicts)
    yield from ((each, labels[0]) for each, labels in said.items() if len(set(labels)) == 1)


def _input(request_id: str, number: int, request: dict[str, Any]) -> _Answered | None:
    """One input of a request; None if its text was not logged."""
    value = request["request"]["inputs"][number]
    if isinstance(value, dict):
        return None
    spans = [(start, end) for start, end in request.get("spans", {}) and request["spans"][number]]
    sentences = [(first, end) for first, end in request.get("sentences", {}) and request["sentences"][number]]
    text = value if isinstance(value, str) else tuple(value)
    return _Answered(request_id, number, text, tuple(spans), tuple(sentences or [(0, len(spans))]))


def _spans(entities: Sequence[dict[str, Any]]) -> tuple[tuple[int, int, str], ...]:
    return tuple(sorted((each["start"], each["end"], each["label"]) for each in entities))


def _examples(labelled: Sequence[tuple[_Answered, Label]], found: Read) -> list[Example]:
    """Each text once; texts with several labels are named and left out."""
    by_text: dict[object, dict[Label, list[_Answered]]] = {}
    for answered, label in labelled:
        text = answered.text if isinstance(answered.text, str) else " ".join(answered.text)
        by_text.setdefault((text, tuple(answered.spans)), {}).setdefault(label, []).append(answered)
    conflicts = [
        f"{_shown(next(iter(labels.values()))[0])} is {' and '.join(sorted(map(_said, labels)))}"
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
        if any(number in firsts for number in range(first + 1, last + 1)):
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


def _said(label: Label) -> str:
    return label if isinstance(label, str) else f"{len(label)} entities"
