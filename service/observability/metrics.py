"""The service's counters: the families of `/metrics`, and its text.

Names begin with ``gatelight_``. No label holds a client's text: routes are templates, methods and reasons come from
lists, models are those that are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from time import time
from types import MappingProxyType
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from service.errors import Refusal
from service.model.gate_drift import BOUNDS, What
from service.observability.comparison_metrics import COMPARISON_DERIVED, COMPARISON_FAMILIES
from service.observability.shared_metrics import Board, Family, Key, total

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
PREFIX = "gatelight_"

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ROWS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0)

_GATE = ("model", "version", "layer", "direction", "gate")
_BY_UNIT = "one observation a unit and text, of the texts sampled."

GATE_FAMILIES: dict[What, tuple[str, str]] = {
    "activation": ("gate_activation", "Mean activation"),
    "below": ("gate_saturation_below", "Share of time under 0.1"),
    "above": ("gate_saturation_above", "Share of time over 0.9"),
    "horizon": ("gate_horizon_steps", "Memory horizon in steps"),
}
"""The name and the meaning of each distribution of a gate."""

Soon = Callable[[Callable[[], None]], object]
"""Calls a function soon, such as an event loop's ``call_soon``."""

Of = tuple[str, str]
"""A model's name and version."""

Totals = Mapping[Key, list[float]]
"""Every series over all workers, and its cells."""

Series = list[tuple[Sequence[str], list[float]]]
"""The series of one family, each with its labels and its cells."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods by name in a label; any other is ``other``."""

_MODEL = ("model", "version")

FAMILIES = (
    Family("requests_total", "counter", "Requests answered, by route template.", ("route", "method", "status")),
    Family(
        "request_seconds",
        "histogram",
        "Seconds from a request's headers to the end of its answer.",
        ("route",),
        _REQUEST_SECONDS,
    ),
    Family(
        "stage_seconds",
        "histogram",
        "Seconds by stage. queue: each input's wait for its batch; run: each batch in ONNX Runtime; tokenise, decode, "
        "serialise: each request.",
        ("stage",),
        _STAGE_SECONDS,
    ),
    Family("batch_rows", "histogram", "Inputs in each batch.", (), _ROWS),
    Family("inline_batches_total", "counter", "Batches that ran in the event loop, short as they were."),
    Family("batch_tokens_total", "counter", "Tokens that were run, without padding."),
    Family("batch_padded_tokens_total", "counter", "Tokens that were run, padding included."),
    Family("queued_tokens", "gauge", "Tokens that wait for a batch."),
    Family(
        "queued_edge_seconds",
        "gauge",
        "Expected seconds of parsing, tokenising and building answers that wait for a thread.",
    ),
    Family("trace_numbers", "gauge", "Numbers of the traces that are under way, before they stand in an answer."),
    Family("connections", "gauge", "Connections that are open."),
    Family("unsent_bytes", "gauge", "Bytes of answers that wait for clients that read slowly."),
    Family("unread_bytes", "gauge", "Bytes of bodies that clients have not sent the ends of."),
    Family("refusals_total", "counter", "Requests and connections refused, by reason.", ("reason",)),
    Family(
        "dropped_inputs_total",
        "counter",
        "Accepted inputs that never ran, by the cause of their request's end.",
        ("why",),
    ),
    Family("streams", "gauge", "Streams over WebSockets that are open."),
    Family("sequences", "gauge", "Sequences of /v2 that are open.", over="max"),
    Family("stream_tokens_total", "counter", "Tokens that streams were read with."),
    Family("stream_waiting_bytes", "gauge", "Bytes of pieces that came and were not read."),
    Family("dropped_streams_total", "counter", "Streams that the service ended, by reason.", ("reason",)),
    Family("failed_batches_total", "counter", "Batches that failed."),
    Family(
        "model_info",
        "gauge",
        "1 for each served model; provider: the device of its recurrent layers.",
        ("model", "version", "task", "cell", "provider"),
        over="max",
    ),
    Family(
        "model_share",
        "gauge",
        "Share of the requests without a version that each version of a model gets, 0 to 1.",
        ("model", "version"),
        over="max",
    ),
    Family(
        "model_quality",
        "gauge",
        "The scores in the manifest of each served model, 0 to 1.",
        ("model", "version", "data", "metric"),
        over="max",
    ),
    Family("threads", "gauge", "Threads that run models, over all workers."),
    Family("workers", "gauge", "Worker processes that run."),
    Family("log_failures_total", "counter", "Times that the log could not be written."),
    Family("worker_restarts_total", "counter", "Worker processes that died and were replaced."),
    Family("ready", "gauge", "Worker processes that are ready: as many as workers when all is well."),
    Family(
        "reloads_total",
        "counter",
        "Models loaded and refused by looks at the models folder, models retired, and looks that failed.",
        ("outcome",),
    ),
    Family("model_requests_total", "counter", "Requests by model and outcome.", (*_MODEL, "outcome"), full=True),
    Family(
        "model_request_seconds_total",
        "counter",
        "Seconds from the headers of these requests to the ends of their answers.",
        (*_MODEL, "outcome"),
        full=True,
    ),
    Family(
        "model_stage_seconds_total",
        "counter",
        "Seconds by model and stage. queue: all inputs' waits; the others: all requests.",
        (*_MODEL, "stage"),
        full=True,
    ),
    Family("model_inputs_total", "counter", "Inputs that a model answered.", _MODEL, full=True),
    Family(
        "model_batches_total",
        "counter",
        "Batches by rows (texts, or sentences).",
        (*_MODEL, "rows"),
        full=True,
    ),
    Family("model_batch_seconds_total", "counter", "Seconds that they ran.", (*_MODEL, "rows"), full=True),
    Family(
        "model_last_request_seconds",
        "gauge",
        "When each model's last request was answered, in seconds since 1970.",
        _MODEL,
        over="max",
        full=True,
    ),
    Family("gate_sampled_texts_total", "counter", "Texts with sampled gates.", _MODEL),
    Family("gate_sampled_tokens_total", "counter", "Tokens of those texts.", _MODEL),
    *(
        Family(name, "histogram", f"{words}: {_BY_UNIT}", _GATE, BOUNDS[what], full=True)
        for what, (name, words) in GATE_FAMILIES.items()
    ),
    *COMPARISON_FAMILIES,
)
GATE_DRIFT = Family(
    "gate_drift",
    "gauge",
    "Population stability index of mean activations, sampled traffic against the dev set: of each model the largest, "
    "and in full of each gate.",
    _GATE,
)
CONTENT = Family("content", "note", "The content that a version's figures are about, from its digest.", _MODEL)
ON_BOARD = (*FAMILIES, CONTENT)
"""The families of a worker's board."""
OF_CONTENT = {each.name for each in FAMILIES if each.name.startswith(("gate_", "shadow_", "feedback_"))}
"""The families that judge a version's content. They begin anew when its folder gets other content."""
DERIVED = (GATE_DRIFT, *COMPARISON_DERIVED)
"""Families that no worker counts: they are computed from the counts of all workers for each scrape of `/metrics`."""


