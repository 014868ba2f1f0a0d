"""One HTTP request as the service knows it, from the connection that reads it to its line in the log."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

from service.observability.spans import RequestSpan
from service.serving.queueing import Times
from service.serving.runtime import Runtime

KEY = "context"
"""Under which an ASGI scope carries its request's context."""
REQUEST_ID, ROUTE_KEY = b"x-request-id", b"x-route-key"
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


@dataclass(slots=True)
class RequestContext:
    """One request. The connection makes it, the middleware and the route fill it in, the log and the metrics read it.

    `headers` has lower-case names; of a header that came several times it has the last line.
    """

    request_id: str
    headers: dict[bytes, bytes]
    path: Mapping[str, str] = field(default_factory=dict)
    """The path parameters of the route."""
    route: str = ""
    """The path of the route with its parameters' names, once it is known."""
    log: dict[str, object] = field(default_factory=dict)
    """Fields for the request's line in the log."""
    model: tuple[str, str] | None = None
    """Name and version of the model that is asked, once it is known: the metrics of that model count the request."""
    inputs: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage took, by its name in `/metrics`."""
    span: RequestSpan | None = None
    """The request's OpenTelemetry span, where spans are made."""
    status: int = 0
    """The status of the answer, once the answer has begun."""
    gone: int = 0
    """The status that stands for the answer in log and metrics when the connection has given the request up."""
    after: Sequence[Callable[..., None]] = ()
    """Called with this, the `Job` and its `Outcome`, in the event loop once the answer is out; they must not block."""
    _runtime: Runtime | None = None

    @property
    def runtime(self) -> Runtime:
        """The running service; the middleware sets it."""
        assert self._runtime is not None
        return self._runtime

    @property
    def route_key(self) -> str:
        """What chooses between a model's stable version and its canaries: `X-Route-Key`, else the request's id."""
        sent = self.headers.get(ROUTE_KEY, b"").strip()
        return sent.decode("latin-1") if sent else self.request_id

    def begin(self, runtime: Runtime, after: Sequence[Callable[..., None]] = ()) -> None:
        """Give the request to a running service."""
        self._runtime, self.after = runtime, after

    def stage(self, name: str) -> _Stage:
        """Times what is done within it."""
        return _Stage(self, name)

    def times(self) -> Times | None:
        """For the batcher, to write down when it ran the request's inputs; None where no span is made."""
        if self.span is None:
            return None
        self.span.batched = times = Times(perf_counter())
        return times


class _Stage:
    """A stopwatch: a class with slots, since a generator's context manager takes longer than what it would time."""

    __slots__ = ("_context", "_name", "_started")

    def __init__(self, context: RequestContext, name: str) -> None:
        self._context = context
        self._name = name

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        ended, context = perf_counter(), self._context
        context.stages[self._name] = ended - self._started
        if context.span is not None:
            context.span.stages.append((self._name, self._started, ended))


def new_context(headers: Sequence[tuple[bytes, bytes]]) -> RequestContext:
    """The context of a request with these header lines, their names in lower case."""
    named = dict(headers)
    return RequestContext(request_id(named.get(REQUEST_ID)), named)


def context_of(scope: Scope) -> RequestContext:
    """The context of the request that a scope is about."""
    context: RequestContext = scope[KEY]
    return context


def request_id(sent: bytes | None) -> str:
    """The id that came, if it is printable ASCII without spaces and not too long; else a new one."""
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent.decode("ascii")
    return os.urandom(16).hex()


def _here(request: Request) -> RequestContext:
    return context_of(request.scope)


def _running(request: Request) -> Runtime:
    return context_of(request.scope).runtime


Here = Annotated[RequestContext, Depends(_here)]
"""A route function's parameter of this type is the request's context."""
Running = Annotated[Runtime, Depends(_running)]
"""A route function's parameter of this type is the running service."""
