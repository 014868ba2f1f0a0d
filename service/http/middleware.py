"""What every request passes on its way in and out: its id, the access check, the log line, and errors as answers.

One middleware, plain ASGI: each layer around a route costs about as much as the route.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Forbidden, RateLimited, TooLarge, Unauthorized, Unavailable
from service.http import problems
from service.http.security.access import Access
from service.observability.metrics import METHODS
from service.observability.spans import Trace, Tracing
from service.serving.queueing import Times
from service.serving.runtime import Phase, Runtime

Headers = tuple[tuple[bytes, bytes], ...]

HEALTH = frozenset(
    path + slash
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
    for slash in ("", "/")
)
"""Paths that are open without an API key, and logged at level debug: they are asked for every few seconds."""

CLIENT_GONE = 499
"""Stands for a status where a client hung up before its answer: in the log and in `/metrics`, never on the wire."""

SAFE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""Headers of every answer that does not set them itself, as a page does: whatever a browser is made to take one for,
it runs nothing, is framed by nobody and kept nowhere."""

_PLAIN = 2
"""Headers of an answer that sets none but its type and its length."""

_PARTING = (Phase.GREETING, Phase.DRAINING, Phase.STOPPING)
"""In which every answer closes its connection: the next request is another process's."""
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")

_log = structlog.get_logger()


@dataclass(slots=True)
class Call:
    """One HTTP request as the service knows it. `log` takes fields for its line in the log."""

    request_id: str
    headers: dict[bytes, bytes]
    path: Mapping[str, str] = field(default_factory=dict)
    """What stands in the places of the route's ``{name}``."""
    log: dict[str, object] = field(default_factory=dict)
    model: tuple[str, str] | None = None
    """Name and version of the model that is asked, as soon as it is known."""
    inputs: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage took, by its name in `/metrics`."""
    trace: Trace | None = None
    """Where requests are traced."""

    def stage(self, name: str) -> _Stage:
        """Times what is done within it."""
        return _Stage(self.stages, name) if self.trace is None else _Traced(self.stages, name, self.trace)

    def times(self) -> Times | None:
        """For the batcher, to write down when it had the call's inputs run; None where nobody asks."""
        if self.trace is None:
            return None
        self.trace.batched = times = Times(perf_counter())
        return times


class _Stage:
    """A stopwatch with slots: a generator's context manager takes ten times as long."""

    __slots__ = ("_name", "_stages", "_started")

    def __init__(self, stages: dict[str, float], name: str) -> None:
        self._stages = stages
        self._name = name

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stages[self._name] = perf_counter() - self._started


class _Traced(_Stage):
    """The same, for a trace as well."""

    __slots__ = ("_trace",)

    def __init__(self, stages: dict[str, float], name: str, trace: Trace) -> None:
        super().__init__(stages, name)
        self._trace = trace

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._trace.stages.append((self._name, self._started, perf_counter()))


def call_of(scope: Scope) -> Call:
    """The call that a route is answering."""
    call: Call = scope["state"]["call"]
    return call


