"""From the process that answers while models load to the workers: every connection gets an answer."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import Process, Start, many_models
from tests.integration.test_shutdown import REQUEST
from tests.patience import PATIENCE

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"


def _address(service: Process) -> tuple[str, int]:
    host, port = service.url.removeprefix("http://").split(":")
    return host, int(port)


def _all(connection: socket.socket) -> bytes:
    """What comes until the service closes, or has sent a whole JSON answer."""
    answer = b""
    while not answer.endswith(b"}") and (more := connection.recv(65536)):
        answer += more
    return answer


def _ask(
    address: tuple[str, int], request: bytes, pause: float, answers: Counter[str], enough: threading.Event
) -> None:
    while not enough.is_set():
        try:
            with socket.create_connection(address, timeout=PATIENCE) as connection:
                time.sleep(pause)  # with the connection open, and nothing sent
                connection.sendall(request)
                answer = _all(connection)
        except OSError as error:
            answers[type(error).__name__] += 1
            continue
        status = answer[9:12].decode() or "nothing"
        answers[status] += 1
        if status == "503" and b"retry-after: " not in answer:
            answers["no Retry-After"] += 1


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_connection_is_answered_while_the_workers_take_over(start: Start, workers: str, attempt: int) -> None:
    service = start("--workers", workers)
    address, enough = _address(service), threading.Event()
    asked = {request: Counter[str]() for request in (LIVE, READY, REQUEST)}
    callers = [
        threading.Thread(target=_ask, args=(address, request, pause, answers, enough))
        for request, answers in asked.items()
        for pause in (0.0, 0.02, 0.3)
    ]
    for caller in callers:
        caller.start()
    try:
        service.wait(lambda: asked[REQUEST]["200"] > 20)
    finally:
        enough.set()
        for caller in callers:
            caller.join()
    assert set(asked[LIVE]) == {"200"}
    assert set(asked[READY]) <= {"200", "503"}
    assert set(asked[REQUEST]) <= {"200", "503"}


def test_connections_that_send_nothing_are_the_workers(start: Start) -> None:
    service = start("--workers", "2", "--header-seconds", f"{PATIENCE:g}")
    with ExitStack() as stack:
        kept = [stack.enter_context(socket.create_connection(_address(service), timeout=PATIENCE)) for _ in range(40)]
        stack.enter_context(socket.create_connection(_address(service), timeout=PATIENCE)).close()  # and one hangs up
        service.until_ready()
        for connection in kept:
            connection.sendall(REQUEST)
        answers = [_all(connection) for connection in kept]
    assert {answer[:15] for answer in answers} == {b"HTTP/1.1 200 OK"}
    # They were open before there was a worker, and each worker has some.
    service.says('"/predict"', times=40)
    lines = [line for line in service.output.splitlines() if '"/predict"' in line]
    assert {'"worker":0' in line for line in lines} == {True, False}


@pytest.mark.parametrize(
    "part", [LIVE[:-9], REQUEST[:-5].replace(b"/predict", b"/gates")], ids=["half a head", "half a body"]
)
def test_a_request_that_never_comes_whole_is_answered_before_the_workers_start(
    start: Start, tmp_path: Path, part: bytes
) -> None:
    service = start("--workers", "2", models=many_models(tmp_path))
    with socket.create_connection(_address(service), timeout=PATIENCE) as connection:
        connection.sendall(part)
        answer = _all(connection)
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert b"retry-after: " in answer
        service.until_ready()


def test_a_signal_ends_a_service_with_connections_that_wait_for_its_workers(start: Start) -> None:
    service = start("--workers", "2")
    with socket.create_connection(_address(service), timeout=PATIENCE):
        service.until_ready()
        service.signal()
        assert service.exit_status() == 0, service.output
