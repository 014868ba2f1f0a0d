"""Comparison of the answers of two versions to one input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from service.model.decoding import OUTSIDE, Prediction


class Comparison(NamedTuple):
    """The difference between a shadow's answer and the served one.

    `changes` are the shadow's scores minus the served ones: of the served label, or of each entity in both answers.
    `flips` are pairs (served label, shadow's label). An entity missing on one side has the label ``O`` there.
    """

    agree: bool
    changes: tuple[float, ...]
    flips: tuple[tuple[str, str], ...]


def compare(served: Prediction, shadow: Prediction) -> Comparison:
    """Compare the predictions of one input by their labels, or by the spans and labels of their entities."""
    one, other = _any(served), _any(shadow)
    if "entities" not in one:
        label, now = one["label"], other["label"]
        change = other["scores"].get(label, 0.0) - one["score"]
        return Comparison(label == now, (change,), () if label == now else ((label, now),))
    before, after = ({_span(each): each for each in which["entities"]} for which in (one, other))
    changes, flips = [], []
    for span in sorted(before.keys() | after.keys()):
        label, now = (which[span]["label"] if span in which else OUTSIDE for which in (before, after))
        if label == now:
            changes.append(after[span]["score"] - before[span]["score"])
        else:
            flips.append((label, now))
    return Comparison(not flips, tuple(changes), tuple(flips))


def brief(prediction: Prediction, *, text: bool) -> dict[str, Any]:
    """A prediction in a few fields. `text` includes the words of entities."""
    found = _any(prediction)
    if "entities" not in found:
        return {"label": found["label"], "score": found["score"]}
    names = ("label", "start", "end", "score", *(("text",) if text else ()))
    return {"entities": [{name: each[name] for name in names} for each in found["entities"]]}


def _span(entity: Mapping[str, Any]) -> tuple[int, int]:
    return entity["start"], entity["end"]


def _any(prediction: Prediction) -> dict[str, Any]:
    return prediction
