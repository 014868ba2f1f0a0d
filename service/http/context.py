"""The service's record of one HTTP request, from the connection that reads it to its line in the log."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import MappingProxyType
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.types import ASGIApp, Scope

from service.http.security.keys import Grant
from service.observability.spans import RequestSpan
from service.serving.queueing import Times
from service.serving.runtime import Runtime

KEY = "context"
"""The key of the request's context in its ASGI scope."""
REQUEST_ID, ROUTE_KEY = b"x-request-id", b"x-route-key"
_LISTS = (b"accept", b"content-encoding")
"""Headers that are lists: several lines of one are one list (RFC 9110, 5.3)."""
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestContext:
    """One request. The connection creates it, middleware and route fill it in, log and metrics read it.

    `headers` has lower-case names; a repeated header has its last value, or all of them joined if it is a list. `begun`
    is the time of the headers, by `perf_counter`. Most attributes stay as the class has them: to set each would take as
    long as parsing the body.
    """

    path: Mapping[str, str] = MappingProxyType({})
    """The path parameters of the route."""
    route = ""
    """The path template of the route, once known."""
    model: tuple[str, str] | None = None
    """Name and version of the requested model, once known. Its metrics count the request."""
    inputs = 0
    predicts = False
    """True if the request asks for predictions alone."""
    key: str | None = None
    """The name under which rates of the request's API key are counted; None without one."""
    grant: Grant | None = None
    """The rights of the API key of a WebSocket."""
    admit: Callable[[str | None], Grant | None] | None = None
    """Checks the API key in the opening message of a WebSocket that sent none before. Raises `Unauthorized`,
    `Forbidden` or `RateLimited`. None if no key is needed there."""
    span: RequestSpan | None = None
    """The request's OpenTelemetry span; None if tracing is off."""
    status = 0
    """The status of the answer, once it has begun."""
    deadline: float | None = None
    """The time of the event loop at which a stream's answer must have ended; None for other requests."""
    gone = 0
    """The status in log and metrics if the connection has abandoned the request."""
    outcome: ASGIApp | Exception | None = None
    """The answer, or the error in its place, of a request that began on the fast path."""
    runtime: Runtime
    """The running service, set by the middleware."""

    def __init__(self, request_id: str, headers: dict[bytes, bytes], begun: float) -> None:
        self.request_id = request_id
        self.headers = headers
        self.begun = begun
        self.log: dict[str, object] = {}
        """Fields for the request's line in the log."""
        self.stages: dict[str, float] = {}
        """Seconds of each stage, by its name in `/metrics`."""

    @property
    def route_key(self) -> str:
        """The key that chooses between a model's stable version and its canaries: `X-Route-Key`, else the request's
        id."""
        sent = self.headers.get(ROUTE_KEY, b"").strip()
        return sent.decode("latin-1") if sent else self.request_id

    def took(self, stage: str, started: float) -> None:
        """A stage that began at `started`, a time of `perf_counter`, has ended."""
        ended = perf_counter()
        self.stages[stage] = ended - started
        if self.span is not None:
            self.span.stages.append((stage, started, ended))

    def times(self) -> Times | None:
        """A record for the batcher of the times at which the inputs ran; None without a span."""
        if self.span is None:
            return None
        self.span.batched = times = Times(perf_counter())
        return times


def new_context(headers: Sequence[tuple[bytes, bytes]]) -> RequestContext:
    """The context of a request with these header lines, whose names are in lower case."""
    named = dict(headers)
    if len(named) < len(headers):
        named |= {name: b",".join(value for each, value in headers if each == name) for name in _LISTS if name in named}
    return RequestContext(request_id(named.get(REQUEST_ID)), named, perf_counter())


def context_of(scope: Scope) -> RequestContext:
    context: RequestContext = scope[KEY]
    return context


def request_id(sent: bytes | None) -> str:
    """The id of the client if it is printable ASCII without spaces and not too long; else a new one."""
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent.decode("ascii")
    return os.urandom(16).hex()


async def _here(request: Request) -> RequestContext:
    return context_of(request.scope)


async def _running(request: Request) -> Runtime:
    return context_of(request.scope).runtime


Here = Annotated[RequestContext, Depends(_here)]
"""A route function's parameter of this type is the request's context."""
Running = Annotated[Runtime, Depends(_running)]
"""A route function's parameter of this type is the running service."""
