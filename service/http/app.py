"""The composition root: settings in, ASGI application out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.datastructures import Headers as RequestHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from service.http import problems
from service.http.coding import Compression
from service.http.middleware import Edge, Headers, call_of
from service.http.openapi import document
from service.http.protocols.huggingface import HuggingFace
from service.http.protocols.v2 import OpenInference
from service.http.routes.admin import Admin
from service.http.routes.native import Native
from service.http.routes.operations import Operations
from service.http.security.access import ADMIN, SHARED, Access
from service.http.security.keys import Keys
from service.observability.spans import Tracing
from service.serving.runtime import Runtime
from service.serving.shared import Shared
from service.settings import Settings
from service.version import TITLE, VERSION

_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""The framework's own: looking for it would cost each request as much as its routing does."""

PREFLIGHT = "preflight"
"""The route, in the log and in `/metrics`, of what browsers ask before they let a page of another origin ask."""
_CORS_HEADERS = [
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "X-Request-ID",
    "X-Request-Timeout",
    "traceparent",
    "tracestate",
]


class Application(FastAPI):
    """FastAPI, past whose layers the requests go that come by the thousand: all together, those layers and the search
    for a route take as long as everything else that such a request does in Python."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.direct: Mapping[tuple[str, str], ASGIApp] = {}
        """Endpoints by method and path."""
        self.around: ASGIApp = self.answer
        """What stands around them in place of the layers; it ends in `answer`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and scope["path"].endswith("/") and scope["path"] != "/":
            scope["path"] = scope["path"][:-1]  # before all else: whatever judges paths has to know one form of each
        endpoint = self.direct.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await super().__call__(scope, receive, send)
            return
        scope["endpoint"], scope["path_params"] = endpoint, {}
        await self.around(scope, receive, send)

    @staticmethod
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        """Have the endpoint answer that was found."""
        await scope["endpoint"](scope, receive, send)


class Cors(CORSMiddleware):
    """What lets pages of other origins read answers. Those that it gives itself, to what a browser asks beforehand,
    leave through an edge of their own."""

    def __init__(self, app: ASGIApp, *, edge: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(app, **options)
        self._edge = edge

    def preflight_response(self, request_headers: RequestHeaders) -> Response:
        """The answer, which is called like any other."""
        return cast(Response, self._edge(super().preflight_response(request_headers)))


def create_app(settings: Settings, shared: Shared | None = None, tracing: Tracing | None = None) -> FastAPI:
    """The application. Models load once it is started, while it already answers `/health`; `app.state.runtime` is the
    running service behind it. `shared` is what it has in common with other processes at the same port, `tracing` makes
    its traces; left out, the settings say whether there are any. Raises `StartupError` where they cannot be made."""
    runtime = Runtime(settings, shared)
    if tracing is None and settings.tracing:
        tracing = Tracing()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        yield
        await runtime.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    # The API document is the service's own, and the pages that FastAPI has for it load their scripts from elsewhere.
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
    operations = Operations(runtime, document(secured=settings.secured, admin=settings.admin))
    native = Native(runtime).routes()
    routes = [
        *native,
        *operations.routes(),
        *HuggingFace(runtime).routes(),
        *OpenInference(runtime).routes(),
    ]
    if settings.admin:
        routes += Admin(runtime).routes()
    app.router.routes += routes
    any_edge = partial(Edge, runtime=runtime, headers=_hsts(settings.hsts_seconds), tracing=tracing)
    edge = partial(
        any_edge,
        access=Access(
            Keys(settings.keys, settings.administrators, settings.api_keys_file),
            settings.rate_limit,
            settings.origins,
            buckets=SHARED,
        ),
        templates={route.endpoint: route.path for route in routes},
    )
    compression = partial(Compression, runtime=runtime)
    app.add_middleware(compression)
    app.add_middleware(edge)
    app.direct = {("POST", route.path): route.endpoint for route in native}
    app.around = edge(compression(app.answer))
    if settings.origins:  # outside of the edge: its refusals too have to be legible to the pages
        cors = partial(
            Cors,
            # A browser sends no key beforehand.
            edge=partial(any_edge, access=Access(Keys(), origins=settings.origins), templates={None: PREFLIGHT}),
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=_CORS_HEADERS,
            expose_headers=["Retry-After", "X-Request-ID", "X-Truncated", "traceparent"],
        )
        app.add_middleware(cors)
        app.around = cors(app.around)
    return app


def _hsts(seconds: int) -> Headers:
    return ((b"strict-transport-security", f"max-age={seconds}".encode()),) if seconds else ()


async def _http_problem(request: Request, error: HTTPException) -> Response:
    """What the framework itself raises, as a problem: no such route, or another method."""
    headers = dict(error.headers or {})
    if error.status_code == 404:
        error = HTTPException(404, _no_route(request))
    elif error.status_code == 405:
        allowed = ", ".join(_methods(request.scope))
        error = HTTPException(405, f"{request.url.path} takes {allowed}.", {**headers, "Allow": allowed})
    return problems.of(error).response(call_of(request.scope).request_id, request.scope)


def _no_route(request: Request) -> str:
    path = request.url.path
    if path.startswith(ADMIN) and not request.app.state.runtime.settings.admin:
        return f"There is no route {path} without --admin (SERVICE_ADMIN), which lets models be loaded over HTTP."
    return f"There is no route {path}; /openapi.json lists those there are."


def _methods(scope: Scope) -> list[str]:
    """The methods of every route with a request's path."""
    app: FastAPI = scope["app"]
    routes = (route for route in app.routes if route.matches(scope)[0] is not Match.NONE)
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})
