"""Versions, canary, shadow, payload log and feedback: two real workers, and the clients that people have."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from service.client import Client, NotFound
from service.rollout import position
from service.serving.afterwards import SAMPLING
from tests.integration.conftest import Process
from tests.integration.metrics import value
from tests.integration.models import write_model
from tests.patience import PATIENCE, until

NAME, TAGS, ALONE = "sentiment-gru", "ner-bigru", "sentiment-lstm"
TEXTS = ["a fine film", "the movie is bad", "it was very dull", "a good one"]
ADMIN = f"/admin/models/{NAME}"


def add(models: Path, hidden: int, *, broken: bool = False) -> None:
    """Put the next version of `NAME` in place, whole, by rename."""
    aside = models.parent / "aside"
    bundle = write_model(aside / NAME, cell="gru", bidirectional=False, head="last", hidden=hidden)
    if broken:
        with bundle.file("weights.safetensors").open("ab") as file:
            file.write(b"x")
    version = max(int(each.name) for each in (models / NAME).iterdir()) + 1
    bundle.path.rename(models / NAME / str(version))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four versions of one name (the last with its labels the other way round), two of a tagger, one of a third."""
    folder = tmp_path_factory.mktemp("versions") / "models"
    for hidden in (16, 20, 24):
        write_model(folder / NAME, cell="gru", bidirectional=False, head="last", hidden=hidden)
    write_model(folder / NAME, cell="gru", bidirectional=False, head="last", labels=("positive", "negative"))
    for seed in (7, 8):
        write_model(folder / TAGS, task="ner", cell="gru", seed=seed)
    write_model(folder / ALONE, bidirectional=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="module")
