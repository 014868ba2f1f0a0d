"""Errors as answers, and the middleware that makes them so."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx
import orjson
import pytest
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service import settings
from service.errors import (
    BundleRefused,
    DeadlineExceeded,
    Forbidden,
    InvalidField,
    InvalidHeader,
    MalformedBody,
    MethodNotAllowed,
    ModelNotFound,
    RateLimited,
    Refusal,
    RequestError,
    RouteNotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from service.http import problems
from service.http.app import create_app
from service.http.middleware import Edge
from service.http.problems import Form
from service.http.schemas.responses import Problem
from service.http.security.access import Access
from service.http.security.keys import Keys
from service.serving.runtime import Phase, Runtime

ERRORS: list[tuple[Exception, int, str]] = [
    (MalformedBody("no"), 400, "malformed-body"),
    (Unauthorized("no"), 401, "unauthorized"),
    (Forbidden("no"), 403, "forbidden"),
    (ModelNotFound("x", ["y"]), 404, "model-not-found"),
    (RouteNotFound("no"), 404, "route-not-found"),
    (MethodNotAllowed("no", "GET"), 405, "method-not-allowed"),
    (BundleRefused("no"), 409, "bundle-refused"),
    (TooLarge("Inputs", 3, 2), 413, "too-large"),
    (UnsupportedMediaType("no"), 415, "unsupported-media-type"),
    (InvalidField("/inputs", "no"), 422, "invalid-field"),
    (InvalidHeader("no"), 422, "invalid-header"),
    (RateLimited("no"), 429, "rate-limited"),
    (Unavailable("no"), 503, "unavailable"),
    (DeadlineExceeded("no"), 504, "deadline-exceeded"),
    (RuntimeError("secret /etc/passwd"), 500, "internal-error"),
    (HTTPException(418, "secret"), 500, "internal-error"),
]


def test_no_wait_is_longer_than_a_day() -> None:
    assert problems.headers(RateLimited("no", retry_after=math.inf)) == {"Retry-After": "86400"}


@pytest.mark.parametrize(("error", "status", "slug"), ERRORS)
def test_each_error_has_its_status_and_slug(error: Exception, status: int, slug: str) -> None:
    problem = problems.of(error)
    assert (problem.status, problem.slug) == (status, slug)
    Problem.model_validate(problems.body(problem, "id"))
    assert b"secret" not in bytes(problems.response(error, "id", "POST", "/predict").body)


@pytest.mark.parametrize(
    ("method", "path", "form"),
    [
        ("POST", "/predict", Form.PROBLEM),
        ("GET", "/v10", Form.PROBLEM),
        ("GET", "/models/x", Form.PROBLEM),
        ("POST", "/models", Form.PROBLEM),
        *((method, path, Form.EXTENDED) for method in ("GET", "DELETE") for path in ("/v1", "/v1/", "/v1/none/x:y")),
        *((method, path, Form.PROTOCOL) for method in ("GET", "POST") for path in ("/v2", "/v2/none")),
        ("POST", "/models/x", Form.PROTOCOL),
    ],
)
@pytest.mark.parametrize("error", [each for each, _, _ in ERRORS], ids=lambda error: type(error).__name__)
def test_an_error_has_the_form_of_its_path(method: str, path: str, form: Form, error: Exception) -> None:
    response, told = problems.response(error, "id", method, path), problems.of(error)
    problem, extension = problems.body(told, "id"), {"error": told.detail}
    content, media_type = {
        Form.PROBLEM: (problem, "application/problem+json"),
        Form.EXTENDED: (problem | extension, "application/problem+json"),
        Form.PROTOCOL: (extension, "application/json"),
    }[form]
    assert (orjson.loads(response.body), response.media_type) == (content, media_type)
    assert response.status_code == told.status
    if form is not Form.PROTOCOL:
        Problem.model_validate_json(bytes(response.body))


def test_bad_fields_are_listed() -> None:
    error = InvalidField("/3", "is empty").under("/inputs")
    assert problems.body(error, "id")["errors"] == [{"pointer": "/inputs/3", "detail": "is empty"}]


@pytest.mark.parametrize(("seconds", "header"), [(None, "1"), (0, "1"), (0.2, "1"), (1.2, "2"), (30, "30")])
def test_retry_after_is_whole_seconds(seconds: float | None, header: str) -> None:
    for kind in (RateLimited, Unavailable):
        assert problems.headers(kind("no", retry_after=seconds)) == {"Retry-After": header}


def test_every_error_of_the_tree_is_described() -> None:
    described = create_app(settings.read(_env_file=None)).openapi()["components"]["responses"]
    assert set(described) == {kind.slug for kind in _all(RequestError)} | {"protocol-error"}


def _all(kind: type[RequestError]) -> set[type[RequestError]]:
    """A class and all below it that the package declares for callers."""
    return {kind}.union(*(_all(each) for each in kind.__subclasses__() if each.__module__ == kind.__module__))


def answer(
    app: ASGIApp,
    access: Access | None = None,
    phase: Phase = Phase.READY,
    path: str = "/x",
    runtime: Runtime | None = None,
    **headers: str,
) -> httpx.Response:
    """What comes back from a bare application behind the edge."""
    runtime = runtime or Runtime(settings.read(_env_file=None))
    runtime.phase = phase
    edge = Edge(app, access=access or Access(Keys()), runtime=runtime)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(edge, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def failing(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


def test_what_nobody_meant_to_raise_is_logged_and_not_told() -> None:
    with structlog.testing.capture_logs() as logs:
        response = answer(failing(RuntimeError("secret /etc/passwd")))
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in response.text
    assert response.json()["request_id"] == response.headers["X-Request-ID"]
    assert [(line["event"], line["log_level"]) for line in logs] == [("unexpected error", "error"), ("request", "info")]
    assert logs[0]["exc_info"]
    assert logs[1]["status"] == 500


def test_a_request_cut_off_by_a_shutdown_is_answered_503() -> None:
    assert answer(failing(asyncio.CancelledError())).status_code == 503


@pytest.mark.parametrize(
    ("phase", "status", "connection"),
    [
        (Phase.LOADING, 200, None),
        (Phase.READY, 200, None),
        (Phase.DRAINING, 200, "close"),
        (Phase.STOPPING, 503, "close"),
    ],
)
def test_phases(phase: Phase, status: int, connection: str | None) -> None:
    response = answer(PlainTextResponse("yes"), phase=phase)
    assert response.status_code == status
    assert response.headers.get("Connection") == connection


@pytest.mark.parametrize(
    ("app", "phase", "path", "reasons"),
    [
        (failing(Unavailable("no", reason=Refusal.EDGE)), Phase.READY, "/x", {"edge": 1}),
        (failing(Unavailable("counted elsewhere")), Phase.READY, "/x", {}),
        (failing(Unavailable("no", reason=Refusal.NO_MODEL)), Phase.LOADING, "/x", {"no-model": 1}),
        (failing(Unavailable("no", reason=Refusal.NO_MODEL)), Phase.LOADING, "/health/ready", {}),
        (PlainTextResponse("yes"), Phase.STOPPING, "/x", {"closed": 1}),
        (PlainTextResponse("yes"), Phase.STOPPING, "/health/live", {}),
        (failing(RateLimited("no")), Phase.READY, "/x", {"rate-limited": 1}),
        (failing(TooLarge("Bytes", 2, 1)), Phase.READY, "/x", {"too-large": 1}),
        (failing(UnsupportedMediaType("no")), Phase.READY, "/x", {}),
    ],
)
def test_refusals_are_counted_once_by_their_reason(
    app: ASGIApp, phase: Phase, path: str, reasons: dict[str, float]
) -> None:
    runtime = Runtime(settings.read(_env_file=None))
    response = answer(app, phase=phase, path=path, runtime=runtime)
    runtime.metrics.board.publish()
    totals = runtime.metrics.totals()
    counted = {key[1]: cells[0] for key, cells in totals.items() if key[0] == "refusals_total" and cells[0]}
    assert counted == reasons
    by_status = {key[3]: cells[0] for key, cells in totals.items() if key[0] == "requests_total"}
    assert by_status == {str(response.status_code): 1}


def test_half_an_answer_is_cut_off() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("later")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    edge = Edge(app, access=Access(Keys()), runtime=Runtime(settings.read(_env_file=None)))
    scope = {"type": "http", "path": "/x", "method": "GET", "headers": []}
    with pytest.raises(RuntimeError, match="later"), structlog.testing.capture_logs():
        asyncio.run(_run(edge, scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]


async def _run(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def test_headers_that_a_browser_heeds() -> None:
    for app in (PlainTextResponse("yes"), failing(RuntimeError("no"))):
        with structlog.testing.capture_logs():
            headers = answer(app).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_what_an_answer_sets_itself_is_left_alone() -> None:
    own = {"Content-Security-Policy": "default-src 'self'", "Cache-Control": "max-age=60"}
    headers = answer(PlainTextResponse("yes", headers=own)).headers
    for name, value in own.items():
        assert headers.get_list(name) == [value]
    assert headers["X-Content-Type-Options"] == "nosniff"
