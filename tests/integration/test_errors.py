"""Every row of the table of errors, over HTTP."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.http.schemas.responses import Problem
from tests.integration.conftest import Process, Start
from tests.integration.together import together
from tests.patience import PATIENCE

JSON = {"Content-Type": "application/json"}
LONG = "good " * 4096


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Check that an answer is a problem of this kind, and nothing more than a problem."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    Problem.model_validate_json(response.content)
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["type"].endswith(f"/{slug}")
    assert body["request_id"] == response.headers["X-Request-ID"]
    for secret in ("Traceback", "/work", "/tmp", "site-packages", "NaN"):
        assert secret not in response.text
    return body


def refused(client: httpx.Client, pointer: str, path: str = "/gates", **request: Any) -> str:
    """Check that a request is a 422 at this pointer; its detail."""
    body = problem(client.post(path, json=request), 422, "invalid-field")
    error = body["errors"][0]
    assert error["pointer"] == pointer
    return str(error["detail"])


@pytest.mark.parametrize("path", ["/predict", "/gates"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"inputs=a",
        b'{"inputs":"a"} x',
        b'{"inputs":"\xff"}',
        b'{"inputs":"\\ud800"}',
        b'{"inputs":"\\udc00\\ud800"}',
        b'{"inputs":NaN}',
        b"[" * 5000 + b"]" * 5000,
        '{"inputs":"é"}'.encode("latin-1"),
        '{"inputs":"a"}'.encode("utf-16"),
    ],
)
def test_400_not_json(client: httpx.Client, path: str, body: bytes) -> None:
    assert "errors" not in problem(client.post(path, content=body, headers=JSON), 400, "malformed-body")


def test_a_pair_of_surrogates_is_one_character(client: httpx.Client) -> None:
    response = client.post("/predict", content=b'{"inputs":"\\ud83d\\ude00","task":"ner","tokens":true}', headers=JSON)
    assert response.json()["predictions"][0]["tokens"][0]["text"] == "😀"


def test_401_and_429(start: Start) -> None:
    # The next request of a key is allowed 100 seconds later: however slow the first answer, the second comes too soon.
    service = start("--rate-limit", "0.01", SERVICE_API_KEYS="first-key, second-key").until_ready()
    client = service.client
    for header in (None, "Basic abc", "Bearer", "Bearer wrong", "Bearer first-key,second-key", "first-key"):
        for path in ("/models", "/", "/openapi.json", "/nowhere"):
            response = client.get(path, headers={"Authorization": header} if header else {})
            problem(response, 401, "unauthorized")
            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.post("/predict", json={"inputs": "a"}).status_code == 401
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200

    first = {"Authorization": "bearer first-key"}
    assert client.post("/predict", json={"inputs": "a"}, headers=first).status_code == 200
    response = client.post("/predict", json={"inputs": "a"}, headers=first)
    problem(response, 429, "rate-limited")
    assert 1 <= int(response.headers["Retry-After"]) <= 100
    assert client.get("/models", headers={"Authorization": "Bearer second-key"}).status_code == 200
    assert "-key" not in service.output


def test_404(client: httpx.Client) -> None:
    body = problem(client.post("/predict", json={"inputs": "a", "model": "nosuch"}), 404, "model-not-found")
    for name in ("nosuch", "ner-bigru", "ner-bilstm", "sentiment-bilstm"):
        assert name in body["detail"]
    problem(client.get("/models/nosuch"), 404, "model-not-found")
    problem(client.get("/models/..%2f..%2fetc%2fpasswd"), 404, "route-not-found")
    problem(client.get("/nowhere"), 404, "route-not-found")
    problem(client.post("/predict/more", json={"inputs": "a"}), 404, "route-not-found")
    problem(client.get("/redoc"), 404, "route-not-found")


def test_405(client: httpx.Client) -> None:
    for path in ("/predict", "/gates"):
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            response = client.request(method, path)
            assert response.status_code == 405
            assert response.headers["Allow"] == "POST"
    response = client.post("/health/live")
    problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "GET, HEAD"


def test_413_the_body(client: httpx.Client) -> None:
    size = 2 * 1024 * 1024
    fits = b'{"inputs":"a"}'.ljust(size)
    assert client.post("/predict", content=fits, headers=JSON).status_code == 200
    body = problem(client.post("/predict", content=fits + b" ", headers=JSON), 413, "too-large")
    assert str(size) in body["detail"]
    assert str(size + 1) in body["detail"]


def test_413_the_body_while_it_streams_in(client: httpx.Client) -> None:
    response = client.post("/predict", content=(b" " * 65536 for _ in range(64)), headers=JSON)
    assert str(2 * 1024 * 1024) in problem(response, 413, "too-large")["detail"]


def test_413_is_said_before_the_body_is_sent(service: Process) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_413_the_number_of_inputs(client: httpx.Client) -> None:
    for path in ("/predict", "/gates"):
        detail = problem(client.post(path, json={"inputs": ["a"] * 257}), 413, "too-large")["detail"]
        assert "257" in detail
        assert "256" in detail


def test_413_the_trace(client: httpx.Client) -> None:
    request = {"inputs": [LONG] * 6}
    detail = problem(client.post("/gates", json=request), 413, "too-large")["detail"]
    assert str(6 * 4096 * 2 * 6 * 16) in detail
    assert "4000000" in detail
    assert client.post("/gates", json={**request, "gates": ["cell"], "contributions": False}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": "text/json"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
    ],
)
def test_415(client: httpx.Client, headers: dict[str, str]) -> None:
    slug = "unsupported-coding" if "Content-Encoding" in headers else "unsupported-media-type"
    problem(client.post("/predict", content=b'{"inputs":"a"}', headers=headers), 415, slug)


@pytest.mark.parametrize("path", ["/predict", "/gates"])
def test_422_inputs(client: httpx.Client, path: str) -> None:
    wrong: list[object] = ["", " \n\t", None, 3, {}, True, []]
    for value in wrong:
        refused(client, "/inputs", path, inputs=value)
    refused(client, "/inputs", path)
    refused(client, "/inputs/1", path, inputs=["a", ""])
    refused(client, "/inputs/1", path, inputs=["a", " "])
    refused(client, "/inputs/0", path, inputs=[None])
    refused(client, "/inputs/2", path, inputs=["a", ["b"], []])
    refused(client, "/inputs/1/2", path, inputs=["a", ["b", "c", 4]])
    refused(client, "/inputs/0/1", path, inputs=[["a", ""]])
    refused(client, "/inputs/0/0", path, inputs=[[["a"]]])


def test_422_over_the_token_limit(client: httpx.Client) -> None:
    for path in ("/predict", "/gates"):
        detail = refused(client, "/inputs", path, inputs=LONG + "x")
        assert "4096" in detail
        refused(client, "/inputs/1", path, inputs=["a", ["x"] * 4097])


@pytest.mark.parametrize(
    ("pointer", "request_"),
    [
        ("/nonsense", {"nonsense": 1}),
        ("/a~1b~0c", {"a/b~c": 1}),
        ("/model", {"model": 3}),
        ("/model", {"model": "ner-bilstm", "task": "sentiment"}),
        ("/task", {"task": "translation"}),
        ("/truncate", {"truncate": "yes"}),
        ("/truncate", {"truncate": 1}),
        ("/tokens", {"tokens": None}),
    ],
)
def test_422_fields_of_both(client: httpx.Client, pointer: str, request_: dict[str, Any]) -> None:
    refused(client, pointer, "/predict", inputs="a", **request_)
    refused(client, pointer, "/gates", inputs="a", **request_)


@pytest.mark.parametrize(
    ("pointer", "request_"),
    [
        ("/gates/1", {"gates": ["forget", "update"]}),
        ("/gates/0", {"gates": ["forget"], "model": "sentiment-gru"}),
        ("/gates", {"gates": "forget"}),
        ("/gates", {"gates": []}),
        ("/gates/0", {"gates": [1]}),
        ("/gates/1", {"gates": ["cell", "cell"]}),
        ("/layers/0", {"layers": [1]}),
        ("/layers/0", {"layers": [-1]}),
        ("/layers/0", {"layers": [0.0]}),
        ("/layers/0", {"layers": [10**30]}),
        ("/directions/0", {"directions": ["up"]}),
        ("/directions/0", {"directions": ["backward"], "model": "sentiment-gru"}),
        ("/units/2", {"units": [0, 15, 16]}),
        ("/units/0", {"units": [True]}),
        ("/reduce", {"reduce": "all"}),
        ("/contributions", {"contributions": "no"}),
        ("/decimals", {"decimals": -1}),
        ("/decimals", {"decimals": 18}),
        ("/decimals", {"decimals": 4.5}),
        ("/explain", {"explain": 0}),
        ("/explain", {"explain": 1, "task": "ner"}),
        ("/explain", {"explain": -1, "task": "ner"}),
        ("/explain", {"explain": "0", "task": "ner"}),
    ],
)
def test_422_fields_of_gates(client: httpx.Client, pointer: str, request_: dict[str, Any]) -> None:
    refused(client, pointer, "/gates", inputs="a", **request_)


def test_422_explain_out_of_range_for_any_input(client: httpx.Client) -> None:
    detail = refused(client, "/explain", "/gates", task="ner", inputs=["Ada lived in London", "Ada"], explain=3)
    assert "input 1" in detail
    refused(client, "/explain", "/gates", task="ner", inputs="Ada", explain=3, contributions=False)


def test_422_predict_knows_no_fields_of_gates(client: httpx.Client) -> None:
    refused(client, "/units", "/predict", inputs="a", units=[0])


def test_422_not_an_object(client: httpx.Client) -> None:
    for body in (b"[]", b'"a"', b"3", b"null"):
        problem(client.post("/predict", content=body, headers=JSON), 422, "invalid-field")


def test_422_says_what_is_wrong_with_several_fields(client: httpx.Client) -> None:
    body = problem(client.post("/gates", json={"inputs": "a", "units": "b", "decimals": 99}), 422, "invalid-field")
    assert [error["pointer"] for error in body["errors"]] == ["/units", "/decimals"]


def test_422_a_wrong_timeout_names_the_header(client: httpx.Client) -> None:
    for value in ("", "0", "-1", "soon", "nan", "inf", "1e3", "1_0", "0x1"):
        response = client.post("/predict", json={"inputs": "a"}, headers={"X-Request-Timeout": value})
        body = problem(response, 422, "invalid-header")
        assert "X-Request-Timeout" in body["detail"]
        assert "errors" not in body


def test_a_timeout_may_have_as_many_digits_as_a_client_writes(client: httpx.Client) -> None:
    for value in ("2.4999887943267822", "30.000000000000004", "0" * 31 + "1", "9" * 32, "1." + "0" * 32):
        answer = client.post("/predict", json={"inputs": "a"}, headers={"X-Request-Timeout": value})
        assert answer.status_code == 200, value


def test_errors_are_few_however_much_is_wrong(client: httpx.Client) -> None:
    requests: list[dict[str, object]] = [
        {f"field{number}": 0 for number in range(50_000)},
        {"inputs": "a", "units": ["x"] * 100_000, "gates": [1] * 100_000},
    ]
    for wrong in requests:
        response = client.post("/gates", json=wrong)
        problem(response, 422, "invalid-field")
        assert len(response.content) < 10_000


def test_503_full(start: Start) -> None:
    service = start("--queue-tokens", "1", "--threads", "1").until_ready()
    with together(service, "/predict", [{"inputs": [LONG] * 8, "task": "ner"}] * 16) as asked:
        answers = asked.answers
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            problem(answer, 503, "unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
    assert service.client.post("/predict", json={"inputs": "a"}).status_code == 200


def test_504(client: httpx.Client) -> None:
    for path in ("/predict", "/gates"):
        request: dict[str, Any] = {"inputs": [LONG] * 64, "task": "ner"}
        if path == "/gates":
            request["gates"] = ["cell"]
            request["units"] = [0]
        response = client.post(path, json=request, headers={"X-Request-Timeout": "0.01"})
        problem(response, 504, "deadline-exceeded")
    assert client.post("/predict", json={"inputs": "a"}, headers={"X-Request-Timeout": "9999999"}).status_code == 200


def test_health_is_answered_while_large_requests_run(served: Process) -> None:
    request = {"inputs": ["Ada lived in London . " * 500] * 96}
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        client.get("/health/live")
        started = time.perf_counter()
        headers = {"X-Request-Timeout": f"{PATIENCE:g}"}
        large = pool.submit(httpx.post, f"{served.url}/predict", json=request, headers=headers, timeout=PATIENCE)
        waits = []
        while not large.done():
            waits.append(client.get("/health/live").elapsed.total_seconds())
        took = time.perf_counter() - started
    assert large.result().status_code == 200
    assert max(waits) < took / 3, (max(waits), took)


def test_no_json_of_an_answer_holds_nan(client: httpx.Client) -> None:
    body = client.post("/gates", json={"inputs": ["a", LONG], "reduce": "summary"}).content

    def fail(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(body, parse_constant=fail)
    assert b"null" not in body
