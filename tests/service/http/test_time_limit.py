"""The time limit of a request: at its end a `TimeoutError`, and no cancellation of others is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.http.time_limit import TimeLimit

Limit = Callable[[float], Any]


class _Theirs:
    """asyncio's own, as the reference."""

    def __init__(self, deadline: float) -> None:
        self._limit = asyncio.timeout_at(deadline)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._limit.__aexit__(*error)


async def limited(seconds: float, work: Callable[[], Any], *, ours: bool) -> str:
    """How work within a limit ends."""
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        if ours:
            with TimeLimit(deadline):
                await work()
        else:
            async with _Theirs(deadline):
                await work()
    except TimeoutError:
        current = asyncio.current_task()
        assert current is not None
        return f"timeout, {current.cancelling()} cancellations left"
    except ValueError:
        return "its own error"
    return "done"


async def _fail() -> None:
    raise ValueError


async def _fail_when_cancelled() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise ValueError from None


@pytest.mark.parametrize(
    ("seconds", "work", "end"),
    [
        (60, lambda: asyncio.sleep(0), "done"),
        (0.001, lambda: asyncio.sleep(60), "timeout, 0 cancellations left"),
        (-1, lambda: asyncio.sleep(60), "timeout, 0 cancellations left"),
        (60, _fail, "its own error"),
        (0.001, _fail_when_cancelled, "its own error"),
    ],
)
def test_it_ends_as_asyncios_does(seconds: float, work: Callable[[], Any], end: str) -> None:
    assert asyncio.run(limited(seconds, work, ours=False)) == end
    assert asyncio.run(limited(seconds, work, ours=True)) == end


@pytest.mark.parametrize("ours", [False, True])
def test_a_cancellation_by_others_stays_one(ours: bool) -> None:
    async def main() -> None:
        task = asyncio.create_task(limited(60, lambda: asyncio.sleep(60), ours=ours))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("ours", [False, True])
def test_a_cancellation_by_others_wins_over_the_limit(ours: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(limited(0.0, lambda: asyncio.sleep(60), ours=ours))
        await asyncio.sleep(0)
        loop.call_soon(task.cancel)  # beside the limit's own, in one turn
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_the_timer_of_a_limit_that_was_kept_is_cancelled() -> None:
    async def main() -> None:
        with TimeLimit(asyncio.get_running_loop().time() + 60) as _:
            pass
        assert all(handle.cancelled() for handle in asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]  # asyncio's list of timers has no type

    asyncio.run(main())
