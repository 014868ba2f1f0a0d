"""A service over connections in memory: which of its requests take the fast path, and their answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service import settings
from service.http.app import Application, create_app
from service.http.fast_path import FastPath, Pending
from service.process.connection import Protocol
from service.process.wire import Wire
from tests.patience import PATIENCE

TEXT = "a great film"


class Line(asyncio.Transport):
    """A client's end of a connection: what was written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def resume_reading(self) -> None: ...

    def pause_reading(self) -> None: ...


class Talk:
    """A service without sockets, and the requests that were on its fast path."""

    def __init__(self, app: Application, fast: list[Pending]) -> None:
        self.app = app
        self.runtime = app.state.runtime
        self.wire = Wire(self.runtime.settings, self.runtime.metrics)
        self.fast = fast
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"today")]
        # No connection is idle for so long, however slow the machine is.
        config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, timeout_keep_alive=3600)
        self._make = partial(Protocol, config, self.state, {}, wire=self.wire)

    def connect(self) -> tuple[Protocol, Line]:
        protocol, line = self._make(asyncio.get_running_loop()), Line()
        protocol.connection_made(line)
        return protocol, line

    async def ask(self, *requests: bytes, on: tuple[Protocol, Line] | None = None) -> bytes:
        """The answers to requests, each sent once the one before is answered."""
        protocol, line = on or self.connect()
        answers = b""
        for request in requests:
            line.written = b""
            protocol.data_received(request)
            await answered(line)
            answers += line.written
        return answers

    async def learned(self, request: bytes) -> tuple[Protocol, Line]:
        """A connection on which a request was answered, so that its head is known."""
        connection = self.connect()
        assert (await self.ask(request, on=connection)).startswith(b"HTTP/1.1 200 ")
        assert self.wire.heads
        assert not self.fast
        return connection


async def answered(line: Line, count: int = 1) -> None:
    """Wait for whole answers."""
    while len(whole(line.written)) < count:  # noqa: ASYNC110 # nothing tells of it
        await asyncio.sleep(0.001)


def whole(written: bytes) -> list[bytes]:
    """The whole answers in what was written."""
    found = []
    while (head := written.partition(b"\r\n\r\n"))[1]:
        length = re.search(rb"content-length: (\d+)", head[0])
        assert length is not None, head[0]
        size = len(head[0]) + 4 + int(length[1])
        if len(written) < size:
            break
        found.append(written[:size])
        written = written[size:]
    return found


def without_id(answer: bytes) -> bytes:
    """An answer without the request's id, in its head and in a problem."""
    (found,) = set(re.findall(rb"x-request-id: (\w+)", answer))
    return answer.replace(found, b"ID")


def request(path: str, body: Any, *lines: str, version: str = "1.1") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (f"POST {path} HTTP/{version}", "Host: x", "Content-Type: application/json", *lines)
    return "\r\n".join((*head, f"Content-Length: {len(content)}", "", "")).encode() + content


def holding(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let no batch begin until the returned function is called."""
    batcher = talk.runtime.batcher
    soon = batcher._flush_soon
    monkeypatch.setattr(batcher, "_flush_soon", lambda: None)

    def release() -> None:
        monkeypatch.setattr(batcher, "_flush_soon", soon)
        soon()

    return release


Test = Callable[[Talk], Coroutine[Any, Any, None]]
Run = Callable[..., None]


def runner(models: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a test with a service that has loaded its models."""
    fast: list[Pending] = []
    begin = FastPath.begin

    def noted(*arguments: Any) -> Any:
        begun = begin(*arguments)
        if isinstance(begun, Pending):
            fast.append(begun)
        return begun

    monkeypatch.setattr(FastPath, "begin", noted)

    @asynccontextmanager
    async def service(change: Callable[[Application], None], **chosen: Any) -> AsyncIterator[Talk]:
        asked = settings.read({"models": models, "provider": "cpu", "threads": 1, **chosen}, _env_file=None)
        app = create_app(asked)
        change(app)
        async with app.router.lifespan_context(app):
            await app.state.runtime._looked.wait()
            yield Talk(app, fast)

    def run(test: Test, change: Callable[[Application], None] = lambda _: None, **chosen: Any) -> None:
        async def main() -> None:
            async with asyncio.timeout(PATIENCE), service(change, **chosen) as talk:
                await test(talk)

        fast.clear()
        asyncio.run(main())

    return run
