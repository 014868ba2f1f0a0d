"""What is added to the application in FastAPI's documented ways holds for every route, the hot ones too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from service import settings
from service.errors import InvalidField
from service.http.app import create_app
from service.http.context import context_of
from service.http.endpoint import Answer, Followed
from service.model.contributions import contributions
from service.model.loading import Model
from service.observability.metrics import Metrics
from service.serving.rates import Buckets
from service.serving.shared import Shared
from tests.bundles import tiny_bundle

ASKED: list[tuple[str, str, Any]] = [
    ("POST", "/predict", {"inputs": "a great film"}),
    ("POST", "/gates", {"inputs": "a great film"}),
    ("POST", "/predict/", {"inputs": "a great film"}),
    ("POST", "/models/sentiment-bilstm", {"inputs": "a great film"}),
    (
        "POST",
        "/v2/models/sentiment-bilstm/infer",
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a film"]}]},
    ),
    ("GET", "/models", None),
    ("GET", "/health/live", None),
]
every_route = pytest.mark.parametrize(("method", "path", "body"), ASKED, ids=[f"{each[1]}" for each in ASKED])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_bundle(folder / "sentiment-bilstm")
    return folder


def ask(app: FastAPI, method: str, path: str, body: Any, **headers: str) -> httpx.Response:
    """One request to an application that has loaded its models."""

    async def asked() -> httpx.Response:
        async with app.router.lifespan_context(app):
            await app.state.runtime._looked.wait()
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, json=body, headers=headers)

    return asyncio.run(asked())


def made(models: Path) -> FastAPI:
    return create_app(settings.read({"models": models, "gate_sample": 0.0}, _env_file=None))


@every_route
def test_a_middleware_of_a_function_holds(models: Path, method: str, path: str, body: Any) -> None:
    app = made(models)

    @app.middleware("http")
    async def stamp(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers["X-Stamp"] = request.url.path
        return response

    response = ask(app, method, path, body)
    assert (response.status_code, response.headers["X-Stamp"]) == (200, path.rstrip("/"))
    assert response.headers["X-Request-ID"]


@every_route
def test_a_middleware_of_a_class_holds_and_the_last_is_outermost(
    models: Path, method: str, path: str, body: Any
) -> None:
    order: list[str] = []

    class Noting:
        def __init__(self, app: ASGIApp, name: str) -> None:
            self.app, self.name = app, name

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"x-by", self.name.encode())]
                await send(message)

            order.append(self.name)
            await self.app(scope, receive, sent)

    app = made(models)
    app.add_middleware(Noting, name="inner")
    app.add_middleware(Noting, name="outer")
    response = ask(app, method, path, body)
    assert (response.status_code, order) == (200, ["outer", "inner"])
    assert response.headers.get_list("X-By") == ["inner", "outer"]


@pytest.mark.parametrize("path", ["/predict", "/gates", "/models/sentiment-bilstm"])
def test_a_handler_of_an_error_holds(models: Path, path: str) -> None:
    app = made(models)

    @app.exception_handler(InvalidField)
    async def shrug(request: Request, error: InvalidField) -> JSONResponse:
        return JSONResponse({"at": error.problems[0].pointer}, 422)

    response = ask(app, "POST", path, {"inputs": []})
    assert (response.status_code, response.json()) == (422, {"at": "/inputs"})
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("kind", [500, Exception])
@pytest.mark.parametrize("path", ["/predict", "/broken"])
def test_a_handler_of_all_that_nobody_expects_holds(models: Path, kind: Any, path: str) -> None:
    app = made(models)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    def model(*of: object) -> None:
        raise RuntimeError("secret")

    app.state.runtime.model = model

    @app.exception_handler(kind)
    async def sorry(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"sorry": type(error).__name__}, 500)

    with capture_logs() as logs:
        response = ask(app, *(("GET", path, None) if path == "/broken" else ("POST", path, {"inputs": "a"})))
    assert (response.status_code, response.json()) == (500, {"sorry": "RuntimeError"})
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["unexpected error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/gates", {"inputs": "a great film", "contributions": True}),
        ("/v1/models/sentiment-bilstm:explain", {"instances": ["a great film"]}),
    ],
)
@pytest.mark.parametrize("part", ["bias", "tokens", "logits"])
def test_no_contribution_is_printed_that_is_not_finite(
    models: Path, monkeypatch: pytest.MonkeyPatch, path: str, body: Any, part: str
) -> None:
    assert ask(made(models), "POST", path, body).status_code == 200

    def overflowed(*of: Any) -> Any:
        split: Any = contributions(*of)
        split[part][..., -1] = np.nan
        return split

    monkeypatch.setattr("service.serving.inference.contributions", overflowed)
    response = ask(made(models), "POST", path, body)
    assert (response.status_code, b"null" in response.content) == (500, False)


def test_a_route_that_is_added_is_served_logged_and_described(models: Path) -> None:
    app = made(models)

    @app.get("/answer/{number}")
    async def number(number: int) -> dict[str, int]:
        return {"answer": number}

    with capture_logs() as logs:
        response = ask(app, "GET", "/answer/42", None)
    assert response.json() == {"answer": 42}
    assert [line["route"] for line in logs if line["event"] == "request"] == ["/answer/{number}"]
    assert "/answer/{number}" in app.openapi()["paths"]


def test_a_list_of_models_is_of_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the models folder may take a model away while the list is written."""
    for name in ("first", "second"):
        tiny_bundle(tmp_path / name)
    app = made(tmp_path)
    describe = Model.describe

    def leaving(model: Model) -> dict[str, object]:
        if model.name == "first":
            app.state.runtime.registry.unload("second")
        return describe(model)

    monkeypatch.setattr(Model, "describe", leaving)
    response = ask(app, "GET", "/models", None)
    assert response.status_code == 200, response.text
    assert [each["name"] for each in response.json()["models"]] == ["first", "second"]
    assert response.json()["models"][1]["versions"][0]["state"] == "ready"


