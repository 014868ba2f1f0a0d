"""What the wire is held to: headers, slow clients, slow readers, idle connections, their number, and hanging up."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.http.security.access import HEALTH
from service.process.connection import MOST_PIPELINED
from tests.integration.conftest import Process, Start
from tests.integration.metrics import value
from tests.patience import PATIENCE

FLAGS = ("--header-seconds", "2", "--body-seconds", "2", "--read-seconds", "2", "--idle-seconds", "2")
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SMALL = POST + b'Content-Length: 14\r\n\r\n{"inputs":"a"}'


@pytest.fixture
def limited(start: Start) -> Process:
    return start(*FLAGS).until_ready()


@contextlib.contextmanager
def connected(service: Process) -> Iterator[socket.socket]:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        yield connection


def answered(connection: socket.socket) -> bool:
    """Ask, and read the whole answer."""
    connection.sendall(SMALL)
    return whole(connection).startswith(b"HTTP/1.1 200")


def whole(connection: socket.socket) -> bytes:
    """A whole answer in JSON, in as many pieces as it comes."""
    answer = b""
    while not answer.endswith(b"}"):
        more = connection.recv(65536)
        assert more, answer
        answer += more
    return answer


def everything(connection: socket.socket) -> bytes:
    """All that comes until the service closes; a reset is a failure."""
    received = b""
    while more := connection.recv(65536):
        received += more
    return received


def problem(answer: bytes, status: int) -> dict[str, Any]:
    """The body of an answer, which has to be a whole problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0].startswith(f"http/1.1 {status} ")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert int(headers["content-length"]) == len(body)
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == status
    assert found["request_id"].lower() == headers["x-request-id"]
    return found


def _bytes_taken(connection: socket.socket, most: int) -> int:
    """How much the service lets itself be sent before it closes."""
    sent = 0
    try:
        while sent < most:
            sent += connection.send(b"x" * 65_536)
            time.sleep(0.01)  # the service reads on for a second: at 6 MB a second that is far from its limit
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    "head",
    [
        POST + b"X-Request-ID: mine\r\n" + b"X-Large: " + b"x" * 40_000 + b"\r\n\r\n",
        POST + b"X-Request-ID: mine\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(6000)) + b"\r\n",
        b"GET /" + b"x" * 60_000 + b" HTTP/1.1\r\nX-Request-ID: mine\r\n\r\n",
    ],
    ids=["one large", "many", "the path"],
)
def test_a_header_over_the_limit(client: httpx.Client, service: Process, head: bytes) -> None:
    before = value(service, "refusals_total", reason="header-size")
    with connected(service) as connection:
        connection.sendall(head)
        found = problem(everything(connection), 431)
    assert "32768" in found["detail"]
    assert found["request_id"] == "mine"
    assert value(service, "refusals_total", reason="header-size") == before + 1


def test_a_header_without_end_is_not_read_to_its_end(service: Process) -> None:
    with connected(service) as connection:
        connection.sendall(POST + b"X-Large: ")
        assert _bytes_taken(connection, 60 * 2**20) < 30 * 2**20
    assert httpx.get(f"{service.url}/health/live", timeout=PATIENCE).status_code == 200


CHUNKED = POST + b'X-Request-ID: mine\r\nTransfer-Encoding: chunked\r\n\r\nE\r\n{"inputs":"a"}\r\n0\r\n'


def test_trailers_do_not_pass_for_headers(service: Process) -> None:
    with connected(service) as connection:
        connection.sendall(CHUNKED + b"X-Request-ID: forged\r\n\r\n")
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"x-request-id: mine\r\n" in answer


@pytest.mark.parametrize("endless", [b"X-Large: ", b"1;extension="], ids=["a trailer", "a chunk's extension"])
def test_what_follows_a_body_is_not_read_to_its_end(service: Process, endless: bytes) -> None:
    before = value(service, "refusals_total", reason="header-size")
    with connected(service) as connection:
        connection.sendall(CHUNKED.removesuffix(b"0\r\n") + (b"0\r\n" if endless[0:1] == b"X" else b"") + endless)
        assert _bytes_taken(connection, 60 * 2**20) < 30 * 2**20
    assert value(service, "refusals_total", reason="header-size") == before + 1


def test_a_large_body_in_small_chunks_is_no_header(service: Process) -> None:
    body = b'{"inputs":"' + b"a " * 1500 + b'"}'
    chunks = b"".join(b"1;%s\r\n%c\r\n" % (b"x" * 30, byte) for byte in body)  # 110 kB around 3 kB
    with connected(service) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert connection.recv(16).startswith(b"HTTP/1.1 200")


def test_few_requests_wait_on_one_connection(service: Process) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(service) as connection:
        connection.sendall(request * 40)
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 40:
            answers += connection.recv(65_536)
    before = value(service, "refusals_total", reason="pipelined")
    with connected(service) as connection:
        received = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the service reads on for a second only
            connection.sendall(request * 5000)
            received = everything(connection)
    assert received.count(b"HTTP/1.1 200") <= MOST_PIPELINED + 1
    assert value(service, "refusals_total", reason="pipelined") == before + 1


def test_a_header_just_below_the_limit_is_taken(service: Process) -> None:
    with connected(service) as connection:
        connection.sendall(SMALL.replace(b"Host: x", b"Host: x\r\nX-Large: " + b"x" * 32_000))
        assert connection.recv(16).startswith(b"HTTP/1.1 200")


