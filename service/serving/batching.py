"""The micro-batcher: waiting rows become a batch as soon as a thread is free. No delay is added.

A caller submits rows to a `Lane` (one for each model and graph) and awaits their results. Once the event loop has run
its ready callbacks, batches are cut from the lanes in turn; the lane with the least run time so far comes first. A
short batch runs in the event loop, at most one in each turn of it. Any other batch runs in a thread of the batcher, and
rows that arrive meanwhile form the next. A lone caller waits for nothing, and batches grow by themselves under load.
The next batch of a submission of several is handed to the threads ahead, so that none of them waits for the event loop,
and is called back if it has not begun when anything else comes.
`service.serving.queueing` cuts a batch from a lane's queue; `service.serving.admission` bounds the waiting tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from service.errors import DeadlineExceeded, Refusal
from service.serving.admission import Admission
from service.serving.queueing import Batch, BatchRun, Entry, Queue, Reply, Results, Submission, Times, padded_tokens

Row = TypeVar("Row")
Result = TypeVar("Result")

Drop = Literal["cancelled", "deadline", "failed"]

_given = attrgetter("given")

WEIGHT_OF_LAST = 0.1
"""Weight of the last batch in a lane's running average of seconds per token."""


@dataclass(slots=True)
class Counters:
    """Totals of the batcher since its start. They only grow."""

    inline_batches: int = 0
    failed_batches: int = 0
    refused: Counter[Refusal] = field(default_factory=Counter)
    """Rejected submissions by reason. No work was begun for them."""
    dropped: Counter[Drop] = field(default_factory=Counter)
    """Accepted rows that never ran because their submission had ended, by the cause of its end."""


class Ahead(NamedTuple):
    """A batch that waits for a thread without the event loop, and the place of its rows in the queue of its lane."""

    batch: Batch[Lane[Any, Any]]
    window: slice
    future: Future[Results]


