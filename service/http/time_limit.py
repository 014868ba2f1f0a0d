"""The time limit of a request: `asyncio.timeout_at` without its two coroutines, since every request has one."""

from __future__ import annotations

import asyncio


class TimeLimit:
    """A context manager that cancels its task at a time of the event loop, and then raises `TimeoutError`.

    Like `asyncio.Timeout`, it ignores cancellations by others.
    """

    __slots__ = ("_cancelling", "_expired", "_task", "_timer")

    def __init__(self, deadline: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._expired = False
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._timer.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
