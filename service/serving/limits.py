"""Limits beside the batcher's queue: seconds of work at the edge, and numbers in traces.

The first request is always accepted. The limits on a single request judge its size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, cast

from service.errors import Refusal, Unavailable

_Value = TypeVar("_Value")


class EdgeThreads:
    """Threads for long work at the edge: parsing, tokenising, building an answer.

    Work that begins a request is rejected if more than `most` expected seconds would wait with it, unless nothing
    waits. Work that continues a request is always accepted; it is bounded by the number of requests.
    """

    def __init__(self, threads: int, most: float) -> None:
        self._threads = threads
        self._most = most
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="edge")
        self._waiting: dict[object, tuple[float, Callable[[], Any]]] = {}
        """Work by its key. A thread takes an entry out before it runs it. The executor's own queue keeps cancelled work
        until its turn; here a cancelled request frees its body at once."""

    @property
    def seconds(self) -> float:
        """Expected seconds of the waiting work."""
        return sum(seconds for seconds, _ in tuple(self._waiting.values()))  # a copy: threads remove work meanwhile

    async def run(self, seconds: float, work: Callable[[], _Value], *, begins: bool = False) -> _Value:
        """Run work with an expected duration of `seconds`. It is dropped if its caller is cancelled before it begins.

        Raises `Unavailable` if the work `begins` a request and too much waits.
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
        """End the threads and drop the waiting work."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _do(self, key: object) -> Any:
        """Run the work of a key in this thread, unless its caller has gone."""
        found = self._waiting.pop(key, None)
        return found[1]() if found is not None else None

    def _check_room(self, seconds: float) -> None:
        waiting = self.seconds
        if waiting and waiting + seconds > self._most:
            raise Unavailable(
                f"The service is full: {waiting:.1f} seconds of parsing, tokenising and building answers wait, of at "
                f"most {self._most:g}.",
                retry_after=waiting / self._threads,
                reason=Refusal.EDGE,
            )


class TraceNumbers:
    """The numbers in all current traces. A trace counts from the moment its size is known until its answer is built;
    from then on it counts as an answer that a client has not taken.

    A trace is rejected if the total would exceed `most`, unless it is the only one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextmanager
    def hold(self, numbers: int, retry_after: Callable[[], float]) -> Iterator[None]:
        """Count `numbers` while the block runs. Raises `Unavailable` with the seconds of `retry_after` if the total is
        too large."""
        if numbers and self.held and self.held + numbers > self._most:
            raise Unavailable(
                f"Numbers in the traces that are under way: {self.held}, with {numbers} more over the limit of "
                f"{self._most}.",
                retry_after=retry_after(),
                reason=Refusal.TRACE,
            )
        self.held += numbers
        try:
            yield
        finally:
            self.held -= numbers
