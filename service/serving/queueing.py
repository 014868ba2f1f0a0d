"""The queue of one lane, and the cut of a batch from it.

Rows wait sorted by length. A batch is a window of neighbours that contains the row with the longest wait. Among such
windows the cut takes the one with the most rows, under three limits: no row is shorter than `LIKE` of the longest, at
most `max_rows` rows, at most `token_budget` tokens with padding. A row over the budget runs alone.

The rows of a large submission join the queue at most one batch at a time, longest first, so that rows of others come in
between.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import count
from operator import attrgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

_Item = TypeVar("_Item")
Home = TypeVar("Home")
"""The lane of a batch. This module only passes it on."""

LIKE = 0.8
"""A row shorter than this share of the longest goes into another batch, because its padding costs more than that
batch."""


class Times:
    """Times of one submission by the batcher's clock: its arrival, the begin of its first row, the end of its last."""

    __slots__ = ("begun", "ended", "since")

    def __init__(self, since: float) -> None:
        self.since = self.ended = since
        self.begun: float | None = None

    def note(self, begun: float, ended: float) -> None:
        """A batch with rows of the submission has run."""
        self.begun = begun if self.begun is None else min(begun, self.begun)
        self.ended = max(ended, self.ended)


class Reply(Protocol):
    """The receiver of a submission's results, such as a future of asyncio."""

    def done(self) -> bool:
        """True once it has results or an error, or wants none any more."""

    def set_result(self, results: list[Any], /) -> None:
        """Take one result a row. Must not raise."""

    def set_exception(self, error: BaseException, /) -> None:
        """Take the error that the submission ended with. Must not raise."""


@dataclass(slots=True, eq=False)
class Submission:
    """One submission: its rows, its results so far, and the receiver of them."""

    rows: Sequence[Any]
    lengths: InitVar[Sequence[int]]
    deadline: float
    future: Reply
    since: float
    """Arrival, by the batcher's clock."""
    times: Times | None = None
    """None unless the caller wants them."""
    results: list[Any] = field(init=False)
    missing: int = field(init=False)
    tokens: int = field(init=False)
    """Tokens of the rows that have not begun."""
    backlog: list[tuple[int, int]] = field(init=False)
    """(length, position) of the rows outside the queue, longest last."""
    queued: dict[int, Entry] = field(init=False, default_factory=dict)
    """The rows in the queue, by order of joining."""
    queued_tokens: int = field(init=False, default=0)
    large: bool = field(init=False, default=False)
    spread: bool = field(init=False, default=False)
    """True if its rows do not fit into one batch."""

    def __post_init__(self, lengths: Sequence[int]) -> None:
        self.missing = len(self.rows)
        self.results = [None] * self.missing
        one = self.missing == 1 == len(lengths)
        self.tokens = lengths[0] if one else sum(lengths)
        self.backlog = [(lengths[0], 0)] if one else sorted(zip(lengths, range(self.missing), strict=True))


class Entry(NamedTuple):
    """A row in the queue. Entries compare by length, then by the order in which they joined."""

    length: int
    order: int
    submission: Submission
    position: int


_LENGTH = attrgetter("length")


