"""Shadows: another version of the model runs answered requests again.

A shadow runs only while the batcher is idle. A request that finds the shadow's queue full is dropped and counted.
Nothing else waits for a shadow.

A service that leaves CPUs unused runs its shadows there, in one thread of the lowest priority. Requests are gathered to
groups first, because each change of threads costs the event loop time.

If every CPU has a worker, a thread takes more from the requests than its priority says: Python's lock goes to and fro,
and a request that interrupts the run finds the caches filled by it. The event loop then runs the shadow itself, in
groups of `PIECE_SECONDS`, and reads its sockets between two groups: a request waits for one group at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from service.errors import NoShadow, RequestError
from service.model.decoding import Prediction
from service.model.gate_drift import drifts
from service.model.joining import Logits, logits_of, parts
from service.model.loading import Model
from service.model.tokenizer import Encoded
from service.observability.comparison_metrics import (
    SHADOW_AGREEMENT,
    SHADOW_DRIFT,
    SHADOW_LATENCY,
    SHADOW_SCORE_CHANGE,
)
from service.observability.metrics import PREFIX, Metrics, Totals, value_of
from service.serving.comparison import brief, compare
from service.serving.exchange import Exchange
from service.serving.inference import Rows, decode, predicting
from service.serving.recent import Recent
from service.serving.sampling import Sampler, live_tally
from service.serving.served import Served

MAX_WAITING = 256
"""Requests that may wait for shadows in each worker; more are dropped."""
MAX_WAITING_TOKENS = 65_536
"""Tokens of the waiting requests; the first request is always accepted."""
GROUP_ROWS, GROUP_TOKENS = 16, 4096
"""Limits of one group: its rows (texts or sentences) and its tokens."""
BATCH_ROWS = 4
"""Rows of one run. A run of 16 rows takes longer per row: more padding, and the first-level caches are too small."""
PIECE_SECONDS = 0.0005
"""The time that a group in the event loop should take; one row may take longer."""
LONGEST_PIECE = 0.002
"""Groups with a longer estimate run in the thread, on every machine."""
WEIGHT_OF_LAST = 0.1
"""Weight of the last run in the running average of a shadow's seconds per token."""
GATHER_SECONDS = 0.05
"""The longest time that a request waits for others of its group."""
IDLE_SECONDS = 0.002
"""Interval between two checks for an idle batcher."""
MEASURED = 8
"""The served version runs one of this many groups again, for the ratio of run times."""
SHOWN = 10
"""Disagreements in a report."""

_log = structlog.get_logger()

Measured = Literal["no", "before", "after"]
Around = Callable[[], contextlib.AbstractContextManager[None]]
Of = tuple[str, str, str]
"""The model, the version that answered, and the shadow's version."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    exchange: Exchange
    shadow: Model
    since: float
    """Its arrival, as a time of the event loop."""

    @property
    def of(self) -> Of:
        return self.exchange.model.name, self.exchange.model.version, self.shadow.version


@dataclass(frozen=True, slots=True)
class _Ran:
    """Results of a group: predictions by request (None if the shadow cannot read it), and the seconds of both
    versions. `tokens` are the shadow's, with padding."""

    predictions: Sequence[Sequence[Prediction] | None]
    rows: Sequence[Rows]
    tokens: int = 0
    served_seconds: float = 0.0
    shadow_seconds: float = 0.0


