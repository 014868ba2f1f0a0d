"""Connections as other clients make them: offers of HTTP/2, half-closed ones, hang-ups, slow readers."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import Process, Start
from tests.integration.metrics import value
from tests.integration.test_limits import POST, SMALL, connected, everything, problem

JAVA = Path(__file__).with_name("Offers.java")
GATES = POST.replace(b"predict", b"gates")


def request(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java here")
@pytest.mark.parametrize(("words", "more"), [(1, []), (20_000, []), (20_000, ["continue"])])
def test_the_clients_of_the_jdk_are_answered(service: Process, words: int, more: list[str]) -> None:
    command = ["java", "-XX:TieredStopAtLevel=1", str(JAVA), f"{service.url}/predict", str(words), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 8, done.stderr
    for line in lines:
        status, version, body = line.split(" ", 2)
        assert (status, version) == ("200", "HTTP_1_1")
        assert json.loads(body)["predictions"][0]["truncated"] is (words > 10_000)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("flags", [[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]])
def test_curl_that_offers_http_2_is_answered(service: Process, flags: list[str], tmp_path: Path) -> None:
    for words in (1, 50_000):
        (tmp_path / "body").write_text(json.dumps({"inputs": "good " * words, "truncate": True}))
        url = f"{service.url}/predict"
        twice = [url, url, "--data-binary", f"@{tmp_path}/body", "-H", "Content-Type: application/json"]
        command = ["curl", "-sS", "--http2", "--fail", "-w", "\n%{http_version}\n", *flags, *twice]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        answers = done.stdout.splitlines()
        assert [json.loads(line)["task"] for line in answers[::2]] == ["sentiment", "sentiment"]
        assert answers[1::2] == ["1.1", "1.1"]


def test_a_websocket_offered_to_a_plain_route_is_ignored(client: httpx.Client) -> None:
    offer = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    assert client.post("/predict", json={"inputs": "a"}, headers=offer).status_code == 200
    assert client.get("/health/live", headers=offer).status_code == 200


def test_connect_is_refused(service: Process) -> None:
    with connected(service) as connection:
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
        assert "no proxy" in problem(everything(connection), 405)["detail"]


@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_half_closed_connections_are_answered(service: Process, pause: float) -> None:
    for sent in (SMALL, b"GET /health/live HTTP/1.0\r\n\r\n", request(GATES, b'{"inputs":"a b c d","decimals":null}')):
        with connected(service) as connection:
            connection.sendall(sent[:-1] if pause else sent)
            time.sleep(pause)
            connection.sendall(sent[-1:] if pause else b"")
            connection.shutdown(socket.SHUT_WR)
            head, _, body = everything(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-length: %d\r\n" % len(body) in head


LARGE = json.dumps({"inputs": ["Ada lived in London . " * 800] * 115, "task": "ner"}).encode()


def test_a_half_closed_connection_is_answered_after_long_work(start: Start) -> None:
    service = start("--threads", "1", "--inline-ms", "0", "--timeout", "120").until_ready()
    with connected(service) as connection:
        connection.sendall(request(POST, json.dumps({"inputs": ["Ada lived . " * 900] * 25, "task": "ner"}).encode()))
        connection.shutdown(socket.SHUT_WR)
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert len(json.loads(body)["predictions"]) == 25


HEAD = POST + b"Content-Length: %d\r\n\r\n" % len(LARGE)


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD, LARGE],
        [HEAD + LARGE],
        [HEAD + LARGE[:100], LARGE[100:]],
        [HEAD + LARGE + SMALL],
        [HEAD + LARGE, HEAD, LARGE],
    ],
    ids=["apart", "at once", "in two", "with another behind", "with a large one behind"],
)
def test_hang_ups_are_seen_whatever_the_size(start: Start, pieces: list[bytes], reset: bool) -> None:
    service = start("--threads", "1", "--inline-ms", "0", "--timeout", "120").until_ready()
    with connected(service) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05)
        service.wait(lambda: value(service, "queued_tokens") > 0)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    service.wait(lambda: '"status":499' in service.output)
    service.wait(lambda: value(service, "queued_tokens") == 0)
    service.wait(lambda: value(service, "connections") <= 2)  # the one that asks, and the one of the client
    assert value(service, "requests_total", route="/predict", method="POST", status="499") == 1
    assert value(service, "requests_total", route="/predict", method="POST", status="200") == 0
    assert value(service, "dropped_inputs_total", why="cancelled") >= 1
    assert "Traceback" not in service.output


def asks_for_much(service: Process, stack: ExitStack) -> socket.socket:
    """A connection whose client asks for some megabytes, and takes none."""
    host, port = service.url.removeprefix("http://").split(":")
    connection = stack.enter_context(closing(socket.socket()))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect((host, int(port)))
    body = json.dumps({"inputs": "a b c d " * 900, "decimals": None, "task": "ner"}).encode()
    connection.sendall(request(GATES, body))
    return connection


def test_slow_readers_do_not_refuse_their_neighbours(start: Start) -> None:
    service = start("--max-unsent", "20000000").until_ready()
    slow = threading.Event()

    def dribble(connection: socket.socket) -> None:
        while not slow.wait(0.05):
            try:
                connection.recv(235)
            except OSError:
                return

    with ExitStack() as stack:
        readers = [asks_for_much(service, stack) for _ in range(9)]
        threads = [threading.Thread(target=dribble, args=(reader,)) for reader in readers]
        for thread in threads:
            thread.start()
        statuses = []

        def cut() -> bool:
            statuses.append(service.client.post("/predict", json={"inputs": "a"}).status_code)
            return value(service, "refusals_total", reason="unsent") >= 3

        service.wait(cut)
        trace = service.client.post("/gates", json={"inputs": ["a b c d " * 90] * 2, "decimals": None, "task": "ner"})
        assert trace.status_code == 200
        assert len(trace.json()["traces"]) == 2, "whole"
        assert set(statuses) == {200}
        service.wait(lambda: 0 < value(service, "unsent_bytes") <= 20_000_000)  # what fits its limit may go on
        slow.set()
        for thread in threads:
            thread.join()
    service.wait(lambda: value(service, "unsent_bytes") == 0)


def test_an_answer_has_to_be_taken_in_time_however_steadily(start: Start) -> None:
    service = start("--answer-seconds", "2", "--read-seconds", "1").until_ready()
    with ExitStack() as stack:
        reader = asks_for_much(service, stack)
        with suppress(ConnectionResetError):
            while reader.recv(65_536):
                time.sleep(0.02)  # more than 64 KiB in every second
            pytest.fail("the whole answer was taken")
    service.wait(lambda: value(service, "unsent_bytes") == 0)
    assert value(service, "refusals_total", reason="slow-reader") == 1
