"""A connection that has become a WebSocket: uvicorn's protocol with the counts and limits of all connections.

It counts among the connections of its process. A client that does not read is cut off. A shutdown closes it like any
other connection. `service.process.connection` hands it over.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.process.wire import Reader, Wire


class WebSocket(WebSocketsSansIOProtocol):
    """One WebSocket. A `Protocol` makes it when its client asks for one."""

    def __init__(self, *arguments: Any, wire: Wire, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._wire = wire
        self._reader: Reader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire.connections += 1
        address = self.client[0] if self.client else ""
        self._reader = Reader(self._wire, self.loop, cast(asyncio.Transport, transport), address)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connections -= 1
        if self._reader is not None:
            self._reader.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client reads too slowly: count the unsent bytes and watch its progress."""
        super().pause_writing()
        if self._reader is not None:
            self._reader.watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader is not None:
            self._reader.stop()

    def keepalive_timeout(self) -> None:
        """A ping has no answer. The service cannot see one while it has paused reading."""
        if self.read_paused:
            self.pong_timer = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def end(self) -> None:
        """Close with a message that gives the reason."""
        self.shutdown()

    @property
    def sending(self) -> bool:
        """True while the transport holds unsent bytes."""
        return self.transport.get_write_buffer_size() > 0