class Queue:
    """The waiting rows of one lane, by length and by age."""

    def __init__(self, max_rows: int, token_budget: int, large: int) -> None:
        self.tokens = 0
        """Tokens of all rows that have not begun, also those outside the queue."""
        self.large_tokens = 0
        """Those of submissions with more than `large` tokens."""
        self._large = large
        self.rows: list[Entry] = []
        """The rows in the queue, ascending."""
        self._by_age: OrderedDict[int, Entry] = OrderedDict()
        self._order = count()
        self._max_rows = max_rows
        self._token_budget = token_budget

    def add(self, submission: Submission) -> None:
        tokens = submission.tokens
        self.tokens += tokens
        if tokens > self._large:
            submission.large = True
            self.large_tokens += tokens
        self._join(submission)
        if submission.backlog:
            self._refill(submission)
            submission.spread = bool(submission.backlog)

    def window(self) -> slice:
        """The best window of `rows` (see the module). Among windows of equal size, that of the shortest rows."""
        rows = self.rows
        oldest = bisect_left(rows, next(iter(self._by_age.values())))
        best = slice(oldest, oldest + 1)
        for last in range(oldest, min(oldest + self._max_rows, len(rows))):
            longest = rows[last].length
            most = max(1, min(self._max_rows, self._token_budget // longest))
            first = max(last + 1 - most, bisect_left(rows, (LIKE * longest,)))
            if first > oldest:
                break
            if last + 1 - first > best.stop - best.start:
                best = slice(first, last + 1)
            if best.stop - best.start >= most:
                break
        return best

    def is_all(self, window: slice) -> bool:
        """True if no row remains after this batch."""
        return _tokens(self.rows[window]) == self.tokens

    def take(self, window: slice) -> list[Entry]:
        """Remove these rows; they begin to run."""
        taken = self.rows[window]
        del self.rows[window]
        by_age, tokens = self._by_age, 0
        behind: dict[Submission, None] = {}
        for length, order, submission, _ in taken:
            del by_age[order]
            del submission.queued[order]
            submission.queued_tokens -= length
            submission.tokens -= length
            tokens += length
            if submission.large:
                self.large_tokens -= length
            if submission.backlog:
                behind[submission] = None
        self.tokens -= tokens
        for submission in behind:
            self._refill(submission)
        return taken

    def drop(self, submission: Submission) -> int:
        """Remove all rows of a submission that have not begun. Returns their number."""
        dropped = len(submission.queued) + len(submission.backlog)
        if not dropped:
            return 0
        for entry in submission.queued.values():
            del self.rows[bisect_left(self.rows, entry)]
            del self._by_age[entry.order]
        self.tokens -= submission.tokens
        self.large_tokens -= submission.tokens * submission.large
        submission.tokens = submission.queued_tokens = 0
        submission.queued.clear()
        submission.backlog.clear()
        return dropped

    def _refill(self, submission: Submission) -> None:
        """Let rows of a submission join while its queued rows fit into one batch."""
        while submission.backlog and (not submission.queued or self._fits(submission, submission.backlog[-1][0])):
            self._join(submission)

    def _join(self, submission: Submission) -> None:
        """Let the longest row of a submission's backlog join."""
        length, position = submission.backlog.pop()
        order = next(self._order)
        entry = Entry(length, order, submission, position)
        insort(self.rows, entry)
        self._by_age[order] = submission.queued[order] = entry
        submission.queued_tokens += length

    def _fits(self, submission: Submission, length: int) -> bool:
        return len(submission.queued) < self._max_rows and submission.queued_tokens + length <= self._token_budget


class BatchRun(NamedTuple):
    """Measurements of a finished batch."""

    rows: int
    tokens: int
    padded_tokens: int
    waits: Sequence[float]
    """Seconds from each row's arrival to the begin of the batch."""
    seconds: float
    of: object = None
    """The lane's `of`."""


Results = tuple[Sequence[Any], float]
"""One result a row, and the seconds of the batch."""


@dataclass(slots=True, eq=False)
class Batch(Generic[Home]):
    """Rows that run together."""

    lane: Home
    _run: Callable[[Sequence[Any]], Sequence[Any]]
    entries: Sequence[Entry]
    _clock: Callable[[], float]
    since: float = 0.0
    """The begin, by the clock."""
    void: bool = False
    """True if no caller waits for this run: its rows run in another batch, or were answered with an error."""

    @property
    def padded_tokens(self) -> int:
        return padded_tokens(self.entries)

    def run(self) -> Results:
        """Run the batch, unless it is void. Returns the results and the seconds."""
        if self.void:
            return [], 0.0
        self.since = started = self._clock()
        try:
            results = self._run([entry.submission.rows[entry.position] for entry in self.entries])
        except StopIteration as error:  # a future cannot hold StopIteration: its callers would wait for ever
            raise RuntimeError("run raised StopIteration") from error
        if len(results) != len(self.entries):
            raise RuntimeError(f"run returned {len(results)} results for {len(self.entries)} rows")
        return results, self._clock() - started

    def report(self, seconds: float, of: object) -> BatchRun:
        """Measurements of the batch after its run. `of` identifies its lane."""
        waits = [self.since - entry.submission.since for entry in self.entries]
        return BatchRun(len(self.entries), _tokens(self.entries), self.padded_tokens, waits, seconds, of)


def batches(lengths: Sequence[int], most_rows: int, most_tokens: int, *, like: float = LIKE) -> Iterator[list[int]]:
    """Numbers of rows, the longest first, in batches of at most `most_rows` rows and `most_tokens` tokens with padding.

    No row is shorter than `like` of the longest of its batch. A row over `most_tokens` is alone.
    """
    batch: list[int] = []
    longest = 0
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        full = len(batch) == most_rows or longest * (len(batch) + 1) > most_tokens
        if batch and (full or lengths[number] < like * longest):
            yield batch
            batch = []
        if not batch:
            longest = lengths[number]
        batch.append(number)
    if batch:
        yield batch


def portions(items: Iterable[_Item], size: Callable[[_Item], int], least: int) -> Iterator[list[_Item]]:
    """Items in order, in lists whose sizes add up to `least` or a little more; the last may have less."""
    portion: list[_Item] = []
    total = 0
    for item in items:
        portion.append(item)
        total += size(item)
        if total >= least:
            yield portion
            portion, total = [], 0
    if portion:
        yield portion


def _tokens(rows: Sequence[Entry]) -> int:
    """Tokens of some rows, without padding."""
    return sum(map(_LENGTH, rows))


def padded_tokens(ascending: Sequence[Entry]) -> int:
    """Tokens of a batch with its padding, for rows in ascending order."""
    return ascending[-1].length * len(ascending)
