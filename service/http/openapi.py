"""The API document (OpenAPI 3.1): every route, with examples, made from the models of requests, answers and errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.errors import (
    BundleRefused,
    DeadlineExceeded,
    Forbidden,
    HeaderTooLarge,
    InvalidField,
    MalformedBody,
    MalformedRequest,
    ModelNotFound,
    RateLimited,
    RequestError,
    RequestTooSlow,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedCoding,
    UnsupportedMediaType,
)
from service.http import openapi_protocols
from service.http.problems import HTTP_PROBLEMS, INTERNAL, MEDIA_TYPE, Problem, of
from service.http.render import JSON, SAFETENSORS
from service.http.routes.admin import VersionRequest
from service.http.routes.explorer import MEDIA_TYPES
from service.http.schemas import examples, responses
from service.http.schemas.requests import GatesRequest, PredictRequest
from service.observability.metrics import CONTENT_TYPE
from service.version import TITLE, VERSION

DESCRIPTION = (
    "Sentiment and named entities from recurrent networks (LSTM and GRU, one direction or two), "
    "and every gate activation behind each answer."
)

PROMETHEUS = CONTENT_TYPE.partition(";")[0]

_Json = dict[str, Any]
_SCHEME = "key"
_SCHEMAS = "#/components/schemas/"
_RESPONSES = "#/components/responses/"

_ERRORS: tuple[RequestError, ...] = (
    MalformedBody("The body is not JSON in UTF-8: unexpected character: line 1 column 1 (char 0)."),
    Unauthorized("Send an API key: Authorization: Bearer KEY."),
    Forbidden("This key cannot load and unload models."),
    ModelNotFound("sentiment-xl", ["ner-bilstm", "sentiment-bilstm"]),
    BundleRefused("sentiment-bilstm 2 cannot be served: model.onnx does not match the manifest."),
    TooLarge("Inputs in one request", 300, 256),
    MalformedRequest("The request is not HTTP/1.1: Invalid method encountered."),
    RequestTooSlow("The request's body did not come within 20 seconds."),
    HeaderTooLarge(40_000, 32_768),
    UnsupportedMediaType("The body is not sent as JSON; send it with Content-Type: application/json."),
    UnsupportedCoding("A body is read as it is, or with Content-Encoding gzip or deflate, once."),
    InvalidField("/gates/0", "gru has no gate 'forget'; it has update, reset, candidate, hidden."),
    RateLimited("This key may send 10 requests a second.", retry_after=1),
    Unavailable("The models are loading.", retry_after=2),
    DeadlineExceeded("The answer was not ready within the request's deadline."),
)
_OF_THE_WIRE = (MalformedRequest, RequestTooSlow, HeaderTooLarge, Unavailable)
"""What any request can meet before a route is looked for."""
_OF_EVERY_ROUTE = (Unauthorized, Forbidden, RateLimited)
_OF_A_JOB = (
    MalformedBody,
    ModelNotFound,
    TooLarge,
    UnsupportedMediaType,
    InvalidField,
    Unavailable,
    DeadlineExceeded,
)
_MODEL = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "example": "ner-bilstm"}
_HTTP_DETAILS = {
    404: "There is no route /prediction; /openapi.json lists those there are.",
    405: "/predict takes POST.",
    422: "The header X-Request-Timeout holds seconds, over 0, such as 2.5.",
}


def document(*, secured: bool, admin: bool = False) -> _Json:
    """The whole document; `secured` says whether API keys are asked for, `admin` whether models can be changed."""
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "paths": {**_paths(), **openapi_protocols.paths(admin=admin), **(_admin_paths() if admin else {})},
        "components": {
            "schemas": _schemas(),
            "responses": {
                **{problem.slug: _response(problem) for problem in _problems()},
                **openapi_protocols.responses(),
            },
            "parameters": _parameters(),
            "headers": {"X-Request-ID": {"description": "The request's id.", "schema": {"type": "string"}}},
            "securitySchemes": {_SCHEME: {"type": "http", "scheme": "bearer"}},
        },
        "security": [{_SCHEME: []}] if secured else [{}, {_SCHEME: []}],
    }


def _paths() -> _Json:
    return {
        "/": {"get": _index()},
        "/docs": {"get": _docs()},
        "/page/{path}": {"get": _asset("page", "A script or a style sheet of the pages")},
        "/docs/page/{path}": {"get": _asset("docs-page", "The same, for a browser at `/docs/`")},
        "/predict": {
            "post": _post(
                "predict",
                "Predictions for one or many inputs",
                PredictRequest,
                examples.PREDICT_REQUESTS,
                {JSON: _content(responses.Predictions, examples.PREDICTIONS)},
                ["X-Request-ID", "X-Request-Timeout"],
            )
        },
        "/gates": {
            "post": _post(
                "gates",
                "Predictions, gate activations for every token, and what each token contributed",
                GatesRequest,
                examples.GATES_REQUESTS,
                {
                    JSON: _content(responses.Traces, examples.TRACES),
                    SAFETENSORS: {
                        "schema": {
                            "type": "string",
                            "format": "binary",
                            "description": "Tensors `{input}/{layer}/{direction}/{gate}`, float32 [tokens, units]; the "
                            "rest of the answer, as JSON, under `response` of `__metadata__`.",
                        }
                    },
                },
                ["X-Request-ID", "X-Request-Timeout"],
            )
        },
        "/models": {
            "get": _get("models", "What is loaded", responses.Models, {"models": examples.MODELS}, Unavailable),
        },
        "/models/{name}": {
            "get": {
                **_get(
                    "model",
                    "One model",
                    responses.ModelDescription,
                    {"model": examples.MODEL},
                    ModelNotFound,
                    Unavailable,
                ),
                "parameters": [_MODEL, _parameter("X-Request-ID")],
            },
            "post": openapi_protocols.hugging_face(),
        },
        "/metrics": {
            "get": _operation(
                "metrics",
                "Numbers for Prometheus, over all workers",
                {PROMETHEUS: {"schema": {"type": "string"}, "examples": {"metrics": {"value": examples.METRICS}}}},
            )
        },
        "/health/live": {"get": _health("live", "Whether the process runs")},
        "/health/ready": {"get": _health("ready", "Whether requests are welcome", Unavailable)},
        "/openapi.json": {
            "get": _operation("openapi", "This document", {JSON: {"schema": {"type": "object"}, "example": {}}})
        },
    }


def _index() -> _Json:
    page = {"schema": {"type": "string", "description": "The gate explorer."}, "example": "<!doctype html>…"}
    index = _content(responses.Index, {"index": examples.INDEX})
    return _operation(
        "index",
        "The gate explorer; where to go from here, for Accept: application/json",
        {"text/html": page, JSON: index},
    )


def _docs() -> _Json:
    page = {"schema": {"type": "string", "description": "The API's page."}, "example": "<!doctype html>…"}
    return _operation("docs", "A page of all routes, with examples to try", {"text/html": page})


def _asset(name: str, summary: str) -> _Json:
    content = {media_type.partition(";")[0]: {"schema": {"type": "string"}} for media_type in MEDIA_TYPES.values()}
    path = {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}, "example": "main.js"}
    operation = _operation(name, summary, content, 404)
    return {**operation, "parameters": [path, _parameter("X-Request-ID")]}


def _admin_paths() -> _Json:
    described = {JSON: _content(responses.ModelDescription, {"model": examples.MODEL})}
    load = _operation(
        "load",
        "Load a version from the models folder and serve it; one that cannot be served changes nothing",
        described,
        *(BundleRefused, MalformedBody, ModelNotFound, TooLarge, UnsupportedMediaType, InvalidField, Unavailable),
    )
    load["requestBody"] = {"required": False, "content": {JSON: _content(VersionRequest, examples.LOAD_REQUESTS)}}
    unload = _operation(
        "unload",
        "Serve a model no more, until it is loaded again; requests that have it finish",
        {JSON: _content(responses.Unloaded, {"unloaded": examples.UNLOADED})},
        ModelNotFound,
        Unavailable,
    )
    for operation in (load, unload):
        operation["parameters"] = [_MODEL, _parameter("X-Request-ID")]
    index = _get("versions", "What the models folder holds", responses.Versions, {"versions": examples.VERSIONS})
    return {
        "/admin/models": {"get": index},
        "/admin/models/{name}/load": {"post": load},
        "/admin/models/{name}/unload": {"post": unload},
    }


def _operation(name: str, summary: str, content: _Json, *errors: type[RequestError] | int) -> _Json:
    statuses: dict[int, str] = {500: RequestError.slug}
    for error in (*_OF_THE_WIRE, *_OF_EVERY_ROUTE, *errors):
        if isinstance(error, int):
            statuses[error] = HTTP_PROBLEMS[error][0]
        else:
            statuses[error.status] = error.slug
    headers = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [_parameter("X-Request-ID")],
        "responses": {
            "200": {"description": summary, "headers": headers, "content": content},
            **{str(status): {"$ref": _RESPONSES + statuses[status]} for status in sorted(statuses)},
        },
    }


def _get(name: str, summary: str, answer: type, shown: _Json, *errors: type[RequestError]) -> _Json:
    return _operation(name, summary, {JSON: _content(answer, shown)}, *errors)


def _health(name: str, summary: str, *errors: type[RequestError]) -> _Json:
    operation = _get(name, summary, responses.Status, {"ok": examples.STATUS}, *errors)
    for error in _OF_EVERY_ROUTE:
        del operation["responses"][str(error.status)]
    return {**operation, "security": []}


def _post(
    name: str, summary: str, request: type, shown: _Json, content: _Json, parameters: list[str], *errors: int
) -> _Json:
    return {
        **_operation(name, summary, content, *_OF_A_JOB, *errors),
        "parameters": [_parameter(parameter) for parameter in parameters],
        "requestBody": {"required": True, "content": {JSON: _content(request, shown)}},
    }


def _content(model: type, shown: _Json) -> _Json:
    content: _Json = {"schema": {"$ref": _SCHEMAS + model.__name__}}
    if shown:
        content["examples"] = {name: {"value": value} for name, value in shown.items()}
    return content


def _parameter(name: str) -> _Json:
    return {"$ref": f"#/components/parameters/{name}"}


def _parameters() -> _Json:
    return {
        "X-Request-ID": {
            "name": "X-Request-ID",
            "in": "header",
            "description": "The request's id, printable ASCII without spaces; made where it is missing, and sent back.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128},
            "example": examples.REQUEST_ID,
        },
        "X-Request-Timeout": {
            "name": "X-Request-Timeout",
            "in": "header",
            "description": "Seconds in which the answer has to be ready.",
            "schema": {"type": "number", "exclusiveMinimum": 0},
            "example": 2.5,
        },
    }


def _problems() -> list[Problem]:
    """Every error that the service answers with, as an example of itself."""
    others = [Problem(status, slug, title, _HTTP_DETAILS[status]) for status, (slug, title) in HTTP_PROBLEMS.items()]
    return [*map(of, _ERRORS), *others, Problem(RequestError.status, RequestError.slug, RequestError.title, INTERNAL)]


def _response(problem: Problem) -> _Json:
    headers: _Json = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    for name in problem.headers:
        headers[name] = {"schema": {"type": "integer" if name == "Retry-After" else "string"}}
    example = problem.body(examples.REQUEST_ID)
    content = {"schema": {"$ref": _SCHEMAS + responses.Problem.__name__}, "example": example}
    return {"description": f"{problem.title}.", "headers": headers, "content": {MEDIA_TYPE: content}}


def _schemas() -> _Json:
    models: tuple[type[BaseModel], ...] = (
        PredictRequest,
        GatesRequest,
        responses.Predictions,
        responses.Traces,
        responses.Models,
        responses.ModelDescription,
        responses.Status,
        responses.Versions,
        responses.Unloaded,
        VersionRequest,
        responses.Index,
        responses.Problem,
        *openapi_protocols.MODELS,
    )
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_SCHEMAS + "{model}")
    schemas: _Json = definitions["$defs"]
    return schemas