class Shadowing:
    """Runs shadows and counts the comparisons on this process's board.

    `busy` returns True while the batcher has work. `spare` is True if the service leaves CPUs unused. `texts` allows
    texts in disagreements.
    """

    def __init__(
        self, metrics: Metrics, busy: Callable[[], bool], sampler: Sampler, recent: Recent, *, spare: bool, texts: bool
    ) -> None:
        self._metrics = metrics
        self._busy = busy
        self._sampler = sampler
        self._recent = recent
        self._spare = spare
        self._texts = texts
        self._costs: WeakKeyDictionary[Model, float] = WeakKeyDictionary()
        """Seconds of a padded token."""
        self._waiting: deque[_Waiting] = deque()
        self._tokens = self._rows = 0
        self._groups = 0
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        metrics.derive(_figures)

    def offer(self, exchange: Exchange, shadow: Model) -> None:
        """Queue an answered request for its shadow. Call it in the event loop; it returns at once."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        waiting, tokens = _Waiting(exchange, shadow, loop.time()), exchange.tokens
        full = len(self._waiting) >= MAX_WAITING or self._tokens + tokens > MAX_WAITING_TOKENS
        if self._waiting and full:
            self._count("shadow_dropped_total", waiting.of, "busy")
            return
        self._waiting.append(waiting)
        self._tokens += tokens
        self._rows += _rows(exchange)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())

    async def close(self) -> None:
        """End the thread and drop the waiting requests."""
        self._closed = True
        self._waiting.clear()
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        self._thread.shutdown(wait=False, cancel_futures=True)

    def report(self, served: Served) -> dict[str, Any]:
        """The comparison of a model's shadow since the start, over all workers. Raises `NoShadow`."""
        if served.shadow is None:
            raise NoShadow(served.name)
        shadow, share = served.shadow
        of = (served.name, served.stable.version, shadow.version)
        totals = self._metrics.totals()
        found = [each for each in self._recent.read() if tuple(each.pop("of")) == of]
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

    def _count(self, family: str, of: Of, *more: str, by: float = 1.0) -> None:
        self._metrics.board.number(family, *of, *more).add(by)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            left = self._waiting[0].since + GATHER_SECONDS - loop.time()
            if left > 0 and self._rows < GROUP_ROWS and self._tokens < GROUP_TOKENS:
                await asyncio.sleep(left)
                continue
            if self._busy():
                await asyncio.sleep(IDLE_SECONDS)
                continue
            number, rest = divmod(self._groups, MEASURED)
            # The orders alternate, because the second of two runs finds warm caches.
            measured: Measured = "no" if rest else "before" if number % 2 else "after"
            self._groups += 1
            runs = 1 if measured == "no" else 2
            group, seconds = self._group(float("inf") if self._spare else PIECE_SECONDS / runs)
            try:
                if self._spare or seconds * runs > LONGEST_PIECE:
                    ran = await loop.run_in_executor(self._thread, partial(_run, group, measured, _yielding))
                else:
                    ran = _run(group, measured)
                await self._note(group, ran)
            except Exception as error:  # a failed shadow must not fail a request
                _log.error("a shadow failed", model=group[0].of[0], error=type(error).__name__)
                for each in group:
                    self._count("shadow_dropped_total", each.of, "failed")
            await asyncio.sleep(0)  # requests come between two groups, also if the first had no result

    def _group(self, most: float) -> tuple[list[_Waiting], float]:
        """The next requests of one model and shadow, and the estimate of their seconds. Every request but the first
        keeps within `most` seconds and the limits of a group."""
        first = self._waiting[0]
        cost = self._costs.get(first.shadow, first.shadow.seconds_per_token)
        group: list[_Waiting] = []
        rows = tokens = longest = 0
        seconds = 0.0
        while self._waiting:
            after = self._waiting[0]
            if after.shadow is not first.shadow or after.exchange.model is not first.exchange.model:
                break
            rows, tokens = rows + _rows(after.exchange), tokens + after.exchange.tokens
            longest = max(longest, *map(len, after.exchange.encoded))
            if group and (rows > GROUP_ROWS or tokens > GROUP_TOKENS or rows * longest * cost > most):
                break
            seconds = rows * longest * cost
            group.append(self._waiting.popleft())
        self._tokens -= sum(each.exchange.tokens for each in group)
        self._rows -= sum(_rows(each.exchange) for each in group)
        return group, seconds

    async def _note(self, group: Sequence[_Waiting], ran: _Ran) -> None:
        of, shadow = group[0].of, group[0].shadow
        if ran.tokens:
            before = self._costs.get(shadow, shadow.seconds_per_token)
            self._costs[shadow] = before + WEIGHT_OF_LAST * (ran.shadow_seconds / ran.tokens - before)
        if ran.served_seconds:
            self._count("shadow_run_seconds_total", of, "served", by=ran.served_seconds)
            self._count("shadow_run_seconds_total", of, "shadow", by=ran.shadow_seconds)
        for waiting, predictions in zip(group, ran.predictions, strict=True):
            if predictions is None:
                self._count("shadow_dropped_total", of, "failed")
                continue
            self._compare(waiting.exchange, predictions, of)
            self._count("shadow_requests_total", of)
            await asyncio.sleep(0)  # requests come between two comparisons
        self._sampler.offer(shadow, ran.rows)

    def _compare(self, exchange: Exchange, predictions: Sequence[Prediction], of: Of) -> None:
        change = self._metrics.board.histogram("shadow_score_change", *of)
        for number, (served, shadow) in enumerate(zip(exchange.predictions, predictions, strict=True)):
            found = compare(served, shadow)
            self._count("shadow_inputs_total", of)
            for each in found.changes:
                change.observe(each)
            if found.agree:
                self._count("shadow_agreements_total", of)
                continue
            for flip in found.flips:
                self._count("shadow_flips_total", of, *flip)
            entry: dict[str, Any] = {
                "of": of,
                "time": exchange.then,
                "request_id": exchange.request_id,
                "input": number,
                "served": brief(served, text=self._texts),
                "shadow": brief(shadow, text=self._texts),
            }
            if self._texts:
                entry["text"] = exchange.encoded[number].text
            self._recent.add(entry)


