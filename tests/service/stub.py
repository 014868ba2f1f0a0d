"""A server of a few lines whose answers a test decides, and either client asking it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

import service.client as public
from service.client import AsyncClient, Client

Reply = tuple[int, dict[str, str], Any]
"""Status, headers and body: bytes, or a value for JSON. A Content-Length over the body's cuts the answer off."""


@dataclass
class Stub:
    """A server whose answers a test decides; `seen` holds the requests that came."""

    url: str = ""
    seen: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def stub(reply: Callable[[Any, int], Reply]) -> Iterator[Stub]:
    state = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
            with state.lock:
                state.seen.append(request)
                state.paths.append(self.path)
                state.headers.append({name.lower(): value for name, value in self.headers.items()})
                state.ports.add(self.client_address[1])
                number = len(state.seen)
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            status, headers, body = reply(request, number)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            with state.lock:
                state.at_once -= 1
            self.send_response(status)
            sent = {"Content-Length": str(len(content)), **headers}
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = int(sent["Content-Length"]) > len(content)
            with suppress(ConnectionError):  # a client that gave up
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: Any, version: str = "1") -> Reply:
    """A prediction whose label is the input, to see the order by."""
    inputs = [request["inputs"]] if isinstance(request["inputs"], str) else request["inputs"]
    predictions = [{"label": str(each), "score": 1.0, "scores": {}, "truncated": False} for each in inputs]
    return 200, {}, {"model": "m", "version": version, "task": "sentiment", "predictions": predictions, "new": 1}


def problem(status: int, detail: str = "no", **more: Any) -> Reply:
    return status, {"Retry-After": "0"}, {"title": "A title", "status": status, "detail": detail, **more}


def ask(url: str, inputs: Any, asynchronous: bool, **options: Any) -> list[str]:
    """Predict through either client; the labels."""
    if not asynchronous:
        with Client(url, **options) as client:
            return [each.label for each in client.predict(inputs).predictions if isinstance(each, public.Sentiment)]

    async def run() -> list[str]:
        async with AsyncClient(url, **options) as client:
            found = await client.predict(inputs)
            return [each.label for each in found.predictions if isinstance(each, public.Sentiment)]

    return asyncio.run(run())


both = pytest.mark.parametrize("asynchronous", [False, True])
