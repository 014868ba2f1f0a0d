"""Versions, canary and feedback through the clients that people have, against two workers."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from websockets.asyncio.client import connect as connect_socket

from tests.integration.conftest import ROOT, Process
from tests.integration.models import write_model
from tests.integration.protocols import v1_error
from tests.integration.triton import InferenceServerException, connect, decoded, texts
from tests.patience import PATIENCE

KSERVE = ROOT / ".venv-clients" / "bin" / "python"
NAME = "sentiment-gru"
HIDDEN = {"1": 16, "2": 20, "3": 24}
TEXTS = ["a fine film", "the movie is bad", "it was very dull", "a good one"]
KEYS = [f"reader {number}" for number in range(16)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Versions 1 and 2, and 3 as a canary for half of the requests."""
    folder = tmp_path_factory.mktemp("clients")
    for hidden in HIDDEN.values():
        write_model(folder / "models" / NAME, cell="gru", bidirectional=False, head="last", hidden=hidden)
    flags = ("--workers", "2", "--versions", f"{NAME}=1+2", "--canary", f"{NAME}=3:0.5")
    process = Process(folder, folder / "models", *flags)
    yield process.until_ready()
    process.close()


def ask(service: Process, path: str, body: Any, key: str | None = None) -> Any:
    """The JSON of an answer, over a connection of its own: any of the workers may get it."""
    headers = {} if key is None else {"X-Route-Key": key}
    answer = httpx.post(f"{service.url}{path}", json=body, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.json()


def predicted(service: Process, version: str) -> list[Any]:
    found: list[Any] = ask(service, "/predict", {"model": NAME, "inputs": TEXTS, "version": version})["predictions"]
    return found


@pytest.fixture(scope="module")
def chosen(service: Process) -> dict[str, str]:
    """The version that `/predict` chooses for each key; both are chosen."""
    found = {key: str(ask(service, "/predict", {"model": NAME, "inputs": "a"}, key)["version"]) for key in KEYS}
    assert set(found.values()) == {"2", "3"}
    return found


def score(prediction: Any) -> float:
    """The probability of the label that Hugging Face's clients show first."""
    return float(prediction["score"])


@pytest.mark.parametrize("version", HIDDEN)
def test_triton_s_client_asks_for_a_version(service: Process, version: str) -> None:
    with connect(service) as client:
        assert client.is_model_ready(NAME, version)
        assert client.get_model_metadata(NAME, version)["versions"] == list(HIDDEN)
        policy = client.get_model_config(NAME, version)["version_policy"]
        assert policy == client.get_model_config(NAME)["version_policy"]
        assert policy == {"specific": {"versions": [int(each) for each in HIDDEN]}}
        result = client.infer(NAME, [texts(TEXTS)], model_version=version)
    assert result.get_response()["model_version"] == version
    expected = predicted(service, version)
    assert decoded(result.as_numpy("label")) == [each["label"] for each in expected]
    assert result.as_numpy("score").reshape(-1) == pytest.approx([score(each) for each in expected], abs=1e-5)


def test_triton_s_client_is_told_which_versions_there_are(service: Process) -> None:
    with connect(service) as client:
        with pytest.raises(InferenceServerException, match="versions 1, 2, 3 are"):
            client.infer(NAME, [texts(TEXTS)], model_version="9")
        assert not client.is_model_ready(NAME, "9")


def test_a_key_holds_triton_s_client_to_one_version(service: Process, chosen: dict[str, str]) -> None:
    for key, version in chosen.items():
        with connect(service) as client:
            result = client.infer(NAME, [texts(TEXTS)], headers={"X-Route-Key": key})
        assert result.get_response()["model_version"] == version, key


@pytest.mark.parametrize("version", HIDDEN)
def test_hugging_face_s_client_asks_for_a_version(service: Process, version: str) -> None:
    client = InferenceClient(model=f"{service.url}/models/{NAME}/versions/{version}")
    for text, expected in zip(TEXTS, predicted(service, version), strict=True):
        found = client.text_classification(text)
        assert found[0].label == expected["label"]
        assert found[0].score == pytest.approx(expected["score"], abs=1e-6)


def test_hugging_face_s_client_is_told_which_versions_there_are(service: Process) -> None:
    with pytest.raises(HfHubHTTPError) as raised:
        InferenceClient(model=f"{service.url}/models/{NAME}/versions/9").text_classification("a")
    assert raised.value.response.status_code == 404
    assert "versions 1, 2, 3 are" in raised.value.response.json()["error"]


def test_a_key_holds_hugging_face_s_client_to_one_version(service: Process, chosen: dict[str, str]) -> None:
    expected = {version: predicted(service, version)[0] for version in ("2", "3")}
    assert score(expected["2"]) != score(expected["3"])
    for key, version in chosen.items():
        client = InferenceClient(model=f"{service.url}/models/{NAME}", headers={"X-Route-Key": key})
        assert client.text_classification(TEXTS[0])[0].score == pytest.approx(score(expected[version]), abs=1e-6)


def test_a_key_holds_over_kserve_s_first_protocol(service: Process, chosen: dict[str, str]) -> None:
    body = {"instances": [{"text": text} for text in TEXTS]}
    expected = {version: predicted(service, version) for version in ("2", "3")}
    for key, version in chosen.items():
        assert ask(service, f"/v1/models/{NAME}:predict", body, key)["predictions"] == expected[version]
        explained = ask(service, f"/v1/models/{NAME}:explain", body, key)["explanations"]
        assert [each["prediction"]["scores"] for each in explained] == [
            pytest.approx(each["scores"], abs=1e-5) for each in expected[version]
        ]


@pytest.mark.parametrize("version", HIDDEN)
def test_kserve_s_first_protocol_asks_for_a_version(service: Process, version: str) -> None:
    path, body = f"/v1/models/{NAME}/versions/{version}", {"instances": TEXTS}
    expected = predicted(service, version)
    assert service.client.get(path).json() == {"name": NAME, "ready": True}
    assert ask(service, f"{path}:predict", body)["predictions"] == expected
    explained = ask(service, f"{path}:explain", body)["explanations"]
    assert [each["prediction"]["scores"] for each in explained] == [
        pytest.approx(each["scores"], abs=1e-5) for each in expected
    ]


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", ":predict"), ("POST", ":explain")])
def test_kserve_s_first_protocol_tells_which_versions_there_are(service: Process, method: str, suffix: str) -> None:
    body = {"instances": TEXTS} if method == "POST" else None
    answer = service.client.request(method, f"/v1/models/{NAME}/versions/9{suffix}", json=body)
    assert "versions 1, 2, 3 are" in v1_error(answer, 404)


@pytest.mark.skipif(not KSERVE.exists(), reason="kserve is not installed: make clients")
def test_kserve_s_client_gets_a_version_of_the_canary(service: Process) -> None:
    script = ROOT / "tests" / "clients" / "kserve_v1_client.py"
    command = [str(KSERVE), str(script), service.url, NAME, *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["predictions"]
    assert found in [predicted(service, version) for version in ("2", "3")]


def test_streams_name_a_version_or_are_held_by_a_key(service: Process, chosen: dict[str, str]) -> None:
    for version in HIDDEN:
        body = {"model": NAME, "text": TEXTS[0], "version": version, "end": True}
        found = ask(service, "/stream", body)
        assert found["version"] == version
        assert found["prediction"]["scores"] == pytest.approx(predicted(service, version)[0]["scores"], abs=1e-5)
    for key, version in chosen.items():
        begun = ask(service, "/stream", {"model": NAME, "text": "a fine "}, key)
        assert begun["version"] == version, key
        # A state belongs to its version, whatever the key of the next request.
        ended = ask(service, "/stream", {"text": "film", "state": begun["state"], "end": True}, "another reader")
        assert ended["version"] == version
        assert ended["prediction"]["scores"] == pytest.approx(predicted(service, version)[0]["scores"], abs=1e-5)


def test_sockets_name_a_version_or_are_held_by_a_key(service: Process, chosen: dict[str, str]) -> None:
    async def opened(message: dict[str, Any], headers: dict[str, str]) -> str:
        url = f"{service.url.replace('http', 'ws', 1)}/stream"
        async with connect_socket(url, additional_headers=headers, open_timeout=PATIENCE) as socket:
            await socket.send(json.dumps(message))
            return str(json.loads(await socket.recv())["version"])

    async def all_of_them() -> None:
        for version in HIDDEN:
            assert await opened({"model": NAME, "version": version}, {}) == version
        for key, version in chosen.items():
            assert await opened({"model": NAME}, {"X-Route-Key": key}) == version

    asyncio.run(all_of_them())


def piece(client: Any, number: int, text: str, key: str | None = None, **more: Any) -> tuple[str, Any]:
    """One piece of a sequence: the version that read it, and the score so far."""
    headers = {} if key is None else {"X-Route-Key": key}
    result = client.infer(NAME, [texts([text])], sequence_id=number, headers=headers, **more)
    return str(result.get_response()["model_version"]), float(result.as_numpy("score").reshape(-1)[0])


def test_a_sequence_is_read_by_one_version(service: Process, chosen: dict[str, str]) -> None:
    expected = {version: score(predicted(service, version)[0]) for version in ("2", "3")}
    with connect(service) as client:
        for number, (key, version) in enumerate(chosen.items(), 1):
            assert piece(client, number, "a ", key, sequence_start=True)[0] == version, key
            # Later pieces name no key: their ids would choose either version.
            assert {piece(client, number, part)[0] for part in ("f", "i", "n", "e", " ")} == {version}
            ended = piece(client, number, "film", sequence_end=True)
            assert ended == (version, pytest.approx(expected[version], abs=1e-5))
        assert piece(client, 100, "a ", model_version="1", sequence_start=True)[0] == "1"
        with pytest.raises(InferenceServerException, match=r"version 1, not of .* version 2"):
            piece(client, 100, "film", model_version="2")
        assert piece(client, 100, "film", sequence_end=True)[0] == "1"


def test_a_sequence_goes_on_with_its_version_while_another_is_promoted(tmp_path: Path) -> None:
    for hidden in (16, 20):
        write_model(tmp_path / "models" / NAME, cell="gru", bidirectional=False, head="last", hidden=hidden)
    flags = ("--workers", "2", "--versions", f"{NAME}=1", "--admin")
    process = Process(tmp_path, tmp_path / "models", *flags).until_ready()
    with connect(process) as client:
        assert piece(client, 7, "a fine ", sequence_start=True)[0] == "1"
        promoted = process.client.post(f"/admin/models/{NAME}/rollout", json={"versions": "1+2"})
        assert promoted.status_code == 200, promoted.text
        assert ask(process, "/predict", {"model": NAME, "inputs": "a"})["version"] == "2"
        version, found = piece(client, 7, "film", sequence_end=True)
    assert (version, found) == ("1", pytest.approx(score(predicted(process, "1")[0]), abs=1e-5))
    process.close()


def test_feedback_on_the_answers_of_every_protocol(service: Process) -> None:
    infer = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a fine film"]}]}
    asked: dict[str, Any] = {
        "/predict": {"model": NAME, "inputs": "a fine film"},
        "/gates": {"model": NAME, "inputs": "a fine film"},
        f"/models/{NAME}": {"inputs": "a fine film"},
        f"/v2/models/{NAME}/infer": infer,
        f"/v1/models/{NAME}:predict": {"instances": ["a fine film"]},
        f"/v1/models/{NAME}:explain": {"instances": ["a fine film"]},
    }
    for path, body in asked.items():
        answer = httpx.post(f"{service.url}{path}", json=body, timeout=PATIENCE)
        assert answer.status_code == 200, path
        said = {"request_id": answer.headers["x-request-id"], "input": 0, "label": "positive"}
        taken = httpx.post(f"{service.url}/feedback", json=said, timeout=PATIENCE)
        assert taken.status_code == 202, (path, taken.text)
        assert taken.json()["outcome"] in ("right", "wrong"), path
