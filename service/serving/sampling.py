"""Gate drift of live traffic: a few texts of `/predict` are traced again after their answer, and their gates counted.

The fused graph gives no gates, so a sample costs a run of the trace graph, in a thread of its own. Samples run one at a
time. A sample that is due while another runs is skipped, so that samples never queue. After each sample the sampler
rests, so that it never takes more than its share of the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import structlog
from numpy.typing import NDArray

from service.model.equations import Direction
from service.model.gate_drift import Counts, Key, Tally, drifts, figures, observe, restored
from service.observability.metrics import GATE_DRIFT, GATE_FAMILIES, Metrics, Series, Totals, value_of
from service.observability.shared_metrics import Family
from service.serving.registry import Model

MAX_TOKENS = 512
"""Tokens of a sampled text. Only the head of a longer text is traced."""

REST = 50
"""After a sample that took t seconds the sampler rests for (REST - 1) · t: it takes at most 2 % of one CPU. A larger
share of samples (`gate_sample`) shortens the rest."""

_log = structlog.get_logger()


class Sampler:
    """Counts on this process's board, and compares the counts of all workers with training.

    A `share` of each model's inputs is sampled at equal distances, the first input included; 0 samples none. `models`
    returns the served models.
    """

    def __init__(self, metrics: Metrics, share: float, models: Callable[[], Iterable[Model]]) -> None:
        self._metrics = metrics
        self._models = models
        self._every = round(1 / share) if share else 0
        self._seen: WeakKeyDictionary[Model, int] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sampler")
        self._busy = False
        self._rests_until = 0.0
        metrics.derived.append(self._drift)

    def offer(self, model: Model, rows: Sequence[NDArray[np.int32]]) -> None:
        """Note inputs that were predicted. Call it in the event loop; it returns at once."""
        if not self._every:
            return
        seen = self._seen.get(model, 0)
        self._seen[model] = seen + len(rows)
        due = -seen % self._every
        if due >= len(rows) or self._busy or perf_counter() < self._rests_until:
            return
        self._busy, begun = True, perf_counter()
        sample = rows[due][:MAX_TOKENS]
        future = asyncio.get_running_loop().run_in_executor(self._thread, partial(_observe, model, sample))
        future.add_done_callback(partial(self._count, model, len(sample), begun))

    def close(self) -> None:
        """End the thread. A running sample finishes but is not counted."""
        self._every = 0
        self._thread.shutdown(wait=False, cancel_futures=True)

    def describe(self, model: Model) -> dict[str, object]:
        """A model's gate distributions in training and in sampled traffic since the start, and their drift."""
        trained = _trained(model)
        live = live_tally(self._metrics.totals(), model.name, model.version)
        apart = drifts(trained, live) if trained is not None else {}
        statistics = model.bundle.manifest.gate_statistics
        return {
            "trained": None if trained is None or statistics is None else {"data": statistics.data, **figures(trained)},
            "live": {"share": 1 / self._every if self._every else 0, **figures(live)},
            "drift": {
                "largest": max(apart.values(), default=None),
                "gates": [
                    {"layer": layer, "direction": direction, "gate": gate, "psi": value}
                    for (layer, direction, gate), value in apart.items()
                ],
            },
        }

    def _count(self, model: Model, tokens: int, begun: float, future: asyncio.Future[dict[Key, Counts]]) -> None:
        self._busy = False
        now = perf_counter()
        self._rests_until = now + (now - begun) * (min(self._every, REST) - 1)
        if future.cancelled() or not self._every:
            return
        of = model.name, model.version
        if future.exception() is not None:  # a failed sample must not fail a request
            _log.error("a sample could not be traced", model=model.name, error=type(future.exception()).__name__)
            return
        if not self._metrics.judges(of, model.bundle.digest):  # its version has other content by now
            return
        board = self._metrics.board
        board.number("gate_sampled_texts_total", *of).add()
        board.number("gate_sampled_tokens_total", *of).add(tokens)
        for (layer, direction, gate, what), counts in future.result().items():
            labels = (*of, str(layer), direction, gate)
            board.histogram(GATE_FAMILIES[what][0], *labels).add(counts.bins.tolist(), counts.sum)

    def _drift(self, totals: Totals) -> Iterator[tuple[Family, Series]]:
        found: Series = []
        for model in self._models():
            trained = _trained(model)
            if trained is None:
                continue
            live = live_tally(totals, model.name, model.version)
            apart = drifts(trained, live)
            if self._metrics.full:
                for (layer, direction, gate), value in apart.items():
                    found.append(((model.name, model.version, str(layer), direction, gate), [value]))
            elif apart:
                found.append(((model.name, model.version), [max(apart.values())]))
        yield GATE_DRIFT if self._metrics.full else replace(GATE_DRIFT, labels=GATE_DRIFT.labels[:2]), found


def _observe(model: Model, rows: NDArray[np.int32]) -> dict[Key, Counts]:
    return observe(model.bundle.manifest.cell, model.engine.trace([rows]).gates(0))


def _trained(model: Model) -> Tally | None:
    statistics = model.bundle.manifest.gate_statistics
    return None if statistics is None else restored(statistics)


def live_tally(totals: Totals, name: str, version: str) -> Tally:
    """The counts of all workers for a model."""
    tally = Tally(
        texts=int(value_of(totals, "gate_sampled_texts_total", name, version)),
        tokens=int(value_of(totals, "gate_sampled_tokens_total", name, version)),
    )
    whats = {family: what for what, (family, _) in GATE_FAMILIES.items()}
    for (family, *labels), cells in totals.items():
        if family in whats and labels[:2] == [name, version]:
            layer, direction, gate = labels[2:]
            *bins, sum_ = cells
            tally.counts[int(layer), cast(Direction, direction), gate, whats[family]] = Counts(np.array(bins), sum_)
    return tally
