"""Sampling of live gates: which inputs are traced, and how long the sampler rests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from service.observability.metrics import Metrics
from service.serving import sampling
from service.serving.registry import Model
from service.serving.sampling import MAX_TOKENS, REST, Sampler
from tests.patience import PATIENCE

SECONDS = 2.0
"""Of a sample, by the clock of these tests."""


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.sampled: list[int] = []
        """The first number of each sampled input."""
        monkeypatch.setattr(sampling, "perf_counter", lambda: self.now)
        monkeypatch.setattr(sampling, "_observe", self._observe)

    def _observe(self, _: Model, rows: NDArray[np.int32]) -> dict[Any, Any]:
        self.now += SECONDS
        self.sampled.append(int(rows[0, 0]))
        assert len(rows) <= MAX_TOKENS
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Named(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]  # a model is a key


def named(name: str) -> Model:
    return cast(Model, Named(name=name, version="1", bundle=SimpleNamespace(digest="a" * 64)))


MODEL = named("m")


def inputs(numbers: Sequence[int], tokens: int = 3) -> list[NDArray[np.int32]]:
    return [np.full((tokens, 1), number, np.int32) for number in numbers]


async def offered(sampler: Sampler, rows: list[NDArray[np.int32]], model: Model = MODEL) -> None:
    """Offer inputs, and wait until a sample has run."""
    sampler.offer(model, rows)
    await asyncio.get_running_loop().run_in_executor(sampler._thread, lambda: None)  # it has one thread, in order


@pytest.mark.parametrize(("share", "times"), [(1.0, 0), (0.5, 1), (0.1, 9), (0.01, REST - 1), (0.001, REST - 1)])
def test_a_sampler_rests_so_that_it_takes_no_more_than_its_share(clock: Clock, share: float, times: int) -> None:
    async def main() -> None:
        sampler = Sampler(Metrics(), share, list)
        many = round(1 / share)
        await offered(sampler, inputs([1] * many))
        assert clock.sampled == [1]
        ended = clock.now
        if times:
            clock.now = ended + times * SECONDS - 0.001
            await offered(sampler, inputs([2] * many))
            assert clock.sampled == [1]
        clock.now = ended + times * SECONDS
        await offered(sampler, inputs([3] * many))
        assert clock.sampled == [1, 3]
        sampler.close()

    asyncio.run(main())


def test_every_nth_input_of_each_model_is_sampled_the_first_among_them(clock: Clock) -> None:
    other = named("other")

    async def main() -> None:
        sampler = Sampler(Metrics(), 0.25, list)
        for number in range(9):
            clock.now += 1000
            await offered(sampler, inputs([number]))
            clock.now += 1000
            await offered(sampler, inputs([100 + number]), other)
        clock.now += 1000
        await offered(sampler, inputs(range(9, 13)))
        sampler.close()

    asyncio.run(main())
    assert clock.sampled == [0, 100, 4, 104, 8, 108, 12]


def test_a_long_text_is_sampled_by_its_head(clock: Clock) -> None:
    async def main() -> None:
        metrics = Metrics()
        sampler = Sampler(metrics, 1.0, list)
        await offered(sampler, inputs([1], tokens=MAX_TOKENS + 100))
        totals = metrics.totals()
        assert totals["gate_sampled_texts_total", "m", "1"] == [1.0]
        assert totals["gate_sampled_tokens_total", "m", "1"] == [MAX_TOKENS]
        sampler.close()

    asyncio.run(main())


def test_a_share_of_0_samples_none(clock: Clock) -> None:
    async def main() -> None:
        sampler = Sampler(Metrics(), 0.0, list)
        await offered(sampler, inputs([1]))
        sampler.close()

    asyncio.run(main())
    assert clock.sampled == []


def test_a_sample_that_is_due_while_another_runs_is_left_out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Model, rows: NDArray[np.int32]) -> dict[Any, Any]:
        sampled.append(int(rows[0, 0]))
        begun.set()
        assert go_on.wait(PATIENCE)
        return {}

    monkeypatch.setattr(sampling, "_observe", slow)

    async def main() -> None:
        sampler = Sampler(Metrics(), 1.0, list)
        sampler.offer(MODEL, inputs([1]))
        assert begun.wait(PATIENCE)
        clock.now += 1000  # the sampler does not rest: it is busy
        sampler.offer(MODEL, inputs([2]))
        go_on.set()
        await offered(sampler, [])
        await offered(sampler, inputs([3]))
        sampler.close()

    asyncio.run(main())
    assert sampled == [1, 3]


def test_a_sample_is_not_counted_for_other_content(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> dict[Any, Any]:
        begun.set()
        assert go_on.wait(PATIENCE)
        return {}

    monkeypatch.setattr(sampling, "_observe", slow)

    async def main() -> None:
        metrics = Metrics()
        sampler = Sampler(metrics, 1.0, list)
        for number, content in enumerate((MODEL.bundle.digest, "b" * 64, MODEL.bundle.digest)):
            begun.clear()
            go_on.clear()
            clock.now += 1000
            sampler.offer(MODEL, inputs([number]))
            assert begun.wait(PATIENCE)
            metrics.judge(("m", "1"), content)  # the folder of the version may have other content by now
            go_on.set()
            await offered(sampler, [])
            assert metrics.totals().get(("gate_sampled_texts_total", "m", "1")) == [0.0 if number == 1 else 1.0]
        sampler.close()

    asyncio.run(main())


def test_a_sample_that_fails_keeps_no_later_one_out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Model, rows: NDArray[np.int32]) -> dict[Any, Any]:
        raise ValueError

    async def main() -> None:
        sampler = Sampler(Metrics(), 1.0, list)
        works = sampling._observe
        monkeypatch.setattr(sampling, "_observe", broken)
        await offered(sampler, inputs([1]))
        monkeypatch.setattr(sampling, "_observe", works)
        clock.now += 1000
        await offered(sampler, inputs([2]))
        sampler.close()

    asyncio.run(main())
    assert clock.sampled == [2]
