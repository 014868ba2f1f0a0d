"""Requests on the fast path to which something happens: others behind them, deadlines, hang-ups, shutdowns, errors."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.errors import Unavailable
from service.http import fast_path
from service.serving import batching
from service.serving.runtime import Phase
from tests.service.process.talking import TEXT, Line, Run, Talk, answered, holding, request, whole, without_id


class Clock:
    """The time of the running event loop, which is `ahead` of the real time by so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop, self.ahead = asyncio.get_running_loop(), 0.0
        time = loop.time
        monkeypatch.setattr(loop, "time", lambda: time() + self.ahead)


async def answered_and_closed(line: Line) -> None:
    """Wait for an answer, which has to be a 200 behind which its connection closes."""
    await answered(line)
    assert line.written.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in line.written
    assert line.closed


def test_two_requests_at_once_are_answered_in_order(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked, other = request("/predict", {"inputs": TEXT}), request("/predict", {"inputs": ["worse"] * 2})
        expected = [without_id(await talk.ask(each)) for each in (asked, other)]
        talk.fast.clear()
        for held in (False, True):
            protocol, line = talk.connect()
            release = holding(talk, monkeypatch) if held else lambda: None
            protocol.data_received(asked)
            assert talk.fast.pop().done() is False
            protocol.data_received(other)
            protocol.data_received(asked)
            release()
            await answered(line, 3)
            assert list(map(without_id, whole(line.written))) == [*expected, expected[0]]
            assert not talk.fast
        line.written = b""
        protocol.data_received(asked + other)
        await answered(line, 2)
        assert list(map(without_id, whole(line.written))) == expected
        assert not talk.fast

    running(test)


def test_many_connections_share_batches(running: Run) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        await talk.learned(asked)
        reports: list[Any] = []
        talk.runtime.batcher.ran = reports.append
        connections = [talk.connect() for _ in range(8)]
        for protocol, _ in connections:
            protocol.data_received(asked)
        for _, line in connections:
            await answered(line)
        assert len(talk.fast) == 8
        assert [each.rows for each in reports] == [8]
        assert not talk.runtime.batcher._submissions

    running(test)


@pytest.mark.parametrize("inline", [True, False])
def test_batches_run_in_threads_too(running: Run, inline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WEIGHT_OF_LAST", 0)  # a slow batch sends no later one to a thread

    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        await talk.learned(asked)
        before = talk.runtime.batcher.counters.inline_batches
        await talk.ask(asked, asked)
        assert len(talk.fast) == 2
        assert (talk.runtime.batcher.counters.inline_batches > before) == inline

    running(test, inline_ms=100 if inline else 0)


def test_a_full_queue_refuses_as_ever(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        connection = await talk.learned(asked)
        release = holding(talk, monkeypatch)
        waiting = talk.connect()
        waiting[0].data_received(asked)
        refused = await talk.ask(asked, on=connection)
        other = await talk.ask(request("/predict", {"inputs": TEXT}, "Accept: */*"))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert re.search(rb"retry-after: \d+", refused)
        assert without_id(refused) == without_id(other)
        assert sum(talk.runtime.batcher.counters.refused.values()) == 2, "each is counted once"
        release()
        await answered(waiting[1])
        assert waiting[1].written.startswith(b"HTTP/1.1 200 ")

    running(test, queue_tokens=4, large_tokens=4)


def test_a_deadline_passes_as_ever(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        connection = await talk.learned(asked)
        release, clock = holding(talk, monkeypatch), Clock(monkeypatch)
        with capture_logs() as lines:
            found = []
            for (protocol, line), sent in (
                (connection, asked),
                (talk.connect(), request("/predict", {"inputs": TEXT}, "Accept: */*")),
            ):
                line.written = b""
                protocol.data_received(sent)
                while not talk.runtime.batcher.admission.queued_tokens:  # noqa: ASYNC110 # nothing tells of it
                    await asyncio.sleep(0)
                clock.ahead += talk.runtime.settings.timeout
                await answered(line)
                found.append(line.written)
            assert [each.partition(b"\r\n")[0] for each in found] == [b"HTTP/1.1 504 Gateway Timeout"] * 2
            assert without_id(found[0]) == without_id(found[1])
            assert talk.runtime.batcher.counters.dropped["deadline"] == 2
            assert not talk.runtime.batcher.admission.queued_tokens
            await asyncio.sleep(0)
        assert [line["status"] for line in lines if line["event"] == "request"] == [504, 504]
        release()
        assert (await talk.ask(asked, on=connection)).startswith(b"HTTP/1.1 200 ")
        assert [each.done() for each in talk.fast] == [True, True]

    running(test)


def test_one_timer_ends_every_request_at_its_deadline(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        await talk.learned(asked)
        holding(talk, monkeypatch)
        clock, timeout = Clock(monkeypatch), talk.runtime.settings.timeout
        connections = []
        for _ in range(3):
            connections.append(talk.connect())
            connections[-1][0].data_received(asked)
            clock.ahead += timeout / 4
        for _, line in connections:
            clock.ahead += timeout / 4
            await answered(line)
            assert line.written.startswith(b"HTTP/1.1 504 ")
        assert not talk.app.fast._waiting  # type: ignore[union-attr]  # it has a fast path

    running(test)


def test_a_batch_that_fails_is_an_error_of_every_request(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        await talk.learned(asked)

        def fail(_: object) -> None:
            raise MemoryError("no room")

        engine = talk.runtime.model("sentiment-bilstm", None).engine
        monkeypatch.setattr(type(engine), "predict", lambda *_: fail(_))
        connections = [talk.connect() for _ in range(3)]
        with capture_logs() as lines:
            for protocol, _ in connections:
                protocol.data_received(asked)
            for _, line in connections:
                await answered(line)
                assert line.written.startswith(b"HTTP/1.1 500 ")
        assert [each["event"] for each in lines].count("unexpected error") == 3
        assert talk.runtime.batcher.counters.failed_batches == 1
        monkeypatch.undo()
        assert (await talk.ask(asked, on=connections[0])).startswith(b"HTTP/1.1 200 ")

    running(test)


def test_an_answer_that_cannot_be_made_is_an_error(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        connection = await talk.learned(asked)

        def fail(*_: Any) -> Any:
            raise ValueError("not finite")

        monkeypatch.setattr(fast_path, "answer_of", fail)
        assert (await talk.ask(asked, on=connection)).startswith(b"HTTP/1.1 500 ")
        monkeypatch.undo()
        assert (await talk.ask(asked, on=connection)).startswith(b"HTTP/1.1 200 ")

    running(test)


def test_a_client_that_hangs_up_costs_no_work(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        protocol, line = await talk.learned(asked)
        await asyncio.sleep(0)
        release = holding(talk, monkeypatch)
        line.written = b""
        with capture_logs() as lines:
            protocol.data_received(asked)
            protocol.connection_lost(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert [(each["event"], each["status"]) for each in lines] == [("request", 499)]
        assert talk.runtime.batcher.counters.dropped["cancelled"] == 1
        release()
        await asyncio.sleep(0.01)
        assert not line.written
        assert not talk.runtime.batcher._submissions
        assert 'status="499"' in talk.runtime.metrics.text().decode()

    running(test)


def test_a_half_closed_connection_gets_its_answer(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        protocol, line = await talk.learned(asked)
        release = holding(talk, monkeypatch)
        line.written = b""
        protocol.data_received(asked)
        assert protocol.eof_received() is True
        release()
        await answered_and_closed(line)

    running(test)


def test_a_shutdown_waits_for_the_request(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        protocol, line = await talk.learned(asked)
        release = holding(talk, monkeypatch)
        line.written = b""
        protocol.data_received(asked)
        talk.runtime.phase = Phase.DRAINING
        protocol.shutdown()
        assert not line.closed
        release()
        await answered_and_closed(line)

    running(test)


def test_a_service_that_drains_closes_each_connection_behind_its_answer(
    running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        connections = [await talk.learned(asked), talk.connect()]
        release = holding(talk, monkeypatch)
        connections[0][1].written = b""
        connections[0][0].data_received(asked)
        talk.runtime.phase = Phase.DRAINING
        connections[1][0].data_received(asked)
        assert len(talk.fast) == 1, "none begins while it drains"
        release()
        for _, line in connections:
            await answered_and_closed(line)

    running(test)


def test_a_connection_is_idle_once_its_last_answer_is_as_old_as_the_limit(
    running: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        await talk.learned(asked)
        protocol, line = talk.connect()
        unused = protocol.timeout_keep_alive_task
        await talk.ask(asked, on=(protocol, line))
        assert unused is not None
        assert unused.cancelled(), "it closes connections without a request"
        first = protocol.timeout_keep_alive_task
        await talk.ask(asked, on=(protocol, line))
        assert protocol.timeout_keep_alive_task is first, "one timer for many answers"
        assert first is not None
        protocol.timeout_keep_alive_handler()
        assert not line.closed
        assert protocol.timeout_keep_alive_task not in (None, first)
        protocol._answered -= protocol.timeout_keep_alive
        release = holding(talk, monkeypatch)
        line.written = b""
        protocol.data_received(asked)
        protocol.timeout_keep_alive_handler()
        assert not line.closed, "it has a request"
        release()
        await answered(line)
        protocol._answered -= protocol.timeout_keep_alive
        protocol.timeout_keep_alive_handler()
        assert line.closed
        assert len(talk.fast) == 3

    running(test)


def test_a_model_that_has_gone_is_reported(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/models/sentiment-bilstm", {"inputs": TEXT})
        connection = await talk.learned(asked)

        def gone(*_: Any) -> Any:
            raise Unavailable("No model is loaded.")

        monkeypatch.setattr(type(talk.runtime), "model", gone)
        assert (await talk.ask(asked, on=connection)).startswith(b"HTTP/1.1 503 ")

    running(test)
