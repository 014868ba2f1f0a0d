"""What waits in a lane, and how a batch is cut from it.

Of the rows by length, that window which holds the row that has waited longest and the most others, none shorter than
`LIKE` of the longest, at most `max_rows` of them, at most `token_budget` tokens with their padding. A row over the
budget runs alone. The rows of a large call join the queue at most a batch's worth at a time, longest first, so those of
others come in between.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Generic, NamedTuple, TypeVar

Home = TypeVar("Home")
"""The lane that a batch was cut from, whose callers get its results; nothing is asked of it here."""

LIKE = 0.8
"""A row shorter than this share of the longest goes into another batch: padding it would cost more than that batch."""


class Times:
    """When a call came, when the first of its rows began to run, and when the last was done; by the batcher's clock."""

    __slots__ = ("begun", "ended", "since")

    def __init__(self, since: float) -> None:
        self.since = self.ended = since
        self.begun: float | None = None

    def note(self, begun: float, ended: float) -> None:
        """A batch with rows of the call has run."""
        self.begun = begun if self.begun is None else min(begun, self.begun)
        self.ended = max(ended, self.ended)


class Call:
    """One submit: its rows, which of them have not begun, the results so far, and the future that its caller awaits."""

    __slots__ = (
        "backlog",
        "deadline",
        "future",
        "large",
        "missing",
        "queued",
        "queued_tokens",
        "results",
        "rows",
        "since",
        "times",
        "tokens",
    )

    def __init__(
        self,
        rows: Sequence[Any],
        lengths: Sequence[int],
        deadline: float,
        future: asyncio.Future[list[Any]],
        since: float,
        times: Times | None = None,
    ) -> None:
        self.rows = rows
        self.times = times
        """Where somebody asked for them."""
        self.deadline = deadline
        self.since = since
        """When it was made, by the batcher's clock."""
        self.future = future
        self.results: list[Any] = [None] * len(rows)
        self.missing = len(rows)
        self.large = False
        self.tokens = sum(lengths)
        """Of the rows that have not begun."""
        self.backlog = sorted(zip(lengths, range(len(rows)), strict=True))
        """(length, position) of the rows that have not joined the queue, the longest last."""
        self.queued: dict[int, Entry] = {}
        """The rows in the queue, by order of joining."""
        self.queued_tokens = 0


class Entry(NamedTuple):
    """A row in the queue. Entries compare by length, then by the order in which they joined."""

    length: int
    order: int
    call: Call
    position: int


class Queue:
    """The rows that wait in one lane, by length and by age."""

    def __init__(self, max_rows: int, token_budget: int, large: int) -> None:
        self.tokens = 0
        """Of all rows that have not begun, those that have yet to join included."""
        self.large_tokens = 0
        """Those of calls of more than `large` tokens."""
        self._large = large
        self.rows: list[Entry] = []
        """The rows that have joined, ascending."""
        self._by_age: OrderedDict[int, Entry] = OrderedDict()
        self._order = count()
        self._max_rows = max_rows
        self._token_budget = token_budget

    def add(self, call: Call) -> None:
        self.tokens += call.tokens
        call.large = call.tokens > self._large
        self.large_tokens += call.tokens * call.large
        self._refill(call)

    def window(self) -> slice:
        """Where `rows` is best cut (see the module): of windows with as many rows, that of the shortest rows."""
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

    def take(self, window: slice) -> list[Entry]:
        """Take these rows out; they begin."""
        taken = self.rows[window]
        del self.rows[window]
        for entry in taken:
            del self._by_age[entry.order]
            del entry.call.queued[entry.order]
            entry.call.queued_tokens -= entry.length
            entry.call.tokens -= entry.length
            self.tokens -= entry.length
            self.large_tokens -= entry.length * entry.call.large
        for call in dict.fromkeys(entry.call for entry in taken if entry.call.backlog):
            self._refill(call)
        return taken

    def drop(self, call: Call) -> int:
        """Take out all rows of a call that have not begun; their number."""
        dropped = len(call.queued) + len(call.backlog)
        for entry in call.queued.values():
            del self.rows[bisect_left(self.rows, entry)]
            del self._by_age[entry.order]
        self.tokens -= call.tokens
        self.large_tokens -= call.tokens * call.large
        call.tokens = call.queued_tokens = 0
        call.queued.clear()
        call.backlog.clear()
        return dropped

    def _refill(self, call: Call) -> None:
        """Let rows of a call join, as long as those of it that wait would fit into one batch."""
        while call.backlog and (not call.queued or self._fits(call, call.backlog[-1][0])):
            length, position = call.backlog.pop()
            entry = Entry(length, next(self._order), call, position)
            insort(self.rows, entry)
            self._by_age[entry.order] = call.queued[entry.order] = entry
            call.queued_tokens += length

    def _fits(self, call: Call, length: int) -> bool:
        return len(call.queued) < self._max_rows and call.queued_tokens + length <= self._token_budget


class Ran(NamedTuple):
    """A batch that has run, for whoever keeps statistics."""

    rows: int
    tokens: int
    padded_tokens: int
    waits: Sequence[float]
    """Seconds from each row's call to the beginning of the batch."""
    seconds: float
    of: object = None
    """Whose batch it is: what its lane was made with."""


Outcome = tuple[Sequence[Any], float]
"""One result a row, and the seconds that the batch took."""


class Batch(Generic[Home]):
    """Rows that run together."""

    __slots__ = ("_clock", "_run", "entries", "lane", "padded_tokens", "since", "tokens")

    def __init__(
        self,
        lane: Home,
        run: Callable[[Sequence[Any]], Sequence[Any]],
        entries: Sequence[Entry],
        clock: Callable[[], float],
    ) -> None:
        self.lane = lane
        self.entries = entries
        self.tokens = sum(entry.length for entry in entries)
        self.padded_tokens = padded_tokens(entries)
        self.since = clock()
        self._run = run
        self._clock = clock

    def run(self) -> Outcome:
        """The results, and the time that they took."""
        started = self._clock()
        try:
            results = self._run([entry.call.rows[entry.position] for entry in self.entries])
        except StopIteration as error:  # no future takes it: its callers would wait for ever
            raise RuntimeError("run raised StopIteration") from error
        if len(results) != len(self.entries):
            raise RuntimeError(f"run returned {len(results)} results for {len(self.entries)} rows")
        return results, self._clock() - started

    def report(self, seconds: float, of: object) -> Ran:
        """What there is to say of it once it has run; `of` says whose it is."""
        waits = [self.since - entry.call.since for entry in self.entries]
        return Ran(len(self.entries), self.tokens, self.padded_tokens, waits, seconds, of)


def padded_tokens(ascending: Sequence[Entry]) -> int:
    """Of rows in ascending order: each is as long as the longest."""
    return ascending[-1].length * len(ascending)
