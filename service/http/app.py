"""The composition root: settings in, ASGI application out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.telemetry import TelemetryConfig
from starlette.datastructures import Headers as RequestHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from service.errors import MethodNotAllowed, RouteNotFound
from service.http import problems
from service.http.coding import Compression
from service.http.context import context_of
from service.http.described import document
from service.http.endpoint import BodyRoute
from service.http.fast_path import FastPath
from service.http.middleware import Edge
from service.http.protocols import huggingface, kserve, v2
from service.http.routes import admin, explorer, native, operations, rollout
from service.http.security.access import ADMIN, Access
from service.http.security.keys import Keys
from service.http.streaming import routes as streaming
from service.observability.spans import Spans
from service.serving.opening import Opening
from service.serving.runtime import Runtime
from service.serving.shared import Shared
from service.settings import Settings
from service.version import TITLE, VERSION

_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""Disables the framework's telemetry. Looking for it would cost each request as much as its routing."""

PREFLIGHT = "preflight"
"""The route of CORS preflight requests in the log and in `/metrics`."""
_CORS_HEADERS = [
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "X-Request-ID",
    "X-Request-Timeout",
    "X-Route-Key",
    "traceparent",
    "tracestate",
]


class Application(FastAPI):
    """FastAPI with one chain of middleware, and a shortcut through the framework at its end.

    `fast` is the fast path for plain requests (`service.http.fast_path`), once the chain is built; None if it has a
    layer that the fast path does not stand for.

    A request passes the middleware of `add_middleware` and `middleware`, the last added first, then the route. A route
    whose path has no parameters is found by one look-up and runs without the framework's own layers (28 µs a request).
    All other routes use those layers. The handlers of `exception_handlers` handle errors in both cases.
    """

    fast: FastPath | None = None

    def build_middleware_stack(self) -> ASGIApp:
        handlers = {key: each for key, each in self.exception_handlers.items() if key not in (500, Exception)}
        app: ASGIApp = _Routes(self, AsyncExitStackMiddleware(self.router), handlers)
        routes = app
        for each in reversed(self.user_middleware):
            app = each.cls(app, *each.args, **each.kwargs)
        # The fast path stands for exactly these layers: with another one every request has to pass them.
        if isinstance(app, Edge) and app.plain and isinstance(app.app, Compression) and app.app.app is routes:
            self.fast = FastPath(app, self.state.runtime)
        return app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        if scope["path"].endswith("/") and scope["path"] != "/":
            scope["path"] = scope["path"][:-1]  # first of all: every check of a path sees one form of it
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The API document, built at the first request for it."""
        if self.openapi_schema is None:
            self.openapi_schema = document(self.routes, secured=self.state.runtime.settings.secured)
        return self.openapi_schema


class _Routes:
    """The end of the chain: finds the route, by the path alone if possible."""

    def __init__(self, app: FastAPI, framework: ASGIApp, handlers: Mapping[Any, ExceptionHandler]) -> None:
        self._handlers = handlers
        self._framework = ExceptionMiddleware(framework, handlers)
        self._direct = {
            (method, route.path): route
            for route in app.routes
            if isinstance(route, BodyRoute) and not route.param_convertors
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._direct.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._framework(scope, receive, send)
            return
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, {}
        try:
            await route.app(scope, receive, send)
        except Exception as error:
            if not self._handlers or context_of(scope).status:
                raise
            await ExceptionMiddleware(_raising(error), self._handlers)(scope, receive, send)


def _raising(error: Exception) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


class Cors(CORSMiddleware):
    """CORS headers. Preflight answers, which this class gives itself, leave through their own edge."""

    def __init__(self, app: ASGIApp, *, edge: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(app, **options)
        self._edge = edge

    def preflight_response(self, request_headers: RequestHeaders) -> Response:
        """The preflight answer, as an ASGI application."""
        return cast(Response, self._edge(super().preflight_response(request_headers)))


def create_app(
    settings: Settings, shared: Shared | None = None, spans: Spans | None = None, opening: Opening | None = None
) -> Application:
    """The ASGI application. Models load after its start, while it already answers `/health`.

    `app.state.runtime` is the running service. `shared` is the data shared with other processes at the same port.
    `spans` makes OpenTelemetry spans; by default the settings decide. `opening` is the loading of the models if it has
    begun. Raises `StartupError` if spans cannot be made.
    """
    runtime = Runtime(settings, shared, opening)
    if spans is None and settings.tracing:
        spans = Spans()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        yield
        await runtime.close()
        if spans is not None:
            await asyncio.to_thread(spans.close)

    # The API document has its own route. FastAPI's pages for it would load scripts from other sites.
    app = Application(
        title=TITLE,
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_problem},
    )
    app.state.runtime = runtime
    routers = [
        *(native.router, streaming.router, operations.router, explorer.router),
        *(rollout.reports, rollout.feedback),
        *(huggingface.router, kserve.router, kserve.instances, *v2.ROUTERS),
    ]
    if settings.admin:
        routers += [admin.router, admin.loading, rollout.admin, v2.admin]
    for router in routers:  # not `include_router`, which analyses every route again in each process
        app.router.routes += router.routes
    hsts = ((b"strict-transport-security", b"max-age=%d" % settings.hsts_seconds),) if settings.hsts_seconds else ()
    edge = partial(Edge, runtime=runtime, headers=hsts, spans=spans)
    app.add_middleware(Compression, runtime=runtime)
    app.add_middleware(
        edge,
        access=Access(
            Keys(settings.keys, settings.administrators, settings.api_keys_file),
            settings.rate_limit,
            settings.origins,
            buckets=shared.rates if shared is not None else None,
        ),
    )
    if settings.origins:  # outside of the edge, so that pages can also read rejections
        cors = partial(
            Cors,
            # A preflight request carries no key.
            edge=partial(edge, access=Access(Keys(), origins=settings.origins), route=PREFLIGHT),
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=_CORS_HEADERS,
            expose_headers=["Retry-After", "X-Request-ID", "X-Truncated", "traceparent"],
        )
        app.add_middleware(cors)
    return app


async def _http_problem(request: Request, error: HTTPException) -> Response:
    """An error of the framework as a problem: no such route, or the wrong method."""
    found: Exception = error
    if error.status_code == 404:
        found = RouteNotFound(_no_route(request))
    elif error.status_code == 405:
        allowed = ", ".join(_methods(request.scope))
        found = MethodNotAllowed(f"{request.url.path} takes {allowed}.", allowed)
    context = context_of(request.scope)
    return problems.response(found, context.request_id, request.method, request.url.path)


def _no_route(request: Request) -> str:
    path = request.url.path
    if path.startswith(ADMIN) and not request.app.state.runtime.settings.admin:
        return f"There is no route {path} without --admin (SERVICE_ADMIN), which lets models be loaded over HTTP."
    return f"There is no route {path}; /openapi.json lists those there are."


def _methods(scope: Scope) -> list[str]:
    """The methods of every route that matches the request's path."""
    app: FastAPI = scope["app"]
    routes = (route for route in app.routes if route.matches(scope)[0] is not Match.NONE)
    found = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))
