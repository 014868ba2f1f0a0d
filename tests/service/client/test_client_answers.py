"""Answers with status 200 that are none of the service, or only the beginning of one."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.client import (
    AsyncClient,
    Client,
    ClientError,
    Contributions,
    InvalidAnswer,
    Models,
    Predictions,
    Traces,
    Unreachable,
)
from service.client import answers as client_answers
from service.client.typed import typed
from service.http.render import TraceAnswer, traces_as_safetensors
from service.model.gates import LayerGates
from tests.service.stub import Reply, answer, both, stub

HTML = b"<!doctype html><title>Maintenance</title>" + b"We are back soon. " * 10
FAST: dict[str, Any] = {"retries": 3, "backoff": 0.001, "verify": False}
AFTER: dict[str, Any] = {"contributions": None}
PREDICTIONS: bytes = json.dumps(answer({"inputs": "a film"})[2]).encode()


def file(rows: int = 2) -> bytes:
    """An answer of `/gates`: one input of so many tokens."""
    gates: dict[str, Any] = {"forget": np.zeros((rows, 3), np.float32)}
    prediction: Any = {"label": "positive", "score": 1.0, "scores": {}, "truncated": False}
    tokens: Any = [{"text": "a", "start": 0, "end": 1}] * rows
    trace = TraceAnswer({"tokens": tokens, "prediction": prediction}, [LayerGates(0, "forward", gates)], AFTER)
    head: dict[str, object] = {"model": "m", "version": "1", "task": "sentiment", "cell": "lstm", "equations": {}}
    return b"".join(traces_as_safetensors(head, [trace]))


def call(method: str, url: str, asynchronous: bool) -> Any:
    """One call of either client that begins with these words."""
    arguments = {"predict": ["a film"], "gates": ["a film"], "model": ["m"], "models": []}[method]
    if not asynchronous:
        with Client(url, **FAST) as client:
            return getattr(client, method)(*arguments)

    async def run() -> Any:
        async with AsyncClient(url, **FAST) as client:
            return await getattr(client, method)(*arguments)

    return asyncio.run(run())


def edited(**changes: Any) -> bytes:
    """The answer of `/predict`, with other members; `...` takes one away."""
    body = {name: value for name, value in {**json.loads(PREDICTIONS), **changes}.items() if value is not ...}
    return json.dumps(body).encode()


def changed(edit: Callable[[dict[str, Any]], None]) -> bytes:
    """The answer of `/gates`, with another header."""
    content = file()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


ANYTHING = [HTML, b"{}", b"null", b"[]", b'"text"', b"7", b"true", b"OK", b"\xff\xfe", b"[" * 100_000]
ONE = json.loads(PREDICTIONS)["predictions"][0]
OTHERS = {
    "predict": [
        edited(predictions=...),
        edited(predictions=None),
        edited(predictions={}),
        edited(predictions=[]),
        edited(predictions=[None]),
        edited(predictions=[ONE, ONE]),
        edited(predictions=[{**ONE, "label": None}]),
        edited(predictions=[{**ONE, "score": "0.5"}]),
        edited(predictions=[{**ONE, "truncated": 0}]),
        edited(predictions=[{"entities": None, "truncated": False}]),
        edited(predictions=[{"entities": [{"label": "PER"}], "truncated": False}]),
        edited(model=...),
        edited(version=1),
    ],
    "gates": [
        PREDICTIONS,
        changed(lambda header: header.pop("__metadata__")),
        changed(lambda header: header.update(__metadata__={"response": "{}"})),
        changed(lambda header: header.update(__metadata__={"response": "no"})),
        changed(lambda header: header.update(forget={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]})),
        changed(lambda header: header["0/0/forward/forget"].update(shape=[5, 5])),
        changed(lambda header: header["0/0/forward/forget"].update(dtype="F16")),
        changed(lambda header: header["0/0/forward/forget"].update(data_offsets=["0", "24"])),
        changed(lambda header: header["0/0/forward/forget"].pop("data_offsets")),
    ],
    "model": [b'{"name": "m"}', b'{"models": []}'],
    "models": [b'{"models": null}', b'{"models": [null], "default": {}, "refused": []}'],
}


@both
@pytest.mark.parametrize("method", OTHERS)
def test_what_is_no_answer_of_the_service_is_an_error(method: str, asynchronous: bool) -> None:
    answers: list[bytes] = []
    with stub(lambda request, number: (200, {}, answers[-1])) as server:
        for content in [*ANYTHING, *OTHERS[method]]:
            answers.append(content)
            server.seen.clear()
            with pytest.raises(InvalidAnswer, match="answer"):
                call(method, server.url, asynchronous)
            if method != "gates" or content not in (b"OK", b"\xff\xfe"):  # a file could begin like that
                assert len(server.seen) == 1, content


@both
@pytest.mark.parametrize("method", ["predict", "gates"])
@pytest.mark.parametrize("how", ["announced", "framed", "compressed"])
def test_a_cut_answer_is_asked_for_again(method: str, how: str, asynchronous: bool) -> None:
    """At every place where it can be cut, however its length is announced."""
    whole = PREDICTIONS if method == "predict" else file()
    places = [0, 1, 7, 8, 9, 12, len(whole) // 2]
    if how != "compressed":  # there the last bytes are a checksum
        places += [whole.rindex(b"}"), len(whole) - 1]

    def reply(request: Any, number: int) -> Reply:
        if number % 2 == 0:
            return 200, {}, whole
        part = whole[: places[number // 2]]
        if how == "compressed":
            packed = gzip.compress(whole)
            part = packed[: max(1, len(packed) * places[number // 2] // len(whole))]
            return 200, {"Content-Encoding": "gzip"}, part
        return 200, {"Content-Length": str(len(whole))} if how == "announced" else {}, part

    with stub(reply) as server:
        for number in range(1, len(places) + 1):
            found = call(method, server.url, asynchronous)
            assert isinstance(found, Predictions | Traces)
            assert len(server.seen) == 2 * number


@both
@pytest.mark.parametrize("method", ["predict", "gates"])
def test_an_answer_that_is_cut_every_time(method: str, asynchronous: bool) -> None:
    whole = PREDICTIONS if method == "predict" else file()
    for headers, kind in (({"Content-Length": "9999"}, Unreachable), ({}, InvalidAnswer)):
        with stub(lambda request, number, headers=headers: (200, headers, whole[:-5])) as server:  # type: ignore[misc]  # mypy infers no lambda with defaults
            with pytest.raises(kind) as raised:
                call(method, server.url, asynchronous)
            assert isinstance(raised.value, ClientError)
            assert len(server.seen) == 1 + FAST["retries"]


@both
def test_a_body_that_is_not_compressed_as_it_says(asynchronous: bool) -> None:
    with (
        stub(lambda request, number: (200, {"Content-Encoding": "gzip"}, PREDICTIONS)) as server,
        pytest.raises(ClientError),
    ):
        call("predict", server.url, asynchronous)


def test_only_the_service_says_that_it_is_ready() -> None:
    answers: list[Any] = []

    async def asynchronous(url: str) -> bool:
        async with AsyncClient(url) as client:
            return await client.ready()

    with stub(lambda request, number: (200, {}, answers[-1])) as server, Client(server.url) as client:
        for content, ready in [*((each, False) for each in ANYTHING), (b'{"status":"ok"}', True)]:
            answers.append(content)
            assert client.ready() is ready
            assert asyncio.run(asynchronous(server.url)) is ready


def test_a_number_beyond_float32_is_no_contribution() -> None:
    body = {"labels": ["a"], "bias": [1e308], "tokens": [[0.0]], "logits": [0.0]}
    with pytest.raises(FloatingPointError):
        typed(Contributions, body)


def test_answers_that_are_right_are_read() -> None:
    with stub(
        lambda request, number: (
            200,
            {},
            [PREDICTIONS, file(), {"models": [], "default": {}, "refused": []}][number - 1],
        )
    ) as server:
        assert isinstance(call("predict", server.url, False), Predictions)
        assert call("gates", server.url, False).traces[0].gate("forget").shape == (2, 3)
        assert isinstance(call("models", server.url, False), Models)


def with_statistics(*names: str) -> bytes:
    """The answer of `/gates`, with statistics of these names."""
    gates: dict[str, Any] = {"forget": np.zeros((2, 3), np.float32)}
    prediction: Any = {"label": "positive", "score": 1.0, "scores": {}, "truncated": False}
    statistics = {name: np.full(3, number, np.float32) for number, name in enumerate(names)}
    layer = LayerGates(0, "forward", gates, statistics)
    tokens: Any = [{"text": "a", "start": 0, "end": 1}] * 2
    head: dict[str, object] = {"model": "m", "version": "1", "task": "sentiment", "cell": "lstm", "equations": {}}
    trace = TraceAnswer({"tokens": tokens, "prediction": prediction}, [layer], AFTER)
    return b"".join(traces_as_safetensors(head, [trace]))


def test_statistics_stand_beside_the_gates() -> None:
    (trace,) = client_answers.traces(with_statistics("forget.mean", "forget.change", "forget.newer", "horizon")).traces
    (layer,) = trace.layers
    assert list(layer.gates) == ["forget"]
    assert layer.statistics is not None
    over_time = layer.statistics.gates["forget"]
    assert (over_time.mean.tolist(), over_time.change.tolist()) == ([0.0] * 3, [1.0] * 3)
    assert over_time.below is over_time.above is None  # and what a newer service adds is passed over
    assert layer.statistics.horizon is not None
    assert layer.statistics.horizon.tolist() == [3.0] * 3


def test_statistics_without_a_mean_are_no_answer() -> None:
    with pytest.raises(InvalidAnswer):
        client_answers.traces(with_statistics("forget.change"))
