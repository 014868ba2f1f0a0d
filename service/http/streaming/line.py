"""The connection of a stream: its messages in and out.

The service's own WebSocket (`service.process.websocket`) is a `Line` itself and puts itself into the scope under
`LINE`. So a message passes without a queue, a second task, or a change of who reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

LINE = "gatelight.line"
"""The scope's key of the connection."""

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
