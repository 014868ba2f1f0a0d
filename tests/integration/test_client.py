"""The client against a real service."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from service.client import AsyncClient, Client, Entities, Forbidden, InvalidRequest, NotFound, Sentiment
from tests.integration.conftest import Process, Start
from tests.integration.models import HIDDEN
from tests.integration.streams import TEXT, predicted, write_repository
from tests.integration.test_workers import all_ready, workers_of
from tests.patience import PATIENCE

TEXTS = ["A great film.", "Ada Lovelace lived in London.", "bad"]


def test_predictions(service: Process) -> None:
    with Client(service.url, batch=2) as client:
        found = client.predict(TEXTS)
        raw = service.client.post("/predict", json={"inputs": TEXTS}).json()
        assert [asdict(each) for each in found.predictions] == raw["predictions"]
        assert (found.model, found.version, found.task) == ("sentiment-bilstm", "1", "sentiment")
        (one,) = client.predict(TEXTS[0]).predictions
        assert isinstance(one, Sentiment)
        assert one == found.predictions[0]


def test_entities(service: Process) -> None:
    with Client(service.url) as client:
        (found,) = client.predict([["Ada", "Lovelace", "lived"]], model="ner-bigru", tokens=True).predictions
        assert isinstance(found, Entities)
        assert found.tokens is not None
        assert [token.text for token in found.tokens] == ["Ada", "Lovelace", "lived"]
        assert client.predict("Ada", task="ner").predictions[0].truncated is False


def test_gates(service: Process) -> None:
    with Client(service.url, batch=1) as client:
        found = client.gates(TEXTS, model="sentiment-lstm")
        raw = service.client.post("/gates", json={"inputs": TEXTS, "model": "sentiment-lstm", "decimals": None}).json()
        assert found.equations == raw["equations"]
        assert len(found.traces) == len(TEXTS)
        for trace, expected in zip(found.traces, raw["traces"], strict=True):
            assert [(layer.layer, layer.direction, layer.statistics) for layer in trace.layers] == [
                (layer["layer"], layer["direction"], None) for layer in expected["layers"]
            ]
            for layer in expected["layers"]:
                for gate, rows in layer["gates"].items():
                    array = trace.gate(gate, layer["layer"])
                    assert array.dtype == np.float32
                    np.testing.assert_array_equal(array, np.array(rows, np.float32))
            assert trace.contributions is not None
            total = trace.contributions.bias + trace.contributions.tokens.sum(axis=0)
            np.testing.assert_allclose(total, trace.contributions.logits, atol=1e-3)


def test_selected_and_reduced_gates(service: Process) -> None:
    with Client(service.url) as client:
        asked = client.gates("A film", gates=["forget"], directions=["backward"], units=[0, 3], contributions=False)
        (trace,) = asked.traces
        assert [(each.direction, list(each.gates)) for each in trace.layers] == [("backward", ["forget"])]
        assert trace.gate("forget", direction="backward").shape == (2, 2)
        assert trace.contributions is None
        (trace,) = client.gates("A film", reduce="summary").traces
        assert trace.gate("cell.mean").shape == (2,)
        (trace,) = client.gates("Ada lived", task="ner", explain=1).traces
        assert trace.contributions is not None
        assert trace.gate("cell").shape == (2, HIDDEN)
        with pytest.raises(KeyError, match="layer 3"):
            trace.gate("cell", layer=3)


@pytest.mark.parametrize("reduce", ["none", "summary"])
@pytest.mark.parametrize("model", ["sentiment-lstm", "sentiment-rnn", "sentiment-mingru", "ner-bigru"])
def test_statistics_of_units(service: Process, model: str, reduce: Literal["none", "summary"]) -> None:
    body = {"inputs": TEXTS, "model": model, "units": [4, 1], "reduce": reduce, "statistics": True, "decimals": None}
    raw = service.client.post("/gates", json=body).json()
    with Client(service.url, batch=2) as client:
        found = client.gates(TEXTS, model=model, units=[4, 1], reduce=reduce, statistics=True)
        plain = client.gates(TEXTS, model=model, units=[4, 1], reduce=reduce)
    for trace, expected, other in zip(found.traces, raw["traces"], plain.traces, strict=True):
        for layer, shown, bare in zip(trace.layers, expected["layers"], other.layers, strict=True):
            assert layer.statistics is not None
            assert bare.statistics is None
            assert list(layer.gates) == list(bare.gates)
            wanted = shown["statistics"]
            assert layer.statistics.gates.keys() == wanted["gates"].keys()
            for gate, numbers in wanted["gates"].items():
                given = {
                    name: value for name, value in asdict(layer.statistics.gates[gate]).items() if value is not None
                }
                assert given.keys() == numbers.keys()
                for name, values in numbers.items():
                    np.testing.assert_array_equal(given[name], np.array(values, np.float32))
            assert (layer.statistics.horizon is None) == ("horizon" not in wanted) == (model == "sentiment-rnn")
            if layer.statistics.horizon is not None:
                np.testing.assert_array_equal(layer.statistics.horizon, np.array(wanted["horizon"], np.float32))


def test_models_and_problems(service: Process) -> None:
    with Client(service.url) as client:
        assert client.ready()
        client.wait_until_ready(PATIENCE)
        models = client.models()
        assert models.default["ner"] == "ner-bilstm"
        assert client.model("ner-bigru") in models.models
        assert "parameters" in client.model("ner-bigru").more
        with pytest.raises(NotFound, match="sentiment-bilstm"):
            client.model("nothing")
        with pytest.raises(InvalidRequest) as wrong:
            client.predict(["fine"] * 70 + [""])
        assert [each.pointer for each in wrong.value.errors] == ["/inputs/70"]
        assert wrong.value.request_id


def test_asynchronously(service: Process) -> None:
    async def ask() -> None:
        async with AsyncClient(service.url, batch=1, concurrency=2) as client:
            await client.wait_until_ready(PATIENCE)
            together = await asyncio.gather(*(client.predict(TEXTS) for _ in range(4)))
            assert len({str(each.predictions) for each in together}) == 1
            traces = (await client.gates(TEXTS, gates=["forget"])).traces
            assert [len(trace.tokens) for trace in traces] == [len(trace.gate("forget")) for trace in traces]
            assert (await client.models()).default
            assert (await client.model("ner-bilstm")).task == "ner"

    asyncio.run(ask())


def test_with_a_key(start: Start) -> None:
    service = start(SERVICE_API_KEYS="a-key").until_ready()
    with Client(service.url) as client, pytest.raises(Forbidden):
        client.predict("a")
    with Client(service.url, api_key="a-key") as client:
        assert client.predict("a").predictions


PIECES = (TEXT[:50], TEXT[50:111], TEXT[111:])
"""Both cuts lie within a word."""
FORWARD = ("sentiment-lstm", "ner-gru")
PATIENT: dict[str, Any] = {"timeout": PATIENCE, "retries": 1000, "backoff": 0.01, "max_wait": 0.1}
"""A client that outlasts the replacement of workers, however slow the machine is."""


@pytest.fixture
def two_workers(start: Start, tmp_path: Path) -> Process:
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    write_repository(tmp_path / "models")
    return all_ready(start("--workers", "2", models=tmp_path / "models"), 2)


def whole(service: Process) -> dict[str, Any]:
    """What `/predict` says of the whole text, by model."""
    return {model: predicted(service, model, TEXT, tokens=model.startswith("ner")) for model in FORWARD}


def kill_all_workers(service: Process) -> None:
    """Kill every worker of a service, and wait until none of them is there. Others take their places."""
    victims = set(workers_of(service))
    assert victims
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    service.wait(lambda: not victims & set(workers_of(service)))


def check_stream(prediction: dict[str, Any], events: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    """Hold the answer of a stream, and its events, against the prediction for the whole text."""
    tokens = [event for event in events if event["type"] == "token"]
    assert [event["t"] for event in tokens] == list(range(len(tokens)))  # none is lost, none comes twice
    if "scores" in expected:
        assert prediction["label"] == expected["label"]
        assert prediction["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        assert tokens[-1]["end"] == len(TEXT)
    else:
        assert expected["entities"]
        assert prediction["entities"] == [
            {**each, "score": pytest.approx(each["score"], abs=1e-5)} for each in expected["entities"]
        ]
        places = ("text", "start", "end")
        assert [[event[name] for name in places] for event in tokens] == [
            [token[name] for name in places] for token in expected["tokens"]
        ]


def test_a_stream_outlives_all_workers(two_workers: Process) -> None:
    expected = whole(two_workers)
    with Client(two_workers.url, **PATIENT) as client:
        streams = {model: client.stream(model=model) for model in FORWARD}
        events: dict[str, list[Any]] = {model: [] for model in FORWARD}
        for piece in PIECES[:-1]:
            for model, stream in streams.items():
                events[model] += stream.send(piece)
            kill_all_workers(two_workers)
        for model, stream in streams.items():
            prediction = stream.end(PIECES[-1])
            check_stream(prediction, events[model] + stream.events, expected[model])


def test_an_asynchronous_stream_outlives_all_workers(two_workers: Process) -> None:
    expected = whole(two_workers)

    async def ask() -> None:
        async with AsyncClient(two_workers.url, **PATIENT) as client:
            streams = {model: client.stream(model=model) for model in FORWARD}
            events: dict[str, list[Any]] = {model: [] for model in FORWARD}
            for piece in PIECES[:-1]:
                found = await asyncio.gather(*(stream.send(piece) for stream in streams.values()))
                for model, new in zip(FORWARD, found, strict=True):
                    events[model] += new
                await asyncio.to_thread(kill_all_workers, two_workers)
            predictions = await asyncio.gather(*(stream.end(PIECES[-1]) for stream in streams.values()))
            for model, prediction in zip(FORWARD, predictions, strict=True):
                check_stream(prediction, events[model] + streams[model].events, expected[model])

    asyncio.run(ask())
