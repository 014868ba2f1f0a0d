"""The comparison of shadows with the served versions, over all workers: the report of one, and metrics of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from service.errors import NoShadow
from service.model.gate_drift import drifts
from service.model.loading import Model
from service.observability.comparison_metrics import (
    SHADOW_AGREEMENT,
    SHADOW_DRIFT,
    SHADOW_LATENCY,
    SHADOW_SCORE_CHANGE,
)
from service.observability.metrics import Series, Totals, value_of
from service.observability.shared_metrics import Family
from service.serving.sampling import live_tally
from service.serving.served import Served

SHOWN = 10
"""Disagreements in a report."""

Compared = tuple[str, str, str]
"""The model, the version that answered, and the shadow's version."""


def report(served: Served, totals: Totals, recent: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The comparison of a model's shadow since the start. `recent` are disagreements. Raises `NoShadow`."""
    if served.shadow is None:
        raise NoShadow(served.name)
    shadow, share = served.shadow
    of = (served.name, served.stable.version, shadow.version)
    content = compared_content(served.stable, shadow)
    found = [each for each in recent if each.pop("of") == content]
    return {
        "model": served.name,
        "served": served.stable.version,
        "shadow": shadow.version,
        "share": share,
        "requests": int(value_of(totals, "shadow_requests_total", *of)),
        "dropped": int(sum(value_of(totals, "shadow_dropped_total", *of, why) for why in ("busy", "failed"))),
        "inputs": int(value_of(totals, "shadow_inputs_total", *of)),
        **{name: figure(totals, of) for name, (_, figure) in _FIGURES.items()},
        "flips": [
            {"from": key[4], "to": key[5], "count": int(cells[0])}
            for key, cells in sorted(totals.items())
            if key[0] == "shadow_flips_total" and key[1:4] == of and cells[0]
        ],
        "disagreements": sorted(found, key=lambda each: float(each["time"]), reverse=True)[:SHOWN],
    }


def compared_content(served: Model, shadow: Model) -> list[str]:
    """The name, and the digests of both versions: a folder may get other content under an old number."""
    return [served.name, served.bundle.digest, shadow.bundle.digest]


def figures(totals: Totals) -> Iterator[tuple[Family, Series]]:
    """The figures of the reports as metrics."""
    every: Iterable[Compared] = sorted(
        {(key[1], key[2], key[3]) for key in totals if key[0] == "shadow_requests_total"}
    )
    for family, figure in _FIGURES.values():
        yield family, [(of, [value]) for of in every if (value := figure(totals, of)) is not None]


def _agreement(totals: Totals, of: Compared) -> float | None:
    inputs = value_of(totals, "shadow_inputs_total", *of)
    return value_of(totals, "shadow_agreements_total", *of) / inputs if inputs else None


def _change(totals: Totals, of: Compared) -> float | None:
    *counts, sum_ = totals.get(("shadow_score_change", *of), [0.0])
    return sum_ / sum(counts) if any(counts) else None


def _latency(totals: Totals, of: Compared) -> float | None:
    served = value_of(totals, "shadow_run_seconds_total", *of, "served")
    return value_of(totals, "shadow_run_seconds_total", *of, "shadow") / served if served else None


def _drift(totals: Totals, of: Compared) -> float | None:
    name, served, shadow = of
    apart = drifts(live_tally(totals, name, served), live_tally(totals, name, shadow))
    return max(apart.values(), default=None)


_FIGURES: Mapping[str, tuple[Family, Callable[[Totals, Compared], float | None]]] = {
    "agreement": (SHADOW_AGREEMENT, _agreement),
    "mean_score_change": (SHADOW_SCORE_CHANGE, _change),
    "latency_ratio": (SHADOW_LATENCY, _latency),
    "gate_drift": (SHADOW_DRIFT, _drift),
}
"""The figures of a report by their fields, with their metrics. None if there is nothing to count yet."""
