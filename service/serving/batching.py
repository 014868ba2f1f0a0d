"""The micro-batcher: what waits becomes a batch as soon as something is free to run it. No delay is added.

A caller submits rows to a `Lane` (one for each model and graph) and awaits their results. Once the event loop has dealt
with all that it had ready, batches are cut from what waits, lane after lane in turn. A short batch runs in the event
loop, at most one in each turn of it; any other runs in one of the batcher's own threads, and what arrives meanwhile
forms the next. One caller alone waits for nothing, and batches grow by themselves under load.

How a batch is cut from a lane's queue, `service.serving.queueing` says. Among lanes, the next is the one that has been
given the least time.

Who is let in: what waits is bounded, in tokens. Large calls get a share of that bound, so that the rest is always there
for small ones, and no lane may fill more than a share of what the others leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NoReturn, TypeVar

from service.errors import DeadlineExceeded, Refused, Unavailable
from service.serving.queueing import Batch, Call, Outcome, Queue, Ran, Times, padded_tokens

Row = TypeVar("Row")
Result = TypeVar("Result")

Drop = Literal["cancelled", "deadline", "failed"]

WEIGHT_OF_LAST = 0.1
"""What the last batch's seconds per token count for in a lane's running average."""
LONGEST_RETRY = 60.0
"""Seconds; a caller who was told to come back later than that would not."""
RETRY_WHEN_CLOSED = 1.0
"""Seconds after which a refused caller may find another instance, or this one restarted."""


@dataclass(slots=True)
class Counters:
    """What the batcher has done so far; plain numbers that only grow, for whoever reports them."""

    batches: int = 0
    inline_batches: int = 0
    failed_batches: int = 0
    rows: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    refused: Counter[Refused] = field(default_factory=Counter)
    """Calls, by reason: nothing was begun for them."""
    dropped: Counter[Drop] = field(default_factory=Counter)
    """Rows that were accepted and never ran, because their call had ended: by what ended it."""


class Batcher:
    """Lanes that share threads, an allowance of waiting tokens, and the event loop in which all of them are used.

    `threads` run batches of at most `max_rows` rows and `token_budget` padded tokens; a batch that is estimated to take
    under `inline_seconds` may run in the event loop. A call is refused when with it more than `max_queued_tokens`
    tokens would wait, unless nothing waits at all. Calls of more than `large_tokens` count for at most `large_share` of
    these, and are refused where they would be more, but for a first one; a lane's other calls may be `lane_share` of
    what the other lanes leave. `executor`, if given, stands in for the threads and is shut down
    by `close`; `clock` measures what batches take (an event loop's own time is too coarse: uvloop's stands still while
    a callback runs). `ran`, if given, is told of every batch that has run.
    """

    def __init__(
        self,
        *,
        threads: int,
        token_budget: int,
        max_rows: int,
        max_queued_tokens: int,
        inline_seconds: float,
        large_tokens: int | None = None,
        large_share: float = 1.0,
        lane_share: float = 1.0,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.perf_counter,
        ran: Callable[[Ran], None] | None = None,
    ) -> None:
        self.threads = threads
        self.token_budget = token_budget
        self.max_rows = max_rows
        self.max_queued_tokens = max_queued_tokens
        self.inline_seconds = inline_seconds
        self.large_tokens = max_queued_tokens if large_tokens is None else large_tokens
        self._most_large = large_share * max_queued_tokens
        self._lane_share = lane_share
        self.clock = clock
        self.ran = ran
        self.counters = Counters()
        self._executor = executor or ThreadPoolExecutor(threads, thread_name_prefix="batch")
        self._turns: OrderedDict[Lane[Any, Any], None] = OrderedDict()  # lanes with waiting rows; the next one first
        self._given = 0.0  # seconds that the lane which ran last had been given by then
        self._promised = (0.0, clock())  # seconds of work that refused callers will come back with, and when it was so
        self._mean_tokens = 1.0  # of the calls that came
        self._running = 0
        self._calls = 0
        self._flush_is_due = False
        self._closed = False
        self._drained = asyncio.Event()

    def lane(
        self,
        run: Callable[[Sequence[Row]], Sequence[Result]],
        seconds_per_token: float,
        seconds_per_row: float = 0.0,
        of: object = None,
    ) -> Lane[Row, Result]:
        """A new queue. `run` takes rows of like length and returns one result a row; it must bear several threads.

        `seconds_per_token` is the first estimate of what one padded token costs; what runs really take corrects it.
        `seconds_per_row` is what each row costs beside its tokens. `of` names the lane in what `ran` is told.
        """
        return Lane(self, run, seconds_per_token, seconds_per_row, of)

    @property
    def queued_tokens(self) -> int:
        """Tokens of the rows that are accepted and have not begun, in all lanes, without padding."""
        return sum(lane.queued_tokens for lane in self._turns)

    @property
    def busy(self) -> bool:
        """Whether a batch runs or waits."""
        return bool(self._running or self._turns)

    @property
    def queued_seconds(self) -> float:
        """The time that the threads are estimated to need for what waits."""
        return sum(lane.queued_tokens * lane.seconds_per_token for lane in self._turns) / self.threads

    async def close(self) -> None:
        """Refuse new calls, finish those that were accepted, end the threads. May be called more than once."""
        self._closed = True
        finished = False
        try:
            self._note_if_drained()
            await self._drained.wait()
            finished = True
        finally:
            self._executor.shutdown(wait=finished)

    @property
    def _large(self) -> int:
        """Tokens of large calls that wait."""
        return sum(lane.large_tokens for lane in self._turns)

    def check_room(self) -> None:
        """Raises `Unavailable` when not one more token may wait."""
        if self.queued_tokens >= self.max_queued_tokens:
            large = self._large
            if self.queued_tokens - large + min(large, self._most_large) >= self.max_queued_tokens:
                self.refuse_full(self._mean_tokens)

    def has_room(self, lane: Lane[Any, Any], tokens: int) -> bool:
        """Whether a lane's call of so many tokens may wait."""
        waiting = self.queued_tokens
        if not waiting:
            return True
        large = self._large
        if tokens > self.large_tokens:
            return large + tokens <= self._most_large if large else waiting <= self._most_large
        counted = waiting - large + min(large, self._most_large)
        own = lane.queued_tokens - lane.large_tokens
        return counted + tokens <= self.max_queued_tokens and own + tokens <= self._lane_share * (
            self.max_queued_tokens - (counted - own)
        )

    def check_lane(self, lane: Lane[Any, Any]) -> None:
        """Raises `Unavailable` when a lane has no room for a call of one token. For lanes."""
        if not self.has_room(lane, 1):
            self.refuse_full(self._mean_tokens)

    def refuse_full(self, tokens: float) -> NoReturn:
        """Send a call of about so many tokens away. When to come back is later for each in turn: not all at once."""
        self.counters.refused[Refused.FULL] += 1
        now = self.clock()
        promised, then = self._promised
        promised = max(0.0, promised - (now - then))
        self._promised = (promised + tokens * self._seconds_per_token / self.threads, now)
        raise Unavailable(
            f"The service is full: {self.queued_tokens} tokens wait, of at most {self.max_queued_tokens}.",
            retry_after=min(LONGEST_RETRY, self.queued_seconds + promised),
        )

    def refuse_closed(self) -> NoReturn:
        """Send a call away for good."""
        self.counters.refused[Refused.CLOSED] += 1
        raise Unavailable("The service is shutting down.", retry_after=RETRY_WHEN_CLOSED)

    @property
    def _seconds_per_token(self) -> float:
        """Over the lanes that wait."""
        return self.queued_seconds * self.threads / max(1, self.queued_tokens)

    def admit(self, lane: Lane[Any, Any], tokens: int, deadline: float) -> None:
        """Let a call of so many tokens in, or raise `Unavailable` or `DeadlineExceeded`. For lanes."""
        if self._closed:
            self.refuse_closed()
        if deadline <= asyncio.get_running_loop().time():
            self.counters.refused[Refused.DEADLINE] += 1
            raise _late()
        self._mean_tokens += WEIGHT_OF_LAST * (tokens - self._mean_tokens)
        if not self.has_room(lane, tokens):
            self.refuse_full(tokens)
        self._calls += 1

    def leave(self) -> None:
        """A call that was let in has its answer, or wants none any more. For lanes."""
        self._calls -= 1
        self._note_if_drained()

    def wake(self, lane: Lane[Any, Any]) -> None:
        """A lane has rows; cut batches once the event loop has dealt with what it has ready. For lanes."""
        if lane not in self._turns:
            lane.given = max(lane.given, self._given)  # who had nothing to run has saved nothing up
            self._turns[lane] = None
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Start what can start: batches in threads while one is free, and one short batch here, after those."""
        self._flush_is_due = False
        now = asyncio.get_running_loop().time()
        short: Batch[Lane[Any, Any]] | None = None
        passed_over: list[Lane[Any, Any]] = []
        while self._turns and (short is None or self._running < self.threads):
            lane = min(self._turns, key=_given)
            del self._turns[lane]
            window = lane.next_window(now)
            if window is None:
                continue
            if short is None and self._may_run_here(lane, window):
                short = self._take(lane, window)
            elif self._running < self.threads:
                self._run_in_thread(self._take(lane, window))
            else:
                passed_over.append(lane)
                continue
            if lane.queued_tokens:
                self._turns[lane] = None
        for lane in reversed(passed_over):
            self._turns[lane] = None
            self._turns.move_to_end(lane, last=False)
        if short is not None:
            self._run_here(short)
            if self._turns:
                self._flush_soon()

    def _may_run_here(self, lane: Lane[Any, Any], window: slice) -> bool:
        """Whether a batch may run in the event loop: a short one. With threads on several CPUs, only one that is alone:
        while the loop runs a batch, threads that are done with theirs wait for the next."""
        alone = not self._running and not self._turns and lane.is_all(window)
        return lane.estimate(window) < self.inline_seconds and (self.threads == 1 or alone)

    def _take(self, lane: Lane[Any, Any], window: slice) -> Batch[Lane[Any, Any]]:
        self._given = lane.given
        lane.given += lane.estimate(window)
        batch = lane.take(window)
        self.counters.batches += 1
        self.counters.rows += len(batch.entries)
        self.counters.tokens += batch.tokens
        self.counters.padded_tokens += batch.padded_tokens
        return batch

    def _run_here(self, batch: Batch[Lane[Any, Any]]) -> None:
        self.counters.inline_batches += 1
        try:
            outcome = batch.run()
        except Exception as error:
            self._fail(batch, error)
        else:
            batch.lane.deliver(batch, outcome)

    def _run_in_thread(self, batch: Batch[Lane[Any, Any]]) -> None:
        loop = asyncio.get_running_loop()
        self._running += 1

        def landed(future: Future[Outcome]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed without `close`: nobody waits any more
                loop.call_soon_threadsafe(self._land, batch, future)

        try:
            future = self._executor.submit(batch.run)
        except RuntimeError as error:  # the system gives no thread, or `close` was cancelled
            self._running -= 1
            self._fail(batch, error)
        else:
            future.add_done_callback(landed)

    def _land(self, batch: Batch[Lane[Any, Any]], future: Future[Outcome]) -> None:
        self._running -= 1
        if error := future.exception():
            self._fail(batch, error)
        else:
            batch.lane.deliver(batch, future.result())
        if self._turns:
            self._flush_soon()
        self._note_if_drained()

    def _fail(self, batch: Batch[Lane[Any, Any]], error: BaseException) -> None:
        self.counters.failed_batches += 1
        for call in dict.fromkeys(entry.call for entry in batch.entries):
            batch.lane.end(call, error, "failed")

    def _note_if_drained(self) -> None:
        if self._closed and not self._calls and not self._running:
            self._drained.set()


class Lane(Generic[Row, Result]):
    """One queue of rows that may run together. Made by `Batcher.lane`."""

    def __init__(
        self,
        batcher: Batcher,
        run: Callable[[Sequence[Row]], Sequence[Result]],
        seconds_per_token: float,
        seconds_per_row: float,
        of: object = None,
    ) -> None:
        self._of = of
        self.seconds_per_token = seconds_per_token
        self.given = 0.0
        """Seconds of work that it was given, as estimated: more than what others were, it comes after them."""
        self._seconds_per_row = seconds_per_row
        self._batcher = batcher
        self._run = run
        self._queue = Queue(batcher.max_rows, batcher.token_budget, batcher.large_tokens)

    @property
    def queued_tokens(self) -> int:
        """Tokens of this lane's rows that are accepted and have not begun, without padding."""
        return self._queue.tokens

    @property
    def large_tokens(self) -> int:
        """Those of them that belong to large calls."""
        return self._queue.large_tokens

    def check_room(self) -> None:
        """Raises `Unavailable` when a call of usual length would be refused: before more is done for it."""
        self._batcher.check_lane(self)

    async def submit(
        self, rows: Sequence[Row], lengths: Sequence[int], *, deadline: float, times: Times | None = None
    ) -> list[Result]:
        """The results of `rows`, in their order; `lengths` are their tokens, `deadline` is a time of the event loop.
        `times` are written down where there are any.

        Raises `Unavailable` when too much waits already or the batcher is closed, before any work; `DeadlineExceeded`
        at the deadline; and whatever `run` raised for a batch in which one of the rows was. Rows of a caller that was
        cancelled or whose deadline has passed do not run any more.
        """
        if not rows:
            return []
        if min(lengths) < 1:
            raise ValueError("a row has at least one token")
        loop = asyncio.get_running_loop()
        call = Call(rows, lengths, deadline, loop.create_future(), self._batcher.clock(), times)
        self._batcher.admit(self, call.tokens, deadline)
        timer = loop.call_at(deadline, self._expire, call)
        self._queue.add(call)
        self._batcher.wake(self)
        try:
            answer: list[Result] = await call.future
            return answer
        finally:
            timer.cancel()
            self._drop(call, "cancelled")
            self._batcher.leave()

    def next_window(self, now: float) -> slice | None:
        """The next batch, not yet taken; None when nothing waits. Rows whose callers have gone are dropped."""
        while self._queue.tokens:
            window = self._queue.window()
            gone = [e.call for e in self._queue.rows[window] if e.call.future.done() or e.call.deadline <= now]
            if not gone:
                return window
            for call in gone:
                if call.future.done():
                    self._drop(call, "cancelled")
                else:
                    self._expire(call)
        return None

    def estimate(self, window: slice) -> float:
        """The seconds that a batch is expected to take."""
        rows = self._queue.rows[window]
        return padded_tokens(rows) * self.seconds_per_token + len(rows) * self._seconds_per_row

    def is_all(self, window: slice) -> bool:
        """Whether nothing is left to run after this batch."""
        return sum(entry.length for entry in self._queue.rows[window]) == self.queued_tokens

    def take(self, window: slice) -> Batch[Lane[Any, Any]]:
        """Take a batch out of the queue; from here on it runs."""
        return Batch(self, self._run, self._queue.take(window), self._batcher.clock)

    def deliver(self, batch: Batch[Lane[Any, Any]], outcome: Outcome) -> None:
        """Hand the results of a batch to its callers, and learn from the time that it took."""
        results, seconds = outcome
        if self._batcher.ran is not None:
            self._batcher.ran(batch.report(seconds, self._of))
        for_tokens = max(0.0, seconds - len(batch.entries) * self._seconds_per_row)
        self.seconds_per_token += WEIGHT_OF_LAST * (for_tokens / batch.padded_tokens - self.seconds_per_token)
        now = asyncio.get_running_loop().time()
        for entry, result in zip(batch.entries, results, strict=True):
            call = entry.call
            if call.future.done():
                continue
            if call.times is not None:
                call.times.note(batch.since, self._batcher.clock())
            call.results[entry.position] = result
            call.missing -= 1
            if call.deadline <= now:
                self._expire(call)
            elif not call.missing:
                call.future.set_result(call.results)

    def end(self, call: Call, error: BaseException, reason: Literal["deadline", "failed"]) -> None:
        """Answer a call with an error, if it has no answer yet; its other rows do not run any more."""
        if not call.future.done():
            call.future.set_exception(error)
        self._drop(call, reason)

    def _expire(self, call: Call) -> None:
        self.end(call, _late(), "deadline")

    def _drop(self, call: Call, reason: Drop) -> None:
        if rows := self._queue.drop(call):
            self._batcher.counters.dropped[reason] += rows


def _given(lane: Lane[Any, Any]) -> float:
    return lane.given


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("The answer was not ready within the request's deadline.")
