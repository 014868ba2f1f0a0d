"""The client beside several versions of a model: one version a call, feedback, and shadows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.client import (
    Ablation,
    AsyncClient,
    CardData,
    Client,
    Entity,
    InvalidAnswer,
    NotFound,
    Place,
    UnitCard,
    Unreachable,
)
from tests.service.stub import Reply, answer, both, problem, stub


def calls(url: str, asynchronous: bool, name: str, *arguments: Any, **more: Any) -> Any:
    """Call a method of either client."""
    if not asynchronous:
        with Client(url, batch=2) as client:
            return getattr(client, name)(*arguments, **more)

    async def run() -> Any:
        async with AsyncClient(url, batch=2) as client:
            return await getattr(client, name)(*arguments, **more)

    return asyncio.run(run())


def numbered(request: Any, number: int) -> Reply:
    status, headers, body = answer(request)
    return status, {**headers, "X-Request-ID": f"id of {request['inputs'][0]}"}, body


@both
def test_all_requests_of_a_call_have_one_route_key(asynchronous: bool) -> None:
    with stub(numbered) as server:
        calls(server.url, asynchronous, "predict", ["a", "b", "c", "d", "e"])
        keys = {headers["x-route-key"] for headers in server.headers}
        assert (len(server.seen), len(keys)) == (3, 1)
        calls(server.url, asynchronous, "predict", ["a"])
        assert server.headers[-1]["x-route-key"] not in keys, "another call may have another version"
        calls(server.url, asynchronous, "predict", ["a", "b", "c"], route_key="me", version="2")
        assert {headers["x-route-key"] for headers in server.headers[-2:]} == {"me"}
        assert [request["version"] for request in server.seen[-2:]] == ["2", "2"]
        assert all("route_key" not in request for request in server.seen)


@both
def test_of_each_input_the_answer_knows_where_it_came_from(asynchronous: bool) -> None:
    with stub(numbered) as server:
        found = calls(server.url, asynchronous, "predict", ["a", "b", "c"])
        assert found.sources == [("id of a", 0), ("id of a", 1), ("id of c", 0)]


@both
def test_feedback(asynchronous: bool) -> None:
    def taken(request: Any, number: int) -> Reply:
        return 202, {}, {"request_id": "r", "input": 1, "outcome": "right", "model": "m", "version": "2", "new": 1}

    with stub(taken) as server:
        found = calls(server.url, asynchronous, "feedback", "r", 1, label="positive")
        assert (found.outcome, found.model, found.version) == ("right", "m", "2")
        entity = Entity("PER", "Ada", 0, 3, 0.9, 0, 1)
        calls(server.url, asynchronous, "feedback", "r", entities=[entity, {"label": "LOC", "start": 5, "end": 8}])
        calls(server.url, asynchronous, "feedback", "r", entities=[])
        assert server.seen == [
            {"request_id": "r", "input": 1, "label": "positive"},
            {
                "request_id": "r",
                "input": 0,
                "entities": [{"label": "PER", "start": 0, "end": 3}, {"label": "LOC", "start": 5, "end": 8}],
            },
            {"request_id": "r", "input": 0, "entities": []},
        ]
        for wrong in ({}, {"label": "x", "entities": []}):
            with pytest.raises(ValueError, match="a label, or the entities"):
                calls(server.url, asynchronous, "feedback", "r", **wrong)


CARD: dict[str, Any] = {
    "model": "m",
    "version": "2",
    "layer": 1,
    "direction": "backward",
    "unit": 7,
    "logits": {"negative": 0.5, "positive": -1},
    "data": {"name": "sst2 dev", "sha256": "0" * 64, "inputs": 9},
    "places": [{"line": 5, "token": 3, "value": -0.5}],
    "ablation": {
        "inputs": 9,
        "metric": "accuracy",
        "score": 0.5,
        "cost": 0,
        "lost": 0.01,
        "changed": 0.1,
        "effects": {"negative": 0.1, "positive": 0.2},
    },
    "new": 1,
}


@both
def test_the_card_of_a_unit(asynchronous: bool) -> None:
    bare: dict[str, Any] = {**CARD, "logits": None, "data": None, "places": None, "ablation": None}
    replies = [(200, {}, CARD), (200, {}, bare), problem(404), (200, {}, {**CARD, "places": {}}), (200, {}, {})]
    with stub(lambda request, number: replies[number - 1]) as server:
        found = calls(server.url, asynchronous, "unit", "m/n", 7, layer=1, direction="backward", version="2")
        assert found == UnitCard(
            "m",
            "2",
            1,
            "backward",
            7,
            {"negative": 0.5, "positive": -1},
            CardData("sst2 dev", "0" * 64, 9),
            [Place(5, 3, -0.5)],
            Ablation(9, "accuracy", 0.5, 0, 0.01, 0.1, {"negative": 0.1, "positive": 0.2}),
        )
        without = calls(server.url, asynchronous, "unit", "m", 0)
        assert (without.logits, without.data, without.places, without.ablation) == (None, None, None, None)
        with pytest.raises(NotFound):
            calls(server.url, asynchronous, "unit", "m", 900)
        for _ in range(2):
            with pytest.raises(InvalidAnswer):
                calls(server.url, asynchronous, "unit", "m", 0)
        assert server.paths == [
            "/models/m%2Fn/versions/2/units/1/backward/7",
            "/models/m/units/0/forward/0",
            "/models/m/units/0/forward/900",
            *["/models/m/units/0/forward/0"] * 2,
        ]


@both
def test_the_client_waits_for_the_service(asynchronous: bool) -> None:
    starting = [problem(503), problem(503), (200, {}, {"status": "ok"})]
    with stub(lambda request, number: starting[number - 1]) as server:
        calls(server.url, asynchronous, "wait_until_ready")
        assert server.paths == ["/health/ready"] * 3
    with stub(lambda request, number: problem(503)) as server, pytest.raises(Unreachable, match="within 0 seconds"):
        calls(server.url, asynchronous, "wait_until_ready", 0)


@both
def test_shadows(asynchronous: bool) -> None:
    report = {
        "served": "3",
        "shadow": "4",
        "requests": 2,
        "dropped": 0,
        "agreement": 0.5,
        "mean_score_change": None,
        "latency_ratio": 1.5,
        "disagreements": [{"input": 0}],
        "flips": [],
    }

    def reply(request: Any, number: int) -> Reply:
        return (200, {}, report) if number == 1 else problem(404) if number == 2 else (200, {}, {"served": 3})

    with stub(reply) as server:
        found = calls(server.url, asynchronous, "shadow", "m/n")
        assert (found.agreement, found.mean_score_change, found.more) == (0.5, None, {"flips": []})
        with pytest.raises(NotFound):
            calls(server.url, asynchronous, "shadow", "m")
        with pytest.raises(InvalidAnswer):
            calls(server.url, asynchronous, "shadow", "m")