def service(folder: Path, models: Path) -> Iterator[Process]:
    """Version 1 and 2 of `NAME`, 3 as a canary for 0.3, 4 as shadow; version 2 of `TAGS` as shadow."""
    process = Process(
        folder,
        models,
        *("--workers", "2", "--versions", f"{NAME}=1+2", "--canary", f"{NAME}=3:0.3"),
        *("--shadow", f"{NAME}=4,{TAGS}=2", "--payload-log", str(folder / "payload.jsonl"), "--payload-text"),
        *("--gate-sample", "1"),
    )
    yield process.until_ready()
    process.close()


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP: to make one with all certificates takes as long as twenty requests."""


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    """Over a connection of its own."""
    with httpx.Client(verify=NO_TLS, timeout=PATIENCE) as client:
        return client.post(url, json=body, headers=headers)


def ask(service: Process, texts: Any = "a fine film", model: str = NAME, key: str | None = None, **more: Any) -> Any:
    """Over a connection of its own: any of the workers may get it."""
    headers = {} if key is None else {"X-Route-Key": key}
    body = {"inputs": texts, "model": model, **more}
    response = post(f"{service.url}/predict", body, headers)
    assert response.status_code == 200, response.text
    return response


# Versions


def test_what_is_served_and_with_which_share(service: Process) -> None:
    found = service.client.get(f"/models/{NAME}").json()
    assert found["version"] == "2", "the highest that is neither canary nor shadow"
    listed = [(each["version"], each["state"], each["share"], each["shadow"]) for each in found["versions"]]
    assert listed == [
        ("1", "ready", 0, False),
        ("2", "ready", 0.7, False),
        ("3", "ready", 0.3, False),
        ("4", "ready", 0, True),
    ]
    (alone,) = service.client.get(f"/models/{ALONE}").json()["versions"]
    assert (alone["version"], alone["share"]) == ("1", 1)
    assert service.client.get(f"/models/{NAME}/versions/1").json()["hidden"] == 16
    both = {each["name"]: each["versions"] for each in service.client.get("/models").json()["models"]}
    assert [each["version"] for each in both[NAME]] == ["1", "2", "3", "4"]
    assert value(service, "model_share", model=NAME, version="3") == 0.3


def test_every_protocol_asks_for_a_version(service: Process) -> None:
    client = service.client
    for version, hidden in (("1", 16), ("2", 20), ("3", 24), ("4", 16)):
        predicted = client.post("/predict", json={"model": NAME, "inputs": TEXTS, "version": version}).json()
        assert predicted["version"] == version
        gates = client.post("/gates", json={"model": NAME, "inputs": TEXTS[0], "version": version}).json()
        assert gates["version"] == version
        assert len(gates["traces"][0]["layers"][0]["gates"]["hidden"][0]) == hidden
        infer = {"inputs": [{"name": "text", "shape": [4], "datatype": "BYTES", "data": TEXTS}]}
        inferred = client.post(f"/v2/models/{NAME}/versions/{version}/infer", json=infer).json()
        assert inferred["model_version"] == version
        labels = [each["label"] for each in predicted["predictions"]]
        assert next(each for each in inferred["outputs"] if each["name"] == "label")["data"] == labels
        face = client.post(f"/models/{NAME}/versions/{version}", json={"inputs": TEXTS}).json()
        assert [each[0]["label"] for each in face] == labels
        assert client.get(f"/v2/models/{NAME}/versions/{version}/ready").json()["ready"] is True
    metadata = client.get(f"/v2/models/{NAME}").json()
    assert metadata["versions"] == ["1", "2", "3", "4"]
    stats = client.get(f"/v2/models/{NAME}/stats").json()["model_stats"]
    assert [each["version"] for each in stats] == ["1", "2", "3", "4"]


def test_a_version_that_is_not_served_is_a_404_that_lists_those_that_are(service: Process) -> None:
    client = service.client
    infer = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    answers = [
        client.post("/predict", json={"model": NAME, "inputs": "a", "version": "5"}),
        client.post("/gates", json={"model": NAME, "inputs": "a", "version": "05"}),
        client.post(f"/models/{NAME}/versions/5", json={"inputs": "a"}),
        client.get(f"/models/{NAME}/versions/0"),
        client.post(f"/v2/models/{NAME}/versions/5/infer", json=infer),
        client.get(f"/v2/models/{NAME}/versions/5"),
    ]
    for answer in answers:
        assert answer.status_code == 404, answer.text
        assert "versions 1, 2, 3, 4 are" in answer.text
    assert "error" in answers[2].json()
    assert "error" in answers[4].json()
    assert answers[0].json()["type"].endswith("model-not-found")
    wrong = client.post("/predict", json={"model": NAME, "inputs": "a", "version": 2})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/version")


def test_log_and_metrics_name_the_version(service: Process) -> None:
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        client.post("/predict", json={"model": NAME, "inputs": "a", "version": "1"}, headers={"X-Request-ID": "one"})
    service.wait(lambda: '"request_id":"one"' in service.output)
    (line,) = [json.loads(each) for each in service.output.splitlines() if '"request_id":"one"' in each]
    assert (line["model"], line["version"]) == (NAME, "1")


# Canary


def test_the_same_key_the_same_version_and_a_share_of_the_others(service: Process) -> None:
    chosen: dict[str, set[str]] = {}
    for _ in range(2):
        for number in range(40):
            key = f"reader {number}"
            chosen.setdefault(key, set()).add(ask(service, key=key).json()["version"])
    assert all(len(versions) == 1 for versions in chosen.values()), "both workers agree"
    counts = Counter(version for (version,) in chosen.values())
    assert set(counts) == {"2", "3"}
    assert 4 <= counts["3"] <= 22
    ids = Counter(ask(service).json()["version"] for _ in range(40))
    assert set(ids) == {"2", "3"}
    named = {ask(service, key=f"reader {number}", version="2").json()["version"] for number in range(20)}
    assert named == {"2"}, "a request that names a version is none of the canary's"


def test_the_key_holds_on_every_protocol(service: Process) -> None:
    infer = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    for number in range(12):
        key = f"reader {number}"
        version, headers = ask(service, key=key).json()["version"], {"X-Route-Key": key}
        client = service.client
        assert client.post("/gates", json={"model": NAME, "inputs": "a"}, headers=headers).json()["version"] == version
        inferred = client.post(f"/v2/models/{NAME}/infer", json=infer, headers=headers).json()
        assert inferred["model_version"] == version


def test_a_long_list_of_the_client_is_answered_by_one_version(service: Process) -> None:
    with Client(service.url, batch=5) as client:
        versions = {client.predict(["a film"] * 40, model=NAME, route_key=f"list {n}").version for n in range(15)}
        assert versions == {"2", "3"}
        assert client.predict(["a film"] * 40, model=NAME).version in versions  # with a key that the client makes
        assert client.predict(["a"] * 12, model=NAME, version="1").version == "1"
        with pytest.raises(NotFound, match="versions 1, 2, 3, 4 are"):
            client.predict("a", model=NAME, version="9")


# Shadow


def report(service: Process, name: str, requests: int) -> Any:
    """The report, once so many requests are in it; read again then, because its numbers are read one by one."""
    found: dict[str, Any] = {}

    def there() -> bool:
        found.update(service.client.get(f"/models/{name}/shadow").json())
        return seen(found) >= requests

    until(there, lambda: f"{found}\n{service.output}")
    return service.client.get(f"/models/{name}/shadow").json()


def seen(found: Any) -> int:
    return int(found["requests"] + found["dropped"])


def test_a_shadow_is_compared_over_both_workers(service: Process) -> None:
    before = report(service, TAGS, 0)
    ids = [ask(service, "Ada Lovelace lived in London .", TAGS).headers["x-request-id"] for _ in range(12)]
    found = report(service, TAGS, seen(before) + 12)
    assert (found["served"], found["shadow"], found["share"]) == ("1", "2", 1)
    assert found["inputs"] == found["requests"]
    assert 0 <= found["agreement"] <= 1
    if found["agreement"] < 1:
        assert {each["request_id"] for each in found["disagreements"]} & set(ids)
    flipped: dict[str, Any] = {}

    def compared() -> bool:  # one group in `MEASURED` runs the served version again, for the ratio
        other = service.client.post("/predict", json={"model": NAME, "inputs": TEXTS, "version": "2"})
        assert other.status_code == 200
        flipped.update(report(service, NAME, 1))
        return bool(flipped["flips"] and flipped["latency_ratio"])

    service.wait(compared)
    assert flipped["agreement"] < 1
    assert flipped["flips"]
    assert flipped["disagreements"][0]["text"], "texts are logged, so they are told"
    assert flipped["latency_ratio"] > 0
    text = service.client.get("/metrics").text
    for name in ("agreement", "mean_score_change", "latency_ratio"):
        assert f'gatelight_shadow_{name}{{model="{NAME}",shadow="4",version="2"}}' in text


def test_a_model_without_a_shadow(service: Process) -> None:
    answer = service.client.get(f"/models/{ALONE}/shadow")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "no-shadow")
    assert service.client.get("/models/none/shadow").json()["type"].endswith("model-not-found")


# Feedback and the payload log


def test_feedback_on_any_worker_s_answer(service: Process) -> None:
    seen: set[str] = set()
    for _ in range(12):
        answer = ask(service, TEXTS, ALONE)
        label = answer.json()["predictions"][1]["label"]
        body = {"request_id": answer.headers["x-request-id"], "input": 1, "label": label}
        taken = post(f"{service.url}/feedback", body)
        assert taken.status_code == 202, taken.text
        assert taken.json() == {
            **{k: body[k] for k in ("request_id", "input")},
            "outcome": "right",
            "model": ALONE,
            "version": "1",
        }
        seen.add(post(f"{service.url}/feedback", body).json()["outcome"])
    assert seen == {"repeated"}
    assert value(service, "feedback_accuracy", model=ALONE, version="1") == 1


def test_feedback_on_an_answer_that_is_too_old(tmp_path: Path, models: Path) -> None:
    """Two workers that remember 8 answers together."""
    (tmp_path / "sitecustomize.py").write_text("from service.serving import answered\nanswered.ENTRIES = 8\n", "utf-8")
    path = f"{tmp_path}:{Path(__file__).resolve().parents[2]}"
    service = Process(tmp_path, models, "--workers", "2", PYTHONPATH=path).until_ready()
    ids = [ask(service, model=ALONE).headers["x-request-id"] for _ in range(20)]
    answers = [post(f"{service.url}/feedback", {"request_id": each, "label": "positive"}) for each in ids]
    assert [each.status_code for each in answers] == [404] * 12 + [202] * 8
    assert "among the last 8" in answers[0].json()["detail"]
    assert [post(f"{service.url}/feedback", {"request_id": ids[-1], "label": "positive"}).json()["outcome"]] == [
        "repeated"
    ]
    service.close()


def test_feedback_of_entities_through_the_client(service: Process) -> None:
    with Client(service.url) as client:
        found = client.predict(["Ada lived in London .", "a film"], model=TAGS)
        (prediction, _) = found.predictions
        assert client.feedback(*found.sources[0], entities=prediction.entities).outcome == "right"  # type: ignore[union-attr]  # a tagger's answer
        with pytest.raises(NotFound, match="among the last 10000"):
            client.feedback("an-id-that-nobody-had", label="positive")


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"input": 9}, 422, "/input"),
        ({"input": -1}, 422, "/input"),
        ({"label": "neutral"}, 422, "/label"),
        ({"label": None}, 422, "/label"),
        ({"entities": []}, 422, "/label"),
        ({"label": None, "entities": []}, 422, "/entities"),
        ({"other": 1}, 422, "/other"),
        ({"request_id": 1}, 422, "/request_id"),
        ({"request_id": "unknown"}, 404, None),
    ],
)
def test_what_is_no_feedback(service: Process, change: dict[str, Any], status: int, pointer: str | None) -> None:
    body = {"request_id": ask(service, model=ALONE).headers["x-request-id"], "label": "positive", **change}
    answer = service.client.post("/feedback", json=body)
    assert answer.status_code == status, answer.text
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


def test_the_log_of_both_workers_is_cloud_events(service: Process, folder: Path) -> None:
    ids = {ask(service, TEXTS, ALONE).headers["x-request-id"] for _ in range(20)}
    body = {"request_id": next(iter(ids)), "input": 0, "label": "negative"}
    assert service.client.post("/feedback", json=body).status_code == 202

    def lines(pattern: str) -> list[bytes]:
        """Whole lines: the end of a file may be a part of one that is being written."""
        written = [path.read_bytes() for path in folder.glob(pattern)]
        return [line for each in written for line in each[: each.rfind(b"\n") + 1].splitlines()]

    service.wait(lambda: ids <= {json.loads(line)["id"] for line in lines("payload.[01].jsonl")})
    assert all(path.stat().st_size for path in folder.glob("payload.[01].jsonl"))
    service.wait(
        lambda: any(
            json.loads(each)["data"].get("request_id") == body["request_id"]
            for each in lines("payload.[01].feedback.jsonl")
        )
    )
    events = [JSONFormat().read(CloudEvent, line) for line in lines("payload.*jsonl")]
    assert {each.get_type() for each in events} == {"gatelight.prediction.v1", "gatelight.feedback.v1"}
    (event,) = [each for each in map(json.loads, lines("payload.[01].jsonl")) if each["id"] == body["request_id"]]
    assert event["data"]["request"] == {"route": "/predict", "inputs": TEXTS, "truncate": False, "split": True}
    assert event["data"]["status"] == 200
    assert [each["label"] for each in event["data"]["answer"]["predictions"]]
    service.wait(lambda: value(service, "payload_events_total", kind="prediction") >= 20)


# What is wrong at the start


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--canary", f"{NAME}=3:0.6+4:0.6"), "sum to 1.2"),
        (("--canary", f"{NAME}=9:0.1"), "no version 9"),
        (("--shadow", f"{NAME}=9"), "no version 9"),
        (("--versions", f"{NAME}=1+9"), "no version 9"),
        (("--canary", "none=1:0.1"), "no bundle of 'none'"),
        (("--payload-log", "/none/there/log"), "cannot be opened"),
        (("--payload-text",), "payload_log"),
    ],
)
def test_settings_that_stop_the_start(tmp_path: Path, models: Path, flags: tuple[str, ...], said: str) -> None:
    process = Process(tmp_path, models, "--workers", "1" if "--shadow" in flags else "2", *flags)
    assert process.exit_status() != 0
    assert said in process.output
    assert "Traceback" not in process.output


def test_a_shadow_of_other_labels_stops_the_start_with_both_sets(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / NAME)
    write_model(tmp_path / "models" / NAME, labels=("bad", "good", "so-so"))
    process = Process(tmp_path, tmp_path / "models", "--workers", "2", "--shadow", f"{NAME}=2")
    assert process.exit_status() != 0
    assert re.search(r"labels bad, good, so-so.*negative, positive", process.output)


# At run time


class Callers:
    """Requests all the while, over connections of their own: statuses and versions."""

    def __init__(self, url: str) -> None:
        self.seen: list[tuple[int, str, str]] = []
        self._url, self._going = url, True
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(3)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        count = 0
        while self._going:
            count += 1
            key = f"{number}-{count % 10}"
            with httpx.Client(base_url=self._url, timeout=PATIENCE, verify=NO_TLS) as client:
                answer = client.post("/predict", json={"inputs": "a", "model": NAME}, headers={"X-Route-Key": key})
                self.seen.append((answer.status_code, answer.json().get("version", ""), key))

    def stop(self) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()


def test_rollouts_while_requests_run(tmp_path: Path, models: Path) -> None:
    own = tmp_path / "models"
    shutil.copytree(models / NAME / "1", own / NAME / "1")
    service = Process(tmp_path, own, "--workers", "2", "--admin").until_ready()
    callers = Callers(service.url)
    try:
        service.wait(lambda: len(callers.seen) > 5)
        add(own, 20)
        changed = service.client.post(f"{ADMIN}/rollout", json={"versions": "1", "canary": {"2": 0.5}})
        assert changed.status_code == 200, changed.text
        assert [(each["version"], each["share"]) for each in changed.json()["versions"]] == [("1", 0.5), ("2", 0.5)]
        # Every worker follows by the time of the answer.
        after = [ask(service, key=f"k{number}").json()["version"] for number in range(30)]
        assert after == [ask(service, key=f"k{number}").json()["version"] for number in range(30)]
        assert set(after) == {"1", "2"}
        full = service.client.post(f"{ADMIN}/rollout", json={"canary": {"2": 1}})
        assert full.status_code == 200
        assert {ask(service, key=f"k{number}").json()["version"] for number in range(20)} == {"2"}
        back = service.client.post(f"{ADMIN}/rollout", json={"canary": {"2": 0}})
        assert back.status_code == 200
        assert {ask(service, key=f"k{number}").json()["version"] for number in range(20)} == {"1"}
        add(own, 24, broken=True)
        refused = service.client.post(f"{ADMIN}/rollout", json={"canary": {"3": 0.5}})
        assert refused.status_code == 409, refused.text
        assert "weights.safetensors does not match" in refused.json()["detail"]
        refused = service.client.post(f"{ADMIN}/load", json={"version": 3})
        assert refused.status_code == 409
        assert {ask(service, key=f"k{number}").json()["version"] for number in range(20)} == {"1"}
        loaded = service.client.post(f"{ADMIN}/load", json={"version": 2})
        assert (loaded.status_code, loaded.json()["version"]) == (200, "2")
        assert {ask(service, key=f"k{number}").json()["version"] for number in range(20)} == {"2"}
        count = len(callers.seen)
        service.wait(lambda: len(callers.seen) > count + 5)
    finally:
        callers.stop()
    assert {status for status, _, _ in callers.seen} == {200}, "no request was lost"
    assert {version for _, version, _ in callers.seen} == {"1", "2"}
    service.close()


def test_every_worker_has_followed_a_rollout_when_it_is_answered(changing: Process) -> None:
    """Prints how long 20 rollouts of loaded versions took: ``pytest -s``."""
    assert changing.client.post(f"{ADMIN}/rollout", json={"versions": "1", "canary": {"2": 0}}).status_code == 200
    seconds = []
    for number in range(20):
        begun = time.perf_counter()
        changed = changing.client.post(f"{ADMIN}/rollout", json={"canary": {"2": 1 - number % 2}})
        seconds.append(time.perf_counter() - begun)
        assert changed.status_code == 200, changed.text
        assert {ask(changing, key=str(key)).json()["version"] for key in range(6)} == {str(2 - number % 2)}
    print(f"20 rollouts, seconds: median {statistics.median(seconds):.3f}, longest {max(seconds):.3f}")
    assert changing.client.post(f"{ADMIN}/rollout", json={"versions": "latest:1", "canary": {}}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"canary": {"2": 0.6, "3": 0.6}}, 422, "sum to 1.2"),
        ({"canary": {"2": 1.5}}, 422, "/canary/2"),
        ({"canary": {"x": 0.5}}, 422, "/canary"),
        ({"canary": {"2": 0.5}, "shadow": {"version": 2}}, 422, "both canary and shadow"),
        ({"versions": "1+"}, 422, "/versions"),
        ({"versions": "latest:0"}, 422, "/versions"),
        ({"shadow": {"version": 2, "share": 0}}, 422, "/shadow/share"),
        ({"shadow": {"version": 0}}, 422, "/shadow/version: Input should be a version, from 1 to 1000000000, not 0."),
        ({"shadow": {"version": "02"}}, 422, "/shadow/version: Input should be a version"),
        ({"other": 1}, 422, "/other"),
        ({"canary": {"9": 0.5}}, 404, "no version 9"),
        ({"shadow": {"version": "1000000000"}}, 404, "no version 1000000000"),
        ({"versions": "1+9"}, 404, "no version 9"),
        ({"versions": "1", "shadow": {"version": 1}}, 409, "but versions is 1; add one of 2, 3, 4 to it."),
        ({"versions": "1+2", "shadow": {"version": 1}, "canary": {"2": 0.5}}, 409, "add one of 3, 4 to it."),
    ],
)
def test_bodies_of_rollout(changing: Process, body: dict[str, Any], status: int, said: str) -> None:
    before = changing.client.get(f"/models/{NAME}").json()["versions"]
    answer = changing.client.post(f"{ADMIN}/rollout", json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert changing.client.get(f"/models/{NAME}").json()["versions"] == before


@pytest.mark.parametrize(
    ("before", "body", "pointer"),
    [
        ({"canary": {"2": 0.5}, "shadow": None}, {"shadow": {"version": 2}}, "/shadow"),
        ({"canary": {}, "shadow": {"version": 2}}, {"canary": {"2": 0.5}}, "/canary"),
    ],
)
def test_a_conflict_with_an_earlier_change_points_into_the_request(
    changing: Process, before: dict[str, Any], body: dict[str, Any], pointer: str
) -> None:
    assert changing.client.post(f"{ADMIN}/rollout", json=before).status_code == 200
    answer = changing.client.post(f"{ADMIN}/rollout", json=body)
    assert [answer.status_code, *(each["pointer"] for each in answer.json()["errors"])] == [422, pointer]
    assert changing.client.post(f"{ADMIN}/rollout", json={"canary": {}, "shadow": None}).status_code == 200


def test_a_rollout_of_a_model_that_is_not_there(changing: Process) -> None:
    assert changing.client.post("/admin/models/none/rollout", json={"canary": None}).status_code == 404
    unchanged = changing.client.post(f"{ADMIN}/rollout", json={})
    assert unchanged.status_code == 200
    shadowed = changing.client.post(f"{ADMIN}/rollout", json={"shadow": {"version": "3", "share": 0.5}})
    (found,) = [each for each in shadowed.json()["versions"] if each["shadow"]]
    assert (found["version"], found["shadow_share"]) == ("3", 0.5)


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("changing"), models, "--admin", "--workers", "2")
    yield process.until_ready()
    process.close()


def test_a_full_disk_costs_nobody_an_answer(tmp_path: Path, models: Path) -> None:
    service = Process(tmp_path, models, "--payload-log", "/dev/full", "--workers", "2").until_ready()
    for _ in range(10):
        assert ask(service).status_code == 200
    service.wait(lambda: value(service, "payload_lost_total", why="disk") == 10)
    service.close()


def test_a_hook_redacts(tmp_path: Path, models: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def redact(event):\n    event['data']['request']['inputs'] = ['…']\n    return event\n", encoding="utf-8"
    )
    log = tmp_path / "log.jsonl"
    flags = ("--payload-log", str(log), "--payload-text", "--payload-redact", "mine:redact")
    service = Process(
        tmp_path, models, "--workers", "2", *flags, PYTHONPATH=f"{tmp_path}:{Path(__file__).resolve().parents[2]}"
    )
    service.until_ready()
    ids: set[str] = set()
    paths = [log.with_name(f"log.{worker}.jsonl") for worker in range(2)]

    def both() -> bool:
        ids.add(ask(service, "a very secret film").headers["x-request-id"])
        return all(each.exists() and each.stat().st_size for each in paths)

    service.wait(both)
    events = logged(service, tmp_path, ids)
    assert {json.dumps(each["data"]["request"]["inputs"]) for each in events.values()} == {json.dumps(["…"])}
    assert not any("secret" in each.read_text() for each in paths)
    service.close()


def logged(service: Process, folder: Path, ids: set[str]) -> dict[str, Any]:
    """The logged events of both workers by request, once all of these are there."""
    found: dict[str, Any] = {}

    def there() -> bool:
        for path in folder.glob("log.[01].jsonl*"):
            written = path.read_bytes()
            found.update(
                (event["id"], event) for event in map(json.loads, written[: written.rfind(b"\n") + 1].splitlines())
            )
        return ids <= found.keys()

    service.wait(there)
    return found


def test_a_sample_is_logged_and_files_are_rotated_by_both_workers(tmp_path: Path, models: Path) -> None:
    flags = ("--payload-log", str(tmp_path / "log.jsonl"), "--payload-sample", "0.5", "--payload-bytes", "65536")
    # A file holds one request, and a worker may take all but two of them: none is dropped before it is looked for.
    service = Process(tmp_path, models, "--workers", "2", *flags, "--payload-files", "1000").until_ready()
    ids: set[str] = set()

    def rotated() -> bool:
        ids.update(ask(service, TEXTS * 60).headers["x-request-id"] for _ in range(10))
        return all((tmp_path / f"log.{worker}.jsonl.1").exists() for worker in range(2))

    service.wait(rotated)
    events = logged(service, tmp_path, {each for each in ids if position(SAMPLING, each) < 0.5})
    assert events.keys() == {each for each in ids if position(SAMPLING, each) < 0.5}
    assert all(path.stat().st_size <= 65536 for path in tmp_path.glob("log.*"))
    service.close()
