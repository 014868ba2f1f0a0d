"""What waits for the edge's threads is bounded, and dropped with its caller; so are traces under way."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest

from service.errors import Unavailable
from service.serving.limits import EdgeThreads, TraceNumbers

Task = asyncio.Task[object]


class World:
    """One thread at the edge, held up until `go`; what was done, in order."""

    def __init__(self, most: float) -> None:
        self.edge = EdgeThreads(1, most)
        self.begun, self.go = threading.Event(), threading.Event()
        self.done: list[object] = []

    async def hold_up(self) -> Task:
        """Have work run that comes to no end before `go`."""
        task = self.start(1.0, self._held_up)
        assert await asyncio.to_thread(self.begun.wait, 30)
        return task

    def _held_up(self) -> None:
        self.begun.set()
        assert self.go.wait(30)
        self.done.append("held up")

    def start(self, seconds: float, work: Callable[[], object] | str, *, begins: bool = True) -> Task:
        act = (lambda: self.done.append(work)) if isinstance(work, str) else work
        return asyncio.create_task(self.edge.run(seconds, act, begins=begins))


def in_world(scenario: Callable[[World], Coroutine[object, object, None]], most: float = 5.0) -> None:
    async def main() -> None:
        world = World(most)
        try:
            await scenario(world)
            assert world.edge.seconds == 0
        finally:
            world.go.set()
            world.edge.close()

    asyncio.run(main())


async def refused(task: Task) -> Unavailable:
    with pytest.raises(Unavailable) as refusal:
        await task
    return refusal.value


def test_seconds_that_wait_are_bounded_and_the_refusal_says_when_they_are_over() -> None:
    async def scenario(world: World) -> None:
        tasks = [await world.hold_up(), world.start(3.0, "a"), world.start(2.0, "b")]
        await asyncio.sleep(0)
        assert world.edge.seconds == 5, "what runs does not wait"
        refusal = await refused(world.start(0.5, "late"))
        assert (refusal.reason, refusal.retry_after) == ("edge", 5.0)
        assert "5.0 seconds" in refusal.detail
        world.go.set()
        await asyncio.gather(*tasks)
        assert world.done == ["held up", "a", "b"]
        await world.start(0.5, "again")

    in_world(scenario)


def test_what_goes_on_with_a_request_is_not_refused() -> None:
    async def scenario(world: World) -> None:
        tasks = [await world.hold_up(), world.start(5.0, "a"), world.start(9.0, "its answer", begins=False)]
        await asyncio.sleep(0)
        assert world.edge.seconds == 14
        await refused(world.start(0.5, "late"))
        world.go.set()
        await asyncio.gather(*tasks)
        assert world.done[1:] == ["a", "its answer"]

    in_world(scenario)


def test_a_first_one_may_wait_however_long_it_takes() -> None:
    async def scenario(world: World) -> None:
        tasks = [await world.hold_up(), world.start(60.0, "huge")]
        await asyncio.sleep(0)
        await refused(world.start(0.5, "late"))
        world.go.set()
        await asyncio.gather(*tasks)

    in_world(scenario)


def test_work_whose_caller_has_gone_is_dropped_with_all_that_it_held() -> None:
    class Body:
        """Stands for the bytes of a request."""

    async def scenario(world: World) -> None:
        held_up = await world.hold_up()
        body = Body()
        kept = weakref.ref(body)

        def work(body: Body = body) -> None:
            world.done.append(body)

        gone = world.start(4.0, work)
        del body, work
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        del gone
        gc.collect()
        assert kept() is None, "though the thread has not come to it yet"
        assert world.edge.seconds == 0
        after = world.start(5.0, "after")
        world.go.set()
        await asyncio.gather(held_up, after)
        assert world.done == ["held up", "after"]

    in_world(scenario)


def test_the_errors_of_the_work_are_the_callers() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(ZeroDivisionError):
            await world.start(1.0, lambda: 1 // 0)

    in_world(scenario)


# Traces


def soon() -> float:
    return 2.5


def test_traces_are_bounded_together_and_a_first_one_is_let_in() -> None:
    traces = TraceNumbers(100)
    with traces.hold(300, soon):
        assert traces.held == 300
        with traces.hold(0, soon):
            assert traces.held == 300
        with pytest.raises(Unavailable) as refusal, traces.hold(1, soon):
            pass
        assert (refusal.value.reason, refusal.value.retry_after) == ("trace", 2.5)
    with traces.hold(60, soon), traces.hold(40, soon):
        assert traces.held == 100
        with pytest.raises(Unavailable), traces.hold(1, soon):
            pass
    assert traces.held == 0


@pytest.mark.parametrize("end", ["cancel", "deadline", "failure"])
def test_a_trace_that_comes_to_no_answer_is_not_under_way_any_more(end: str) -> None:
    async def work() -> None:
        if end == "failure":
            raise ZeroDivisionError
        await asyncio.sleep(60)

    async def main() -> None:
        traces = TraceNumbers(100)

        async def trace() -> None:
            async with asyncio.timeout(0.01 if end == "deadline" else 60):
                with traces.hold(100, soon):
                    await work()

        task = asyncio.create_task(trace())
        await asyncio.sleep(0)
        if end == "cancel":
            assert traces.held == 100
            task.cancel()
        with suppress(asyncio.CancelledError, TimeoutError, ZeroDivisionError):
            await task
        assert traces.held == 0

    asyncio.run(main())
