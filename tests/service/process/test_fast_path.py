"""The fast path gives the answers of the ordinary one, and leaves to it all that is not plain."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from service.http.app import Application
from service.http.endpoint import Followed, JobRoute
from service.process import fast_connection
from service.serving import batching
from tests.patience import PATIENCE
from tests.service.process.talking import TEXT, Run, Talk, answered, request, without_id

V2 = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a film"]}]}
PLAIN: list[tuple[str, Any]] = [
    ("/predict", {"inputs": TEXT}),
    ("/predict/", {"inputs": TEXT}),
    ("/predict?a=b", {"inputs": [TEXT, "another"], "model": "sentiment-bilstm"}),
    ("/predict", {"inputs": [["A", "film"]], "task": "sentiment"}),
    ("/predict", {"inputs": "Ada is here. A film.", "model": "ner-bilstm", "tokens": True}),
    ("/predict", {"inputs": "Ada is here. A film.", "model": "ner-bilstm", "split": False}),
    ("/models/sentiment-bilstm", {"inputs": TEXT}),
    ("/models/ner-bilstm/versions/1", {"inputs": ["Ada is here"]}),
    ("/v2/models/sentiment-bilstm/infer", V2),
    ("/v1/models/sentiment-bilstm:predict", {"instances": [{"text": TEXT}]}),
]
"""Requests that the fast path answers."""


def test_a_known_head_gets_the_same_answer_on_the_fast_path(running: Run) -> None:
    async def test(talk: Talk) -> None:
        for path, body in PLAIN:
            asked = request(path, body)
            talk.fast.clear()
            talk.wire.heads.clear()
            connection = talk.connect()
            ordinary = await talk.ask(asked, on=connection)
            assert not talk.fast, path
            for _ in range(2):
                assert without_id(await talk.ask(asked, on=connection)) == without_id(ordinary)
            assert without_id(await talk.ask(asked)) == without_id(ordinary), "on another connection"
            assert len(talk.fast) == 3, path
            assert ordinary.startswith(b"HTTP/1.1 200 "), ordinary

    running(test)


def test_ids_are_new_and_texts_of_their_own(running: Run) -> None:
    async def test(talk: Talk) -> None:
        await talk.learned(request("/predict", {"inputs": "a great film"}))
        first, second = [
            await talk.ask(request("/predict", {"inputs": text})) for text in ("a great film", "a worse film")
        ]
        ordinary = await talk.ask(request("/predict", {"inputs": "a worse film"}, "Accept: */*"))
        assert len(talk.fast) == 2
        assert re.findall(rb"x-request-id: (\w+)", first) != re.findall(rb"x-request-id: (\w+)", second)
        assert without_id(second) == without_id(ordinary) != without_id(first)

    running(test)


BODY = b'{"inputs": "a great film"}'
WRONG = [
    b'{"inputs": "a great film"]',
    b'{"inputs": "a great fil\xff"}',
    b'{"inputs": "\\ud800 fil  "}',
    b'{"inputs":               ""}'[:26],
    b'{"inputs": "            "}',
    b'{"output": "a great film"}',
    b'{"inputs": 12345678901234}',
    b'{"inputs":           null}',
    b'["inputs", "a great film"]',
    b'{"inputs":"a","task":"no"}',
    b'{"inputs":"a","model":"n"}',
    b'{"inputs":[],"task":"ner"}',
]


def test_bad_requests_with_a_good_head_get_the_ordinary_answers(running: Run) -> None:
    async def test(talk: Talk) -> None:
        expected = [await talk.ask(request("/predict", body)) for body in WRONG]
        assert not talk.wire.heads, "only a head that had a 200 is known"
        await talk.learned(request("/predict", BODY))
        connection = talk.connect()
        for body, ordinary in zip(WRONG, expected, strict=True):
            assert len(body) == len(BODY), body
            assert without_id(await talk.ask(request("/predict", body), on=connection)) == without_id(ordinary), body
        assert not talk.fast
        assert (await talk.ask(request("/predict", BODY), on=connection)).startswith(b"HTTP/1.1 200 ")
        assert len(talk.fast) == 1

    running(test)


@given(st.text(max_size=30))
@examples(max_examples=60, deadline=None)
def _equal(ask: Callable[[str], tuple[bytes, bytes]], text: str) -> None:
    fast, ordinary = ask(text)
    assert fast == ordinary


def test_any_text_gets_the_ordinary_answer(running: Run) -> None:
    """Texts of any length, so of any head: each is asked twice, and the second time fast if it had a 200."""

    async def test(talk: Talk) -> None:
        loop = asyncio.get_running_loop()

        async def twice(text: str) -> tuple[bytes, bytes]:
            asked = request("/predict", {"inputs": text, "model": "ner-bilstm"})
            talk.wire.heads.clear()
            ordinary = await talk.ask(asked)
            return without_id(await talk.ask(asked)), without_id(ordinary)

        def ask(text: str) -> tuple[bytes, bytes]:
            return asyncio.run_coroutine_threadsafe(twice(text), loop).result(PATIENCE)

        await asyncio.to_thread(_equal, ask)
        assert len(talk.fast) > 10

    running(test)


@pytest.mark.parametrize(
    "line",
    [
        "X-Request-ID: mine",
        "X-Request-Timeout: 5",
        "Authorization: Bearer x",
        "Cookie: a=b",
        "Connection: keep-alive",
        "Expect: 100-continue",
    ],
)
def test_requests_that_ask_for_more_take_the_ordinary_path(running: Run, line: str) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT}, line)
        for _ in range(3):
            await talk.ask(asked)
        assert not talk.fast
        assert not talk.wire.heads

    running(test)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/gates", {"inputs": TEXT}),
        ("/v1/models/sentiment-bilstm:explain", {"instances": [{"text": TEXT}]}),
        ("/v2/models/sentiment-bilstm/infer", {**V2, "outputs": [{"name": "gate.0.forward.forget"}]}),
    ],
)
def test_gates_take_the_ordinary_path(
    running: Run, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    monkeypatch.setattr(JobRoute, "prepare", lambda *arguments: begun.append(arguments))

    async def test(talk: Talk) -> None:
        for _ in range(3):
            assert (await talk.ask(request(path, body))).startswith(b"HTTP/1.1 200 ")
        assert not begun, "such a request is not read twice"

    running(test)


def test_http_1_0_and_the_last_request_of_a_connection_take_the_ordinary_path(running: Run) -> None:
    async def test(talk: Talk) -> None:
        for asked in (
            request("/predict", {"inputs": TEXT}, version="1.0"),
            request("/predict", {"inputs": TEXT}, "Connection: close"),
        ):
            for _ in range(2):
                protocol, line = talk.connect()
                protocol.data_received(asked)
                await answered(line)
                assert line.closed
        assert not talk.fast

    running(test)


def test_a_request_in_pieces_takes_the_ordinary_path(running: Run) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        protocol, line = await talk.learned(asked)
        expected = without_id(line.written)
        for cut in (1, 40, len(asked) - len(BODY), len(asked) - 1):
            line.written = b""
            protocol.data_received(asked[:cut])
            await asyncio.sleep(0)
            protocol.data_received(asked[cut:])
            await answered(line)
            assert without_id(line.written) == expected
        assert not talk.fast
        line.written = b""
        protocol.data_received(b"\r\n" + asked)
        await answered(line)
        assert not talk.fast
        assert without_id(await talk.ask(asked, on=(protocol, line))) == expected
        assert len(talk.fast) == 1

    running(test)


def test_large_requests_and_answers_take_the_ordinary_path(running: Run) -> None:
    async def test(talk: Talk) -> None:
        for body in ({"inputs": ["word " * 500]}, {"inputs": [TEXT] * 20}):
            asked = request("/predict", body, "Accept-Encoding: gzip")
            ordinary, again = without_id(await talk.ask(asked)), without_id(await talk.ask(asked))
            assert again == ordinary
        assert b"content-encoding: gzip" in again
        assert [each.context.outcome is not None for each in talk.fast] == [True], "its answer is compressed"

    running(test, compress_bytes=500)


def test_metrics_and_log_are_those_of_the_ordinary_path(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "WEIGHT_OF_LAST", 0)  # a slow batch sends no later one to a thread

    def series(talk: Talk) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(talk.runtime.metrics.text().decode())
            for sample in family.samples
            if not sample.name.endswith(("_sum", "_bucket", "_seconds", "_seconds_total"))
        }

    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": [TEXT, "another"]})
        states, logged = [series(talk)], []
        for _ in range(3):
            with capture_logs() as lines:
                await talk.ask(asked)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            states.append(series(talk))
            logged += [
                {name: type(value) if name in ("ms", "request_id") else value for name, value in line.items()}
                for line in lines
            ]
        assert len(talk.fast) == 2
        grown = [
            {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name, 0.0)}
            for before, after in pairwise(states)
        ]
        assert grown[0] == grown[1] == grown[2] != {}
        assert logged[0] == logged[1] == logged[2]
        assert logged[0]["tokens"] == 4

    running(test, gate_sample=0)


def test_answers_are_told_of_after_they_are_sent(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, list[str]]] = []

    def note(answer: Any) -> None:
        called.append((answer._context.route, [each["label"] for each in answer._outcome.predictions]))

    monkeypatch.setattr(Followed, "tell", note)

    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        for _ in range(3):
            await talk.ask(asked)
            await asyncio.sleep(0)
        assert len(talk.fast) == 2
        assert called == 3 * called[:1] != []

    running(test)


def test_a_failure_after_an_answer_keeps_nothing_from_the_log(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("after the answer")

    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        await talk.learned(asked)
        monkeypatch.setattr(Followed, "tell", fail)
        connections = [talk.connect() for _ in range(3)]
        with capture_logs() as lines:
            for protocol, _ in connections:
                protocol.data_received(asked)
            for _, line in connections:
                await answered(line)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert len(talk.fast) == 3
        assert [each["event"] for each in lines] == 3 * ["request", "unexpected error"]

    running(test)


def test_feedback_knows_the_answers(running: Run) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        await talk.learned(asked)
        (identity,) = re.findall(r"x-request-id: (\w+)", (await talk.ask(asked)).decode())
        assert len(talk.fast) == 1
        told = {"request_id": identity, "input": 0, "label": "positive"}
        assert (await talk.ask(request("/feedback", told))).startswith(b"HTTP/1.1 202 ")

    running(test)


def _with_layer(app: Application) -> None:
    @app.middleware("http")
    async def mark(asked: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = await go_on(asked)
        answer.headers["x-mark"] = "seen"
        return answer


@pytest.mark.parametrize(
    "chosen",
    [
        {"change": _with_layer},
        {"api_keys": "secret-key-of-16-letters"},
        {"cors_origins": "https://a.example"},
    ],
    ids=["a further layer", "keys", "origins"],
)
def test_a_chain_with_further_layers_has_no_fast_path(running: Run, chosen: dict[str, Any]) -> None:
    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT})
        answers = [await talk.ask(asked) for _ in range(3)]
        assert talk.app.fast is None
        assert not talk.wire.heads
        assert "change" not in chosen or all(b"x-mark: seen" in each for each in answers)

    running(test, **chosen)


def test_few_and_short_heads_are_remembered(running: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_connection, "MOST_KNOWN", 3)

    async def test(talk: Talk) -> None:
        for number in range(10):
            await talk.ask(request("/predict", {"inputs": TEXT}, f"X-Number: {number}"))
            assert len(talk.wire.heads) <= 3
        heads = dict(talk.wire.heads)
        await talk.ask(request("/predict", {"inputs": TEXT}, "X-Long: " + "x" * fast_connection.LONGEST_KNOWN))
        assert talk.wire.heads == heads

    running(test)


@pytest.mark.parametrize("lines", [(), ("X-Request-Timeout: 9",)], ids=["fast", "ordinary"])
def test_requests_leave_nothing_to_the_garbage_collector(running: Run, lines: tuple[str, ...]) -> None:
    many = 50

    async def test(talk: Talk) -> None:
        asked = request("/predict", {"inputs": TEXT}, *lines)
        connection = talk.connect()
        await talk.ask(asked, asked, on=connection)
        talk.fast.clear()
        gc.collect()
        gc.disable()
        try:
            await talk.ask(*[asked] * many, on=connection)
            assert len(talk.fast) == (0 if lines else many)
            talk.fast.clear()
            assert gc.collect() < many
        finally:
            gc.enable()

    running(test)
