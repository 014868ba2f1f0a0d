"""The middleware of every request: access, headers of all answers, errors as answers, the log line.

It is a single plain ASGI layer, because each layer costs about as much as a route.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import Any, cast

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Forbidden, RateLimited, RequestError, Unauthorized, Unavailable
from service.http import problems
from service.http.context import KEY, RequestContext, new_context
from service.http.security.access import HEALTH, Access
from service.observability import logs
from service.observability.metrics import METHODS
from service.observability.spans import Spans
from service.serving.runtime import Phase, Runtime

Headers = tuple[tuple[bytes, bytes], ...]

CLIENT_GONE = 499
"""Stands for the status of a request whose client hung up, in the log and in `/metrics`. It is never sent."""
NO_ROUTE = "none"
"""The route of requests without a route, in the log and in `/metrics`."""

SAFE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""Headers of every answer that does not set them itself, as a page does. With them a browser runs nothing in an answer,
shows it in no frame, and keeps it in no cache."""

_log = structlog.get_logger()


class Edge:
    """The middleware. Everything that answers a request runs inside it.

    `headers` are added to every answer, beside the service's own. `route`, if given, names all requests in log and
    metrics; otherwise the route's path template does, never a path as sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        runtime: Runtime,
        headers: Headers = (),
        spans: Spans | None = None,
        route: str | None = None,
    ) -> None:
        self.app = self._app = app
        self._spans = spans
        self._headers = (*SAFE, *headers)
        self._access = access
        self._runtime = runtime
        self._route = route
        self._log = logs.RequestLog()
        self.lines = b"".join(name + b": " + value + b"\r\n" for name, value in self._headers)
        """The header lines of an answer that sets only type and length."""
        self.plain = access.open and spans is None and route is None
        """True if no request is rejected by its headers, and none has a span."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connect(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context: RequestContext | None = scope.get(KEY)
        if context is None:  # not from a connection of this service
            scope[KEY] = context = new_context(scope["headers"])
        context.runtime = self._runtime
        logs.in_request({"request_id": context.request_id})
        method = scope["method"]
        if method == "HEAD":  # the server removes the body, so routes need not handle HEAD
            scope = {**scope, "method": "GET"}
        own = self._headers
        if self._spans is not None and scope["path"] not in HEALTH:
            own = (*own, self._begin_span(self._spans, context, method))
        outgoing = _outgoing(send, context, own, self._runtime)
        try:
            await self._answer(scope, receive, outgoing, context)
        finally:
            route: Any = self._route or getattr(scope.get("route"), "path_format", NO_ROUTE)
            if context.span is not None:
                context.span.end(None if route == NO_ROUTE else route, context.status, context.log)
            self.note(context, method, route, perf_counter() - context.begun)

    def note(self, context: RequestContext, method: str, route: str, seconds: float) -> None:
        """Count and log a request that was answered, or whose client hung up, after `seconds`."""
        inputs = context.inputs if context.status == 200 else 0
        self._runtime.metrics.answered(route, method, context.status, seconds, context.stages, context.model, inputs)
        known = {
            "request_id": context.request_id,
            "method": method,
            "route": route,
            "status": context.status,
            "ms": round(seconds * 1000, 3),
        }
        self._log.write(known, context.log, debug=route in HEALTH)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket from handshake to close. A bad handshake gets an HTTP answer."""
        started = perf_counter()
        scope[KEY] = context = new_context(scope["headers"])
        context.runtime = self._runtime
        logs.in_request({"request_id": context.request_id})
        context.status = HTTPStatus.SWITCHING_PROTOCOLS
        try:
            context.grant, later = self._access.check_socket(context.headers, scope["path"])
            if later:
                context.admit = partial(self._access.admit, context.headers, scope["path"])
            if self._runtime.phase is Phase.STOPPING:
                self._runtime.batcher.admission.refuse_closed()
            await self._app(scope, receive, send)
        except RequestError as error:
            if error.reason is not None:
                self._runtime.metrics.refused(error.reason)
            context.status = HTTPStatus(error.status)
            await rejection(error, context.request_id, "GET", scope["path"])(scope, receive, send)
        finally:
            milliseconds = round((perf_counter() - started) * 1000, 3)
            _log.info("stream", route=scope["path"], status=int(context.status), ms=milliseconds, **context.log)

    @staticmethod
    def _begin_span(spans: Spans, context: RequestContext, method: str) -> tuple[bytes, bytes]:
        """Begin a request's span. Returns the header of the answer that carries its id."""
        known = method if method in METHODS else "_OTHER"
        context.span = span = spans.begin(known, context.headers, context.request_id)
        logs.in_request({"request_id": context.request_id, "trace_id": span.trace_id})
        return b"traceparent", span.header

    async def _answer(self, scope: Scope, receive: Receive, outgoing: Send, context: RequestContext) -> None:
        """Run the application and turn any error into an answer, unless an answer has begun."""
        path = scope["path"]
        try:
            if path not in HEALTH and context.outcome is None:
                self._admit(scope, context)
            await self._app(scope, receive, outgoing)
            return
        except ClientDisconnect:
            context.status = context.gone or CLIENT_GONE
            return
        except asyncio.CancelledError:
            if context.gone:
                context.status = context.gone
                return
            # Otherwise the server cancels the request after a shutdown's grace period. This answer is the last one.
            failure: Exception = Unavailable("The service is shutting down.")
        except Exception as error:
            failure = error
            if path not in HEALTH and isinstance(error, RequestError) and error.reason is not None:
                self._runtime.metrics.refused(error.reason)
            if problems.is_unexpected(error):
                _log.exception("unexpected error")
            if context.status:
                raise  # half an answer is sent: the server must close the connection
        if not context.status:
            answer = await _handled(scope, receive, failure)
            answer = answer or problems.response(failure, context.request_id, scope["method"], path)
            await answer(scope, receive, outgoing)

    def _admit(self, scope: Scope, context: RequestContext) -> None:
        try:
            grant = self._access.check(context.headers, scope["path"])
        except (Unauthorized, Forbidden, RateLimited) as error:
            scope.setdefault("route", _route(scope))  # for the log: the request does not reach the router
            if not isinstance(error, Unauthorized) and error.key is not None:
                context.log["key"] = error.key
            raise
        if grant is not None:
            context.key = grant.counted
            if grant.name is not None:
                context.log["key"] = grant.name
        if self._runtime.phase is Phase.STOPPING:
            self._runtime.batcher.admission.refuse_closed()


