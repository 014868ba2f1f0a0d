"""Requests that arrive together, over connections that are open before: to make a client takes longer than many an
answer, so that requests of new clients may never meet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Barrier, Semaphore
from typing import Any

import httpx

from tests.integration.conftest import Process
from tests.patience import PATIENCE

SENT = "http11.send_request_body.complete"
"""The name that httpcore has for the moment at which the system has all of a request."""


class Together:
    """Requests on their way, and their answers."""

    def __init__(self, answers: Sequence[Future[httpx.Response]], sent: Semaphore) -> None:
        self._answers = answers
        self._sent = sent

    def until_sent(self) -> None:
        """Wait until the system has all of every request. Call it once."""
        for _ in self._answers:
            assert self._sent.acquire(timeout=PATIENCE), "a request could not be sent"

    @property
    def answered(self) -> bool:
        """True once an answer has come."""
        return any(answer.done() for answer in self._answers)

    @property
    def answers(self) -> list[httpx.Response]:
        """All answers, once they have come."""
        return [answer.result(PATIENCE) for answer in self._answers]


@contextmanager
def together(service: Process, path: str, bodies: Sequence[object]) -> Iterator[Together]:
    """POST bodies to a path at the same moment, each over a connection of its own, and with as much time as a test
    has."""
    sent, start = Semaphore(0), Barrier(len(bodies))

    def trace(event: str, _: object) -> None:
        if event == SENT:
            sent.release()

    def ask(client: httpx.Client, content: bytes) -> httpx.Response:
        headers = {"Content-Type": "application/json", "X-Request-Timeout": f"{PATIENCE:g}"}
        extensions: dict[str, Any] = {"trace": trace}
        start.wait(PATIENCE)
        return client.post(path, content=content, headers=headers, extensions=extensions)

    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=service.url, timeout=PATIENCE)) for _ in bodies]
        for client in clients:
            assert client.get("/health/live").status_code == 200
        contents = [json.dumps(body).encode() for body in bodies]
        pool = stack.enter_context(ThreadPoolExecutor(len(bodies)))
        yield Together([pool.submit(ask, *pair) for pair in zip(clients, contents, strict=True)], sent)
