"""A trailing slash is the same route, for whoever judges paths too."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.integration.conftest import Start

BODY = {"inputs": "a good film"}
TENSOR = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a good film"]}]}
POSTS: dict[str, Any] = {
    "/predict": BODY,
    "/gates": BODY,
    "/models/sentiment-bilstm": BODY,
    "/models/sentiment-bilstm/versions/1": BODY,
    "/v1/models/sentiment-bilstm:predict": {"instances": ["a good film"]},
    "/v1/models/sentiment-bilstm:explain": {"instances": ["a good film"]},
    "/v2/models/sentiment-bilstm/infer": TENSOR,
    "/v2/models/sentiment-bilstm/versions/1/infer": TENSOR,
    "/v2/repository/index": {},
    "/stream": {"text": "a good film"},
    "/feedback": {"request_id": "judged-before", "input": 0, "label": "positive"},
}
STATUS = {"/feedback": 202}
"""Of an answer that is not 200."""


def ready(client: httpx.Client, path: str) -> None:
    """For equal answers to equal requests of `POSTS`: feedback is about an answer, and the first is unlike the next."""
    if path == "/feedback":
        client.post("/predict", json=BODY, headers={"X-Request-ID": POSTS[path]["request_id"]}).raise_for_status()
        client.post(path, json=POSTS[path]).raise_for_status()


def unsealed(answer: httpx.Response) -> bytes:
    """Without the state of a stream, which is sealed anew each time."""
    return re.sub(rb'"state":"[^"]+"', b'"state":""', answer.content)


@pytest.mark.parametrize("path", POSTS)
def test_posts(client: httpx.Client, path: str) -> None:
    ready(client, path)
    plain, slashed = (client.post(each, json=POSTS[path]) for each in (path, f"{path}/"))
    assert plain.status_code == slashed.status_code == STATUS.get(path, 200), plain.text
    assert unsealed(slashed) == unsealed(plain)


def test_every_get(start: Start) -> None:
    # Samples of gates are taken behind the answers, and `/models` tells of them.
    client = start("--gate-sample", "0").until_ready().client
    names = {"name": "sentiment-bilstm", "version": "1", "path": "main.js"}
    paths = [
        path.format(**names)
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        # 404 without a shadow, or cards of units; 426 without a handshake
        if "get" in methods and not path.endswith(("/shadow", "/{unit}", "/stream"))
    ]
    assert len(paths) > 15
    for path in paths:
        plain, slashed = client.get(path), client.get(path.rstrip("/") + "/?x=1")
        assert slashed.status_code == plain.status_code == 200, path
        assert slashed.headers["Content-Type"] == plain.headers["Content-Type"]
        if not path.endswith(("stats", "metrics")):
            assert slashed.content == plain.content, path


def test_errors_have_the_form_of_the_route(client: httpx.Client) -> None:
    assert client.post("/predict/", json={}).json()["status"] == 422
    assert set(client.post("/models/sentiment-bilstm/", json={}).json()) == {"error"}
    assert set(client.get("/v2/nothing/").json()) == {"error"}
    assert {"error", "detail"} <= set(client.get("/v1/nothing/").json())
    wrong = client.get("/predict/")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
    assert client.get("/predict//").status_code == 404
    assert client.get("/nothing/").status_code == 404


def test_a_slash_opens_no_door(start: Start) -> None:
    service = start("--admin", SERVICE_API_KEYS="plain-key-of-a-user", SERVICE_ADMIN_KEYS="the-key-of-the-operator")
    client = service.until_ready().client
    for path in ("/health/live/", "/health/ready/", "/v2/health/live/", "/v2/health/ready/"):
        assert client.get(path).status_code == 200
    for path in ("/metrics/", "/models/", "/v2/"):
        assert client.get(path).status_code == 401
    plain = {"Authorization": "Bearer plain-key-of-a-user"}
    for path in ("/admin/models/", "/admin/models/ner-bigru/unload/", "/v2/repository/models/ner-bigru/unload/"):
        method = "GET" if path == "/admin/models/" else "POST"
        assert client.request(method, path, headers=plain).status_code == 403
    admin = {"Authorization": "Bearer the-key-of-the-operator"}
    assert client.post("/admin/models/ner-bigru/unload/", headers=admin).status_code == 200


def test_the_log_and_the_metrics_name_one_route(start: Start) -> None:
    service = start().until_ready()
    for path in ("/predict", "/predict/"):
        service.client.post(path, json=BODY).raise_for_status()
    counted = 'gatelight_requests_total{method="POST",route="/predict",status="200"} 2.0'
    assert counted in service.client.get("/metrics/").text
