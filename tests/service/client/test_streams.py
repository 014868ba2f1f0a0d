"""The client's streams: the state goes with every piece, and an answer that is none is said to be so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.client import AsyncClient, Client, InvalidAnswer, InvalidRequest
from tests.service.stub import Reply, stub


def reply(request: Any, number: int) -> Reply:
    if number == 2:  # a worker that is just being replaced
        return 503, {"Retry-After": "0"}, {"status": 503, "title": "Not available now", "detail": "restarting"}
    prediction = {"label": "positive"} if request["end"] else None
    state = None if request["end"] else f"{request['state'] or ''}+{request['text']}"
    answer = {"model": "m", "version": "1", "events": [{"t": number}], "state": state, "prediction": prediction}
    return 200, {"X-Request-ID": f"request {number}"}, answer


def test_the_state_goes_with_every_piece_and_a_lost_one_is_sent_again() -> None:
    with stub(reply) as server, Client(server.url, backoff=0.001) as client:
        stream = client.stream(model="sentiment-lstm", every=2)
        assert stream.send("a") == [{"t": 1}]
        assert stream.send("b") == [{"t": 3}]
        assert stream.state == "+a+b"
        assert stream.source is None
        assert stream.end("c") == {"label": "positive"}
        assert stream.state is None
        assert stream.source == ("request 4", 0)
    assert [(each["text"], each["state"]) for each in server.seen] == [
        ("a", None),
        ("b", "+a"),
        ("b", "+a"),
        ("c", "+a+b"),
    ]
    assert server.seen[0] == {"model": "sentiment-lstm", "every": 2, "text": "a", "state": None, "end": False}


def test_asynchronously_and_from_a_state() -> None:
    async def run(url: str) -> None:
        async with AsyncClient(url, backoff=0.001) as client:
            stream = client.stream(state="kept")
            await stream.send("a")
            assert stream.state == "kept+a"
            assert await stream.end() == {"label": "positive"}

    with stub(reply) as server:
        asyncio.run(run(server.url))


def test_errors_leave_the_stream_as_it_was() -> None:
    def refuse(request: Any, number: int) -> Reply:
        return 422, {}, {"status": 422, "title": "A field is wrong", "detail": "/state: too old"}

    with stub(refuse) as server, Client(server.url) as client:
        stream = client.stream(state="old")
        with pytest.raises(InvalidRequest, match="too old"):
            stream.send("a")
        assert stream.state == "old"
    with stub(lambda request, number: (200, {}, [])) as server, Client(server.url) as client:
        with pytest.raises(InvalidAnswer):
            client.stream().send("a")
        with pytest.raises(TypeError, match="unknown: modell"):
            client.stream(modell="m")  # type: ignore[call-arg]  # a misspelt argument: that is the point


WRONG: list[Any] = [
    [], {}, None, 7, "text",
    {"events": [], "state": "s"},
    {"events": [], "prediction": None},
    {"events": None, "state": "s", "prediction": None},
    {"events": [None], "state": "s", "prediction": None},
    {"events": ["a"], "state": "s", "prediction": {}},
    {"events": {}, "state": "s", "prediction": None},
    {"events": [], "state": 3, "prediction": None},
    {"events": [], "state": 3, "prediction": {"label": "positive"}},
    {"events": [], "state": "s", "prediction": "positive"},
    {"events": [], "state": "s", "prediction": []},
]  # fmt: skip


@pytest.mark.parametrize("end", [False, True])
def test_what_is_no_answer_of_a_stream_leaves_it_as_it_was(end: bool) -> None:
    """A prediction comes with the end of the text, and a state before it."""
    early = {"events": [], "state": "s", "prediction": {"label": "positive"}}
    late: dict[str, Any] = {"events": [], "state": None, "prediction": None}
    wrong = [*WRONG, late, late if end else early]
    answers: list[Any] = []

    async def asynchronous(url: str) -> None:
        async with AsyncClient(url, retries=0) as client:
            stream = client.stream(state="before")
            with pytest.raises(InvalidAnswer, match="answer"):
                await (stream.end("a") if end else stream.send("a"))
            assert (stream.state, stream.events, stream.prediction) == ("before", [], None)

    with stub(lambda request, number: (200, {}, answers[-1])) as server, Client(server.url, retries=0) as client:
        for answer in [*wrong, b"[" * 100_000, b"<!doctype html>", b"\xff"]:
            answers.append(answer)
            stream = client.stream(state="before")
            with pytest.raises(InvalidAnswer, match="answer"):
                stream.end("a") if end else stream.send("a")
            assert (stream.state, stream.events, stream.prediction) == ("before", [], None)
            asyncio.run(asynchronous(server.url))
