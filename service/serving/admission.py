"""The submissions that may wait for the batcher, and the time at which callers of the others should return.

The waiting tokens are bounded. Large submissions get a share of that bound, so that small ones always find room. No
lane may fill more than a share of the room that the other lanes leave.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NoReturn, Protocol

from service.errors import DeadlineExceeded, Refusal, Unavailable
from service.serving.queueing import Queue

_WEIGHT_OF_LAST = 0.1
"""Weight of the last submission in the running average of their tokens."""
LONGEST_RETRY = 60.0
"""Seconds. A longer Retry-After would send the caller away for good."""
RETRY_WHEN_CLOSED = 1.0
"""Seconds. By then another instance, or this one restarted, may answer."""


class Waiting(Protocol):
    """A lane with its waiting rows."""

    queue: Queue
    seconds_per_token: float


@dataclass(slots=True, eq=False, kw_only=True)
class Admission:
    """The bound on waiting tokens. `lanes` are those with waiting rows, as they are at each call.

    A submission is rejected if more than `max_queued_tokens` tokens would wait with it, unless nothing waits.
    Submissions of more than `large_tokens` tokens may fill `large_share` of that bound together; the first of them is
    always accepted. The other submissions of a lane may fill `lane_share`, at most 1, of the room that the other lanes
    leave.

    `threads` run the batches, `clock` tells the time in seconds, and `refused` counts rejected submissions by reason.
    """

    lanes: Collection[Waiting]
    threads: int
    max_queued_tokens: int
    large_tokens: int
    large_share: float
    lane_share: float
    clock: Callable[[], float]
    refused: Counter[Refusal]
    _promised: tuple[float, float] = (0.0, 0.0)
    """Seconds of work that rejected callers will bring, as of the time."""
    _mean_tokens: float = 1.0
    """Running mean over submissions."""

    @property
    def _most_large(self) -> float:
        return self.large_share * self.max_queued_tokens

    @property
    def queued_tokens(self) -> int:
        """Tokens that wait in the queues of all lanes, without padding."""
        return self.waiting()[0]

    def waiting(self) -> tuple[int, int]:
        """Waiting tokens, and those of them that belong to large submissions."""
        tokens = large = 0
        for lane in self.lanes:
            queue = lane.queue
            tokens += queue.tokens
            large += queue.large_tokens
        return tokens, large

    @property
    def queued_seconds(self) -> float:
        """Estimated seconds until the threads have run all waiting rows."""
        return sum(lane.queue.tokens * lane.seconds_per_token for lane in self.lanes) / self.threads

    def check_room(self) -> None:
        """Raises `Unavailable` if no further token may wait."""
        waiting, large = self.waiting()
        if waiting - large + min(large, self._most_large) >= self.max_queued_tokens:
            self.refuse_full(self._mean_tokens)

    def check_lane(self, lane: Waiting) -> None:
        """Raises `Unavailable` if the lane has no room for a submission of one token."""
        if not self.has_room(lane, 1):
            self.refuse_full(self._mean_tokens)

    def has_room(self, lane: Waiting, tokens: int) -> bool:
        """True if a submission of `tokens` tokens to the lane may wait."""
        waiting, large = self.waiting()
        if not waiting:
            return True
        if tokens > self.large_tokens:
            return large + tokens <= self._most_large if large else waiting <= self._most_large
        counted = waiting - large + min(large, self._most_large)
        own = lane.queue.tokens - lane.queue.large_tokens
        return own + tokens <= self.lane_share * (self.max_queued_tokens - (counted - own))

    def admit(self, lane: Waiting, tokens: int, deadline: float) -> None:
        """Accept a submission of `tokens` tokens, or raise `Unavailable` or `DeadlineExceeded`."""
        if deadline <= asyncio.get_running_loop().time():
            self.refused[Refusal.DEADLINE] += 1
            raise DeadlineExceeded
        self._mean_tokens += _WEIGHT_OF_LAST * (tokens - self._mean_tokens)
        if not self.has_room(lane, tokens):
            self.refuse_full(tokens)

    def refuse_full(self, tokens: float) -> NoReturn:
        """Reject a submission of about `tokens` tokens. Each rejected caller gets a later Retry-After, so that they do
        not return together."""
        self.refused[Refusal.FULL] += 1
        now = self.clock()
        waiting, seconds = self.queued_tokens, self.queued_seconds
        promised, then = self._promised
        promised = max(0.0, promised - (now - then))
        self._promised = (promised + tokens * seconds / max(1, waiting), now)
        raise Unavailable(
            f"The service is full: {waiting} tokens wait, of at most {self.max_queued_tokens}.",
            retry_after=min(LONGEST_RETRY, seconds + promised),
        )

    def refuse_closed(self) -> NoReturn:
        """Reject a submission because the service is shutting down."""
        self.refused[Refusal.CLOSED] += 1
        raise Unavailable("The service is shutting down.", retry_after=RETRY_WHEN_CLOSED)