def test_jobs_are_told_of_after_their_answers(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, str, object]] = []

    def note(answer: Followed) -> None:
        context, job, outcome = answer._context, answer._job, answer._outcome
        told.append((context.request_id, context.status, job.model.name, outcome.predictions[0]["label"]))

    monkeypatch.setattr(Followed, "tell", note)
    for method, path, body in [*ASKED[:5], ("POST", "/predict", {"inputs": []})]:
        ask(made(models), method, path, body, **{"X-Request-ID": "one"})
    assert [each[:3] for each in told] == [("one", 200, "sentiment-bilstm")] * 5


def test_rates_are_those_of_the_workers_that_share_them_and_of_nobody_else() -> None:
    key = "a-key-of-some-length"
    asked = settings.read({"api_keys": key, "rate_limit": 0.001}, _env_file=None)
    rates = Buckets()
    workers = [create_app(asked, Shared(2, Metrics(), worker=number, rates=rates)) for number in range(2)]
    alone = [create_app(asked) for _ in range(2)]

    def status(app: FastAPI) -> int:
        async def asking() -> int:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
                return (await client.get("/nowhere", headers={"Authorization": f"Bearer {key}"})).status_code

        return asyncio.run(asking())

    assert [status(app) for app in workers] == [404, 429]
    assert [status(app) for app in alone] == [404, 404]


def test_an_answer_is_remembered_for_feedback_before_it_is_out(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[bool] = []
    call = Answer.__call__

    async def sent(answer: Answer, scope: Any, receive: Any, send: Any) -> None:
        feedback = context_of(scope).runtime.after.feedback
        known.append(feedback.take("one", 0, "positive", None).outcome in ("right", "wrong"))
        await call(answer, scope, receive, send)

    monkeypatch.setattr(Answer, "__call__", sent)
    for method, path, body in ASKED[:5]:
        ask(made(models), method, path, body, **{"X-Request-ID": "one"})
    assert known == [True] * 5
