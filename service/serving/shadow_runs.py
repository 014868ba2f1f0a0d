"""A run of a shadow: requests that were answered run again, with the time of both versions if it is measured."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from service.errors import RequestError
from service.model.decoding import Prediction
from service.model.joining import Logits, logits_of, parts
from service.model.loading import Model
from service.model.tokenizer import Encoded
from service.serving.exchange import Exchange
from service.serving.inference import Rows, decode, run_predictions

BATCH_ROWS, BATCH_TOKENS = 4, 4096
"""Limits of one batch: its rows and its tokens with padding. A batch of 16 rows takes longer per row: more padding, and
the first-level caches are too small."""

Measured = Literal["no", "before", "after"]
Around = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class ShadowResults:
    """Results of a group: predictions by request (None if the shadow cannot read it), and the seconds of both versions,
    0 for the served one unless it ran too."""

    predictions: Sequence[Sequence[Prediction] | None]
    rows: Sequence[Rows]
    served_seconds: float = 0.0
    shadow_seconds: float = 0.0


def run(
    group: Sequence[Exchange], shadow: Model, measured: Measured, around: Around = contextlib.nullcontext
) -> ShadowResults:
    """Run a group of one model's requests in this thread, each batch within `around`. If `measured`, the served version
    runs too, before or after."""
    served = group[0].model
    encoded = [_encoded(each, shadow) for each in group]
    readable = [source for each in encoded if each is not None for source in each]
    if not readable:
        return ShadowResults([None] * len(group), [])
    own = [source for each in group for source in each.encoded]
    comparable = served.tokenizer is shadow.tokenizer and len(own) == len(readable)  # both versions get the same rows
    served_seconds = 0.0
    if comparable and measured == "before":
        _, served_seconds = _predict(served, own, around)
    logits, shadow_seconds = _predict(shadow, readable, around)
    if comparable and measured == "after":
        _, served_seconds = _predict(served, own, around)
    predictions = iter(decode(shadow, logits, readable, tokens=False))
    found = [None if each is None else [next(predictions) for _ in each] for each in encoded]
    return ShadowResults(found, [each.rows for each in parts(readable)], served_seconds, shadow_seconds)


def _encoded(exchange: Exchange, shadow: Model) -> Sequence[Encoded] | None:
    """A request's inputs as the shadow encodes them; None if it cannot read them."""
    longest = max(map(len, exchange.encoded))
    if exchange.model.tokenizer is shadow.tokenizer and longest <= shadow.token_limit:
        return exchange.encoded
    try:
        return [shadow.encode(each, truncate=exchange.truncate, split=exchange.split) for each in exchange.inputs()]
    except RequestError:  # over its token limit, or without a token in its tokenizer
        return None


def _predict(model: Model, encoded: Sequence[Encoded], around: Around) -> tuple[list[Logits], float]:
    """The logits of each input, and the seconds of the batches: CPU time for a model on the CPU."""
    clock = time.thread_time if model.engine.provider == "cpu" else time.perf_counter
    rows = [each.rows for each in parts(encoded)]
    found: dict[int, Logits] = {}
    seconds = 0.0
    for group in small_batches(list(map(len, rows))):
        batch = [rows[number] for number in group]
        with around():
            started = clock()
            logits = run_predictions(model.engine, model.bundle.manifest, batch)
            seconds += clock() - started
        found.update(zip(group, logits, strict=True))
    return logits_of(encoded, [found[number] for number in range(len(rows))]), seconds


def tokens_to_run(lengths: Sequence[int]) -> int:
    """Tokens of all batches with their padding, for rows of these lengths."""
    return sum(lengths[batch[-1]] * len(batch) for batch in small_batches(lengths))


def small_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of rows, shortest first, in batches of at most `BATCH_ROWS` rows and `BATCH_TOKENS` tokens."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) >= BATCH_ROWS or lengths[number] * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(number)
    yield batch


@contextlib.contextmanager
def yielding() -> Iterator[None]:
    """Run the block at the lowest CPU priority, on Linux."""
    if sys.platform != "linux":
        yield
        return
    thread, nothing = threading.get_native_id(), os.sched_param(0)
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(thread, os.SCHED_IDLE, nothing)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(thread, os.SCHED_OTHER, nothing)
