"""Rows to records: windows of rows, sorted by length, cut into batches of like length, run in threads.

A window is read and encoded while the one before it runs, and written when it is done: memory holds two windows, and
the answers come in the order of the rows. The first windows are small, so that the first answers come soon. Windows
begin at the same rows in every run: a run that goes on computes the same batches, and so the same digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from service.cpus import usable_cpus
from service.errors import InvalidField
from service.model.contributions import note
from service.model.gates import Reduce, Selection, select
from service.model.joining import Logits, Traced, logits_of, parts, traces_of
from service.model.loading import Model
from service.model.tokenizer import Encoded
from service.scoring.rows import Row
from service.serving.inference import decode, run_predictions, run_traces, trace_jobs
from service.serving.queueing import batches, portions

Record = dict[str, object]
FIRST_WINDOW = 16
"""Rows of the first window; each has twice as many as the one before."""
WINDOW_ROWS = 4096
"""Rows that are sorted together: enough that batches are of like length, few enough to keep two in memory."""
TRACED_NUMBERS = 2_000_000
"""Gate numbers that a window holds at most, about: those of a long window would not fit into memory."""
SHARE_TOKENS = 2048
"""Padded tokens, about, that are handed to a thread at once: handing on a batch of a few short texts would cost a tenth
of running it."""
DECIMALS = 4
BATCH_ROWS, BATCH_TOKENS = 16, 4096
"""Rows, and padded tokens, of one batch at most."""


@dataclass(frozen=True, slots=True)
class Options:
    """The output wanted for each row. `reduce` None asks for no gates, `threads` 0 takes every CPU."""

    truncate: bool
    tokens: bool
    split: bool
    reduce: Reduce | None
    threads: int


@dataclass(frozen=True, slots=True)
class Done:
    """A window's outcome: a record or a reason for each row, in order, and how many tokens were scored."""

    rows: list[tuple[Row, Record | str]]
    tokens: int


@dataclass(frozen=True, slots=True)
class _Window:
    rows: list[Row]
    read: list[Encoded | str]
    """Each row encoded, or the reason why it cannot be scored."""

    @property
    def encoded(self) -> list[Encoded]:
        """The rows that are scored."""
        return [each for each in self.read if not isinstance(each, str)]


def cut(rows: Iterable[Row], most: int = WINDOW_ROWS) -> Iterator[list[Row]]:
    """Rows in windows, which double from `FIRST_WINDOW` to `most` rows."""
    remaining, size = iter(rows), min(FIRST_WINDOW, most)
    while taken := list(islice(remaining, size)):
        yield taken
        size = min(2 * size, most)


def score(model: Model, windows: Iterable[list[Row]], options: Options) -> Iterator[Done]:
    """Score windows of rows, one after the other."""
    selection = None if options.reduce is None else select(model.bundle.manifest, reduce=options.reduce)
    encoded = _encoded(model, windows, options, selection)
    with ThreadPoolExecutor(options.threads or usable_cpus(), thread_name_prefix="score") as pool:
        running: tuple[_Window, list[tuple[list[int], Future[Sequence[Any]]]]] | None = None
        try:
            for window in encoded:
                begun = window, _begin(model, window, pool, selection)
                if running is not None:
                    yield _finish(model, *running, options)
                running = begun
            if running is not None:
                yield _finish(model, *running, options)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _encoded(
    model: Model, windows: Iterable[list[Row]], options: Options, selection: Selection | None
) -> Iterator[_Window]:
    """Encoded windows; with gates, in parts that keep their number bounded."""
    for taken in windows:
        part = _encode(model, taken, options)
        if selection is None:
            yield part
        else:
            yield from _parts(part, selection)


def _encode(model: Model, rows: list[Row], options: Options) -> _Window:
    def read(row: Row) -> Encoded | str:
        if row.value is None:
            return row.reason
        try:
            return model.encode(row.value, truncate=options.truncate, split=options.split)
        except InvalidField as error:
            return error.problems[0].detail

    return _Window(rows, [read(row) for row in rows])


def _parts(window: _Window, selection: Selection) -> Iterator[_Window]:
    """Cut a window into parts with traces that fit into memory."""
    part, numbers = _Window([], []), 0
    for row, read in zip(window.rows, window.read, strict=True):
        more = 0 if isinstance(read, str) else selection.numbers(len(read))
        if part.rows and numbers + more > TRACED_NUMBERS:
            yield part
            part, numbers = _Window([], []), 0
        part.rows.append(row)
        part.read.append(read)
        numbers += more
    yield part


def _begin(
    model: Model, window: _Window, pool: ThreadPoolExecutor, selection: Selection | None
) -> list[tuple[list[int], Future[Sequence[Any]]]]:
    engine, manifest = model.engine, model.bundle.manifest
    run: Callable[..., Sequence[Any]] = run_predictions if selection is None else run_traces
    encoded = window.encoded
    sentences = parts(encoded)
    lengths = [len(sentence) for sentence in sentences]
    jobs: Sequence[Any] = (
        [sentence.rows for sentence in sentences]
        if selection is None
        else trace_jobs(encoded, selection, manifest.head != "tagger", None)
    )

    def work(share: list[list[int]]) -> list[Any]:
        return [result for batch in share for result in run(engine, manifest, [jobs[number] for number in batch])]

    found = batches(lengths, BATCH_ROWS, BATCH_TOKENS)
    shares = portions(found, lambda batch: lengths[batch[0]] * len(batch), SHARE_TOKENS)
    return [(list(chain.from_iterable(share)), pool.submit(work, share)) for share in shares]


def _finish(
    model: Model, window: _Window, begun: list[tuple[list[int], Future[Sequence[Any]]]], options: Options
) -> Done:
    found: list[Any] = [None] * sum(len(batch) for batch, _ in begun)
    for batch, future in begun:
        for number, outcome in zip(batch, future.result(), strict=True):
            found[number] = outcome
    encoded = window.encoded
    records = iter(_records(model, encoded, found, options))
    rows = [
        (row, read if isinstance(read, str) else next(records))
        for row, read in zip(window.rows, window.read, strict=True)
    ]
    return Done(rows, sum(map(len, encoded)))


def _records(model: Model, encoded: list[Encoded], found: list[Any], options: Options) -> list[Record]:
    if not found:
        return []
    traced: list[Traced] | None = traces_of(encoded, found) if options.reduce is not None else None
    logits: list[Logits] = logits_of(encoded, found) if traced is None else [each.logits for each in traced]
    predictions = decode(model, logits, encoded, tokens=options.tokens)
    if traced is None:
        return list(predictions)
    why = note(model.bundle.manifest, None)
    return [
        {"tokens": source.tokens(), **_sentences(source), **prediction, **_trace(each, why)}
        for prediction, each, source in zip(predictions, traced, encoded, strict=True)
    ]


def _sentences(source: Encoded) -> Record:
    return {} if source.sentences is None else {"sentences": source.sentences}


def _trace(traced: Traced, why: str | None) -> Record:
    """The members of `/gates` beside the prediction, with rounded arrays."""
    layers = [
        {
            "layer": layer.layer,
            "direction": layer.direction,
            "gates": {name: _rounded(value) for name, value in layer.gates.items()},
        }
        for layer in traced.layers
    ]
    trace: Record = {"layers": layers, "contributions": traced.contributions}
    return trace if why is None else {**trace, "contributions_note": why}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(array) for name, array in value.items()}
    return np.ascontiguousarray(np.round(value.astype(np.float64), DECIMALS) + 0.0)