class Batcher:
    """Lanes that share threads, one bound on waiting tokens, and one event loop.

    `threads` run batches of at most `max_rows` rows and `token_budget` padded tokens. A batch with an estimate under
    `inline_seconds` may run in the event loop. `max_queued_tokens`, `large_tokens`, `large_share` and `lane_share` are
    the bounds of `Admission`.

    `executor` replaces the threads and is shut down by `close`. `clock` measures batches; an event loop's own time is
    too coarse, because uvloop's stands still during a callback. `ran` is called after every batch.
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
        ran: Callable[[BatchRun], None] | None = None,
    ) -> None:
        self.threads = threads
        self.token_budget = token_budget
        self.max_rows = max_rows
        self.inline_seconds = inline_seconds
        self.large_tokens = max_queued_tokens if large_tokens is None else large_tokens
        self.clock = clock
        self.ran = ran
        self.counters = Counters()
        self._executor = executor or ThreadPoolExecutor(threads, thread_name_prefix="batch")
        self._turns: OrderedDict[Lane[Any, Any], None] = OrderedDict()  # lanes with waiting rows, the next first
        self._given = 0.0  # `given` of the lane that ran last, in seconds
        self.admission = Admission(
            lanes=self._turns,
            threads=threads,
            max_queued_tokens=max_queued_tokens,
            large_tokens=self.large_tokens,
            large_share=large_share,
            lane_share=lane_share,
            clock=clock,
            refused=self.counters.refused,
        )
        self._running = 0
        self.ahead: Ahead | None = None
        """The batch that was handed ahead, until `settle_ahead`."""
        self._submissions = 0
        self._flush_is_due = False
        self._closed = False
        self._drained = asyncio.Event()

    @property
    def busy(self) -> bool:
        """True if a batch runs or waits."""
        return bool(self._running or self._turns)

    async def close(self) -> None:
        """Reject new submissions, finish the accepted ones, end the threads. May be called more than once."""
        self._closed = True
        finished = False
        try:
            self._note_if_drained()
            await self._drained.wait()
            finished = True
        finally:
            self._executor.shutdown(wait=finished)

    def admit(self, lane: Lane[Any, Any], tokens: int, deadline: float) -> None:
        """Accept a submission of `tokens` tokens, or raise `Unavailable` or `DeadlineExceeded`. Called by lanes."""
        if self._closed:
            self.admission.refuse_closed()
        if self.ahead is not None:  # others come: no batch may be ahead of theirs
            self.settle_ahead()
        self.admission.admit(lane, tokens, deadline)
        self._submissions += 1

    def leave(self) -> None:
        """An accepted submission has its result or was given up. Called by lanes."""
        self._submissions -= 1
        if self._closed:
            self._note_if_drained()

    def wake(self, lane: Lane[Any, Any]) -> None:
        """A lane has rows. Cut batches once the event loop has run its ready callbacks. Called by lanes."""
        if lane not in self._turns:
            lane.given = max(lane.given, self._given)  # an idle lane saves up no credit
            self._turns[lane] = None
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Start batches in threads while one is free, then run at most one short batch here."""
        self._flush_is_due = False
        now = asyncio.get_running_loop().time()
        short: Batch[Lane[Any, Any]] | None = None
        passed_over: dict[Lane[Any, Any], slice] = {}
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
                passed_over[lane] = window
                continue
            if lane.queue.tokens:
                self._turns[lane] = None
        for lane in reversed(passed_over):
            self._turns[lane] = None
            self._turns.move_to_end(lane, last=False)
        if short is not None:
            self._run_here(short)
            if self._turns:
                self._flush_soon()
        elif passed_over:
            self._hand_ahead(*next(iter(passed_over.items())))

    def _hand_ahead(self, lane: Lane[Any, Any], window: slice) -> None:
        """Let the next free thread begin this batch without the event loop, if all its rows are of submissions of
        several batches. The rows stay in the queue until `settle_ahead`."""
        rows = lane.queue.rows[window]
        if all(entry.submission.spread for entry in rows):
            batch = lane.batch(rows)
            with contextlib.suppress(RuntimeError):  # no thread: the rows wait for the next turn
                self.ahead = Ahead(batch, window, self._submit(batch))

    def settle_ahead(self) -> None:
        """Take the batch that was handed ahead out of its queue if it has begun. Otherwise it is called back, and its
        rows wait like all others. Called before a queue changes."""
        ahead, self.ahead = self.ahead, None
        if ahead is None:
            return
        if ahead.future.cancel():
            self._flush_soon()
            return
        lane = ahead.batch.lane
        self._running += 1
        self._take(lane, ahead.window)
        del self._turns[lane]
        if lane.queue.tokens:
            self._turns[lane] = None

    def _may_run_here(self, lane: Lane[Any, Any], window: slice) -> bool:
        """True if a batch may run in the event loop: a short one. With several threads it must be the only batch,
        because finished threads wait for the loop while it runs one."""
        alone = not self._running and not self._turns and lane.queue.is_all(window)
        return lane.estimate(window) < self.inline_seconds and (self.threads == 1 or alone)

    def _take(self, lane: Lane[Any, Any], window: slice) -> Batch[Lane[Any, Any]]:
        self._given = lane.given
        lane.given += lane.estimate(window)
        return lane.batch(lane.queue.take(window))

    def may_run_at_once(self, estimate: float, rows: int) -> bool:
        """True if nothing runs or waits and a batch of `estimate` seconds is short. Called by lanes."""
        return not (self.busy or self._closed) and estimate < self.inline_seconds and rows <= self.max_rows

    def count_at_once(self, given: float, seconds: float) -> float:
        """Count a batch that ran at once, and return the `given` of its lane. Called by lanes."""
        self.counters.inline_batches += 1
        self._given = max(given, self._given)  # an idle lane saves up no credit
        return self._given + seconds

    def _run_here(self, batch: Batch[Lane[Any, Any]]) -> None:
        self.counters.inline_batches += 1
        try:
            outcome = batch.run()
        except Exception as error:
            self._fail(batch, error)
        else:
            batch.lane.deliver(batch, outcome)

    def _run_in_thread(self, batch: Batch[Lane[Any, Any]]) -> None:
        try:
            self._submit(batch)
        except RuntimeError as error:  # the system gives no thread, or `close` was cancelled
            self._fail(batch, error)
        else:
            self._running += 1

    def _submit(self, batch: Batch[Lane[Any, Any]]) -> Future[Results]:
        loop = asyncio.get_running_loop()

        def landed(future: Future[Results]) -> None:
            if not future.cancelled():
                with contextlib.suppress(RuntimeError):  # the loop was closed without `close`: no caller waits
                    loop.call_soon_threadsafe(self._land, batch, future)

        try:
            future = self._executor.submit(batch.run)
        except RuntimeError:
            batch.void = True  # Python queues the work before it starts a thread, so another thread may find it
            raise
        future.add_done_callback(landed)
        return future

    def _land(self, batch: Batch[Lane[Any, Any]], future: Future[Results]) -> None:
        if self.ahead is not None:
            self.settle_ahead()
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
        for submission in dict.fromkeys(entry.submission for entry in batch.entries):
            batch.lane.end(submission, error, "failed")

    def _note_if_drained(self) -> None:
        if self._closed and not self._submissions and not self._running:
            self._drained.set()


