from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, Unavailable
from service.serving.batching import Batcher, Lane
from service.serving.queueing import LIKE, portions
from tests.service.virtual import Threads, VirtualLoop, run

TICK = 1 / 64
"""Seconds per token of the pretended work. A power of two: sums of it are exact."""


class Row(NamedTuple):
    """A row of the tests: `call` and `position` tell it from every other; a poisoned one makes its batch fail."""

    call: int
    position: int
    length: int
    poisoned: bool = False


@dataclass(frozen=True)
class Ran:
    """A batch that began."""

    lane: int
    rows: list[Row]
    at: float
    turn: int
    inline: bool

    @property
    def lengths(self) -> list[int]:
        return [row.length for row in self.rows]


class PoisonError(Exception):
    pass


class World:
    """A batcher in virtual time, and the record of every batch that ran. A row's answer is the row."""

    def __init__(
        self,
        loop: VirtualLoop,
        *,
        threads: int = 1,
        token_budget: int = 1000,
        max_rows: int = 4,
        max_queued_tokens: int = 1_000_000,
        inline_seconds: float = 0.0,
        lanes: int = 1,
        **admission: Any,
    ) -> None:
        self.loop = loop
        self.threads = Threads(loop, threads)
        self.batcher = Batcher(
            threads=threads,
            token_budget=token_budget,
            max_rows=max_rows,
            max_queued_tokens=max_queued_tokens,
            inline_seconds=inline_seconds,
            executor=self.threads,
            clock=self.threads.clock,
            **admission,
        )
        self.lanes: list[Lane[Row, Row]] = [self._lane(number) for number in range(lanes)]
        self.ran: list[Ran] = []
        self._calls = 0

    def _lane(self, number: int) -> Lane[Row, Row]:
        def work(rows: Sequence[Row]) -> Sequence[Row]:
            inline = not self.threads.inside
            self.ran.append(Ran(number, list(rows), self.loop.time(), self.loop.turns, inline))
            seconds = max(row.length for row in rows) * len(rows) * TICK
            if inline:
                self.loop.advance(seconds)
            else:
                self.threads.seconds = seconds
            if any(row.poisoned for row in rows):
                raise PoisonError
            return rows

        return Lane(self.batcher, work, TICK)

    def rows(self, lengths: Iterable[int], poisoned: Iterable[int] = ()) -> list[Row]:
        self._calls += 1
        return [Row(self._calls - 1, at, length, at in poisoned) for at, length in enumerate(lengths)]

    async def submit(
        self, *lengths: int, lane: int = 0, within: float = 1e6, poisoned: Iterable[int] = ()
    ) -> list[Row]:
        return await self.submit_rows(self.rows(lengths, poisoned), lane=lane, deadline=self.loop.time() + within)

    async def submit_rows(self, rows: list[Row], *, lane: int = 0, deadline: float = 1e6) -> list[Row]:
        return await self.lanes[lane].submit(rows, [row.length for row in rows], deadline=deadline)

    def start(self, *lengths: int, lane: int = 0, within: float = 1e6, poisoned: Iterable[int] = ()) -> Task:
        return asyncio.ensure_future(self.submit(*lengths, lane=lane, within=within, poisoned=poisoned))

    @property
    def cuts(self) -> list[list[int]]:
        """The lengths in each batch."""
        return [ran.lengths for ran in self.ran]


Task = asyncio.Future[list[Row]]


def in_world(scenario: Callable[[World], Coroutine[Any, Any, None]], **arguments: Any) -> World:
    """Play a scenario in virtual time; nothing may be left behind at its end."""

    async def main(loop: VirtualLoop) -> World:
        world = World(loop, **arguments)
        await scenario(world)
        await world.batcher.close()
        assert world.batcher.admission.queued_tokens == 0
        assert world.threads.ended
        return world

    return run(main)


# How batches are cut


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_portions_hold_all_items_in_order_and_no_more_than_they_need(sizes: list[int], least: int) -> None:
    found = list(portions(sizes, lambda size: size, least))
    assert [size for portion in found for size in portion] == sizes
    assert all(sum(portion) >= least for portion in found[:-1])
    assert all(sum(portion[:-1]) < least for portion in found)


