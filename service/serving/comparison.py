"""Comparison of the answers of two versions to one input."""

from __future__ import annotations

from typing import Any, NamedTuple

from service.model.decoding import OUTSIDE


class Comparison(NamedTuple):
    """The difference between a shadow's answer and the served one.

    `changes` are the shadow's scores minus the served ones: of the served label, or of each entity in both answers.
    `flips` are pairs (served label, shadow's label). An entity missing on one side has the label ``O`` there.
    """

    agree: bool
    changes: tuple[float, ...]
    flips: tuple[tuple[str, str], ...]


def compare(served: dict[str, Any], shadow: dict[str, Any]) -> Comparison:
    """Compare the predictions of one input by their labels, or by the spans and labels of their entities."""
    if "entities" not in served:
        label, now = served["label"], shadow["label"]
        change = shadow["scores"].get(label, 0.0) - served["score"]
        return Comparison(label == now, (change,), () if label == now else ((label, now),))
    before, after = ({(each["start"], each["end"]): each for each in which["entities"]} for which in (served, shadow))
    changes, flips = [], []
    for span in sorted(before.keys() | after.keys()):
        label, now = (which[span]["label"] if span in which else OUTSIDE for which in (before, after))
        if label == now:
            changes.append(after[span]["score"] - before[span]["score"])
        else:
            flips.append((label, now))
    return Comparison(not flips, tuple(changes), tuple(flips))


def brief(prediction: dict[str, Any], *, text: bool) -> dict[str, Any]:
    """A prediction in a few fields. `text` includes the words of entities."""
    if "entities" not in prediction:
        return {"label": prediction["label"], "score": prediction["score"]}
    names = ("label", "start", "end", "score", *(("text",) if text else ()))
    return {"entities": [{name: each[name] for name in names} for each in prediction["entities"]]}
