"""A stream's messages, read by callbacks or by its task: the same events, and one end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from service.http.streaming import session
from service.http.streaming.line import Take
from service.http.streaming.opened import SLICE
from service.http.streaming.session import Session, _text_alone
from tests.bundles import tiny_bundle
from tests.service.process.talking import Run, Talk, runner

PIECES = ["The ", "fi", "lm, ", "is ", "gr", "eat. ", "", " ", "Mr. ", "x" * 300, "&am", "p; ", "e", "\u0301"]
OTHERS: list[str | bytes] = [
    '{"end": true}',
    '{"tokens": ["a"]}',
    "no",
    "{}",
    "[]",
    '{"text": 7}',
    '{"text": "a", "end": true}',
    b"\0",
]


class Line:
    """An accepted WebSocket. `sent` are the messages to the client, with rounded numbers."""

    def __init__(self, *, can_write: bool = True) -> None:
        self.can_write = can_write
        self.sent: list[Any] = []
        self.closed: tuple[int, str] | None = None
        self.take: Take = lambda _: None

    def hear(self, take: Take) -> None:
        self.take = take

    def pause(self) -> None: ...

    def read_on(self) -> None: ...

    def write_now(self, messages: Sequence[bytes]) -> None:
        self.sent += [json.loads(message, parse_float=lambda number: round(float(number), 4)) for message in messages]

    async def write(self, messages: Sequence[bytes]) -> None:
        self.write_now(messages)

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason

    async def leave(self) -> None: ...


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():  # noqa: ASYNC110 # nothing tells of it
        await asyncio.sleep(0)


class Opened:
    """An open stream."""

    def __init__(self, talk: Talk, line: Line) -> None:
        context: Any = SimpleNamespace(
            runtime=talk.runtime, request_id="id", log={}, route_key=None, model=None, grant=None, admit=None
        )
        self.line, self.session = line, Session(context, line)
        self.task = asyncio.ensure_future(self.session.run())

    @classmethod
    async def of(cls, talk: Talk, model: str, line: Line | None = None) -> Opened:
        talk.runtime.batcher.inline_seconds *= 1e6  # a busy machine must not turn a step away from the loop
        opened = cls(talk, line or Line())
        await asyncio.sleep(0)
        opened.line.take(json.dumps({"model": model}))
        await until(opened.idle)
        return opened

    def idle(self) -> bool:
        """True once every message is read, or the stream has ended."""
        return self.task.done() or (bool(self.line.sent) and self.session._waits and not self.session._inbox)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_bundle(folder / "sentiment-lstm", bidirectional=False, head="attention")
    tiny_bundle(folder / "ner-gru", bidirectional=False, task="ner", cell="gru", crf=True, seed=1)
    return folder


@pytest.fixture
def run(models: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(models, monkeypatch)


def test_a_plain_piece_does_not_wake_the_task(run: Run) -> None:
    async def test(talk: Talk) -> None:
        opened = await Opened.of(talk, "sentiment-lstm")
        waited = opened.session._woken
        for _ in range(5):
            opened.line.take('{"text": "film, "}')
            await until(opened.idle)
            assert opened.session._woken is waited
        assert [event["t"] for event in opened.line.sent[1:]] == list(range(10))
        opened.line.take(None)
        await opened.task
        assert (opened.line.closed, talk.runtime.streams._dropped["gone"].value) == (None, 0)

    run(test, inline_ms=100)


@pytest.mark.parametrize("character", ["a", "é", "\U0001f600"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_short_piece_is_read_by_callbacks_however_it_is_written(character: str, *, ascii_only: bool) -> None:
    text = character * SLICE
    assert _text_alone(json.dumps({"text": text}, ensure_ascii=ascii_only)) == text
    assert _text_alone(json.dumps({"text": text + character}, ensure_ascii=ascii_only)) is None


def test_a_long_message_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "orjson", None)  # the callbacks' parser; the task has its own
    assert _text_alone(json.dumps({"text": "a" * 20 * SLICE})) is None
    assert _text_alone(json.dumps({"text": "a", "more": [0] * 20 * SLICE})) is None


@pytest.mark.parametrize("model", ["sentiment-lstm", "ner-gru"])
def test_callbacks_and_the_task_tell_the_same(run: Run, model: str) -> None:
    async def told(talk: Talk, line: Line, seed: int) -> list[Any]:
        opened, choice = await Opened.of(talk, model, line), Random(seed)
        for _ in range(choice.randint(1, 25)):
            other = choice.random() < 0.2
            line.take(choice.choice(OTHERS) if other else json.dumps({"text": choice.choice(PIECES)}))
            for _ in range(choice.choice([0, 0, 1, 2, 20])):
                await asyncio.sleep(0)
        await until(opened.idle)
        line.take(None)
        await opened.task
        assert talk.runtime.streams.waiting == 0
        return [*line.sent, line.closed]

    async def test(talk: Talk) -> None:
        for seed in range(60):
            assert await told(talk, Line(), seed) == await told(talk, Line(can_write=False), seed)

    run(test, inline_ms=100)


def test_a_step_that_fails_in_a_callback_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        opened = await Opened.of(talk, "sentiment-lstm")
        opened.line.take('{"text": "film "}')
        await until(opened.idle)
        (steps,) = talk.runtime.streams._steps.values()
        monkeypatch.setattr(steps.lane, "_run", lambda jobs: 1 / 0)
        opened.line.take('{"text": "is "}')
        await opened.task
        assert opened.line.sent[-1]["status"] == 500
        assert opened.line.closed == (1013, "unexpected error")

    run(test, inline_ms=100)


def test_a_piece_that_cannot_be_read_in_a_callback_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(talk: Talk) -> None:
        opened = await Opened.of(talk, "sentiment-lstm")
        monkeypatch.setattr("service.model.streams.stream.Stream.feed", lambda stream, text: 1 / 0)
        opened.line.take('{"text": "film "}')
        await opened.task
        assert opened.line.sent[-1]["status"] == 500
        assert opened.line.closed == (1013, "unexpected error")

    run(test, inline_ms=100)


def test_a_client_that_goes_before_its_step_is_counted(run: Run) -> None:
    async def test(talk: Talk) -> None:
        opened = await Opened.of(talk, "sentiment-lstm")
        opened.line.take('{"text": "film "}')
        opened.line.take(None)
        await opened.task
        assert (len(opened.line.sent), opened.line.closed) == (1, None)
        assert talk.runtime.streams._dropped["gone"].value == 1

    run(test, inline_ms=100)


def test_a_shutdown_before_a_step_comes_behind_its_event(run: Run) -> None:
    async def test(talk: Talk) -> None:
        opened = await Opened.of(talk, "sentiment-lstm")
        opened.line.take('{"text": "film "}')
        talk.runtime.streams.close()
        await opened.task
        assert [event["type"] for event in opened.line.sent] == ["ready", "token", "state"]
        assert opened.line.closed is not None
        assert opened.line.closed[0] == 1012

    run(test, inline_ms=100)


def test_a_step_that_may_not_run_in_the_loop_waits_in_its_lane(run: Run) -> None:
    async def test(talk: Talk) -> None:
        opened = await Opened.of(talk, "sentiment-lstm")
        opened.line.take('{"text": "film, "}')
        await until(opened.idle)
        opened.line.take('{"text": "and "}')
        await until(opened.idle)
        assert [event["text"] for event in opened.line.sent[1:]] == ["film", ",", "and"]

    run(test, inline_ms=0)
