"""SIGTERM at any moment: nothing that was accepted, or waits to be, is lost, and the status is 0."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.conftest import Process, Start
from tests.integration.metrics import value

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
    time.sleep(0.5)
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
    callers = [socket.create_connection((host, int(port)), timeout=60) for _ in range(500)]
    for caller in callers:
        caller.sendall(REQUEST)
    service.signal(signal.SIGTERM)
    service.signal(signal.SIGCONT)
    assert Counter(_answer(caller)[:15] for caller in callers) == {b"HTTP/1.1 200 OK": 500}
    for caller in callers:
        caller.close()
    assert service.exit_status() == 0


def test_a_request_that_keeps_its_connection_is_answered_while_the_service_stops(start: Start) -> None:
    service = start().until_ready()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as kept:
        kept.sendall(REQUEST)
        assert _answer(kept).startswith(b"HTTP/1.1 200")
        service.signal(signal.SIGTERM)
        service.wait(lambda: "draining" in service.output)
        kept.sendall(REQUEST)
        answer = _answer(kept)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert service.exit_status() == 0


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
            connection = socket.create_connection((host, port), timeout=30)
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
