"""Server-sent events of `POST /stream`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from service.errors import RequestError, TooLarge
from service.http.streaming import routes
from tests.bundles import tiny_bundle
from tests.service.process.talking import Talk, request, runner


@pytest.mark.parametrize(
    ("error", "status", "logged"), [(ValueError("a number is not finite"), 500, 1), (TooLarge("Tokens", 9, 8), 413, 0)]
)
def test_an_error_after_the_first_event_is_the_last_event(error: Exception, status: int, logged: int) -> None:
    async def events() -> AsyncIterator[list[dict[str, Any]]]:
        yield [{"type": "token", "t": 0}]
        raise error

    context = cast(Any, SimpleNamespace(log={}))
    opened = cast(Any, SimpleNamespace(ready={"type": "ready"}))

    async def sending() -> list[bytes]:
        return [each async for each in routes._sent(context, opened, [], events())]

    with capture_logs() as logs:
        sent = asyncio.run(sending())
    kind, _, data = sent[-1].decode().removesuffix("\n\n").partition("\n")
    assert kind == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert told["status"] == status
    assert "not finite" not in told["detail"]  # an unexpected error reveals no details
    assert len(logs) == logged
    assert context.log["error"] == (error.slug if isinstance(error, RequestError) else "internal-error")


LINE_ENDS = "a\x85b\u2028c\u2029d\ne\rf\x0bg\x0ch\x1ci\x1dj\x1ek"


def test_an_event_is_one_line_wherever_a_client_cuts_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_bundle(tmp_path / "ner-lstm", bidirectional=False, task="ner")

    async def test(talk: Talk) -> None:
        body = {"model": "ner-lstm", "tokens": [LINE_ENDS, "film"], "end": True}
        protocol, line = talk.connect()
        protocol.data_received(request("/stream", body, "Accept: text/event-stream"))
        while not line.written.endswith(b"\r\n0\r\n\r\n"):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0)
        lines = [each for each in line.written.decode().splitlines() if each.startswith("data: ")]
        events = [json.loads(each.removeprefix("data: ")) for each in lines]
        assert [event["text"] for event in events if event["type"] == "token"] == [LINE_ENDS, "film"]

    runner(tmp_path, monkeypatch)(test)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_stream_ends_at_the_deadline_of_its_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    """After the second step the time of the deadline has come."""
    tiny_bundle(tmp_path / "sentiment-lstm", bidirectional=False)
    given: list[float] = []

    async def test(talk: Talk) -> None:
        loop, streams = asyncio.get_running_loop(), talk.runtime.streams
        step, now = streams.step, loop.time

        async def stepped(model: Any, stream: Any, seconds: float, **more: Any) -> Any:
            given.append(seconds)
            events = await step(model, stream, seconds, **more)
            if len(given) == 2:
                monkeypatch.setattr(loop, "time", lambda: now() + 60)
            return events

        monkeypatch.setattr(streams, "step", stepped)
        body = {"model": "sentiment-lstm", "text": "film " * 100, "end": True}
        protocol, line = talk.connect()
        protocol.data_received(request("/stream", body, f"Accept: {accept}", "X-Request-Timeout: 60"))
        while not (line.written.endswith(b"\r\n0\r\n\r\n") or b'"status":504' in line.written):  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0)
        last = line.written.rpartition(b"data: ")[2] if accept == "text/event-stream" else line.written
        assert b'"status":504' in last, line.written
        assert line.written.count(b"event: token") == (32 if accept == "text/event-stream" else 0)
        assert len(given) == 2
        assert 60 > given[0] > given[1] > 0

    runner(tmp_path, monkeypatch)(test)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_the_log_has_the_tokens_of_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    """However few of them have an event."""
    tiny_bundle(tmp_path / "sentiment-lstm", bidirectional=False)

    async def test(talk: Talk) -> None:
        body = {"model": "sentiment-lstm", "text": "film " * 40, "end": True, "every": 15}
        protocol, line = talk.connect()
        with capture_logs() as logs:
            protocol.data_received(request("/stream", body, f"Accept: {accept}"))
            while not logs:  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0)
        assert line.written.count(b'"t":') == 2
        assert [each["tokens"] for each in logs] == [40], logs

    runner(tmp_path, monkeypatch)(test)
