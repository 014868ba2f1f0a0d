"""Shadows: another version of the model runs answered requests again.

A shadow runs only while the service is idle. A request that finds the shadow's queue full is dropped and counted.
Nothing else waits for a shadow.

A service that leaves CPUs unused runs its shadows there, in one thread of the lowest priority. Requests are gathered to
groups first, because each change of threads costs the event loop time.

If every CPU has a worker, a thread takes more from the requests than its priority says: Python's lock goes to and fro,
and a request that interrupts the run finds the caches filled by it. The event loop then runs the shadow itself, one
request at a time. A request that arrives meanwhile waits for the rest of that run. In a queue with priorities
(A. Cobham, *Priority assignment in waiting line problems*, 1954) n runs a second, each of d seconds, add
n·d² / 2(1 - ρ) seconds to the mean wait, if the requests keep the loop busy for a share ρ of the time. So short runs
cost less than groups, although a group needs less time per request; and a run must not begin before the loop has read
its sockets and found nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from service.model.decoding import Prediction
from service.model.joining import bounds
from service.model.loading import Model
from service.observability.metrics import Metrics
from service.serving.comparison import brief, compare
from service.serving.exchange import Exchange
from service.serving.recent import Recent
from service.serving.sampling import Sampler
from service.serving.served import Served
from service.serving.shadow_report import Compared, compared_content, figures, report
from service.serving.shadow_runs import Measured, ShadowResults, run, tokens_to_run, yielding

MAX_WAITING = 256
"""Requests that may wait for shadows in each worker; more are dropped."""
MAX_WAITING_TOKENS = 65_536
"""Tokens of the waiting requests; the first request is always accepted."""
GROUP_ROWS, GROUP_TOKENS = 16, 4096
"""Limits of one group in the thread: its rows (texts or sentences) and its tokens. A request with more rows runs in the
thread, on every machine; the event loop turns after the comparisons of so many rows."""
GATHER_SECONDS = 0.05
"""The longest time that a request waits for others of its group."""
LONGEST_HERE = 0.002
"""Requests with a longer estimate run in the thread, on every machine."""
IDLE_TURNS = 2
"""Turns of the event loop without work before a run: the first reads the sockets, the second begins the tasks of the
requests that were read. This holds for uvloop. asyncio's own loop, which runs the service on Windows only, begins those
tasks one turn later."""
IDLE_SECONDS = 0.002
"""Interval between two looks for idle time. A look takes `IDLE_TURNS` turns of the event loop."""
MEASURED = 16
"""The served version runs one of this many groups again, for the ratio of run times."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Waiting:
    exchange: Exchange
    shadow: Model
    since: float
    """Its arrival, as a time of the event loop."""

    @property
    def of(self) -> Compared:
        return self.exchange.model.name, self.exchange.model.version, self.shadow.version


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
        self._waiting: deque[_Waiting] = deque()
        self._tokens = self._rows = 0
        self._groups = 0
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        metrics.derived.append(figures)

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
        self._rows += exchange.rows
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
        return report(served, self._metrics.totals(), self._recent.read())

    def _count(self, family: str, of: Compared, *more: str, by: float = 1.0) -> None:
        self._metrics.board.number(family, *of, *more).add(by)

    async def _work(self) -> None:
        while self._waiting:
            if self._spare and (left := self._seconds_to_gather()) > 0:
                await asyncio.sleep(left)
                continue
            if not await self._idle():
                await asyncio.sleep(IDLE_SECONDS)
                continue
            number, rest = divmod(self._groups, MEASURED)
            # The orders alternate, because the second of two runs finds warm caches.
            measured: Measured = "no" if rest else "before" if number % 2 else "after"
            self._groups += 1
            group = self._group()
            if not self._judged(group):
                continue
            try:
                await self._note(group, await self._run(group, measured))
            except Exception as error:  # a failed shadow must not fail a request
                _log.error("a shadow failed", model=group[0].of[0], error=type(error).__name__)
                for each in group if self._judged(group) else ():
                    self._count("shadow_dropped_total", each.of, "failed")

    def _seconds_to_gather(self) -> float:
        """Seconds that the first request still waits for others of its group; none if the group is full."""
        if self._rows >= GROUP_ROWS or self._tokens >= GROUP_TOKENS:
            return 0.0
        return self._waiting[0].since + GATHER_SECONDS - asyncio.get_running_loop().time()

    async def _idle(self) -> bool:
        """True if the batcher has no work, and the next turns of the event loop bring none."""
        for _ in range(IDLE_TURNS):
            if self._busy():
                return False
            await asyncio.sleep(0)
        return not self._busy()

    def _group(self) -> list[_Waiting]:
        """The next request; for the thread also those after it of the same model and shadow, within the limits of a
        group."""
        group = [self._waiting.popleft()]
        first = group[0]
        rows, tokens = first.exchange.rows, first.exchange.tokens
        while self._spare and self._waiting:
            after = self._waiting[0]
            more, longer = rows + after.exchange.rows, tokens + after.exchange.tokens
            alike = after.shadow is first.shadow and after.exchange.model is first.exchange.model
            if not alike or more > GROUP_ROWS or longer > GROUP_TOKENS:
                break
            rows, tokens = more, longer
            group.append(self._waiting.popleft())
        self._tokens -= tokens
        self._rows -= rows
        return group

    def _judged(self, group: Sequence[_Waiting]) -> bool:
        """False if the figures are no longer about a group: one of its two versions has other content by now. Ask
        again after each turn of the event loop."""
        return all(
            self._metrics.judges((model.name, model.version), model.bundle.digest)
            for model in (group[0].exchange.model, group[0].shadow)
        )

    async def _run(self, group: Sequence[_Waiting], measured: Measured) -> ShadowResults:
        """Run a group: one short request here, any other group in the thread."""
        shadow, exchanges = group[0].shadow, [each.exchange for each in group]
        lengths = [end - first for source in exchanges[0].encoded for first, end in bounds(source)]
        seconds = tokens_to_run(lengths) * shadow.seconds_per_token * (1 if measured == "no" else 2)
        if not self._spare and len(lengths) <= GROUP_ROWS and seconds <= LONGEST_HERE:
            return run(exchanges, shadow, measured)
        work = partial(run, exchanges, shadow, measured, yielding)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _note(self, group: Sequence[_Waiting], ran: ShadowResults) -> None:
        of = group[0].of
        if not self._judged(group):
            return
        if ran.served_seconds:
            self._count("shadow_run_seconds_total", of, "served", by=ran.served_seconds)
            self._count("shadow_run_seconds_total", of, "shadow", by=ran.shadow_seconds)
        for waiting, predictions in zip(group, ran.predictions, strict=True):
            if predictions is None:
                self._count("shadow_dropped_total", of, "failed")
                continue
            if not await self._compare(waiting, predictions):
                return
            self._count("shadow_requests_total", of)
        self._sampler.offer(group[0].shadow, ran.rows)

    async def _compare(self, waiting: _Waiting, predictions: Sequence[Prediction]) -> bool:
        """Compare a request's answers and count them. Returns False once the figures are no longer about them."""
        exchange, of = waiting.exchange, waiting.of
        change = self._metrics.board.histogram("shadow_score_change", *of)
        for number, (served, shadow) in enumerate(zip(exchange.predictions, predictions, strict=True)):
            if number and number % GROUP_ROWS == 0:
                await asyncio.sleep(0)  # a comparison takes 2 to 3 microseconds: requests come between
                if not self._judged([waiting]):
                    return False
            found = compare(served, shadow)
            self._count("shadow_inputs_total", of)
            change.observe(*found.changes)
            if found.agree:
                self._count("shadow_agreements_total", of)
                continue
            for flip in found.flips:
                self._count("shadow_flips_total", of, *flip)
            entry: dict[str, Any] = {
                "of": compared_content(exchange.model, waiting.shadow),
                "time": exchange.then,
                "request_id": exchange.request_id,
                "input": number,
                "served": brief(served, text=self._texts),
                "shadow": brief(shadow, text=self._texts),
            }
            if self._texts:
                entry["text"] = exchange.encoded[number].text
            self._recent.add(entry)
        return True