def _rows(exchange: Exchange) -> int:
    return sum(len(source.sentences or (0,)) for source in exchange.encoded)


def _run(group: Sequence[_Waiting], measured: Measured, around: Around = contextlib.nullcontext) -> _Ran:
    """Run a group of one model and one shadow in this thread, each run within `around`. If `measured`, the served
    version runs too, before or after."""
    served, shadow = group[0].exchange.model, group[0].shadow
    encoded = [_encoded(each.exchange, shadow) for each in group]
    readable = [source for each in encoded if each is not None for source in each]
    if not readable:
        return _Ran([None] * len(group), [])
    own = [source for each in group for source in each.exchange.encoded]
    comparable = served.tokenizer is shadow.tokenizer and len(own) == len(readable)  # both versions get the same rows
    served_seconds = 0.0
    if comparable and measured == "before":
        _, _, served_seconds = _predict(served, own, around)
    logits, tokens, shadow_seconds = _predict(shadow, readable, around)
    if comparable and measured == "after":
        _, _, served_seconds = _predict(served, own, around)
    predictions = iter(decode(shadow, logits, readable, tokens=False))
    found = [None if each is None else [next(predictions) for _ in each] for each in encoded]
    return _Ran(found, [each.rows for each in parts(readable)], tokens, served_seconds, shadow_seconds)


def _encoded(exchange: Exchange, shadow: Model) -> Sequence[Encoded] | None:
    """A request's inputs as the shadow encodes them; None if it cannot read them."""
    longest = max(map(len, exchange.encoded))
    if exchange.model.tokenizer is shadow.tokenizer and longest <= shadow.token_limit:
        return exchange.encoded
    try:
        return [shadow.encode(each, truncate=exchange.truncate, split=exchange.split) for each in exchange.inputs()]
    except RequestError:  # over its token limit, or without a token in its tokenizer
        return None


def _predict(model: Model, encoded: Sequence[Encoded], around: Around) -> tuple[list[Logits], int, float]:
    """The logits of each input, the tokens with padding, and the seconds of the runs: CPU time for a model on the
    CPU."""
    run = predicting(model.engine, model.bundle.manifest)
    clock = time.thread_time if model.engine.provider == "cpu" else time.perf_counter
    rows = [each.rows for each in parts(encoded)]
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    found: dict[int, Logits] = {}
    tokens, seconds = 0, 0.0
    for group in _batches(order, rows):
        batch = [rows[number] for number in group]
        with around():
            started = clock()
            logits = run(batch)
            seconds += clock() - started
        tokens += len(batch[-1]) * len(batch)
        found.update(zip(group, logits, strict=True))
    return logits_of(encoded, [found[number] for number in range(len(rows))]), tokens, seconds


def _batches(order: Sequence[int], rows: Sequence[Rows]) -> Iterator[list[int]]:
    """Numbers of rows, shortest first, in batches of at most `BATCH_ROWS` rows and `GROUP_TOKENS` tokens."""
    batch: list[int] = []
    for number in order:
        if batch and (len(batch) >= BATCH_ROWS or len(rows[number]) * (len(batch) + 1) > GROUP_TOKENS):
            yield batch
            batch = []
        batch.append(number)
    yield batch


@contextlib.contextmanager
def _yielding() -> Iterator[None]:
    """Run the block at the lowest CPU priority, on Linux."""
    if sys.platform != "linux":
        yield
        return
    thread, nothing = threading.get_native_id(), os.sched_param(0)
    try:
        os.sched_setscheduler(thread, os.SCHED_IDLE, nothing)
    except OSError:  # a sandbox may forbid it
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, nothing)


def _figures(totals: Totals) -> Iterator[Metric]:
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