def test_one_caller_alone_waits_for_nothing() -> None:
    async def scenario(world: World) -> None:
        rows = world.rows([5])
        assert await world.submit_rows(rows) == rows
        assert world.loop.time() == 5 * TICK

    world = in_world(scenario)
    assert [ran.at for ran in world.ran] == [0]


def test_what_the_loop_had_ready_runs_together() -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.submit(10) for _ in range(3)))

    assert in_world(scenario).cuts == [[10, 10, 10]]


def test_what_arrives_while_threads_are_busy_is_the_next_batch() -> None:
    async def scenario(world: World) -> None:
        tasks = [world.start(10)]
        for _ in range(3):
            await asyncio.sleep(TICK)
            tasks.append(world.start(10))
        await asyncio.gather(*tasks)

    world = in_world(scenario)
    assert [len(ran.rows) for ran in world.ran] == [1, 3]
    assert world.ran[1].at == 10 * TICK


@pytest.mark.parametrize(
    ("lengths", "cuts"),
    [
        ([10, 20, 8, 16], [[8, 10], [16, 20]]),  # none shorter than 0.8 of the longest
        ([10] * 6, [[10] * 4, [10] * 2]),  # at most four rows
        ([40, 40, 40], [[40, 40], [40]]),  # at most 100 tokens with padding
        ([30, 33, 34], [[30, 33], [34]]),  # padding counts: 3 * 34 is over the budget
        ([500, 10], [[500], [10]]),  # over the budget: alone
        ([10, 9, 11, 12, 8, 13], [[8, 9, 10], [11, 12, 13]]),  # the window with the oldest and the most others
    ],
)
def test_cut(lengths: list[int], cuts: list[list[int]]) -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.submit(length) for length in lengths))

    assert in_world(scenario, token_budget=100).cuts == cuts


def test_a_large_call_is_cut_like_a_sorted_list_of_its_rows() -> None:
    lengths = [1 + (37 * number) % 200 for number in range(200)]

    async def scenario(world: World) -> None:
        rows = world.rows(lengths)
        assert await world.submit_rows(rows) == rows

    world = in_world(scenario, threads=2, max_rows=8, token_budget=4096)
    assert world.threads.most_busy == 2
    assert sum(max(cut) * len(cut) for cut in world.cuts) < 1.06 * sum(lengths)
    assert len(world.cuts) <= 40
    assert [max(cut) for cut in world.cuts] == sorted((max(cut) for cut in world.cuts), reverse=True)


# Fairness


def test_a_large_call_does_not_block_a_small_one() -> None:
    async def scenario(world: World) -> None:
        large = world.start(*[20] * 200)
        await asyncio.sleep(TICK)
        await world.submit(5)
        assert not large.done()
        assert world.cuts[2] == [5], "after the one that ran already and the one that had joined before"
        await large

    in_world(scenario)


def test_a_stream_of_small_calls_does_not_starve_a_large_one_or_an_odd_one() -> None:
    async def scenario(world: World) -> None:
        patient = [world.start(*[50] * 20), world.start(333)]
        await asyncio.sleep(TICK)
        stream = []
        for _ in range(2000):  # 10 tokens in the time of 5: twice what the one thread can do
            stream.append(world.start(10))
            await asyncio.sleep(5 * TICK)
        assert all(task.done() for task in patient)
        assert [len(await task) for task in patient] == [20, 1]
        await asyncio.wait(stream)
        assert {type(task.exception()) for task in stream} == {type(None), Unavailable}

    in_world(scenario, max_queued_tokens=1500)


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_the_oldest_row_is_always_in_the_next_batch(data: st.DataObject) -> None:
    arrivals = data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), min_size=1, max_size=40))

    async def scenario(world: World) -> None:
        tasks = []
        for pause, length in arrivals:
            await asyncio.sleep(pause * TICK)
            tasks.append(world.start(length))
        await asyncio.gather(*tasks)

    world = in_world(scenario, token_budget=80)
    waiting = set(range(len(arrivals)))
    for ran in world.ran:
        calls = {row.call for row in ran.rows}
        assert min(waiting) in calls
        waiting -= calls
    assert not waiting


