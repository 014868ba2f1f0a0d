"""Many streams step as one batch, at the rates and in the numbers that the settings allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidField, RateLimited, Unavailable
from service.model.loading import Model, loader
from service.model.streams.stream import Stream, Wanted
from service.observability.metrics import Metrics
from service.serving import rates
from service.serving.batching import Batcher, Lane
from service.serving.queueing import BatchRun
from service.serving.rates import Buckets, Pace
from service.serving.streams import Streams
from service.settings import Settings
from tests.bundles import tiny_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("models") / "sentiment-lstm"
    return loader("cpu", 1, 4096)(tiny_bundle(folder, bidirectional=False))


class AtOnce(Executor):
    """Runs what is submitted before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **more))
        return done


def made(ran: list[BatchRun] | None = None, buckets: Buckets | None = None, **settings: Any) -> tuple[Streams, Batcher]:
    batcher = Batcher(
        threads=1,
        token_budget=4096,
        max_rows=64,
        max_queued_tokens=10_000,
        inline_seconds=1.0,
        executor=AtOnce(),
        ran=None if ran is None else ran.append,
    )
    return Streams(Settings(_env_file=None, **settings), batcher, Metrics(), buckets), batcher


async def steps(streams: Streams, model: Model, stream: Stream) -> AsyncIterator[list[Any]]:
    while (events := await streams.step(model, stream, 60.0)) is not None:
        yield events


async def read(streams: Streams, model: Model, stream: Stream, text: str) -> list[Any]:
    stream.feed(text)
    return [event async for events in steps(streams, model, stream) for event in events]


def test_tokens_of_many_streams_run_as_one_batch(model: Model) -> None:
    async def run() -> None:
        ran: list[BatchRun] = []
        streams, batcher = made(ran)
        opened = [streams.begin(model, Wanted(), split=True) for _ in range(20)]
        found = await asyncio.gather(
            *(read(streams, model, stream, f"film {number} was ") for number, stream in enumerate(opened))
        )
        assert [[event["text"] for event in events] for events in found] == [["film", str(n), "was"] for n in range(20)]
        assert [each.rows for each in ran] == [20]
        assert "gatelight_stream_tokens_total 60.0" in streams_text(streams)
        await batcher.close()

    asyncio.run(run())


def streams_text(streams: Streams) -> str:
    return f"gatelight_stream_tokens_total {float(streams._tokens.value)}"


def test_a_long_stream_takes_turns_with_a_short_one(model: Model) -> None:
    async def run() -> None:
        streams, batcher = made()
        long, short = (streams.begin(model, Wanted(), split=True) for _ in range(2))
        order: list[str] = []

        async def follow(stream: Stream, text: str, name: str) -> None:
            stream.feed(text)
            async for events in steps(streams, model, stream):
                order.insert(len(order), f"{name} {len(events)}")

        await asyncio.gather(follow(long, "film " * 500, "long"), follow(short, "it was ", "short"))
        assert order.index("short 2") <= 1
        assert order.count("long 16") > 30
        await batcher.close()

    asyncio.run(run())


def test_a_state_goes_on_in_another_process(model: Model) -> None:
    async def run() -> None:
        (first, _), (second, _) = made(state_key="shared"), made(state_key="shared")
        stream = first.begin(model, Wanted(), split=True)
        await read(first, model, stream, "the film was gr")
        owner, content = second.unseal(first.seal(model, stream))
        events = await read(second, model, second.resume(model, Wanted(), owner, content), "eat ")
        assert [(event["t"], event["text"], event["start"]) for event in events] == [(3, "great", 13)]
        other, _ = made()
        with pytest.raises(InvalidField, match="another key"):
            other.unseal(first.seal(model, stream))

    asyncio.run(run())


def test_a_state_of_another_model_or_release_is_refused(model: Model, tmp_path: Path) -> None:
    streams, _ = made()
    other = loader("cpu", 1, 4096)(tiny_bundle(tmp_path / "other", bidirectional=False))
    owner, content = streams.unseal(streams.seal(model, streams.begin(model, Wanted(), split=True)))
    with pytest.raises(InvalidField, match="is of 'sentiment-lstm', version 1; this is 'other'"):
        streams.resume(other, Wanted(), owner, content)
    with pytest.raises(InvalidField, match="another release"):
        streams.resume(model, Wanted(), owner, content[:-100])
    with pytest.raises(InvalidField, match="another release"):
        streams.resume(model, Wanted(), owner, b"\0\0\0\2[]")


