"""Compressed bodies on all routes, in both directions, over HTTP."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from service.http.routes.rollout import FEEDBACK_BYTES
from tests.integration.conftest import Start
from tests.integration.test_paths import POSTS, STATUS, ready, unsealed
from tests.integration.triton import texts, wanted

MOST = {"/feedback": FEEDBACK_BYTES}
"""Bytes of a body on routes with a limit of their own."""
BOMB = gzip.compress(b" " * 50_000_000)
LONG = {"inputs": "a good film " * 300}


def post(client: httpx.Client, path: str, content: bytes, coding: str) -> httpx.Response:
    return client.post(path, content=content, headers={"Content-Type": "application/json", "Content-Encoding": coding})


def raw(client: httpx.Client, method: str, path: str, coding: str, **more: Any) -> tuple[httpx.Response, bytes]:
    """An answer, and its body as it came over the wire."""
    with client.stream(method, path, headers={"Accept-Encoding": coding}, **more) as response:
        return response, b"".join(response.iter_raw())


@pytest.mark.parametrize("path", POSTS)
def test_bodies_on_every_route(client: httpx.Client, path: str) -> None:
    ready(client, path)
    body = json.dumps(POSTS[path]).encode()
    plain = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert plain.status_code == STATUS.get(path, 200), plain.text
    for coding, packed in (
        ("gzip", gzip.compress(body)),
        ("X-GZip", gzip.compress(body)),
        ("deflate", zlib.compress(body)),
        ("gzip", gzip.compress(body[:9]) + gzip.compress(body[9:])),
        ("identity", body),
    ):
        answer = post(client, path, packed, coding)
        assert (answer.status_code, unsealed(answer)) == (plain.status_code, unsealed(plain)), coding


@pytest.mark.parametrize("path", POSTS)
def test_bodies_that_are_refused(client: httpx.Client, path: str) -> None:
    body = json.dumps(POSTS[path]).encode()
    bomb = post(client, path, BOMB, "gzip")
    most = str(MOST.get(path, 2097152))
    assert (bomb.status_code, most in bomb.text, "unpacked" in bomb.text) == (413, True, True)
    for broken in (body, gzip.compress(body)[:-4], gzip.compress(body)[:10], b"", gzip.compress(body) + b"more"):
        assert post(client, path, broken, "gzip").status_code == 400, broken
    for coding in ("br", "zstd", "gzip, gzip", "compress"):
        unknown = post(client, path, body, coding)
        assert (unknown.status_code, unknown.headers["Accept-Encoding"]) == (415, "gzip, deflate")
    assert "Accept-Encoding" not in client.post(path, content=body, headers={"Content-Type": "text/csv"}).headers
    assert post(client, path, gzip.compress(b"{"), "gzip").status_code == 400


def test_the_coding_of_a_body_may_come_in_several_lines(client: httpx.Client) -> None:
    packed = gzip.compress(b'{"inputs":"a"}')
    for codings, content, status in (
        (("gzip", "identity"), packed, 200),
        (("identity", "gzip"), packed, 200),
        (("gzip", "gzip"), gzip.compress(packed), 415),
        (("br", "gzip"), packed, 415),
    ):
        lines = [("Content-Type", "application/json"), *(("Content-Encoding", coding) for coding in codings)]
        assert client.post("/predict", content=content, headers=lines).status_code == status, codings


def test_bodies_to_administrators(start: Start) -> None:
    client = start("--admin").until_ready().client
    path = "/admin/models/ner-bigru/load"
    assert post(client, path, gzip.compress(b'{"version": 1}'), "gzip").status_code == 200
    assert post(client, path, BOMB, "gzip").status_code == 413
    assert post(client, path, b'{"version": 1}', "gzip").status_code == 400
    assert post(client, path, b'{"version": 1}', "br").headers["Accept-Encoding"] == "gzip, deflate"


def test_a_chunked_body(client: httpx.Client) -> None:
    packed = gzip.compress(json.dumps(LONG).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    found = client.post("/predict", content=iter([packed[:20], packed[20:]]), headers=headers)
    assert found.json() == client.post("/predict", json=LONG).json()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/metrics", None),
        ("GET", "/models", None),
        ("GET", "/openapi.json", None),
        ("GET", "/page/main.js", None),
        ("GET", "/v2/models/stats", None),
        ("POST", "/gates", LONG),
        ("POST", "/predict", {**LONG, "model": "ner-bilstm", "tokens": True}),
        ("POST", "/models/ner-bilstm", {**LONG, "parameters": {"aggregation_strategy": "none", "ignore_labels": []}}),
    ],
)
def test_answers_of_some_size(client: httpx.Client, method: str, path: str, body: Any, coding: str) -> None:
    plain, content = raw(client, method, path, "identity", json=body)
    assert len(content) >= 4096, "the test needs a larger answer"
    response, packed = raw(client, method, path, coding, json=body)
    assert response.headers["Content-Encoding"] == coding
    assert "Content-Encoding" not in plain.headers
    assert int(response.headers["Content-Length"]) == len(packed) < len(content) / 2
    assert response.headers["Content-Type"] == plain.headers["Content-Type"]
    for answer in (plain, response):
        assert "accept-encoding" in answer.headers["Vary"].lower()
    found = gzip.decompress(packed) if coding == "gzip" else zlib.decompress(packed)
    if path == "/models":  # a sample of gates may have been counted between the two
        assert _without_samples(found) == _without_samples(content)
    elif path not in ("/metrics", "/v2/models/stats"):
        assert found == content


def _without_samples(content: bytes) -> Any:
    models: Any = json.loads(content)
    for model in models["models"]:
        assert model.pop("health")["live"]
    return models


def test_short_answers_and_tensors_stay_as_they_are(client: httpx.Client) -> None:
    for path, body, more in (
        ("/predict", {"inputs": "a"}, {}),
        ("/gates", LONG, {"Accept": "application/vnd.safetensors"}),
    ):
        response = client.post(path, json=body, headers={"Accept-Encoding": "gzip", **more})
        assert "Content-Encoding" not in response.headers


def test_head_says_what_get_would(client: httpx.Client) -> None:
    headers = {"Accept-Encoding": "gzip"}
    get, head = client.get("/openapi.json", headers=headers), client.head("/openapi.json", headers=headers)
    for name in ("Content-Encoding", "Content-Length", "Vary"):
        assert head.headers[name] == get.headers[name]


def test_a_page_that_has_not_changed(client: httpx.Client) -> None:
    script = client.get("/page/main.js", headers={"Accept-Encoding": "gzip"})
    assert script.headers["ETag"].startswith('W/"')
    headers = {"Accept-Encoding": "gzip", "If-None-Match": script.headers["ETag"]}
    again = client.get("/page/main.js", headers=headers)
    assert (again.status_code, again.content) == (304, b"")


def test_the_setting(start: Start) -> None:
    off, all_ = (start("--compress-bytes", size).until_ready().client for size in ("0", "1"))
    assert "Content-Encoding" not in off.get("/openapi.json").headers
    assert all_.get("/health/live").headers["Content-Encoding"] == "gzip"


def test_tensors_as_text_are_compressed_for_tritons_client(inference: Any) -> None:
    for coding in ("gzip", "deflate"):
        found = inference.infer(
            "sentiment-bilstm",
            [texts(["a good film " * 300])],
            outputs=wanted("gate.0.forward.forget", binary=False),
            response_compression_algorithm=coding,
        )
        assert found.as_numpy("lengths")[0] == 900