def test_lanes_take_turns() -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(
            world.submit(*[10] * 24, lane=0),
            *(world.submit(10, lane=1) for _ in range(12)),
            world.submit(*[10] * 8, lane=2),
        )

    world = in_world(scenario, lanes=3)
    assert [ran.lane for ran in world.ran] == [0, 1, 2, 0, 1, 2, 0, 1, 0, 0, 0]


class Both:
    """A lane of predictions and a lane of streams, each with more callers than a batch takes: as soon as one has its
    answer, it asks again. `spent` has the seconds that the batches of each ran."""

    def __init__(
        self, loop: VirtualLoop, *, threads: int, streams: int, inline_seconds: float, estimate: float
    ) -> None:
        """`estimate` is the first estimate of a cost, as a multiple of the true one."""
        self.loop, self.threads = loop, Threads(loop, threads)
        self.batcher = Batcher(
            threads=threads, token_budget=4096, max_rows=8, max_queued_tokens=1_000_000, inline_seconds=inline_seconds,
            executor=self.threads, clock=self.threads.clock,
        )  # fmt: skip
        self.spent = [0.0, 0.0]
        self.longest = [0.0, 0.0]
        self._true = (TICK / 64, 20 * TICK / 64), (0.0, TICK / 16)  # for a token, for a row
        self.lanes: list[Lane[int, int]] = [
            Lane(self.batcher, partial(self._run, number), estimate * self._true[0][number], self._true[1][number])
            for number in range(2)
        ]
        self._callers = [[200 + 20 * number for number in range(20)], [1 + number % 16 for number in range(streams)]]

    def _run(self, number: int, rows: Sequence[int]) -> Sequence[int]:
        (tokens, row), inline = (each[number] for each in self._true), not self.threads.inside
        seconds = max(rows) * len(rows) * tokens + len(rows) * row
        self.spent[number] += seconds
        self.longest[number] = max(self.longest[number], seconds)
        if inline:
            self.loop.advance(seconds)
        else:
            self.threads.seconds = seconds
        return rows

    async def play(self, warm: float, seconds: float) -> list[float]:
        """Let all callers ask for so long. Returns the seconds that each lane ran after the first `warm` ones."""
        going = True

        async def ask(lane: Lane[int, int], length: int) -> None:
            while going:
                assert await lane.submit([length], [length], deadline=self.loop.time() + 1e6) == [length]

        pairs = zip(self.lanes, self._callers, strict=True)
        tasks = [asyncio.ensure_future(ask(lane, length)) for lane, lengths in pairs for length in lengths]
        await asyncio.sleep(warm)
        before = list(self.spent)
        await asyncio.sleep(seconds)
        found = [after - begun for after, begun in zip(self.spent, before, strict=True)]
        going = False
        await asyncio.gather(*tasks)
        await self.batcher.close()
        return found


@pytest.mark.parametrize(
    ("threads", "streams", "estimate", "warm"),
    [
        (1, 8, 1.0, 10.0),  # exactly a batch's rows
        (1, 64, 1.0, 10.0),
        (2, 8, 1.0, 10.0),
        (2, 64, 1.0, 10.0),
        (1, 64, 0.1, 400.0),  # estimates that measured batches have to correct first
        (1, 64, 10.0, 400.0),
    ],
)
def test_streams_and_predictions_that_both_wait_run_for_the_same_time(
    threads: int, streams: int, estimate: float, warm: float
) -> None:
    async def main(loop: VirtualLoop) -> None:
        both = Both(loop, threads=threads, streams=streams, inline_seconds=0.0, estimate=estimate)
        predictions, stepped = await both.play(warm=warm, seconds=100.0)
        batches = 2 * threads * sum(both.longest)  # those that run as it begins, and as it ends
        assert predictions + stepped == pytest.approx(threads * 100.0, abs=batches)
        assert predictions == pytest.approx(stepped, abs=batches)
        assert batches < 0.15 * predictions

    run(main)


def test_streams_that_step_in_the_loop_run_no_longer_than_predictions_in_a_thread() -> None:
    async def main(loop: VirtualLoop) -> None:
        both = Both(loop, threads=1, streams=64, inline_seconds=0.7, estimate=1.0)
        predictions, stepped = await both.play(warm=10.0, seconds=100.0)
        assert both.batcher.counters.inline_batches > 50
        assert predictions == pytest.approx(stepped, abs=2 * sum(both.longest))

    run(main)


