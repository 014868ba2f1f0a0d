"""`WS /stream`: the handshake of a stream over a WebSocket."""

from __future__ import annotations

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from service.http.context import context_of
from service.http.security.access import ADMIT, GRANT
from service.http.streaming.line import LINE, AsgiLine
from service.http.streaming.session import Session


async def stream(socket: WebSocket) -> None:
    """Serve one WebSocket. Raises `Unavailable` before the handshake if too many streams are open."""
    context, scope = context_of(socket.scope), socket.scope
    context.runtime.check_open()
    with context.runtime.streams.hold():
        await socket.receive()  # the connect message
        await socket.accept()
        line = scope.get(LINE) or AsgiLine(socket.receive, socket.send)
        await Session(context, line, scope.get(GRANT), scope.get(ADMIT)).run()


routes = [WebSocketRoute("/stream", stream)]
