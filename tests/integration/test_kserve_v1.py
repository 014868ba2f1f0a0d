"""`/v1`: KServe's first protocol, by hand and, where it is installed, through KServe's own client."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.conftest import ROOT, Process
from tests.integration.protocols import v1_error

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
TEXTS = ["A great film.", "a dull one", "naïve 🎉"]
INSTANCES = [{"text": text} for text in TEXTS]


def predicted(client: httpx.Client, model: str, inputs: Any, **more: Any) -> Any:
    return client.post("/predict", json={"model": model, "inputs": inputs, **more}).json()["predictions"]


@pytest.mark.parametrize("model", ["sentiment-lstm", "ner-bigru", "sentiment-rnn"])
def test_predictions_are_those_of_predict(client: httpx.Client, model: str) -> None:
    answer = client.post(f"/v1/models/{model}:predict", json={"instances": INSTANCES})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": predicted(client, model, TEXTS)}


def test_instances_of_every_kind(client: httpx.Client) -> None:
    tokens = ["Ada", "lived", "in", "London", "."]
    instances = ["a film", {"text": "a film", "other": 1}, {"tokens": tokens}, {"text": None, "tokens": tokens}]
    instances += [{"text": "a film", "tokens": []}, {"text": [], "tokens": tokens}]
    body = {"instances": instances, "parameters": {"tokens": True, "truncate": None, "mine": [1]}, "id": "x"}
    found = client.post("/v1/models/ner-bigru:predict", json=body).json()["predictions"]
    assert found == predicted(client, "ner-bigru", ["a film", "a film", tokens, tokens, "a film", tokens], tokens=True)
    long = {"instances": ["a " * 5000], "parameters": {"truncate": True}}
    (cut,) = client.post("/v1/models/sentiment-lstm:predict", json=long).json()["predictions"]
    assert cut["truncated"] is True


@pytest.mark.parametrize("model", ["sentiment-lstm", "sentiment-bilstm", "sentiment-gru"])
def test_explanations_are_the_contributions_of_gates(client: httpx.Client, model: str) -> None:
    found = client.post(f"/v1/models/{model}:explain", json={"instances": INSTANCES}).json()["explanations"]
    traces = client.post("/gates", json={"model": model, "inputs": TEXTS, "reduce": "summary"}).json()["traces"]
    for explanation, trace in zip(found, traces, strict=True):
        split = trace["contributions"]
        assert explanation["tokens"] == trace["tokens"]
        assert explanation["labels"] == split["labels"]
        np.testing.assert_allclose(explanation["contributions"], split["tokens"], atol=1e-6)
        total = np.array(explanation["bias"]) + np.sum(explanation["contributions"], axis=0)
        np.testing.assert_allclose(total, explanation["logits"], atol=1e-3)
        assert explanation["prediction"]["label"] == trace["prediction"]["label"]
        assert explanation["note"] is None


def test_a_tagger_s_token_is_explained(client: httpx.Client) -> None:
    path, instances = "/v1/models/ner-bigru:explain", [{"text": "Ada lived in London ."}]
    (bare,) = client.post(path, json={"instances": instances}).json()["explanations"]
    assert bare["contributions"] is None
    assert bare["note"]
    asked = {"instances": instances, "parameters": {"explain": 3}}
    (found,) = client.post(path, json=asked).json()["explanations"]
    body = {"model": "ner-bigru", "inputs": ["Ada lived in London ."], "explain": 3}
    (trace,) = client.post("/gates", json=body).json()["traces"]
    np.testing.assert_allclose(found["contributions"], trace["contributions"]["tokens"], atol=1e-6)
    (elman,) = client.post("/v1/models/sentiment-rnn:explain", json={"instances": ["a film"]}).json()["explanations"]
    assert (elman["contributions"], elman["labels"]) == (None, ["negative", "positive"])
    assert elman["note"]


def test_whether_a_model_answers(client: httpx.Client) -> None:
    assert client.get("/v1/models/ner-bigru").json() == {"name": "ner-bigru", "ready": True}
    assert client.get("/v1/models/ner-bigru/").json() == {"name": "ner-bigru", "ready": True}
    assert "ner-bigru" in client.get("/v1/models").json()["models"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("none:predict", {"instances": ["a"]}, 404, "no model named 'none'"),
        ("none:explain", [], 404, "no model named 'none'"),
        ("sentiment-lstm:predict", {}, 422, "/instances"),
        ("sentiment-lstm:predict", {"inputs": ["a"]}, 422, "/instances"),
        ("sentiment-lstm:predict", {"instances": []}, 422, "/instances"),
        ("sentiment-lstm:predict", {"instances": "a"}, 422, "/instances"),
        ("sentiment-lstm:predict", {"instances": [1]}, 422, "/instances/0"),
        ("sentiment-lstm:predict", {"instances": [["a", "b"]]}, 422, "/instances/0"),
        ("sentiment-lstm:predict", {"instances": [{}]}, 422, "/instances/0"),
        ("sentiment-lstm:predict", {"instances": ["a", {"text": 1}]}, 422, "/instances/1/text"),
        ("sentiment-lstm:predict", {"instances": ["a", {"text": "a", "tokens": ["a"]}]}, 422, "/instances/1"),
        ("sentiment-lstm:predict", {"instances": [{"tokens": ["a", 1]}]}, 422, "/instances/0/tokens/1"),
        ("sentiment-lstm:predict", {"instances": ["a", ""]}, 422, "/instances/1"),
        ("sentiment-lstm:predict", {"instances": ["a"] * 257}, 413, "257, the limit is 256"),
        ("sentiment-lstm:predict", [], 422, "object"),
        ("sentiment-lstm:predict", {"instances": ["a"], "parameters": 1}, 422, "/parameters: An object is expected"),
        ("sentiment-lstm:predict", {"instances": ["a"], "parameters": {"truncate": 1}}, 422, "/parameters/truncate"),
        ("sentiment-lstm:explain", {"instances": ["a"], "parameters": {"explain": 0}}, 422, "/parameters/explain"),
        ("ner-bigru:explain", {"instances": ["a"], "parameters": {"explain": 7}}, 422, "/parameters/explain: token 7"),
        ("sentiment-lstm:classify", {"instances": ["a"]}, 404, "There is no route"),
        ("sentiment-lstm:", {"instances": ["a"]}, 404, "There is no route"),
        ("sentiment-lstm/versions/1:classify", {"instances": ["a"]}, 404, "There is no route"),
    ],
)
def test_errors_are_problems_with_the_protocol_s_member(
    client: httpx.Client, path: str, body: Any, status: int, said: str
) -> None:
    answer = client.post(f"/v1/models/{path}", json=body)
    assert said in v1_error(answer, status)
    pointers = [wrong["pointer"] for wrong in answer.json().get("errors", ())]
    assert all(pointer in answer.json()["detail"] for pointer in pointers)
    assert bool(pointers) is (status == 422)


def test_other_errors_are_too(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    broken = client.post("/v1/models/sentiment-lstm:predict", content=b"{", headers=headers)
    assert "not JSON" in v1_error(broken, 400)
    plain = client.post("/v1/models/sentiment-lstm:predict", content=b"{}", headers={"Content-Type": "text/plain"})
    assert "application/json" in v1_error(plain, 415)
    for missing in (client.get("/v1/models/none"), client.get("/v1/none"), client.get("/v1")):
        assert v1_error(missing, 404)
    wait = {"X-Request-Timeout": "0.000000001"}
    assert v1_error(client.post("/v1/models/sentiment-lstm:predict", json={"instances": ["a"]}, headers=wait), 504)


@pytest.mark.skipif(not PYTHON.exists(), reason="kserve is not installed: make clients")
def test_kserve_s_own_client(service: Process, client: httpx.Client) -> None:
    script = ROOT / "tests" / "clients" / "kserve_v1_client.py"
    command = [str(PYTHON), str(script), service.url, "sentiment-bilstm", *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ready"] is True
    labels = [each["label"] for each in predicted(client, "sentiment-bilstm", TEXTS)]
    assert [each["label"] for each in found["predictions"]] == labels
    assert [each["prediction"]["label"] for each in found["explanations"]] == labels
    assert "There is no model named 'none'" in found["error"]


@pytest.mark.parametrize("verb", [":predict", ":explain", "/versions/1:predict", "/versions/1:explain"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_verb_takes_post_alone(client: httpx.Client, verb: str, slash: str) -> None:
    answer = client.get(f"/v1/models/sentiment-lstm{verb}{slash}")
    assert answer.headers["Allow"] == "POST"
    assert "takes POST" in v1_error(answer, 405)


def test_the_route_of_a_model_is_counted_by_its_template(client: httpx.Client) -> None:
    assert client.get("/v1/models/sentiment-lstm").status_code == 200
    assert 'route="/v1/models/{name}",' in client.get("/metrics").text
