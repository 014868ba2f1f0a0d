"""Spans by OpenTelemetry: one for each request, below its caller's span if it sent one, and one for each stage.

The packages are an extra, and are imported only if the setting `tracing` is on. The standard variables ``OTEL_*`` set
the spans' destination, sampling and service name. No span holds a client's text: routes are templates, and a request's
inputs appear only as a number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Protocol

from service.errors import StartupError
from service.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

NAME = "gatelight"
EXPORTERS = ("otlp", "console", "none")
"""The values of OTEL_TRACES_EXPORTER."""
PROTOCOL = "http/protobuf"
"""The one that the extra brings."""
FACTS = ("model", "version", "inputs", "tokens")
"""The fields of a request's log line that its span has too."""
_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
_HEADERS = ("traceparent", "tracestate")

Stage = tuple[str, float, float]
"""A stage's name, and when it began and ended by `time.perf_counter`."""


class Batched(Protocol):
    """When the first of a call's rows began to run, and the last was done, by `time.perf_counter`."""

    since: float
    begun: float | None
    ended: float


def check() -> None:
    """Raises `StartupError` if spans are asked for and cannot be made."""
    try:
        for name in _PACKAGES:
            import_module(name)
    except ImportError as error:
        raise StartupError(
            "tracing is on, and OpenTelemetry is not installed. Install the extra 'otel', or set tracing to false."
        ) from error
    exporter = _exporter()
    if exporter not in EXPORTERS:
        raise StartupError(f"OTEL_TRACES_EXPORTER is {exporter!r}; it may be {', '.join(EXPORTERS)}.")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if exporter == "otlp" and os.environ.get(name, PROTOCOL) != PROTOCOL:
            raise StartupError(f"{name} is {os.environ[name]!r}; the extra 'otel' speaks {PROTOCOL} alone.")


def _exporter() -> str:
    return os.environ.get("OTEL_TRACES_EXPORTER") or EXPORTERS[0]


class Spans:
    """Makes a process's spans. `processor`, if left out, exports them as the variables say. Raises `StartupError`.

    It has a thread of its own, so each worker makes its own, after it was forked.
    """

    def __init__(self, processor: SpanProcessor | None = None) -> None:
        check()
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        attributes = {"service.version": VERSION, **({} if named else {"service.name": NAME})}
        self._provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
        processor = processor or _sender()
        if processor is not None:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(NAME, VERSION)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, headers: Mapping[bytes, bytes], request_id: str) -> RequestSpan:
        """The span of a request that has just come."""
        from opentelemetry.trace import SpanKind

        carrier = {name: headers[key].decode("latin-1") for name in _HEADERS if (key := name.encode()) in headers}
        attributes = {"http.request.method": method, "gatelight.request_id": request_id}
        now = time_ns()
        span = self._tracer.start_span(
            method, self._propagator.extract(carrier), SpanKind.SERVER, attributes, start_time=now
        )
        return RequestSpan(self._tracer, span, method, now)

    def close(self) -> None:
        """Send the remaining spans. Blocks."""
        self._provider.shutdown()


class RequestSpan:
    """One request's span."""

    __slots__ = ("_began", "_began_at", "_method", "_span", "_tracer", "batched", "stages")

    def __init__(self, tracer: Tracer, span: Span, method: str, now: int) -> None:
        self._tracer = tracer
        self._span = span
        self._method = method
        self._began, self._began_at = now, perf_counter()
        self.stages: list[Stage] = []
        self.batched: Batched | None = None

    @property
    def header(self) -> bytes:
        """The span as W3C's ``traceparent``: its name in the answer and in the log."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}".encode()

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    def end(self, route: str | None, status: int, facts: Mapping[str, object]) -> None:
        """The answer is out."""
        from opentelemetry.trace import StatusCode, set_span_in_context

        span = self._span
        if span.is_recording():
            within = set_span_in_context(span)
            for name, start, end in sorted(self._stages(), key=lambda stage: stage[1]):
                self._tracer.start_span(name, within, start_time=self._at(start)).end(self._at(end))
            if route is not None:
                span.update_name(f"{self._method} {route}")
                span.set_attribute("http.route", route)
            span.set_attribute("http.response.status_code", status)
            for name in FACTS:
                if isinstance(fact := facts.get(name), str | int):
                    span.set_attribute(f"gatelight.{name}", fact)
            if status >= 500:
                span.set_status(StatusCode.ERROR)
        # By the clock of the stages: the system's time may be set back meanwhile.
        span.end(self._at(perf_counter()))

    def _stages(self) -> Iterable[Stage]:
        yield from self.stages
        batched = self.batched
        if batched is not None and batched.begun is not None:
            yield "queue", batched.since, batched.begun
            yield "run", batched.begun, batched.ended

    def _at(self, moment: float) -> int:
        return self._began + int((moment - self._began_at) * 1e9)


def _sender() -> SpanProcessor | None:
    """The exporter that ``OTEL_TRACES_EXPORTER`` names. It sends spans in batches, from a thread of its own."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    exporter: SpanExporter
    match _exporter():
        case "none":
            return None
        case "console":
            exporter = ConsoleSpanExporter()
        case _:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
    return BatchSpanProcessor(exporter)
