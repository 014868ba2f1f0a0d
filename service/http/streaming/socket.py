"""`WS /stream`: the handshake of a stream over a WebSocket."""

from __future__ import annotations

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from service.http.context import context_of
from service.http.streaming.line import LINE
from service.http.streaming.session import Session


async def stream(socket: WebSocket) -> None:
    """Serve one WebSocket. Raises `Unavailable` before the handshake if too many streams are open."""
    context = context_of(socket.scope)
    context.runtime.check_open()
    with context.runtime.streams.hold():
        await socket.receive()  # the connect message
        await socket.accept()
        await Session(context, socket.scope[LINE]).run()


routes = [WebSocketRoute("/stream", stream)]
