"""`/models`, `/health`, `/` and the API document over HTTP."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.openapi.models import OpenAPI
from prometheus_client.parser import text_string_to_metric_families

from service.http.render import JSON
from service.http.schemas.responses import Index, ModelDescription, Models, Status
from service.model import windows
from service.model.equations import equations


def test_models(client: httpx.Client) -> None:
    response = client.get("/models")
    Models.model_validate_json(response.content)
    answer = response.json()
    assert answer["default"] == {"sentiment": "sentiment-bilstm", "ner": "ner-bilstm"}
    assert answer["refused"] == []
    names = [model["name"] for model in answer["models"]]
    assert names == sorted(names)
    assert {"sentiment-bilstm", "ner-bigru"} <= set(names)
    for model in answer["models"]:
        alone = client.get(f"/models/{model['name']}").json()
        assert {**alone, "health": None} == {**model, "health": None}  # live traffic is counted in between
        assert alone["health"]["trained"] == model["health"]["trained"]
        window = windows.definition(*windows.reach(model["window_words"], model["directions"]))
        said = window if model["window_words"] > 1 else None
        assert model["equations"] == equations(model["cell"], model["gru_reset"] or model["peepholes"], said)
        assert model["gates"] == list(model["equations"])
        assert model["provider"] == "cpu"
        assert model["token_limit"] == 4096


def test_one_model(client: httpx.Client) -> None:
    model = ModelDescription.model_validate_json(client.get("/models/ner-bigru").content)
    assert (model.task, model.cell, model.directions) == ("ner", "gru", ["forward", "backward"])
    assert not model.model_extra, "fields that the API document does not have"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health(client: httpx.Client, path: str) -> None:
    Status.model_validate_json(client.get(path).content)
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_the_root_points_on(client: httpx.Client) -> None:
    index = Index.model_validate_json(client.get("/", headers={"Accept": "application/json"}).content)
    assert client.get(index.openapi).status_code == 200


@pytest.mark.parametrize("accept", ["*/*", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ""])
def test_the_root_is_the_page(client: httpx.Client, accept: str) -> None:
    response = client.get("/", headers={"Accept": accept})
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    for reference in re.findall(r'(?:src|href)="(page/[^"]+)"', response.text):
        asset = client.get(f"/{reference}")
        assert asset.status_code == 200, reference
        again = client.get(f"/{reference}", headers={"If-None-Match": asset.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.head("/").headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize("path", ["", "index.html", "vendor/package.json", "../app.py", "nothing.js"])
def test_the_page_serves_its_own_files_alone(client: httpx.Client, path: str) -> None:
    assert client.get(f"/page/{path}").status_code == 404


def test_every_route_stands_in_the_document_with_examples(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    OpenAPI.model_validate(document)
    assert set(document["paths"]) == {
        "/",
        "/page/{path}",
        "/predict",
        "/docs",
        "/docs/page/{path}",
        "/gates",
        "/models",
        "/models/{name}",
        "/metrics",
        "/health/live",
        "/health/ready",
        "/openapi.json",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{name}",
        "/v2/models/stats",
        "/v2/models/{name}/config",
        "/v2/models/{name}/stats",
        "/v2/models/{name}/infer",
        "/v2/models/{name}/ready",
        "/v2/models/{name}/versions/{version}",
        "/v2/models/{name}/versions/{version}/config",
        "/v2/models/{name}/versions/{version}/stats",
        "/v2/models/{name}/versions/{version}/infer",
        "/v2/models/{name}/versions/{version}/ready",
        "/v2/repository/index",
        "/feedback",
        "/models/{name}/shadow",
        "/models/{name}/units/{layer}/{direction}/{unit}",
        "/models/{name}/versions/{version}/units/{layer}/{direction}/{unit}",
        "/models/{name}/versions/{version}",
        "/stream",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/models/{name}:explain",
        "/v1/models/{name}:predict",
        "/v1/models/{name}/versions/{version}",
        "/v1/models/{name}/versions/{version}:explain",
        "/v1/models/{name}/versions/{version}:predict",
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            (answer,) = (
                operation["responses"][status] for status in ("101", "200", "202") if status in operation["responses"]
            )
            for content in answer.get("content", {}).values():
                assert content["schema"], path
    for reference in _references(document):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_the_examples_of_requests_work(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/predict", "/gates", "/models/{name}", "/v2/models/{name}/infer"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert body["examples"]
        for name, example in body["examples"].items():
            model = "ner-bilstm" if name == "entities" else "sentiment-bilstm"
            response = client.post(path.replace("{name}", model), json=example["value"])
            assert response.status_code == 200, (name, response.text)
            if response.headers["Content-Type"].startswith("application/json"):
                _check(document, path, "post", response.json())


def test_answers_are_what_the_document_says(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in (
        "/v2",
        "/v2/models/stats",
        "/v2/health/live",
        "/v2/health/ready",
        "/health/live",
        "/health/ready",
        "/models",
    ):
        _check(document, path, "get", client.get(path).json())
    v2 = "/v2/models/{name}"
    for path in ("/models/{name}", v2, f"{v2}/ready", f"{v2}/config", f"{v2}/stats"):
        _check(document, path, "get", client.get(path.replace("{name}", "ner-bilstm")).json())
    _check(document, "/v2/repository/index", "post", client.post("/v2/repository/index").json())
    for strategy in ("none", "simple"):
        for inputs in ("Ada Lovelace lived in London.", ["Ada Lovelace lived in London."]):
            body: dict[str, Any] = {
                "inputs": inputs,
                "parameters": {"aggregation_strategy": strategy, "ignore_labels": []},
            }
            found = client.post("/models/ner-bilstm", json=body).json()
            _check(document, "/models/{name}", "post", found)
            assert found
    with pytest.raises(jsonschema.ValidationError):
        _check(document, "/v2/health/live", "get", {"live": "yes"})


def test_the_examples_of_answers_are_what_the_document_says(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    checked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = operation["responses"].get("200", {}).get("content", {}).get(JSON, {})
            for example in answer.get("examples", {}).values():
                _check(document, path, method, example["value"])
                checked += 1
    assert checked > 10


def test_a_problems_type_leads_to_its_description(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for response in (client.get("/x"), client.get("/predict"), client.post("/predict"), client.get("/models/x")):
        url, _, fragment = response.json()["type"].partition("#/")
        assert url == "/openapi.json"
        found: Any = document
        for step in fragment.split("/"):
            found = found[step]
        assert found["content"]["application/problem+json"]["example"]["status"] == response.status_code


def _check(document: Any, path: str, method: str, answer: Any) -> None:
    """Raises `ValidationError` for an answer that is not what the document says of a route's."""
    schema = document["paths"][path][method]["responses"]["200"]["content"][JSON]["schema"]
    whole = {**schema, "components": document["components"]}
    jsonschema.validate(answer, whole, jsonschema.Draft202012Validator)


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [reference for item in value.values() for reference in _references(item)]
    if isinstance(value, list):
        return [reference for item in value for reference in _references(item)]
    return []


