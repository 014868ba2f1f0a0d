"""`/stream`: a text read as it comes.

`POST`: a piece of text and a state in, events and the next state out. The service keeps nothing in between. `WS`: a
`Session` serves the WebSocket after its handshake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import StreamingResponse
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from service.errors import ModelNotFound, UpgradeRequired
from service.http import problems
from service.http.accept import EVENT_STREAM, prefers
from service.http.context import REQUEST_ID, Here, RequestContext, context_of
from service.http.described import described, described_socket
from service.http.endpoint import A_TOKEN_OUT, BodyRoute
from service.http.render import dumps, json_response
from service.http.schemas import examples
from service.http.schemas.streams import ANSWERED, SENT, StreamAnswer, StreamRequest
from service.http.streaming.line import LINE
from service.http.streaming.opened import Event, Opened, error_event, open_stream
from service.http.streaming.session import Session

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Makes a proxy pass each event on at once."""
A_NUMBER_OF_EVENTS = 45e-9
"""Seconds to print one number of an event's gates. Their small arrays take three times as long as a trace's."""
_LINE_ENDS = [(each.encode(), f"\\u{ord(each):04x}".encode()) for each in "\x85\u2028\u2029"]
"""The line ends of Unicode that JSON may hold as they are, and their escapes."""
_log = structlog.get_logger()


class _StreamRoute(BodyRoute):
    routed = True

    async def run(self, context: RequestContext, content: bytes, deadline: float) -> ASGIApp:
        context.deadline = deadline  # server-sent events leave after this has returned
        return await super().run(context, content, deadline)


router = APIRouter(route_class=_StreamRoute)


@router.post(
    "/stream",
    response_model=StreamAnswer,
    **described(
        "stream",
        "A piece of text, and the state after the pieces before it: an event for each token, and the next state",
        ModelNotFound,
        examples=examples.STREAM_ANSWERS,
        content={EVENT_STREAM: {"schema": {"type": "string"}, "example": examples.STREAM_EVENTS}},
        headers={
            "X-Accel-Buffering": {
                "description": "With server-sent events: a proxy passes each on at once.",
                "schema": {"type": "string"},
            }
        },
    ),
)
async def stream(
    asked: Annotated[StreamRequest, examples.json_body(examples.STREAM_REQUESTS)], context: Here
) -> ASGIApp:
    asked.check()
    runtime = context.runtime
    runtime.check_open()
    opened = open_stream(runtime, asked, context.request_id, key=context.route_key)
    model = opened.model
    context.model, context.inputs = (model.name, model.version), 1
    runtime.streams.check_room(model)
    opened.paces, opened.deadline = runtime.streams.admit(context.key), context.deadline
    context.log.update(model=model.name, inputs=1)
    events = _events(opened, asked)
    first = await anext(events)  # errors of the request are raised here, while they can still become a status
    context.log["tokens"] = tokens = opened.stream.waiting
    if not prefers(EVENT_STREAM, context.headers.get(b"accept")):
        numbers = opened.stream.wanted.numbers(tokens)
        with runtime.hold_trace(numbers):
            answer = await _whole(opened, events)
            seconds = tokens * A_TOKEN_OUT + numbers * A_NUMBER_OF_EVENTS
            return await runtime.offload(seconds, partial(json_response, answer))
    return StreamingResponse(_sent(context, opened, first, events), media_type=EVENT_STREAM, headers=_HEADERS)


async def _socket(socket: WebSocket) -> None:
    """Serve one WebSocket. Raises `Unavailable` before the handshake if too many streams are open."""
    context = context_of(socket.scope)
    context.runtime.check_open()
    with context.runtime.streams.hold():
        await socket.receive()  # the connect message
        await socket.accept(headers=[(REQUEST_ID, context.request_id.encode("ascii"))])
        await Session(context, socket.scope[LINE]).run()


async def _handshake() -> None:
    """The handshake of a WebSocket (RFC 6455). Its messages are JSON texts: the client sends a `StreamOpening`, then
    any number of `Piece`; the service answers with events. `x-websocket-messages` has them, with examples.

    A request without a handshake, or for another protocol, is a 426. A wrong version or key of the handshake is a 400.
    Browsers cannot send `Authorization`: they put the API key into the opening. `X-Route-Key` counts as in `POST`.
    """
    raise UpgradeRequired(
        "GET /stream opens a WebSocket; the request has no handshake of one. POST /stream needs none."
    )


router.routes += [
    WebSocketRoute("/stream", _socket),
    APIRoute(
        "/stream",
        _handshake,
        methods=["GET"],
        response_model=None,
        **described_socket(
            "streamSocket", "A text read as it comes, over a WebSocket", SENT, ANSWERED, examples.STREAM_MESSAGES
        ),
    ),
]


async def _events(opened: Opened, asked: StreamRequest) -> AsyncIterator[list[Event]]:
    """The events of a piece, then the state, or at the end the prediction.

    The first list of events is empty and comes before anything is read. Raises `TooLarge` for a piece with too many
    events or numbers.
    """
    await opened.take_whole(asked)
    stream = opened.stream
    if asked.end and not stream.count and not stream.waiting:
        stream.finish()  # raises, because there is no token
    yield []
    async for events in opened.steps():
        yield events
    if asked.end:
        async for events in opened.finish():
            yield events
    else:
        yield [opened.state()]


async def _whole(opened: Opened, events: AsyncIterator[list[Event]]) -> dict[str, Any]:
    """The answer in one piece. The last event is the state or, at the end, the prediction."""
    *tokens, last = [event async for some in events for event in some]
    return {
        "model": opened.model.name,
        "version": opened.model.version,
        "events": tokens,
        "state": last.get("state"),
        "prediction": last.get("prediction"),
    }


async def _sent(
    context: RequestContext, opened: Opened, first: list[Event], events: AsyncIterator[list[Event]]
) -> AsyncIterator[bytes]:
    """The events in their sent form. A later error becomes the last event."""
    yield _as_sent([opened.ready, *first])
    try:
        async for some in events:
            if some:
                yield _as_sent(some)
    except Exception as error:
        if problems.is_unexpected(error):
            _log.exception("unexpected error")
        context.log["error"] = problems.of(error).slug
        yield _as_sent([error_event(error)])


def _as_sent(events: Iterable[Event]) -> bytes:
    """Events in the form of server-sent events (WHATWG HTML, 9.2.6)."""
    return b"".join(b"event: %s\ndata: %s\n\n" % (event["type"].encode(), _one_line(event)) for event in events)


def _one_line(event: Event) -> bytes:
    """JSON that is one line for clients that cut lines where Unicode does, too (aiosseclient 0.1.8)."""
    text = dumps(event)
    for line_end, escaped in _LINE_ENDS:
        text = text.replace(line_end, escaped)
    return text
