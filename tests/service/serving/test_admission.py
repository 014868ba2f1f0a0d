"""Who is let in, and whose turn it is: large calls and small ones, one lane and the others, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import Unavailable
from service.serving.admission import LONGEST_RETRY
from tests.service.serving.test_batching import TICK, World, in_world

BOUNDS = {"max_queued_tokens": 1000, "large_tokens": 200, "large_share": 0.5}


async def refused(world: World, *lengths: int, lane: int = 0) -> bool:
    """Whether a call is turned away; one that is not goes on."""
    task = world.start(*lengths, lane=lane)
    await asyncio.sleep(0)
    if not task.done():
        return False
    with pytest.raises(Unavailable):
        await task
    return True


def test_one_huge_call_leaves_room_for_small_ones() -> None:
    async def scenario(world: World) -> None:
        assert not await refused(world, *[10] * 500)  # five times what may wait
        for _ in range(40):
            assert not await refused(world, 10)
        assert await refused(world, *[10] * 21), "another large one"

    in_world(scenario, **BOUNDS)


def test_large_calls_share_their_part_and_the_first_waits_while_small_ones_leave_room() -> None:
    async def scenario(world: World) -> None:
        world.start(10)
        await asyncio.sleep(TICK)
        assert not await refused(world, *[10] * 45)
        assert await refused(world, *[10] * 21)
        assert not await refused(world, *[10] * 20), "not a large one"

    in_world(scenario, **BOUNDS)


def test_small_calls_fill_the_rest_and_no_more() -> None:
    async def scenario(world: World) -> None:
        assert not await refused(world, *[10] * 500)
        let_in = 0
        while not await refused(world, 10):
            let_in += 1
        assert 40 <= let_in <= 60

    in_world(scenario, **BOUNDS)


@pytest.mark.parametrize("hog", [[10], [10] * 30], ids=["small calls", "large calls"])
def test_no_lane_can_keep_another_out(hog: list[int]) -> None:
    async def scenario(world: World) -> None:
        while not await refused(world, *hog, lane=0):
            pass
        for _ in range(5):
            assert not await refused(world, 10, lane=1)

    in_world(scenario, lanes=2, lane_share=0.8, **BOUNDS)


def test_a_lane_of_costly_batches_does_not_take_more_time_than_the_others() -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(
            *(world.submit(200, lane=0) for _ in range(12)), *(world.submit(10, lane=1) for _ in range(120))
        )

    world = in_world(scenario, lanes=2)
    given_time = [0.0, 0.0]
    for ran in world.ran:
        given_time[ran.lane] += max(ran.lengths) * len(ran.rows)
        if given_time[1] >= 1200:
            break  # the cheap lane has had all that it wants
        assert abs(given_time[0] - given_time[1]) <= 800, "a batch of the costly lane at most"
    assert given_time[0] <= 1200 + 800


def test_who_had_nothing_to_run_has_saved_nothing_up() -> None:
    async def scenario(world: World) -> None:
        for _ in range(20):
            await world.submit(100, lane=0)
        first = len(world.ran)
        await asyncio.gather(*(world.submit(10, lane=lane) for lane in (0, 1) for _ in range(24)))
        assert {ran.lane for ran in world.ran[first : first + 4]} == {0, 1}, "one batch ahead at most"

    in_world(scenario, lanes=2)


def test_callers_who_are_refused_are_not_told_to_come_back_all_at_once() -> None:
    async def scenario(world: World) -> None:
        world.start(50)
        await asyncio.sleep(TICK)
        world.start(100)
        times = []
        for _ in range(10):
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as refusal:
                await world.submit(20)
            times.append(refusal.value.retry_after or 0.0)
        steps = [after - before for before, after in pairwise(times)]
        assert times[0] == pytest.approx(100 * TICK)
        assert steps == [pytest.approx(20 * TICK)] * 9, "each behind the one before"
        await asyncio.sleep(400 * TICK)  # all done
        world.start(50)
        await asyncio.sleep(TICK)
        world.start(100)
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as later:
            await world.submit(20)
        assert (later.value.retry_after or 0.0) < times[-1], "what was promised has passed"

    in_world(scenario, max_queued_tokens=100)


@given(
    calls=st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(1, 60), min_size=1, max_size=40)), max_size=60),
    lane_share=st.sampled_from([0.3, 0.8, 1.0]),
    large_share=st.sampled_from([0.2, 0.5, 1.0]),
)
@settings(max_examples=200, deadline=None)
def test_what_waits_is_bounded_whatever_comes(
    calls: list[tuple[int, list[int]]], lane_share: float, large_share: float
) -> None:
    async def scenario(world: World) -> None:
        largest_huge = 0
        tasks = []
        for lane, lengths in calls:
            tasks.append(world.start(*lengths, lane=lane))
            await asyncio.sleep(0)
            largest_huge = max(largest_huge, sum(lengths))
            assert world.batcher.admission.queued_tokens <= 500 * (1 + large_share) + largest_huge
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Unavailable):
                assert 0 <= (outcome.retry_after or 0) <= LONGEST_RETRY
            else:
                assert isinstance(outcome, list)

    world = in_world(
        scenario, lanes=3, max_queued_tokens=500, large_tokens=200, large_share=large_share, lane_share=lane_share
    )
    assert world.batcher.admission.waiting() == (0, 0)
