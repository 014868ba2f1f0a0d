"""The connection of a stream: its messages in and out.

The service's own WebSocket (`service.process.websocket`) is a `Line` itself and puts itself into the scope under
`LINE`. So a message passes without a queue, a second task, or a change of who reads. `AsgiLine` is the same over
`receive` and `send` of any other server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from starlette.types import Receive, Send

LINE = "gatelight.line"
"""The scope's key of the connection, where the server offers one."""

Take = Callable[[str | bytes | None], None]
"""Takes a message: text, or bytes of a binary one; None once the client has gone. May be told None more than once."""


class Line(Protocol):
    """An accepted WebSocket."""

    def hear(self, take: Take) -> None:
        """From now on give every message to `take`, those that wait first."""

    def pause(self) -> None:
        """Read nothing more from the client until `read_on`."""

    def read_on(self) -> None: ...

    @property
    def can_write(self) -> bool:
        """True if `write_now` may be called: the client reads."""
        ...

    def write_now(self, messages: Sequence[bytes]) -> None:
        """Send text messages, in UTF-8. Raises `OSError` if the client has gone."""

    async def write(self, messages: Sequence[bytes]) -> None:
        """The same. Waits while the client does not read."""

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame."""

    async def leave(self) -> None:
        """The stream has ended: `take` is called no more."""


class AsgiLine:
    """A line over ASGI, with a task that receives."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._receiving: asyncio.Task[None] | None = None
        self._open = asyncio.Event()
        self._open.set()

    def hear(self, take: Take) -> None:
        self._receiving = asyncio.get_running_loop().create_task(self._listen(take))

    async def _listen(self, take: Take) -> None:
        while True:
            await self._open.wait()
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                take(None)
                return
            take(message["text"] if message.get("text") is not None else message["bytes"])

    def pause(self) -> None:
        self._open.clear()

    def read_on(self) -> None:
        self._open.set()

    @property
    def can_write(self) -> bool:
        return False  # ASGI sends in a coroutine only

    def write_now(self, messages: Sequence[bytes]) -> None:
        raise NotImplementedError

    async def write(self, messages: Sequence[bytes]) -> None:
        for message in messages:
            await self._send({"type": "websocket.send", "text": message.decode()})

    async def close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def leave(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            with suppress(asyncio.CancelledError):
                await self._receiving
