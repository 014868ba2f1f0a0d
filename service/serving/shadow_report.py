"""The comparison of shadows with the served versions, over all workers: the report of one, and metrics of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from service.errors import NoShadow
from service.model.gate_drift import drifts
from service.observability.comparison_metrics import (
    SHADOW_AGREEMENT,
    SHADOW_DRIFT,
    SHADOW_LATENCY,
    SHADOW_SCORE_CHANGE,
)
from service.observability.metrics import PREFIX, Totals, value_of
from service.serving.sampling import live_tally
from service.serving.served import Served

SHOWN = 10
"""Disagreements in a report."""

Of = tuple[str, str, str]
"""The model, the version that answered, and the shadow's version."""


def report(served: Served, totals: Totals, recent: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The comparison of a model's shadow since the start. `recent` are disagreements. Raises `NoShadow`."""
    if served.shadow is None:
        raise NoShadow(served.name)
    shadow, share = served.shadow
    of = (served.name, served.stable.version, shadow.version)
    found = [each for each in recent if tuple(each.pop("of")) == of]
    return {
        "model": served.name,
        "served": served.stable.version,
        "shadow": shadow.version,
        "share": share,
        "requests": int(value_of(totals, "shadow_requests_total", *of)),
        "dropped": int(sum(value_of(totals, "shadow_dropped_total", *of, why) for why in ("busy", "failed"))),
        "inputs": int(value_of(totals, "shadow_inputs_total", *of)),
        "agreement": _agreement(totals, of),
        "mean_score_change": _change(totals, of),
        "latency_ratio": _latency(totals, of),
        "gate_drift": _drift(totals, of),
        "flips": [
            {"from": key[4], "to": key[5], "count": int(cells[0])}
            for key, cells in sorted(totals.items())
            if key[0] == "shadow_flips_total" and key[1:4] == of
        ],
        "disagreements": sorted(found, key=lambda each: float(each["time"]), reverse=True)[:SHOWN],
    }


def figures(totals: Totals) -> Iterator[Metric]:
    """The figures of the reports as metrics."""
    figures: Mapping[Any, Callable[[Totals, Of], float | None]] = {
        SHADOW_AGREEMENT: _agreement,
        SHADOW_SCORE_CHANGE: _change,
        SHADOW_LATENCY: _latency,
        SHADOW_DRIFT: _drift,
    }
    every: Iterable[Of] = sorted({(key[1], key[2], key[3]) for key in totals if key[0] == "shadow_requests_total"})
    for family, figure in figures.items():
        metric = GaugeMetricFamily(PREFIX + family.name, family.help, labels=family.labels)
        for of in every:
            if (value := figure(totals, of)) is not None:
                metric.add_metric(of, value)
        yield metric


def _agreement(totals: Totals, of: Of) -> float | None:
    inputs = value_of(totals, "shadow_inputs_total", *of)
    return value_of(totals, "shadow_agreements_total", *of) / inputs if inputs else None


def _change(totals: Totals, of: Of) -> float | None:
    *counts, sum_ = totals.get(("shadow_score_change", *of), [0.0])
    return sum_ / sum(counts) if any(counts) else None


def _latency(totals: Totals, of: Of) -> float | None:
    served = value_of(totals, "shadow_run_seconds_total", *of, "served")
    return value_of(totals, "shadow_run_seconds_total", *of, "shadow") / served if served else None


def _drift(totals: Totals, of: Of) -> float | None:
    name, served, shadow = of
    apart = drifts(live_tally(totals, name, served), live_tally(totals, name, shadow))
    return max(apart.values(), default=None)