def test_what_is_not_http_is_answered_with_a_problem(service: Process) -> None:
    with connected(service) as connection:
        connection.sendall(b"\x16\x03\x01 is no request\r\n\r\n")
        assert "HTTP/1.1" in problem(everything(connection), 400)["detail"]


@pytest.mark.parametrize("target", [b"/v1/models/m:predict?a=b", b"/v2/models/m/infer?a=b"])
def test_the_wire_refuses_in_the_form_of_the_protocol_asked_for(service: Process, target: bytes) -> None:
    with connected(service) as connection:
        connection.sendall(b"POST " + target + b" HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n")
        answer = everything(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    if target.startswith(b"/v1"):
        found = problem(answer, 431)
        assert found["error"] == found["detail"]
    else:
        assert head.startswith(b"HTTP/1.1 431")
        assert b"content-type: application/json" in head.lower()
        assert set(json.loads(body)) == {"error"}


@pytest.mark.parametrize(
    ("sent", "what"),
    [(POST + b"X-Slow: ", "header"), (b"\r\n", "header"), (POST + b"Content-Length: 14\r\n\r\n{", "body")],
    ids=["header", "empty lines", "body"],
)
def test_slow_senders_are_not_waited_for(limited: Process, sent: bytes, what: str) -> None:
    started = time.monotonic()
    with connected(limited) as connection:
        connection.sendall(sent)
        time.sleep(0.3)
        connection.sendall(sent[-1:])  # a byte now and then does not help
        assert what in problem(everything(connection), 408)["detail"]
    assert time.monotonic() - started > 1.9
    assert value(limited, "refusals_total", reason=f"slow-{what}") == 1
    assert "unexpected error" not in limited.output
    if what == "body":
        limited.wait(lambda: '"status":408' in limited.output)
        assert value(limited, "requests_total", route="/predict", method="POST", status="408") == 1


def test_idle_connections_are_closed_without_a_word(limited: Process) -> None:
    with connected(limited) as silent, connected(limited) as kept:
        kept.sendall(SMALL)
        assert kept.recv(16).startswith(b"HTTP/1.1 200")
        assert everything(silent) == b""
        everything(kept)
    limited.wait(lambda: value(limited, "connections") == 1)  # the one that asks


def test_connections_over_the_limit_are_told_so(start: Start) -> None:
    service = start("--max-connections", "4").until_ready()
    service.client.close()
    service._client = None
    with connected(service) as a, connected(service) as b, connected(service) as c, connected(service) as d:
        for connection in (a, b, c, d):
            assert answered(connection)
        with connected(service) as fifth:
            fifth.sendall(SMALL)
            answer = everything(fifth)
            assert "4 connections" in problem(answer, 503)["detail"]
            assert b"retry-after: 1" in answer
        with connected(service) as sixth:
            sixth.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert whole(sixth).startswith(b"HTTP/1.1 200"), "busy is not dead"
            sixth.sendall(b"GET /v2/health/ready?now HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert everything(sixth).startswith(b"HTTP/1.1 200"), "in either protocol"
        assert answered(a)
    service.wait(lambda: httpx.get(f"{service.url}/health/ready", timeout=PATIENCE).status_code == 200)
    assert value(service, "refusals_total", reason="connections") >= 1


def ask_for_more_than_is_read(connection: socket.socket) -> None:
    """Ask for a trace of several megabytes."""
    body = json.dumps({"inputs": ["a b c d " * 900] * 4, "decimals": None, "task": "ner"}).encode()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    head = POST.replace(b"predict", b"gates") + b"X-Request-Timeout: %d\r\n" % PATIENCE
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def test_slow_readers_are_cut_off_and_what_they_held_is_free_again(limited: Process) -> None:
    with connected(limited) as connection:
        ask_for_more_than_is_read(connection)
        limited.says('"event":"cut"')  # after two seconds: too short for a look at what it held before
        assert value(limited, "refusals_total", reason="slow-reader") == 1
        assert value(limited, "unsent_bytes") == 0
    (cut,) = [json.loads(line) for line in limited.output.splitlines() if '"event":"cut"' in line]
    assert cut["reason"] == "slow-reader"
    assert cut["bytes_left"] > 1_000_000


def test_a_client_that_leaves_its_answer_refuses_nobody(start: Start) -> None:
    service = start("--max-unsent", "100000", "--read-seconds", f"{PATIENCE:g}").until_ready()
    with connected(service) as connection:
        ask_for_more_than_is_read(connection)
        service.wait(lambda: value(service, "unsent_bytes") > 1_000_000)
        assert service.client.post("/predict", json={"inputs": "a"}).status_code == 200
        for path in HEALTH:
            assert service.client.get(path).status_code == 200
        assert value(service, "unsent_bytes") > 1_000_000, "the only one that waits may wait"
    service.wait(lambda: value(service, "unsent_bytes") == 0)


def test_callers_who_hang_up_cost_nothing_more(start: Start) -> None:
    service = start("--threads", "1", "--inline-ms", "0").until_ready()
    body = json.dumps({"inputs": ["Ada lived in London . " * 800] * 60, "task": "ner"}).encode()
    with connected(service) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        service.wait(lambda: value(service, "queued_tokens") > 0)
    service.wait(lambda: '"status":499' in service.output)
    service.wait(lambda: value(service, "queued_tokens") == 0)
    assert value(service, "dropped_inputs_total", why="cancelled") >= 1
    assert value(service, "requests_total", route="/predict", method="POST", status="499") == 1
    assert "Traceback" not in service.output
