"""Virtual time for tests of asynchronous code: an event loop whose clock jumps to its next timer, and fake threads."""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Selector(selectors.SelectSelector):
    """Never waits: where it would, the clock goes forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns += 1
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("nothing is left that could happen: the test would wait for ever")
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins at 0. `turns` counts how often it has looked for events."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    @property
    def turns(self) -> int:
        return self._clock.turns

    def advance(self, seconds: float) -> None:
        """What a callback does that holds the loop for so long."""
        self._clock.now += seconds


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, Result]]) -> Result:
    """Run ``main(loop)`` to its end in virtual time."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))


class Threads(Executor):
    """Stands in for threads: work is done as soon as one of them is free, and known after the `seconds` that it said it
    took."""

    def __init__(self, loop: VirtualLoop, number: int = 1) -> None:
        self._loop = loop
        self._number = number
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.seconds = 0.0
        """What the work at hand takes: set by the work."""
        self.inside = False
        self.busy = 0
        self.most_busy = 0
        self.most_waiting = 0
        """The most that has waited for a thread at once, beside what was cancelled."""
        self.ended: bool | None = None
        """Whether `shutdown` was told to wait; None before it was called."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert self.ended is None
        future: Future[Any] = Future()
        self._waiting.append((future, partial(work, *args, **kwargs)))
        self._begin()
        self.most_waiting = max(self.most_waiting, sum(not future.cancelled() for future, _ in self._waiting))
        return future

    def clock(self) -> float:
        """The time as the loop sees it, and within work as a thread would see it."""
        return self._loop.time() + self.seconds

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.ended = wait

    def _begin(self) -> None:
        while self._waiting and self.busy < self._number:
            future, work = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
                self._do(future, work)

    def _do(self, future: Future[Any], work: Callable[[], Any]) -> None:
        self.inside = True
        try:
            result = work()
        except BaseException as error:
            self._loop.call_later(self.seconds, self._finish, future.set_exception, error)
        else:
            self._loop.call_later(self.seconds, self._finish, future.set_result, result)
        finally:
            self.seconds, self.inside = 0.0, False

    def _finish(self, tell: Callable[[Any], None], outcome: Any) -> None:
        self.busy -= 1
        tell(outcome)
        self._begin()