# In the loop or in a thread


def test_short_batches_run_in_the_loop_and_long_ones_in_threads() -> None:
    async def scenario(world: World) -> None:
        await world.submit(7)
        await world.submit(8)

    world = in_world(scenario, inline_seconds=8 * TICK)
    assert [ran.inline for ran in world.ran] == [True, False]
    assert world.batcher.counters.inline_batches == 1


def test_one_batch_in_each_turn_of_the_loop_and_the_others_in_threads() -> None:
    async def scenario(world: World) -> None:
        await asyncio.gather(*(world.submit(10) for _ in range(40)))

    world = in_world(scenario, inline_seconds=1.0)
    inline = [ran for ran in world.ran if ran.inline]
    assert all(before.turn < after.turn for before, after in pairwise(inline))
    assert len(inline) > 2
    assert world.threads.most_busy == 1
    assert len(world.ran) == 10


def test_a_lane_of_short_rows_goes_on_while_another_waits_for_a_thread() -> None:
    async def scenario(world: World) -> None:
        long = [world.start(100, lane=0) for _ in range(2)]
        await asyncio.sleep(TICK)
        for _ in range(5):
            await world.submit(1, lane=1)
        assert not any(task.done() for task in long)
        await asyncio.gather(*long)

    world = in_world(scenario, lanes=2, max_rows=1, inline_seconds=2 * TICK)
    assert [ran.lane for ran in world.ran] == [0, 1, 1, 1, 1, 1, 0]


def test_short_rows_that_come_at_once_do_not_wait_for_a_busy_thread() -> None:
    async def scenario(world: World) -> None:
        long = world.start(100, lane=0)
        await asyncio.sleep(TICK)
        await asyncio.gather(*(world.submit(1, lane=1) for _ in range(12)))
        assert not long.done()
        await long

    assert [len(ran.rows) for ran in in_world(scenario, lanes=2, inline_seconds=5 * TICK).ran] == [1, 4, 4, 4]


def test_the_estimate_follows_what_batches_really_take() -> None:
    async def scenario(world: World) -> None:
        thread, loop = world.lanes
        thread.seconds_per_token = 3 * TICK
        loop.seconds_per_token = 0.0
        for _ in range(60):
            await world.submit(10, lane=0)
            await world.submit(1, lane=1)
        assert thread.seconds_per_token == pytest.approx(TICK, rel=0.01)
        assert loop.seconds_per_token == pytest.approx(TICK, rel=0.01)
        assert {ran.lane for ran in world.ran if ran.inline} == {1}

    in_world(scenario, lanes=2, inline_seconds=8 * TICK)


# Errors


def test_an_error_reaches_exactly_the_callers_in_its_batch() -> None:
    async def scenario(world: World) -> None:
        tasks = [world.start(10), world.start(10, poisoned=[0]), world.start(20), world.start(20)]
        await asyncio.wait(tasks)
        assert [type(task.exception()) for task in tasks] == [PoisonError, PoisonError, type(None), type(None)]

    assert in_world(scenario).batcher.counters.failed_batches == 1


@pytest.mark.parametrize("inline_seconds", [0.0, 1e6])
def test_other_rows_of_a_failed_call_do_not_run(inline_seconds: float) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(PoisonError):
            await world.submit(*[10] * 20, 50, poisoned=[20])

    world = in_world(scenario, inline_seconds=inline_seconds)
    assert [50] in world.cuts
    assert len(world.ran) <= 2, "while it failed in the loop, a thread had begun one batch"
    assert world.batcher.counters.dropped["failed"] == 21 - sum(map(len, world.cuts))


@pytest.mark.parametrize("inline_seconds", [0.0, 1e6])
@pytest.mark.parametrize("broken", ["too few", "StopIteration"])
def test_a_run_that_breaks_its_word_is_an_error_of_its_callers(broken: str, inline_seconds: float) -> None:
    def work(rows: Sequence[int]) -> Sequence[int]:
        if broken == "StopIteration":
            raise StopIteration
        return rows[1:]

    async def scenario(world: World) -> None:
        world.batcher.inline_seconds = inline_seconds
        lane = Lane(world.batcher, work, TICK)
        with pytest.raises(RuntimeError, match="run r"):
            await lane.submit([1, 2], [1, 1], deadline=1e6)

    in_world(scenario)