class Metrics:
    """This process's board, and those of the other workers for `/metrics`."""

    full = False
    """True if `/metrics` shows every family; else it leaves out those with hundreds of series a model."""

    def __init__(self, board: Board | None = None, boards: Sequence[Board] = ()) -> None:
        self.board = board or Board(ON_BOARD)
        self.boards = tuple(boards) or (self.board,)
        self._soon: Soon = _at_once
        self._waiting: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        """Requests that were answered and not counted yet: seconds, inputs and the stages' seconds, by all else."""
        self._works: list[Callable[[], None]] = []
        self.derived: list[Callable[[Totals], Iterator[tuple[Family, Series]]]] = []
        """Functions that compute more of `/metrics` at each scrape, from the counts of all workers."""

    def gather(self, soon: Soon | None) -> None:
        """Count the requests of an event loop together, when the function given to `soon` is called. None ends this."""
        self._soon = soon or _at_once
        self._settle()

    def answered(
        self,
        route: str,
        method: str,
        status: int,
        seconds: float,
        stages: Mapping[str, float] = MappingProxyType({}),
        of: Of | None = None,
        inputs: int = 0,
    ) -> None:
        """A request was answered, with seconds by stage. `of` is the requested model, `inputs` how many it answered: 0
        if the request failed."""
        key = (route, method, status, of, inputs > 0, *stages)
        first = not (self._waiting or self._works)
        self._waiting.setdefault(key, []).append((seconds, inputs, *stages.values()))
        if first:
            self._soon(self._settle)

    def later(self, work: Callable[[], None]) -> None:
        """Call a function that counts, together with the requests of this turn of the event loop: answers must not wait
        for it."""
        first = not (self._waiting or self._works)
        self._works.append(work)
        if first:
            self._soon(self._settle)

    def _settle(self) -> None:
        """Count what waits. Alike requests are counted together."""
        works, self._works = self._works, []
        for work in works:
            work()
        waiting, self._waiting = self._waiting, {}
        board = self.board
        for (route, method, status, of, succeeded, *stages), answers in waiting.items():
            seconds, inputs, *taken = zip(*answers, strict=True)
            method = method if method in METHODS else "other"
            board.number("requests_total", route, method, str(status)).add(len(answers))
            board.histogram("request_seconds", route).observe(*seconds)
            for stage, each in zip(stages, taken, strict=True):
                board.histogram("stage_seconds", stage).observe(*each)
            if of is not None:
                outcome = "success" if succeeded else "fail"
                board.number("model_requests_total", *of, outcome).add(len(answers))
                board.number("model_request_seconds_total", *of, outcome).add(sum(seconds))
                board.number("model_inputs_total", *of).add(sum(inputs))
                board.number("model_last_request_seconds", *of).set(time())
                for stage, each in zip(stages, taken, strict=True):
                    board.number("model_stage_seconds_total", *of, stage).add(sum(each))

    def refused(self, reason: Refusal) -> None:
        self.board.number("refusals_total", str(reason)).add()

    def batch(self, rows: int, tokens: int, padded_tokens: int, waits: Sequence[float], seconds: float) -> None:
        """A batch has run; `waits` are the seconds that each of its rows waited for it."""
        board = self.board
        board.histogram("batch_rows").observe(rows)
        board.number("batch_tokens_total").add(tokens)
        board.number("batch_padded_tokens_total").add(padded_tokens)
        board.histogram("stage_seconds", "run").observe(seconds)
        board.histogram("stage_seconds", "queue").observe(*waits)

    def model_batch(self, of: Of, rows: int, waited: float, seconds: float) -> None:
        """A batch of a model has run; `waited` is the sum of its rows' waits."""
        board = self.board
        board.number("model_batches_total", *of, str(rows)).add()
        board.number("model_batch_seconds_total", *of, str(rows)).add(seconds)
        board.number("model_stage_seconds_total", *of, "queue").add(waited)

    def judges(self, of: Of, digest: str) -> bool:
        """True if the figures of `OF_CONTENT` are about this content of a version; else they must not count it. They
        are about the first content that is asked for."""
        noted, content = self.board.number(CONTENT.name, *of), _content(digest)
        if not noted.value:
            noted.set(content)
        return noted.value == content

    def judge(self, of: Of, digest: str) -> None:
        """From now on the figures of `OF_CONTENT` are about this content of a version. They begin anew if they were
        about another. Call it in the thread that counts."""
        if not self.judges(of, digest):
            self.board.restart(OF_CONTENT, *of)
            self.board.number(CONTENT.name, *of).set(_content(digest))

    def totals(self) -> Totals:
        """The counts of all workers, by family and labels."""
        return total(self.boards)

    def text(self) -> bytes:
        """Prometheus's text format, over all workers; gauges are as old as the last `Board.publish` of each of them.

        Any thread may call it: in full, with sampled gates of eight models, it takes some 30 ms.
        """
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """The numbers of all workers, as Prometheus's client takes them."""
        series: dict[str, Series] = {}
        totals = self.totals()
        for (name, *labels), cells in sorted(totals.items()):
            series.setdefault(name, []).append((labels, cells))
        for family in FAMILIES:
            if self.full or not family.full:
                yield _metric(family, series.get(family.name, []))
        for figures in self.derived:
            yield from (_metric(family, found) for family, found in figures(totals))


def _at_once(work: Callable[[], None]) -> None:
    work()


def _content(digest: str) -> float:
    """The beginning of a digest as a number that a cell holds exactly; never 0."""
    return float(int("1" + digest[:12], 16))


def value_of(totals: Totals, *key: str) -> float:
    """The value of a counter or gauge; 0 before its first count."""
    return totals.get(key, [0.0])[0]


def _metric(family: Family, series: Series) -> Metric:
    name = PREFIX + family.name
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
        for labels, (*counts, sum_) in series:
            bounds = (*map(str, family.buckets), "+Inf")
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), sum_)
            if family.buckets[0] < 0:  # there the client leaves sum and count out, as a sum that can fall is no counter
                named = dict(zip(family.labels, labels, strict=True))
                histogram.add_sample(name + "_count", named, sum(counts))
                histogram.add_sample(name + "_sum", named, sum_)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(name, family.help, labels=family.labels)
    for labels, (value,) in series:
        if family.over == "max" and "model" in family.labels and not value:
            continue  # a series of a model that has gone
        metric.add_metric(labels, value)
    return metric
