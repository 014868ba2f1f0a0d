"""What may be under way at once beside the batcher's queue: work at the edge, in seconds, and traces, in numbers.

A first one is never kept out: what is over a limit alone is judged by the limits on one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

from service.errors import Refused, Unavailable

_Value = TypeVar("_Value")


class EdgeThreads:
    """Threads for work at the edge (parsing, tokenising, building an answer) that would hold the event loop for long.

    Work that begins a request is refused when with it more than `most` seconds would wait, as expected, unless nothing
    waits. Any other goes on with what was begun already, and always may wait: there is no more of it than requests.
    """

    def __init__(self, threads: int, most: float) -> None:
        self._threads = threads
        self._most = most
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="edge")
        self._waiting: dict[object, tuple[float, Callable[[], Any]]] = {}
        """By what stands for it; whoever takes work out of it, does it or drops it. The executor's own queue holds what
        was cancelled until its turn comes: that must not be a request's body."""

    @property
    def seconds(self) -> float:
        """What the work that waits for a thread is expected to take."""
        return sum(seconds for seconds, _ in tuple(self._waiting.values()))  # a copy: threads take work out meanwhile

    async def run(self, seconds: float, work: Callable[[], _Value], *, begins: bool = False) -> _Value:
        """Do work that is expected to take so long. It is dropped when its caller is cancelled before it has begun.

        Raises `Unavailable` where a request begins with it and too much waits.
        """
        if begins:
            self._check_room(seconds)
        key = object()
        self._waiting[key] = (seconds, work)
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._executor, partial(self._do, key))
            return cast(_Value, done)
        finally:
            self._waiting.pop(key, None)

    def close(self) -> None:
        """End the threads, and drop what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _do(self, key: object) -> Any:
        """In a thread: the work that a key stands for, unless its caller has gone."""
        found = self._waiting.pop(key, None)
        return found[1]() if found is not None else None

    def _check_room(self, seconds: float) -> None:
        waiting = self.seconds
        if waiting and waiting + seconds > self._most:
            raise Unavailable(
                f"The service is full: {waiting:.1f} seconds of parsing, tokenising and building answers wait, of at "
                f"most {self._most:g}.",
                retry_after=waiting / self._threads,
                reason=Refused.EDGE,
            )


class TraceNumbers:
    """The numbers of the traces that are under way: each counts from when it is known how many it will have until they
    stand in an answer, which then counts among those that clients have not taken.

    A trace is refused when with it there would be more than `most`, unless there is no other.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextmanager
    def hold(self, numbers: int, retry_after: Callable[[], float]) -> Iterator[None]:
        """Count so many while the block runs. Raises `Unavailable` with the seconds of `retry_after` for too many."""
        if self.held and self.held + numbers > self._most:
            raise Unavailable(
                f"Numbers in the traces that are under way: {self.held}, with {numbers} more over the limit of "
                f"{self._most}.",
                retry_after=retry_after(),
                reason=Refused.TRACE,
            )
        self.held += numbers
        try:
            yield
        finally:
            self.held -= numbers