def test_no_more_streams_are_open_than_may_be() -> None:
    streams, _ = made(max_streams=2)
    with streams.hold(), streams.hold():
        with pytest.raises(Unavailable, match="2 streams are open, the limit is 2"), streams.hold():
            pass
        assert streams.open == 2
    assert streams.open == 0


def test_streams_of_one_key_share_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "monotonic", lambda: 100.0)

    async def run() -> None:
        buckets = Buckets()
        first, _ = made(buckets=buckets, stream_rate=5.0, stream_key_rate=10.0)
        second, _ = made(buckets=buckets, stream_key_rate=10.0)
        key, other = "one", "other"
        own, keys = first.paces(key)
        assert isinstance(own, Pace)
        assert keys.take(25, 0.0) == pytest.approx(1.5)
        assert second.paces(key)[0].take(5, 0.0) == pytest.approx(2.0)  # another worker
        for streams in (first, second):
            with pytest.raises(RateLimited, match="10 tokens a second") as refused:
                streams.admit(key)
            assert refused.value.retry_after == pytest.approx(2.0)
        assert first.paces(key)[0].take(5, asyncio.get_running_loop().time()) == 0  # a rate of its own
        (counted,) = second.admit(other)
        assert counted.take(100, 0.0) == pytest.approx(9.0)
        with pytest.raises(RateLimited):
            first.admit(other)
        assert len(first.paces(None)) == 1
        assert first.admit(None) == second.paces(None) == []

    asyncio.run(run())


def test_a_patient_stream_waits_for_its_rate_and_others_only_count(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "monotonic", lambda: 100.0)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> None:
        streams, batcher = made(stream_key_rate=10.0)
        stream = streams.begin(model, Wanted(), split=True)
        stream.feed("film " * 20)
        paces = streams.admit("one")
        monkeypatch.setattr(asyncio, "sleep", sleep)
        assert len(await streams.step(model, stream, 60.0, paces=paces) or []) == 16
        assert slept == []
        assert len(await streams.step(model, stream, 60.0, paces=paces, patient=True) or []) == 4
        assert slept == [pytest.approx(1.0)]
        await batcher.close()

    asyncio.run(run())


def test_steps_wait_in_their_lane_while_the_batcher_has_other_work(model: Model) -> None:
    async def run() -> None:
        ran: list[BatchRun] = []
        streams, batcher = made(ran)
        other: Lane[int, int] = Lane(batcher, lambda rows: rows, 1e-6)
        opened = [streams.begin(model, Wanted(), split=True) for _ in range(3)]
        prediction = asyncio.ensure_future(other.submit([1], [1], deadline=asyncio.get_running_loop().time() + 60))
        await asyncio.sleep(0)  # the prediction waits
        texts = await asyncio.gather(*(read(streams, model, stream, "it was ") for stream in opened))
        assert await prediction == [1]
        assert [[event["text"] for event in events] for events in texts] == [["it", "was"]] * 3
        assert sum(each.tokens for each in ran) == 7
        assert sorted(each.rows for each in ran) in ([1, 3], [1, 1, 2])
        await batcher.close()

    asyncio.run(run())


def test_a_step_that_fails_is_an_error_of_its_streams_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        streams, batcher = made()
        stream = streams.begin(model, Wanted(), split=True)
        await read(streams, model, stream, "it was ")
        (steps,) = streams._steps.values()
        with monkeypatch.context() as patch:
            patch.setattr(steps.lane, "_run", lambda jobs: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await read(streams, model, stream, "not ")
        assert batcher.counters.failed_batches == 1
        assert [event["text"] for event in await read(streams, model, stream, "")] == ["not"]
        await batcher.close()

    asyncio.run(run())


def test_a_stream_that_is_given_up_leaves_the_others_their_step(model: Model) -> None:
    async def run() -> None:
        streams, batcher = made()
        opened = [streams.begin(model, Wanted(), split=True) for _ in range(2)]
        reads = [asyncio.ensure_future(read(streams, model, stream, "it was ")) for stream in opened]
        await asyncio.sleep(0)
        reads[0].cancel()
        assert [event["text"] for event in await reads[1]] == ["it", "was"]
        assert reads[0].cancelled()
        await batcher.close()
        with pytest.raises(Unavailable, match="shutting down"):
            await read(streams, model, opened[1], "not ")

    asyncio.run(run())