def test_metrics_count_what_was_asked_by_route_and_never_by_what_was_written(client: httpx.Client) -> None:
    def counted() -> dict[tuple[str, str, str], float]:
        response = client.get("/metrics")
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "unheard" not in response.text
        return {
            (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
            if sample.name == "gatelight_requests_total"
        }

    before = counted()
    for _ in range(3):
        client.post("/predict", json={"inputs": ["a", "b c"]})
    client.post("/predict", json={"inputs": []})
    client.get("/unheard-of")
    client.get("/models/unheard-of")
    client.request("UNLINK", "/unheard-of")
    after = counted()
    grown = {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}
    assert grown == {
        ("/predict", "POST", "200"): 3,
        ("/predict", "POST", "422"): 1,
        ("none", "GET", "404"): 1,
        ("/models/{name}", "GET", "404"): 1,
        ("none", "other", "404"): 1,
        ("/metrics", "GET", "200"): 1,
    }


def test_metrics_tell_stages_batches_and_models(client: httpx.Client) -> None:
    client.post("/predict", json={"inputs": ["a", "b c"], "task": "ner"})
    client.post("/gates", json={"inputs": "a"})
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    samples = [sample for family in families for sample in family.samples]
    stages = {s.labels["stage"] for s in samples if s.name == "gatelight_stage_seconds_count" and s.value}
    assert stages == {"queue", "tokenise", "run", "decode", "serialise"}
    values = {sample.name: sample.value for sample in samples if not sample.labels}
    assert values["gatelight_batch_padded_tokens_total"] >= values["gatelight_batch_tokens_total"] >= 4
    assert values["gatelight_workers"] == values["gatelight_ready"] == 1
    assert values["gatelight_threads"] >= 1
    assert values["gatelight_queued_tokens"] == 0
    models = {s.labels["model"]: s.labels for s in samples if s.name == "gatelight_model_info"}
    assert set(models) == {model["name"] for model in client.get("/models").json()["models"]}
    assert models["ner-bigru"].items() >= {"task": "ner", "cell": "gru", "version": "1", "provider": "cpu"}.items()