def test_a_thread_that_cannot_start_is_an_error_of_the_callers() -> None:
    async def scenario(world: World) -> None:
        def submit(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        world.threads.submit = submit  # type: ignore[method-assign, assignment]  # the one thing to break
        with pytest.raises(RuntimeError, match="new thread"):
            await world.submit(10)

    in_world(scenario)


@pytest.mark.parametrize("lengths", [[], [1, 2], [0]])
def test_lengths_that_do_not_fit_are_refused_before_anything(lengths: list[int]) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(ValueError, match=r"token|zip|empty"):
            await world.lanes[0].submit(world.rows([1]), lengths, deadline=1e6)

    assert in_world(scenario).ran == []


def test_no_rows_are_no_work() -> None:
    async def scenario(world: World) -> None:
        assert await world.submit() == []

    assert in_world(scenario).ran == []


# Deadlines and cancellation


def test_a_deadline_answers_when_it_passes_while_rows_wait() -> None:
    async def scenario(world: World) -> None:
        first = world.start(100)
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded):
            await world.submit(50, within=10 * TICK)
        assert world.loop.time() == 10 * TICK
        await first

    world = in_world(scenario)
    assert world.cuts == [[100]]
    assert world.batcher.counters.dropped == {"deadline": 1}


def test_a_deadline_answers_when_it_passes_while_rows_run() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(DeadlineExceeded):
            await world.submit(*[50] * 3, 30, 20, within=10 * TICK)
        assert world.loop.time() == 10 * TICK

    assert in_world(scenario).cuts == [[50, 50, 50]]


def test_a_deadline_that_has_passed_costs_nothing() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(1)
        with pytest.raises(DeadlineExceeded):
            await world.submit(10, within=0)

    world = in_world(scenario)
    assert world.ran == []
    assert world.batcher.counters.refused == {"deadline": 1}


def test_rows_late_because_the_loop_was_held_up_do_not_run() -> None:
    async def scenario(world: World) -> None:
        task = world.start(10, within=TICK)
        await asyncio.sleep(0)
        world.loop.advance(2 * TICK)
        with pytest.raises(DeadlineExceeded):
            await task

    assert in_world(scenario).ran == []


def test_an_answer_after_its_deadline_is_none() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(DeadlineExceeded):
            await world.submit(10, within=9 * TICK)

    assert [ran.inline for ran in in_world(scenario, inline_seconds=1e6).ran] == [True]


def test_rows_of_a_cancelled_caller_do_not_run_and_make_room() -> None:
    async def scenario(world: World) -> None:
        first = world.start(10)
        await asyncio.sleep(TICK)
        gone = world.start(*[10] * 30, 20)
        await asyncio.sleep(TICK)
        assert world.batcher.admission.queued_tokens == 320
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        assert world.batcher.admission.queued_tokens == 0
        await first
        await world.submit(11)

    world = in_world(scenario)
    assert world.cuts == [[10], [11]]
    assert world.batcher.counters.dropped == {"cancelled": 31}


def test_a_caller_cancelled_in_the_very_turn_of_its_batch_does_not_run() -> None:
    async def scenario(world: World) -> None:
        task = world.start(10)
        await asyncio.sleep(0)  # it has submitted; the batch would be cut in the next turn
        task.cancel()
        await asyncio.wait([task])

    world = in_world(scenario)
    assert world.ran == []
    assert world.batcher.counters.dropped == {"cancelled": 1}


def test_a_caller_cancelled_while_its_batch_runs_takes_nothing_from_the_others() -> None:
    async def scenario(world: World) -> None:
        gone, stays = world.start(10), world.start(10)
        await asyncio.sleep(TICK)
        gone.cancel()
        assert await stays
        assert gone.cancelled()

    assert in_world(scenario).batcher.counters.dropped == {}


