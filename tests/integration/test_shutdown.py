"""SIGTERM at any moment: nothing that was accepted, or waits to be, is lost, and the status is 0."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import Process, Start
from tests.integration.metrics import value
from tests.patience import PATIENCE

REQUEST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" + (
    b'{"inputs":"a"}'
)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5, 1.0])
def test_sigterm_during_the_start(start: Start, workers: str, seconds: float) -> None:
    service = start("--workers", workers)
    _wait_for_its_program(service)
    time.sleep(seconds)
    service.signal(signal.SIGTERM)
    assert service.exit_status() == 0, service.output
    assert "Traceback" not in service.output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_connections_that_come_while_it_stops_are_answered_or_refused_and_never_reset(
    start: Start, workers: str
) -> None:
    service = start("--workers", workers).until_ready()
    service.wait(lambda: value(service, "ready") == int(workers))
    host, port = service.url.removeprefix("http://").split(":")
    outcomes: Counter[str] = Counter()
    callers = [threading.Thread(target=_connect_until_refused, args=(host, int(port), outcomes)) for _ in range(8)]
    for caller in callers:
        caller.start()
    service.wait(lambda: outcomes["answered"] > 20)
    service.signal(signal.SIGTERM)
    assert service.exit_status() == 0
    for caller in callers:
        caller.join()
    assert outcomes["answered"] > 20
    assert set(outcomes) == {"answered", "refused"}, outcomes


def test_what_waits_at_the_socket_is_answered(start: Start) -> None:
    service = start().until_ready()
    host, port = service.url.removeprefix("http://").split(":")
    service.signal(signal.SIGSTOP)  # nobody accepts
    callers = [socket.create_connection((host, int(port)), timeout=PATIENCE) for _ in range(500)]
    for caller in callers:
        caller.sendall(REQUEST)
    service.signal(signal.SIGTERM)
    service.signal(signal.SIGCONT)
    assert Counter(_answer(caller)[:15] for caller in callers) == {b"HTTP/1.1 200 OK": 500}
    for caller in callers:
        caller.close()
    assert service.exit_status() == 0


def test_a_request_that_keeps_its_connection_is_answered_while_the_service_stops(start: Start) -> None:
    service = start("--drain-seconds", "2").until_ready()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as kept:
        kept.sendall(REQUEST)
        assert _answer(kept).startswith(b"HTTP/1.1 200")
        service.signal(signal.SIGTERM)
        service.wait(lambda: "draining" in service.output)
        kept.sendall(REQUEST)
        answer = _answer(kept)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert service.exit_status() == 0


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.safetensors"])
def test_an_answer_that_has_begun_is_sent_whole_after_the_grace_period(start: Start, accept: str) -> None:
    service = start("--grace-seconds", "1").until_ready()
    with _reads_later(service, accept) as (client, head):
        service.signal(signal.SIGTERM)
        service.wait(lambda: "sending answers after the grace period" in service.output)
        length, begun = _length_and_body(head)
        assert length > 8 * len(begun)
        body = bytearray(begun)  # bytes would be copied with each piece, and the service waits four seconds
        while more := client.recv(1 << 20):
            body += more
    assert len(body) == length
    assert service.exit_status() == 0
    assert "Traceback" not in service.output


def test_an_answer_that_is_not_taken_after_the_grace_period_ends_in_a_reset(start: Start) -> None:
    service = start("--grace-seconds", "1").until_ready()
    with _reads_later(service, "application/json") as (client, _):
        service.signal(signal.SIGTERM)
        assert service.exit_status() == 0
        with client.makefile("rb") as answer, pytest.raises(ConnectionResetError):
            answer.read()
    assert "answers cut off" in service.output


@contextmanager
def _reads_later(service: Process, accept: str) -> Iterator[tuple[socket.socket, bytes]]:
    """A client that has taken the beginning of a large answer; the system has room for little more of it."""
    host, port = service.url.removeprefix("http://").split(":")
    asked = json.dumps({"inputs": ["a " * 2000] * 8, "decimals": None, "contributions": False}).encode()
    head = f"POST /gates HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: {accept}\r\n"
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        client.connect((host, int(port)))
        client.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(asked) + asked)
        begun = b""
        while b"\r\n\r\n" not in begun:
            begun += client.recv(4096)
        yield client, begun


def _length_and_body(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 200"), head
    assert found
    return int(found[1]), body


def _wait_for_its_program(service: Process) -> None:
    """Until Python imports the service's modules: before that a signal is the interpreter's, and so is the status."""
    maps = Path(f"/proc/{service.process.pid}/maps")
    service.wait(lambda: "pydantic_core" in maps.read_text(encoding="utf-8"))


def _answer(connection: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"}") and (more := connection.recv(65536)):
        answer += more
    return answer


def _connect_until_refused(host: str, port: int, outcomes: Counter[str]) -> None:
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=PATIENCE)
        except ConnectionRefusedError:
            outcomes["refused"] += 1
            return
        with connection:
            try:
                connection.sendall(REQUEST)
                answer = _answer(connection)
                outcomes["answered" if answer.startswith(b"HTTP/1.1 200") else f"got {answer[:40]!r}"] += 1
            except OSError as error:
                outcomes[type(error).__name__] += 1