class Edge:
    """The middleware. It must stand outside of the routes, and inside of nothing that answers by itself.

    `templates` holds the path of each endpoint: the log names routes, never what a client wrote. `headers` are added to
    every answer, beside the service's own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        runtime: Runtime,
        templates: Mapping[object, str],
        headers: Headers = (),
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._tracing = tracing
        self._headers = (*SAFE, *headers)
        self._access = access
        self._runtime = runtime
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        headers = dict(scope["headers"])
        call = Call(request_id(headers.get(b"x-request-id")), headers)
        scope.setdefault("state", {})["call"] = call
        structlog.contextvars.bind_contextvars(request_id=call.request_id)
        method = scope["method"]
        if method == "HEAD":  # the server leaves the body out; routes need not know
            scope = {**scope, "method": "GET"}
        own = self._headers
        if self._tracing is not None and scope["path"] not in HEALTH:
            own = (*own, self._trace(self._tracing, call, method))
        outgoing = _Outgoing(send, call.request_id, own, self._runtime)
        try:
            await self._answer(scope, receive, outgoing, call)
        finally:
            template = self._templates.get(scope.get("endpoint"), "none")
            if call.trace is not None:
                call.trace.end(template, outgoing.status, call.log)
            log = _log.debug if template in HEALTH else _log.info
            seconds = perf_counter() - started
            self._count(template, method, outgoing.status, seconds, call)
            milliseconds = round(seconds * 1000, 3)
            log("request", method=method, route=template, status=outgoing.status, ms=milliseconds, **call.log)

    @staticmethod
    def _trace(tracing: Tracing, call: Call, method: str) -> tuple[bytes, bytes]:
        """Begin a call's trace; the header by which its answer tells of it."""
        known = method if method in METHODS else "_OTHER"
        call.trace = trace = tracing.begin(known, call.headers, call.request_id)
        structlog.contextvars.bind_contextvars(trace_id=trace.trace_id)
        return b"traceparent", trace.header

    def _count(self, route: str, method: str, status: int, seconds: float, call: Call) -> None:
        metrics = self._runtime.metrics
        metrics.request(route, method, status, seconds)
        for stage, taken in call.stages.items():
            metrics.stage(stage, taken)
        if call.model is not None:
            metrics.model_request(call.model, call.inputs if status == HTTPStatus.OK else 0, seconds, call.stages)

    async def _answer(self, scope: Scope, receive: Receive, outgoing: _Outgoing, call: Call) -> None:
        """Run the application; whatever goes wrong becomes an answer, as long as none has begun."""
        path = scope["path"]
        try:
            if path not in HEALTH:
                self._admit(scope, call)
            await self._app(scope, receive, outgoing)
            return
        except ClientDisconnect:
            outgoing.status = scope["state"].get("gone", CLIENT_GONE)
            return
        except asyncio.CancelledError:
            if "gone" in scope["state"]:
                outgoing.status = scope["state"]["gone"]
                return
            # Else only the server cancels a request: a shutdown's grace period is over. The answer is the end of it.
            problem = problems.of(Unavailable("The service is shutting down."))
        except Exception as error:
            problem = problems.of(error)
            if path not in HEALTH and (reason := _reason(error)) is not None:
                self._runtime.metrics.refused(reason)
            if problem.status == 500:
                _log.exception("unexpected error")
            if outgoing.status:
                raise  # half an answer is out: the server has to cut the connection
        if not outgoing.status:
            await problem.response(call.request_id, scope)(scope, receive, outgoing)

    def _admit(self, scope: Scope, call: Call) -> None:
        try:
            grant = self._access.check(call.headers, scope["path"])
        except (Unauthorized, Forbidden, RateLimited) as error:
            scope.setdefault("endpoint", _endpoint(scope))  # for the log: no route is looked for any more
            if not isinstance(error, Unauthorized) and error.key is not None:
                call.log["key"] = error.key
            raise
        if grant is not None and grant.name is not None:
            call.log["key"] = grant.name
        if self._runtime.phase is Phase.STOPPING:
            self._runtime.batcher.refuse_closed()


class _Outgoing:
    """`send` that adds the service's headers to an answer and keeps its status."""

    __slots__ = ("_headers", "_request_id", "_runtime", "_send", "status")

    def __init__(self, send: Send, request_id: str, headers: Headers, runtime: Runtime) -> None:
        self._send = send
        self._headers = headers
        self._request_id = request_id.encode("ascii")
        self._runtime = runtime
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = message.get("headers", ())
            headers = [*own, (b"x-request-id", self._request_id)]
            if len(own) <= _PLAIN:
                headers += self._headers
            else:
                names = {name for name, _ in own}
                headers += [each for each in self._headers if each[0] not in names]
            if self._runtime.phase in _PARTING:
                headers.append((b"connection", b"close"))
            message["headers"] = headers
        await self._send(message)


def _endpoint(scope: Scope) -> object:
    """The endpoint of the route that a request names; None where there is none."""
    partial = None
    for route in scope["app"].routes if "app" in scope else ():
        match, found = route.matches(scope)
        if match is Match.FULL:
            return found["endpoint"]
        if match is Match.PARTIAL and partial is None:
            partial = found["endpoint"]
    return partial


def _reason(error: Exception) -> str | None:
    """The word under which a refusal is counted; None for what is none, or is counted already."""
    if isinstance(error, Unavailable):
        return error.reason
    return error.slug if isinstance(error, Unauthorized | Forbidden | RateLimited | TooLarge) else None


def request_id(sent: bytes | None) -> str:
    """The id that came, if it is printable ASCII without spaces and not too long; else a new one."""
    if sent is not None and _REQUEST_ID.fullmatch(sent):
        return sent.decode("ascii")
    return os.urandom(16).hex()