class Lane(Generic[Row, Result]):
    """A queue of rows that may run together. `run` takes rows of similar length and returns one result a row; it must
    be thread-safe.

    `seconds_per_token` is the first estimate of the cost of a padded token; measured batches correct it.
    `seconds_per_row` is the cost of a row beside its tokens. `of` identifies the lane in the reports to `ran`.
    """

    def __init__(
        self,
        batcher: Batcher,
        run: Callable[[Sequence[Row]], Sequence[Result]],
        seconds_per_token: float,
        seconds_per_row: float = 0.0,
        of: object = None,
    ) -> None:
        self._of = of
        self.seconds_per_token = seconds_per_token
        self.given = 0.0
        """Estimated seconds of work that this lane was given. The lane with the least comes next."""
        self._seconds_per_row = seconds_per_row
        self._batcher = batcher
        self._run = run
        self.queue = Queue(batcher.max_rows, batcher.token_budget, batcher.large_tokens)

    def check_room(self) -> None:
        """Raises `Unavailable` if a submission of one token would be rejected. Saves the work before it."""
        self._batcher.admission.check_lane(self)

    async def submit(
        self, rows: Sequence[Row], lengths: Sequence[int], *, deadline: float, times: Times | None = None
    ) -> list[Result]:
        """Run `rows` and return their results in the same order.

        `lengths` are the tokens of each row, at least 1. `deadline` is a time of the event loop. `times`, if given,
        records when the rows ran.

        Raises `Unavailable`, before any work, if too much waits or the batcher is closed; `DeadlineExceeded` at the
        deadline; and any exception of `run` for a batch with one of the rows. Once the event loop has processed a
        cancellation or the deadline, no further row of the caller begins.
        """
        if not rows:
            return []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Result]] = loop.create_future()
        submission = self.post(rows, lengths, future, deadline=deadline, times=times)
        timer = loop.call_at(deadline, self.expire, submission)
        try:
            return await future
        finally:
            timer.cancel()
            self.leave(submission)

    def post(
        self, rows: Sequence[Row], lengths: Sequence[int], reply: Reply, *, deadline: float, times: Times | None = None
    ) -> Submission:
        """`submit` without a wait: `reply` gets the results, at least one row's, or the error.

        The caller calls `expire` at the deadline, and `leave` once it has its results or wants none any more. Raises
        `Unavailable` and `DeadlineExceeded` as `submit` does.
        """
        if min(lengths) < 1:
            raise ValueError("a row has at least one token")
        submission = Submission(rows, lengths, deadline, reply, self._batcher.clock(), times)
        self._batcher.admit(self, submission.tokens, deadline)
        self.queue.add(submission)
        self._batcher.wake(self)
        return submission

    def leave(self, submission: Submission) -> None:
        """A posted submission has its results, or its caller wants none: no further row of it runs."""
        if submission.tokens:
            self._drop(submission, "cancelled")
        self._batcher.leave()

    def run_here(self, rows: Sequence[Row], lengths: Sequence[int]) -> Sequence[Result] | None:
        """Run rows at once, as one batch in the event loop. None, before any work, if the batcher is closed or has
        other work, or if the batch is not a short one.

        The time counts for this lane like that of any batch. Raises any exception of `run`.
        """
        batcher, tokens = self._batcher, sum(lengths)
        estimate = tokens * self.seconds_per_token + len(rows) * self._seconds_per_row
        if not batcher.may_run_at_once(estimate, len(rows)):
            return None
        started = batcher.clock()
        try:
            results = self._run(rows)
        except Exception:
            batcher.counters.failed_batches += 1
            raise
        seconds = batcher.clock() - started
        self.given = batcher.count_at_once(self.given, seconds)
        if batcher.ran is not None:
            batcher.ran(BatchRun(len(rows), tokens, tokens, [0.0] * len(rows), seconds, self._of))
        self._correct(seconds, len(rows), tokens)
        return results

    def next_window(self, now: float) -> slice | None:
        """The next batch, not yet taken; None if nothing waits. Drops rows of callers that have gone."""
        while self.queue.tokens:
            window = self.queue.window()
            gone = [
                e.submission
                for e in self.queue.rows[window]
                if e.submission.future.done() or e.submission.deadline <= now
            ]
            if not gone:
                return window
            for submission in gone:
                if submission.future.done():
                    self._drop(submission, "cancelled")
                else:
                    self.expire(submission)
        return None

    def estimate(self, window: slice) -> float:
        """The expected seconds of a batch."""
        rows = self.queue.rows[window]
        return padded_tokens(rows) * self.seconds_per_token + len(rows) * self._seconds_per_row

    def batch(self, entries: Sequence[Entry]) -> Batch[Lane[Any, Any]]:
        """These rows of the queue, ready to run."""
        return Batch(self, self._run, entries, self._batcher.clock)

    def deliver(self, batch: Batch[Lane[Any, Any]], outcome: Results) -> None:
        """Give the results of a batch to its callers, and correct the estimate by the measured time."""
        results, seconds = outcome
        self._correct(seconds, len(batch.entries), batch.padded_tokens)
        now = asyncio.get_running_loop().time()
        for entry, result in zip(batch.entries, results, strict=True):
            submission = entry.submission
            if submission.future.done():
                continue
            if submission.times is not None:
                submission.times.note(batch.since, self._batcher.clock())
            submission.results[entry.position] = result
            submission.missing -= 1
            if submission.deadline <= now:
                self.expire(submission)
            elif not submission.missing:
                submission.future.set_result(submission.results)
        if self._batcher.ran is not None:  # after the answers: they must not wait for it
            self._batcher.ran(batch.report(seconds, self._of))

    def _correct(self, seconds: float, rows: int, padded_tokens: int) -> None:
        """Correct the estimate of a token's cost by a batch that took `seconds`."""
        for_tokens = max(0.0, seconds - rows * self._seconds_per_row)
        self.seconds_per_token += WEIGHT_OF_LAST * (for_tokens / padded_tokens - self.seconds_per_token)

    def end(self, submission: Submission, error: BaseException, reason: Literal["deadline", "failed"]) -> None:
        """Answer a submission with an error unless it has an answer. Its other rows do not run any more."""
        self._drop(submission, reason)
        if not submission.future.done():
            submission.future.set_exception(error)

    def expire(self, submission: Submission) -> None:
        """Answer a submission with `DeadlineExceeded`, unless it has an answer."""
        self.end(submission, DeadlineExceeded(), "deadline")

    def _drop(self, submission: Submission, reason: Drop) -> None:
        if self._batcher.ahead is not None:
            self._batcher.settle_ahead()
        if rows := self.queue.drop(submission):
            self._batcher.counters.dropped[reason] += rows
