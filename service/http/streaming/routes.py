"""`POST /stream`: a piece of a text and a state in, events and the next state out. Nothing is kept in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp

from service.errors import RequestError, TooLarge
from service.http.accept import wants_events
from service.http.context import Here
from service.http.described import OF_A_JOB, described
from service.http.endpoint import BodyRoute, json_answer
from service.http.problems import of
from service.http.render import dumps
from service.http.schemas import examples
from service.http.schemas.streams import StreamAnswer, StreamRequest
from service.http.streaming.opened import Event, Opened, open_stream

EVENT_STREAM = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""A proxy must pass each event on at once."""

router = APIRouter(route_class=BodyRoute)


@router.post(
    "/stream",
    response_model=StreamAnswer,
    **described(
        "stream",
        "A piece of a text, and the state of the pieces before: an event for each token, and the next state",
        *OF_A_JOB,
        examples=examples.STREAM_ANSWERS,
        content={EVENT_STREAM: {"schema": {"type": "string"}, "example": examples.STREAM_EVENTS}},
        timed=True,
    ),
)
async def stream(
    asked: Annotated[StreamRequest, Body(openapi_examples=examples.bodies(examples.STREAM_REQUESTS))], context: Here
) -> ASGIApp:
    asked.check()
    runtime = context.runtime
    runtime.check_open()
    opened = open_stream(runtime, asked, key=context.route_key)
    model = opened.model
    context.model, context.inputs = (model.name, model.version), 1
    runtime.streams.check_room(model)
    most = runtime.settings.max_tokens
    if asked.tokens is not None and len(asked.tokens) > most:
        raise TooLarge("Tokens in one piece", len(asked.tokens), most)
    context.log.update(model=model.name, inputs=1)
    answer = _Answer(opened, asked)
    if wants_events(context.headers.get(b"accept")):
        await answer.begin()
        return StreamingResponse(answer.as_events(context.request_id), media_type=EVENT_STREAM, headers=_HEADERS)
    await answer.begin()
    events = [event async for some in answer.events() for event in some]
    context.log["tokens"] = opened.stream.count
    return json_answer(answer.whole(events))