def test_an_error_that_a_cancelled_caller_never_met_is_no_complaint() -> None:
    complaints: list[dict[str, Any]] = []

    async def scenario(world: World) -> None:
        world.loop.set_exception_handler(lambda _, context: complaints.append(context))
        task = world.start(10, within=TICK)
        await asyncio.sleep(0)
        world.loop.call_at(TICK, task.cancel)  # after the deadline's timer, before the caller wakes
        await asyncio.wait([task])
        assert task.cancelled()

    in_world(scenario)
    assert complaints == []


def test_a_call_that_has_its_answer_is_let_go_long_before_its_deadline() -> None:
    class Heavy:
        pass

    async def scenario(world: World) -> None:
        row = Heavy()
        gone = weakref.ref(row)
        lane: Lane[Heavy, bool] = Lane(world.batcher, lambda rows: [True for _ in rows], TICK)
        assert await lane.submit([row], [1], deadline=1e6) == [True]
        del row
        gc.collect()
        assert gone() is None

    in_world(scenario)


# Admission


def test_a_full_batcher_refuses_and_says_when_to_come_back() -> None:
    async def scenario(world: World) -> None:
        running = [world.start(50, lane=lane) for lane in (0, 1)]
        await asyncio.sleep(TICK)
        waiting = [world.start(40, lane=0), world.start(40, lane=1)]
        await asyncio.sleep(0)
        world.lanes[1].seconds_per_token = 3 * TICK
        before = world.batcher.admission.queued_tokens
        with pytest.raises(Unavailable) as refusal:
            await world.submit(21, lane=0)
        assert refusal.value.retry_after == (40 + 3 * 40) * TICK / 2
        assert world.batcher.admission.queued_tokens == before == 80
        waiting.append(world.start(20, lane=0))
        await asyncio.gather(*running, *waiting)

    world = in_world(scenario, threads=2, lanes=2, max_queued_tokens=100)
    assert world.batcher.counters.refused == {"full": 1}
    assert 21 not in {length for cut in world.cuts for length in cut}


def test_a_call_larger_than_the_whole_allowance_is_accepted_when_nothing_waits() -> None:
    async def scenario(world: World) -> None:
        large = world.start(*[10] * 50)
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await world.submit(1)
        assert len(await large) == 50

    in_world(scenario, max_queued_tokens=100)


def test_there_is_room_again_when_work_has_begun() -> None:
    async def scenario(world: World) -> None:
        for _ in range(20):
            await asyncio.gather(*(world.submit(25) for _ in range(4)))

    assert in_world(scenario, max_queued_tokens=100).batcher.counters.refused == {}


# Close


def test_close_refuses_new_calls_and_finishes_those_accepted() -> None:
    async def scenario(world: World) -> None:
        tasks = [world.start(*[10] * 30), world.start(5)]
        await asyncio.sleep(0)
        closing = [asyncio.ensure_future(world.batcher.close()) for _ in range(2)]
        await asyncio.sleep(TICK)
        with pytest.raises(Unavailable) as refusal:
            await world.submit(1)
        assert refusal.value.retry_after
        assert world.threads.ended is None
        assert [len(task) for task in await asyncio.gather(*tasks)] == [30, 1]
        await asyncio.gather(*closing)
        assert world.threads.ended

    assert in_world(scenario).batcher.counters.refused == {"closed": 1}


def test_close_waits_for_batches_whose_callers_have_gone() -> None:
    async def scenario(world: World) -> None:
        task = world.start(10)
        await asyncio.sleep(TICK)
        task.cancel()
        await world.batcher.close()
        assert world.loop.time() == 10 * TICK

    in_world(scenario)


def test_close_that_is_cancelled_does_not_wait() -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop)
        task = world.start(100)
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.batcher.close(), TICK)
        assert world.threads.ended is False
        await task

    run(main)


# Everything at once


@st.composite
def _calls(draw: st.DrawFn) -> dict[str, Any]:
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=draw(st.sampled_from([1, 3, 30]))))
    return {
        "at": draw(st.integers(0, 400)) * TICK,
        "lane": draw(st.integers(0, 2)),
        "lengths": lengths,
        "within": draw(st.sampled_from([1e6, 1e6, 1e6, 50 * TICK, 300 * TICK])),
        "cancel": draw(st.none() | st.none() | st.integers(0, 300)),
        "poisoned": [0] if draw(st.integers(0, 9)) == 9 else [],
    }


