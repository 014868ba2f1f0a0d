"""Traces: what is a span, what it says and must never say, whose child it is, and what is refused at the start."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from service import settings
from service.errors import StartupError
from service.http.app import create_app
from service.observability import spans
from service.process import start
from tests.bundles import tiny_bundle

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TEXT = "a great film"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STAGES = ["tokenise", "queue", "run", "decode", "serialise"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_bundle(folder / "sentiment-bilstm")
    return folder


def traced(
    models: Path, path: str, body: object = None, **headers: str
) -> tuple[httpx.Response, tuple[ReadableSpan, ...]]:
    """One request to an application of its own, and the spans that it left."""
    exporter = InMemorySpanExporter()
    asked = settings.read({"models": models, "gate_sample": 0.0}, _env_file=None)
    app = create_app(asked, spans=spans.Spans(SimpleSpanProcessor(exporter)))

    async def ask() -> httpx.Response:
        async with app.router.lifespan_context(app):
            await app.state.runtime._looked.wait()
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                method = "GET" if body is None else "POST"
                return await client.request(method, path, json=body, headers=headers)

    return asyncio.run(ask()), exporter.get_finished_spans()


@pytest.mark.parametrize("path", ["/predict", "/gates", "/models/sentiment-bilstm"])
def test_a_request_and_its_stages_are_spans_below_the_callers(models: Path, path: str) -> None:
    body = {"inputs": TEXT}
    answer, (*stages, whole) = traced(models, path, body, traceparent=PARENT)
    assert answer.status_code == 200
    assert whole.context is not None
    assert whole.parent is not None
    assert f"{whole.context.trace_id:032x}" == PARENT[3:35]
    assert f"{whole.parent.span_id:016x}" == PARENT[36:52]
    assert answer.headers["traceparent"] == f"{PARENT[:35]}-{whole.context.span_id:016x}-01"
    assert [span.name for span in stages] == STAGES
    assert all(span.parent is not None and span.parent.span_id == whole.context.span_id for span in stages)
    assert whole.start_time is not None
    assert whole.end_time is not None
    last = whole.start_time
    for span in stages:
        assert span.start_time is not None
        assert span.end_time is not None
        assert last <= span.start_time <= span.end_time <= whole.end_time
        last = span.start_time


def test_a_span_has_its_stages_within_it_though_the_systems_time_is_set_back(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opentelemetry.sdk.trace.time_ns", lambda: 1)
    _, (*stages, whole) = traced(models, "/predict", {"inputs": TEXT})
    assert [span.name for span in stages] == STAGES
    assert whole.start_time is not None
    assert whole.end_time is not None
    assert all(whole.start_time <= (span.start_time or 0) <= (span.end_time or 0) <= whole.end_time for span in stages)


def test_a_span_has_numbers_and_no_text(models: Path) -> None:
    _, spans = traced(models, "/predict", {"inputs": [TEXT, TEXT]}, **{"X-Request-ID": "one"})
    whole = spans[-1]
    assert whole.name == "POST /predict"
    assert dict(whole.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "gatelight.request_id": "one",
        "gatelight.model": "sentiment-bilstm",
        "gatelight.version": "1",
        "gatelight.inputs": 2,
        "gatelight.tokens": 6,
    }
    written = " ".join(span.to_json() for span in spans)
    assert "great" not in written
    assert "film" not in written
    assert {str(span.resource.attributes["service.name"]) for span in spans} == {"gatelight"}


def test_refused_requests_and_unknown_routes_are_spans_too(models: Path) -> None:
    _, (refused,) = traced(models, "/predict", {"inputs": []})
    assert (refused.attributes or {})["http.response.status_code"] == 422
    answer, (unknown,) = traced(models, f"/{TEXT.split()[1]}")
    assert answer.status_code == 404
    assert (unknown.name, "http.route" in (unknown.attributes or {})) == ("GET", False)


def test_health_is_no_span_and_what_was_not_sampled_stays_so(models: Path) -> None:
    assert traced(models, "/health/live")[1] == ()
    answer, spans = traced(models, "/predict", {"inputs": TEXT}, traceparent=PARENT[:-2] + "00")
    assert spans == ()
    assert answer.headers["traceparent"].startswith(PARENT[:35])
    assert answer.headers["traceparent"].endswith("-00")


def test_a_traceparent_that_is_none_begins_a_new_trace(models: Path) -> None:
    answer, spans = traced(models, "/models", traceparent="00-nonsense")
    assert answer.status_code == 200
    assert spans[-1].parent is None


def test_without_the_extra_the_service_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    asked = settings.read({"tracing": True, "port": 0}, _env_file=None)
    with pytest.raises(StartupError, match="Install the extra 'otel'"):
        start.serve(asked)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "it may be otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "speaks http/protobuf alone"),
    ],
)
def test_what_the_variables_ask_for_and_is_not_there(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=message):
        spans.check()


def test_the_exporter_is_that_of_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert spans._sender() is None
    for name in ("console", "otlp"):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", name)
        sender = spans._sender()
        assert sender is not None
        sender.shutdown()
