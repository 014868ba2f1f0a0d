"""`POST /stream`: pieces and states in, events and states out, over HTTP."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundles import tiny_bundle
from tests.integration.conftest import Process, Start, _starter
from tests.integration.metrics import value
from tests.integration.streams import TEXT, cut, of, predicted, socket, stream, tokens, write_repository
from tests.integration.together import together
from tests.patience import PATIENCE

MODELS = ["sentiment-lstm", "sentiment-gru", "ner-gru"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_repository(folder)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Process]:
    for start in _starter(tmp_path_factory.mktemp("service"), repository):
        yield start().until_ready()


def post(service: Process, status: int = 200, **body: Any) -> Any:
    answer = service.client.post("/stream", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def read(service: Process, pieces: list[Any], field: str = "text", **more: Any) -> tuple[list[Any], Any]:
    """Send pieces one by one, each with the state of those before: all events, and the prediction."""
    events: list[Any] = []
    state, answer = None, {}
    for number, piece in enumerate(pieces):
        answer = post(service, **more, state=state, **{field: piece}, end=number == len(pieces) - 1)
        state = answer["state"]
        assert (state is None) == (number == len(pieces) - 1)
        assert state is None or (len(state) <= 16 * 1024 and answer["prediction"] is None)
        events += answer["events"]
    return events, answer["prediction"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("pieces", [[TEXT], list(TEXT), cut(TEXT, 1), cut(TEXT, 2)])
def test_the_last_answer_is_that_for_the_whole_text(service: Process, model: str, pieces: list[str]) -> None:
    events, prediction = read(service, pieces, model=model)
    found = of("token", events)
    assert [{name: event[name] for name in ("text", "start", "end")} for event in found] == tokens(service, model, TEXT)
    assert [event["t"] for event in found] == list(range(len(found)))
    expected = predicted(service, model, TEXT)
    if "scores" in expected:
        assert prediction["label"] == expected["label"]
        assert prediction["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        return
    whole = predicted(service, model, TEXT, tokens=True)
    assert [label for event in of("labels", events) for label in event["labels"]] == [
        token["label"] for token in whole["tokens"]
    ]
    assert [{**entity, "score": 0} for entity in prediction["entities"]] == [
        {**entity, "score": 0} for entity in expected["entities"]
    ]
    assert len(of("entity", events)) == len(expected["entities"])


def test_tokens_are_taken_as_they_are(service: Process) -> None:
    sent = ["the", "film", "is", "great", "!"]
    events, prediction = read(service, [sent[:2], [], sent[2:]], "tokens", model="sentiment-lstm")
    assert [(event["text"], event["start"]) for event in events] == list(zip(sent, [0, 4, 9, 12, 18], strict=True))
    assert prediction["scores"] == pytest.approx(predicted(service, "sentiment-lstm", [sent])["scores"], abs=1e-5)


def test_the_same_state_may_be_used_again(service: Process) -> None:
    state = post(service, model="sentiment-gru", text="the film is ")["state"]
    good, bad = (post(service, text=text, state=state, end=True)["prediction"] for text in ("great", "bad"))
    assert good["scores"] == pytest.approx(predicted(service, "sentiment-gru", "the film is great")["scores"], abs=1e-5)
    assert bad["scores"] == pytest.approx(predicted(service, "sentiment-gru", "the film is bad")["scores"], abs=1e-5)


def test_events_have_the_gates_asked_for(service: Process) -> None:
    asked: dict[str, Any] = {"gates": ["forget", "cell"], "units": [3, 0], "layers": [1], "decimals": None}
    answer = post(service, model="sentiment-lstm", text="the film is great", end=True, every=2, **asked)
    trace = service.client.post(
        "/gates", json={"model": "sentiment-lstm", "inputs": "the film is great", **asked}
    ).json()["traces"][0]
    assert [event["t"] for event in answer["events"]] == [1, 3]
    for event in answer["events"]:
        for gate in ("forget", "cell"):
            expected = trace["layers"][0]["gates"][gate][event["t"]]
            assert event["gates"]["1"][gate] == pytest.approx(expected, abs=1e-5)


def judge(service: Process, request_id: str, **right: Any) -> httpx.Response:
    """Say what was right of an answer."""
    return service.client.post("/feedback", json={"request_id": request_id, "input": 0, **right})


@pytest.mark.parametrize("form", ["application/json", "text/event-stream"])
def test_the_end_of_a_text_is_open_to_feedback(service: Process, form: str) -> None:
    first = service.client.post("/stream", json={"model": "sentiment-lstm", "text": "the film is "})
    body = {"text": "great", "state": first.json()["state"], "end": True}
    last = service.client.post("/stream", json=body, headers={"Accept": form})
    label = predicted(service, "sentiment-lstm", "the film is great")["label"]
    other = {"positive": "negative", "negative": "positive"}[label]
    assert judge(service, first.headers["x-request-id"], label=label).status_code == 404  # it answered nothing yet
    judged = [judge(service, last.headers["x-request-id"], label=each).json()["outcome"] for each in (label, other)]
    assert judged == ["right", "repeated"]


@pytest.mark.parametrize(
    ("pieces", "length"),
    [([{"text": TEXT[:50]}, {"text": TEXT[50:] + " "}], len(TEXT) + 1), ([{"tokens": ["Ada", "é"]}], 5)],
)
def test_feedback_on_entities_knows_the_length_of_the_text(
    service: Process, pieces: list[dict[str, Any]], length: int
) -> None:
    state = None
    for piece in pieces:
        body = {"model": "ner-gru", **piece, "state": state, "end": piece is pieces[-1]}
        answer = service.client.post("/stream", json=body)
        state = answer.json()["state"]
    found = [
        {name: each[name] for name in ("label", "start", "end")} for each in answer.json()["prediction"]["entities"]
    ]
    request_id = answer.headers["x-request-id"]
    over = judge(service, request_id, entities=[{"label": "PER", "start": 0, "end": length + 1}])
    assert over.status_code == 422
    assert f"the text has {length} characters" in over.text
    assert judge(service, request_id, entities=found).json()["outcome"] == "right"


def test_server_sent_events_come_one_by_one(service: Process) -> None:
    body: dict[str, Any] = {"model": "sentiment-lstm", "text": "the film is great", "end": True}
    with service.client.stream("POST", "/stream", json=body, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        blocks = answer.read().decode().strip().split("\n\n")
    events = []
    for block in blocks:
        kind, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {events[-1]['type']}"
    assert [event["type"] for event in events] == ["ready", *["token"] * 4, "done"]
    assert events[-1]["prediction"] == post(service, **body)["prediction"]


def test_without_an_end_server_sent_events_end_with_the_state(service: Process) -> None:
    body = {"model": "ner-gru", "text": "Ada lived in London. She"}
    answer = service.client.post("/stream", json=body, headers={"Accept": "text/event-stream"})
    last = json.loads(answer.text.strip().split("\n")[-1].removeprefix("data: "))
    assert last["type"] == "state"
    assert last["read"] == len(body["text"])
    assert post(service, state=last["state"], text=" was", end=True)["events"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"model": "sentiment-bilstm", "text": "x"}, 422, "These read forward: ner-gru, sentiment-gru, sentiment-lstm"),
        ({"model": "nobody", "text": "x"}, 404, "no model named"),
        ({"model": "sentiment-lstm", "text": "x", "tokens": ["x"]}, 422, "send one of them"),
        ({"model": "sentiment-lstm", "text": 7}, 422, "/text"),
        ({"model": "sentiment-lstm", "piece": "x"}, 422, "no such field"),
        ({"model": "sentiment-lstm", "tokens": ["x", ""]}, 422, "/tokens/1"),
        ({"model": "sentiment-lstm", "tokens": ["x"] * 300 + [""]}, 422, "/tokens/300"),
        ({"model": "sentiment-lstm", "tokens": ["x", 1]}, 422, "/tokens/1"),
        ({"model": "sentiment-lstm", "text": " \n", "end": True}, 422, "holds no token"),
        ({"model": "sentiment-lstm", "end": True}, 422, "holds no token"),
        ({"model": "sentiment-lstm", "text": "x", "gates": ["update"]}, 422, "/gates/0"),
        ({"model": "sentiment-lstm", "text": "x", "units": [99]}, 422, "/units/0"),
        ({"model": "sentiment-lstm", "text": "x", "every": 0}, 422, "/every"),
        ({"model": "sentiment-lstm", "text": "x", "state": "AAAA"}, 422, "no state of this service"),
        ({"model": "sentiment-lstm", "text": "a " * 5000}, 413, "larger every): 4224, the limit is 4096"),
        ({"model": "sentiment-lstm", "text": "a " * 10_000, "every": 2}, 413, "larger every): 4160, the limit is 4096"),
        (
            {"model": "sentiment-lstm", "text": "a " * 70_000, "every": 99},
            413,
            "Tokens in the first 131,328 characters",
        ),
        ({"model": "ner-gru", "text": "a " * 5000, "every": 9}, 413, "(send shorter pieces): 4224, the limit is 4096"),
        ({"model": "sentiment-lstm", "text": "\u200b" * 7000}, 422, "More than 6144 characters"),
        ({"task": "ner", "model": "sentiment-lstm", "text": "x"}, 422, "task"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_what_cannot_be_read_is_refused(
    service: Process, body: dict[str, Any], status: int, detail: str, accept: str
) -> None:
    answer = service.client.post("/stream", json=body, headers={"Accept": accept})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert detail in answer.text


def test_gates_in_answers_under_way_are_bounded_together(start: Start, repository: Path) -> None:
    service = start("--trace-numbers", "1000", "--threads", "1", models=repository).until_ready()
    body = {"model": "sentiment-lstm", "text": "a b c d " * 400, "gates": ["forget", "cell"], "end": True}
    with together(service, "/stream", [body] * 16) as asked:
        found = asked.answers
    refused = [answer for answer in found if answer.status_code == 503]
    assert {answer.status_code for answer in found} == {200, 503}
    assert "limit of 1000" in refused[0].json()["detail"]
    assert value(service, "refusals_total", reason="trace") == len(refused)
    assert value(service, "trace_numbers") == 0


def test_a_piece_may_have_more_tokens_than_an_input_if_few_have_events(service: Process) -> None:
    text = "a good film . " * 1500
    answer = post(service, model="sentiment-lstm", text=text, end=True, every=4000)
    assert [event["t"] for event in answer["events"]] == [3999]
    with stream(service, model="sentiment-lstm", every=4000) as opened:
        opened.send(text=text, end=True)
        done = opened.until("done")[-1]
    assert done["tokens"] == 6000
    assert answer["prediction"]["scores"] == pytest.approx(done["prediction"]["scores"], abs=1e-5)


def test_a_piece_may_be_empty_or_complete_no_token(service: Process) -> None:
    state = None
    for text in ("", "fi", "", "lm"):
        answer = post(service, model="sentiment-lstm", text=text, state=state)
        assert answer["events"] == []
        state = answer["state"]
    assert post(service, state=state, end=True)["events"][0]["text"] == "film"


def test_a_state_of_another_model_is_refused(service: Process) -> None:
    state = post(service, model="sentiment-lstm", text="film ")["state"]
    assert "not of sentiment-gru" in post(service, 422, model="sentiment-gru", text="x", state=state)["detail"]
    assert "not of version 7" in post(service, 422, version="7", text="x", state=state)["detail"]
    answer = post(service, 422, task="ner", text="x", state=state)
    assert answer["errors"][0]["pointer"] == "/state"  # no model was sent
    assert "of the task sentiment, not ner" in answer["detail"]
    changed = ("A" if state[0] != "A" else "B") + state[1:]
    assert post(service, 422, text="x", state=changed)["errors"][0]["pointer"] == "/state"


def test_without_a_model_the_task_s_forward_reader_reads(service: Process) -> None:
    assert post(service, text="film ")["model"] == "sentiment-lstm"
    assert post(service, task="ner", text="film ")["model"] == "ner-gru"


def test_states_go_on_in_any_worker_and_in_replicas_of_the_same_key(
    start: Start, service: Process, repository: Path
) -> None:
    first = start("--workers", "2", models=repository, SERVICE_STATE_KEY="of both").until_ready()
    second = start(models=repository, SERVICE_STATE_KEY="of both").until_ready()
    state = None
    for number, piece in enumerate(cut(TEXT, 3)):
        state = post((first, second)[number % 2], model="sentiment-lstm", text=piece, state=state)["state"]
    prediction = post(first, state=state, end=True)["prediction"]
    assert prediction["scores"] == pytest.approx(predicted(first, "sentiment-lstm", TEXT)["scores"], abs=1e-5)
    assert "another key" in post(service, 422, text="x", state=state)["detail"]


def test_workers_share_the_random_key(start: Start, repository: Path) -> None:
    process = start("--workers", "2", models=repository).until_ready()
    state = None
    for piece in cut(TEXT, 4)[:12]:
        process.client.close()
        process._client = None  # another connection, and with it perhaps another worker
        state = post(process, model="sentiment-lstm", text=piece, state=state)["state"]


def test_a_state_expires_and_a_retired_version_is_told(start: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_repository(models)
    process = start("--state-seconds", "0.5", models=models).until_ready()
    state = post(process, model="sentiment-lstm", text="film ")["state"]
    process.wait(lambda: process.client.post("/stream", json={"text": "x", "state": state}).status_code == 422)
    assert "too old" in post(process, 422, text="x", state=state)["detail"]


def test_a_state_of_a_retired_version_says_so(start: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_repository(models)
    process = start(models=models).until_ready()
    states = {name: post(process, model=name, text="film ")["state"] for name in MODELS}
    write_repository(models)  # version 2
    process.signal(signal.SIGHUP)
    process.wait(lambda: all(process.client.get(f"/models/{name}").json()["version"] == "2" for name in MODELS))
    for name, state in states.items():
        detail = post(process, 422, text="x", state=state)["detail"]
        assert f"The state is of {name!r}, version 1, which is not served any more" in detail
        assert post(process, model=name, text="film ")["version"] == "2"


def test_a_stream_ends_on_the_version_that_it_began_on(start: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_repository(models)
    process = start(models=models).until_ready()
    expected = {name: predicted(process, name, TEXT) for name in MODELS}
    at = len(TEXT) // 2
    with ExitStack() as stack:
        opened = {name: stack.enter_context(stream(process, model=name)) for name in MODELS}
        for each in opened.values():
            each.send(text=TEXT[:at])
            each.until("token")
        tiny_bundle(models / "sentiment-lstm", bidirectional=False, head="attention", layers=2, seed=2)
        tiny_bundle(models / "sentiment-gru", bidirectional=False, cell="gru", head="mean", seed=2)
        tiny_bundle(models / "ner-gru", bidirectional=False, task="ner", cell="gru", crf=True, seed=2)
        process.signal(signal.SIGHUP)
        process.wait(lambda: all(process.client.get(f"/models/{name}").json()["version"] == "2" for name in MODELS))
        for name, each in opened.items():
            assert predicted(process, name, TEXT) != expected[name]
            each.send(text=TEXT[at:], end=True)
            prediction = each.until("done")[-1]["prediction"]
            if "scores" in prediction:
                assert prediction["scores"] == pytest.approx(expected[name]["scores"], abs=1e-5)
            else:
                spans = [
                    [(e["label"], e["start"], e["end"]) for e in p["entities"]] for p in (prediction, expected[name])
                ]
                assert spans[0] == spans[1]
    with socket(process) as later:
        later.send(model="sentiment-lstm")
        assert later.receive()["version"] == "2"


def test_the_tokens_of_a_key_count_over_all_workers(start: Start, repository: Path) -> None:
    keys = ("the-first-key-of-all", "another-key-entirely")
    flags = ("--workers", "2", "--stream-key-rate", "20")
    process = start(*flags, models=repository, SERVICE_API_KEYS=", ".join(keys)).until_ready()
    body = {"model": "sentiment-lstm", "text": "film " * 2000}
    sequence = {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a film "]}],
        "parameters": {"sequence_id": 7, "sequence_start": True},
    }

    def ask(key: str, path: str, sent: object) -> httpx.Response:  # each over a connection of its own: any worker
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{process.url}{path}", json=sent, headers=headers, timeout=PATIENCE)

    infer = "/v2/models/sentiment-lstm/infer"
    assert len(ask(keys[0], "/stream", body).json()["events"]) == 2000  # behind it there are 98 seconds to wait for
    for path, sent in [("/stream", body), (infer, sequence)] * 4:
        refused = ask(keys[0], path, sent)
        assert refused.status_code == 429, refused.text
        assert "20 tokens a second (setting stream_key_rate)" in refused.text
        assert 1 <= int(refused.headers["Retry-After"]) <= 100
    assert ask(keys[1], infer, sequence).status_code == 200
    with stream(process, {"Authorization": f"Bearer {keys[1]}"}, model="sentiment-lstm") as opened:
        opened.send(text="film " * 30, end=True)  # read more slowly, and not refused
        assert opened.until("done")[-1]["tokens"] == 30