class Story:
    """What became of each call: its rows, its deadline, its outcome, and when its caller knew."""

    def __init__(self) -> None:
        self.rows: dict[int, list[Row]] = {}
        self.deadlines: dict[int, float] = {}
        self.outcomes: dict[int, str] = {}
        self.known: dict[int, float] = {}

    async def play(self, world: World, call: dict[str, Any]) -> None:
        await asyncio.sleep(call["at"])
        rows = world.rows(call["lengths"], call["poisoned"])
        number = rows[0].call
        self.rows[number] = rows
        self.deadlines[number] = world.loop.time() + call["within"]
        task = asyncio.ensure_future(world.submit_rows(rows, lane=call["lane"], deadline=self.deadlines[number]))
        if call["cancel"] is not None:
            world.loop.call_later(call["cancel"] * TICK, task.cancel)
        await asyncio.wait([task])
        self.known[number] = world.loop.time()
        if task.cancelled():
            self.outcomes[number] = "cancelled"
        elif error := task.exception():
            assert isinstance(error, DeadlineExceeded | Unavailable | PoisonError)
            self.outcomes[number] = type(error).__name__
        else:
            assert task.result() == rows, "each answer once, in the order submitted"
            self.outcomes[number] = "answered"

    def check_call(self, number: int, ran: set[Row], failed: set[int], inline_seconds: float) -> None:
        rows, outcome = self.rows[number], self.outcomes[number]
        late = self.known[number] - self.deadlines[number]
        assert (outcome == "PoisonError") <= (number in failed)
        if outcome == "answered":
            assert ran.issuperset(rows)
            assert number not in failed
            assert late <= 0 or inline_seconds, "batches in the loop hold up what a caller can notice"
        elif outcome == "DeadlineExceeded":
            assert late == 0 or (inline_seconds and late > 0)
        elif outcome == "Unavailable":
            assert ran.isdisjoint(rows), "what was refused was never begun"

    def check_counters(self, world: World, ran: set[Row]) -> None:
        # A call may have been cancelled, or too late, before it was accepted.
        sure = self._rows_of({"answered", "PoisonError"})
        counted = len(ran) + world.batcher.counters.dropped.total()
        assert sure <= counted <= sure + self._rows_of({"cancelled", "DeadlineExceeded"})

    def _rows_of(self, outcomes: set[str]) -> int:
        return sum(len(self.rows[number]) for number, outcome in self.outcomes.items() if outcome in outcomes)


def _check_batches(world: World, story: Story) -> None:
    for ran in world.ran:
        longest = max(ran.lengths)
        assert len(ran.rows) <= world.batcher.max_rows
        assert len(ran.rows) == 1 or longest * len(ran.rows) <= world.batcher.token_budget
        assert min(ran.lengths) >= LIKE * longest
        for row in ran.rows:
            assert story.known[row.call] >= ran.at, "nothing runs for a call that has its answer"
            assert story.deadlines[row.call] >= ran.at
    assert set(Counter(ran.turn for ran in world.ran if ran.inline).values()) <= {1}
    assert world.threads.most_waiting <= 1


@given(
    calls=st.lists(_calls(), min_size=1, max_size=25),
    threads=st.integers(1, 3),
    token_budget=st.sampled_from([1, 50, 200]),
    max_rows=st.sampled_from([1, 3, 8]),
    max_queued_tokens=st.sampled_from([100, 1_000_000]),
    large_tokens=st.sampled_from([20, 1_000_000]),
    lane_share=st.sampled_from([0.5, 1.0]),
    inline_seconds=st.sampled_from([0.0, 30 * TICK, 1e6]),
)
@settings(max_examples=200, deadline=None)
def test_every_call_is_answered_once_and_every_batch_is_within_its_bounds(
    calls: list[dict[str, Any]], inline_seconds: float, **bounds: Any
) -> None:
    story = Story()

    async def scenario(world: World) -> None:
        await asyncio.gather(*(story.play(world, call) for call in calls))

    world = in_world(scenario, lanes=3, inline_seconds=inline_seconds, large_share=0.5, **bounds)
    _check_batches(world, story)
    times_ran = Counter(row for ran in world.ran for row in ran.rows)
    assert set(times_ran.values()) <= {1}, "no row runs twice"
    failed = {row.call for ran in world.ran if any(row.poisoned for row in ran.rows) for row in ran.rows}
    for number in story.outcomes:
        story.check_call(number, set(times_ran), failed, inline_seconds)
    story.check_counters(world, set(times_ran))
    assert "Unavailable" not in story.outcomes.values() or bounds["max_queued_tokens"] == 100