def rejection(error: Exception, request_id: str, method: str, path: str) -> Response:
    """An error as an answer with the headers that `Edge` adds, for a request that does not pass it."""
    response = problems.response(error, request_id, method, path)
    response.raw_headers += [(b"x-request-id", request_id.encode("ascii")), *SAFE]
    return response


def _outgoing(send: Send, context: RequestContext, more: Headers, runtime: Runtime) -> Send:
    """A `send` that adds the service's headers to an answer and records its status."""

    def outgoing(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            context.status = message["status"]
            own = message.get("headers", ())
            headers = [*own, (b"x-request-id", context.request_id.encode("ascii"))]
            names = {name for name, _ in own}
            headers += [each for each in more if each[0] not in names]
            if runtime.leaving:
                headers.append((b"connection", b"close"))
            message["headers"] = headers
        return send(message)

    return outgoing


async def _handled(scope: Scope, receive: Receive, error: Exception) -> ASGIApp | None:
    """The answer of the application's handler for unexpected errors; None without such a handler."""
    handlers = scope["app"].exception_handlers if "app" in scope else {}
    handler: Any = handlers.get(500) or handlers.get(Exception)
    if handler is None or not problems.is_unexpected(error):
        return None
    request = Request(scope, receive)
    if inspect.iscoroutinefunction(handler):
        return cast(ASGIApp, await handler(request, error))
    return cast(ASGIApp, await run_in_threadpool(handler, request, error))


def _route(scope: Scope) -> object:
    """The route that matches a request; None if there is none."""
    partial = None
    for route in scope["app"].routes if "app" in scope else ():
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return route
        if match is Match.PARTIAL and partial is None:
            partial = route
    return partial
