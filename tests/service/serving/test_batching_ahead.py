"""A batch that is handed to the threads before one of them is free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from service.errors import DeadlineExceeded, Unavailable
from service.serving.batching import Batcher, Lane
from tests.service.serving.test_batching import TICK, PoisonError, World, in_world


def test_a_thread_goes_on_with_a_large_submission_while_the_loop_is_held_up() -> None:
    begun = [threading.Event() for _ in range(3)]
    held = threading.Event()

    def work(rows: Sequence[int]) -> Sequence[int]:
        number = rows[0] // 4
        begun[number].set()
        if number == 0:
            assert held.wait(60)
        return [-row for row in rows]

    async def main() -> None:
        reports: list[Any] = []
        batcher = Batcher(
            threads=1, token_budget=64, max_rows=4, max_queued_tokens=100, inline_seconds=0.0, ran=reports.append
        )
        loop = asyncio.get_running_loop()
        lengths = [3] * 4 + [2] * 4 + [1] * 4
        answer = asyncio.ensure_future(Lane(batcher, work, 1e-3).submit(range(12), lengths, deadline=loop.time() + 60))
        await asyncio.sleep(0)  # the submission
        await asyncio.sleep(0)  # its first batch, and the next ahead
        held.set()
        assert begun[1].wait(60), "the second batch needs no turn of the loop, which stands still here"
        assert await answer == [-row for row in range(12)]
        assert [each.rows for each in reports] == [4, 4, 4]
        await batcher.close()

    asyncio.run(main())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_one_batch_waits_for_a_thread_and_no_row_runs_twice_or_in_another_batch(threads: int) -> None:
    lengths = [1 + (37 * number) % 50 for number in range(100)]

    async def scenario(world: World) -> None:
        rows = world.rows(lengths)
        assert await world.submit_rows(rows) == rows

    world = in_world(scenario, threads=threads)
    assert (world.threads.most_busy, world.threads.most_waiting) == (threads, 1)
    ran = [row.position for ran in world.ran for row in ran.rows]
    assert sorted(ran) == list(range(100))
    assert [max(cut) for cut in world.cuts] == sorted((max(cut) for cut in world.cuts), reverse=True)


@pytest.mark.parametrize("lane", [0, 1])
def test_a_small_submission_runs_before_a_batch_ahead_as_if_there_were_none(lane: int) -> None:
    async def scenario(world: World) -> None:
        large = world.start(*[20] * 40)
        await asyncio.sleep(TICK)
        assert world.threads.most_waiting == 1
        await world.submit(5, lane=lane)
        await large

    cuts = in_world(scenario, lanes=2).cuts
    before = 2 - lane  # in the same lane, the rows that had joined the queue before it go first
    assert cuts[:before] == [[20] * 4] * before
    assert cuts[before] == [5]


def test_two_large_submissions_take_turns_with_a_batch_ahead() -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(world.submit(*[20] * 16, lane=0), world.submit(*[20] * 16, lane=1))

    world = in_world(scenario, lanes=2)
    assert [ran.lane for ran in world.ran] == [0, 1] * 4
    assert world.threads.most_waiting == 1


def test_the_batch_of_a_caller_that_has_gone_is_not_begun() -> None:
    async def scenario(world: World) -> None:
        gone = world.start(*[20] * 16)
        await asyncio.sleep(TICK)
        assert world.threads.most_waiting == 1
        gone.cancel()
        await asyncio.wait([gone])
        assert world.batcher.admission.queued_tokens == 0

    world = in_world(scenario)
    assert world.cuts == [[20] * 4]
    assert world.batcher.counters.dropped == {"cancelled": 12}


def test_a_batch_ahead_is_not_begun_after_the_deadline() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(DeadlineExceeded):
            await world.submit(*[20] * 16, within=10 * TICK)

    world = in_world(scenario)
    assert world.cuts == [[20] * 4]
    assert world.threads.most_waiting == 1
    assert world.batcher.counters.dropped == {"deadline": 12}


def test_another_batch_that_fails_ends_the_one_ahead() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(PoisonError):
            await world.submit(*[20] * 16, poisoned=[15])  # the last of equal length runs first

    world = in_world(scenario)
    assert sum(map(len, world.cuts)) + world.batcher.counters.dropped["failed"] == 16
    assert len(world.ran) == 2, "the one that failed, and the one that its thread went on with"


def test_rows_that_have_begun_ahead_do_not_wait_any_more() -> None:
    async def scenario(world: World) -> None:
        large = world.start(*[20] * 12)
        await asyncio.sleep(TICK)
        with pytest.raises(Unavailable):
            await world.submit(50)
        reply = world.loop.create_future()

        def post() -> None:
            assert len(world.ran) == 2, "the second has begun, and the loop does not know that the first has ended"
            world.lanes[0].post(world.rows([50]), [50], reply, deadline=1e6)
            assert world.batcher.admission.queued_tokens == 80 + 50

        world.loop.call_at(79 * TICK, world.loop.advance, 2 * TICK)
        world.loop.call_at(81 * TICK, post)  # in the same turn of the loop as the end of the batch
        await asyncio.gather(large, reply)
        world.batcher.leave()

    in_world(scenario, max_queued_tokens=200)


def test_rows_of_small_submissions_wait_in_the_queue_so_that_others_join_them() -> None:
    async def scenario(world: World) -> None:
        first = [world.start(10) for _ in range(4)]
        await asyncio.sleep(0)
        await asyncio.gather(*first, *(world.submit(10) for _ in range(8)), world.submit(10, 10, 10))

    assert in_world(scenario).threads.most_waiting == 0


def test_no_thread_for_a_batch_ahead_is_an_error_of_its_callers() -> None:
    async def scenario(world: World) -> None:
        submit, left = world.threads.submit, [None]

        def once(*work: Any) -> Future[Any]:
            if not left:
                raise RuntimeError("can't start new thread")
            left.pop()
            return submit(*work)

        world.threads.submit = once  # type: ignore[method-assign]  # the one thing to break
        with pytest.raises(RuntimeError, match="new thread"):
            await world.submit(*[10] * 12)

    in_world(scenario)


@pytest.mark.parametrize("ahead", [True, False])
def test_no_row_runs_twice_where_a_thread_finds_work_that_was_refused_one(ahead: bool) -> None:
    """Python's own pool queues the work before it starts a thread for it. So a thread that runs already finds it."""
    ran: list[int] = []
    begun, held = threading.Event(), threading.Event()

    class Threads(ThreadPoolExecutor):
        starts = 0

        def _adjust_thread_count(self) -> None:
            self.starts += 1
            if self.starts == 2:
                raise RuntimeError("can't start new thread")
            super()._adjust_thread_count()

    def work(rows: Sequence[int]) -> Sequence[int]:
        begun.set()
        assert held.wait(60)
        ran.extend(rows)
        return rows

    async def main() -> None:
        batcher = Batcher(
            threads=1 if ahead else 2,
            token_budget=64,
            max_rows=4,
            max_queued_tokens=100,
            inline_seconds=0.0,
            executor=Threads(2),
        )
        lane, deadline = Lane(batcher, work, 1e-3), asyncio.get_running_loop().time() + 60
        first = asyncio.ensure_future(
            lane.submit(range(8 if ahead else 4), [3] * (8 if ahead else 4), deadline=deadline)
        )
        await asyncio.to_thread(begun.wait, 60)
        if not ahead:
            with pytest.raises(RuntimeError, match="new thread"):
                await lane.submit([4], [3], deadline=deadline)
        held.set()
        await first
        await batcher.close()

    asyncio.run(main())
    assert sorted(ran) == list(range(8 if ahead else 4))


def test_close_waits_for_the_batch_ahead() -> None:
    async def scenario(world: World) -> None:
        large = world.start(*[20] * 12)
        await asyncio.sleep(TICK)
        await world.batcher.close()
        assert world.loop.time() == 12 * 20 * TICK
        assert len(await large) == 12

    in_world(scenario)


def test_a_batch_ahead_begins_when_its_thread_does() -> None:
    async def scenario(world: World) -> None:
        waits: list[Sequence[float]] = []
        world.batcher.ran = lambda ran: waits.append(ran.waits)
        await world.submit(*[20] * 12)
        assert waits == [[0.0] * 4, [80 * TICK] * 4, [160 * TICK] * 4]

    in_world(scenario)