# Real threads, real time


def test_real_threads_do_the_work_and_end() -> None:
    threads: set[threading.Thread] = set()

    def work(rows: Sequence[int]) -> Sequence[int]:
        threads.add(threading.current_thread())
        time.sleep(0.002)
        return [row * row for row in rows]

    async def main() -> None:
        batcher = Batcher(threads=2, token_budget=64, max_rows=4, max_queued_tokens=10_000, inline_seconds=0.0)
        lane = Lane(batcher, work, 1e-3)
        deadline = asyncio.get_running_loop().time() + 60
        answers = await asyncio.gather(
            *(lane.submit(range(number), range(1, number + 1), deadline=deadline) for number in range(20))
        )
        assert answers == [[row * row for row in range(number)] for number in range(20)]
        await batcher.close()

    asyncio.run(main())
    assert threads
    assert all(thread.name.startswith("batch") for thread in threads)
    assert not any(thread.is_alive() for thread in threads)


def test_what_batches_take_is_measured_where_the_loop_has_a_coarse_clock() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

    def work(rows: Sequence[int]) -> Sequence[int]:
        time.sleep(0.003)
        return rows

    async def main() -> None:
        batcher = Batcher(threads=1, token_budget=64, max_rows=4, max_queued_tokens=100, inline_seconds=1e6)
        lane = Lane(batcher, work, 0.0)
        for _ in range(30):
            await lane.submit([1], [1], deadline=asyncio.get_running_loop().time() + 60)
        assert lane.seconds_per_token > 0.0025
        assert batcher.counters.inline_batches == 30
        await batcher.close()

    uvloop.run(main())


def test_a_short_batch_runs_at_once_while_nothing_else_is_to_be_done() -> None:
    async def go(loop: VirtualLoop) -> None:
        reports: list[Any] = []
        batcher = Batcher(
            threads=1, token_budget=100, max_rows=4, max_queued_tokens=100, inline_seconds=1.0, ran=reports.append
        )
        lane: Lane[int, int] = Lane(batcher, lambda rows: [row * 2 for row in rows], 0.01, of=("m", "1"))
        assert lane.run_here([1, 2], [1, 3]) == [2, 4]
        assert batcher.counters.inline_batches == 1
        assert [(each.rows, each.tokens, each.of) for each in reports] == [(2, 4, ("m", "1"))]
        assert lane.given > 0
        assert lane.run_here([1] * 5, [1] * 5) is None  # over max_rows
        lane.seconds_per_token = 1.0
        assert lane.run_here([1, 2], [1, 1]) is None  # too long for the loop
        lane.seconds_per_token = 0.01
        waiting = asyncio.ensure_future(lane.submit([1], [1], deadline=loop.time() + 9))
        await asyncio.sleep(0)
        assert lane.run_here([1], [1]) is None  # another row waits
        assert await waiting == [2]
        assert lane.run_here([1], [1]) == [2]
        await batcher.close()
        assert lane.run_here([1], [1]) is None

    run(go)


def test_a_batch_that_runs_at_once_and_fails_is_counted() -> None:
    async def go(loop: VirtualLoop) -> None:
        batcher = Batcher(threads=1, token_budget=9, max_rows=4, max_queued_tokens=9, inline_seconds=1.0)
        lane: Lane[int, int] = Lane(batcher, lambda rows: [1 // row for row in rows], 0.01)
        with pytest.raises(ZeroDivisionError):
            lane.run_here([0], [1])
        assert batcher.counters.failed_batches == 1
        await batcher.close()

    run(go)
