"""The foreign protocols' part of the API document: Hugging Face's route, and the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from service.errors import (
    BundleRefused,
    DeadlineExceeded,
    Forbidden,
    InvalidField,
    MalformedBody,
    ModelNotFound,
    RateLimited,
    RequestError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from service.http.protocols import examples, v2_tensors
from service.http.protocols import responses as answers
from service.http.protocols.huggingface import HuggingFaceRequest
from service.http.render import JSON
from service.http.schemas.requests import InputsRequest

_Json = dict[str, Any]
_SCHEMAS = "#/components/schemas/"

_OF_EVERY_ROUTE: tuple[type[RequestError], ...] = (Unauthorized, Forbidden, RateLimited, RequestError)
_OF_A_BODY = (MalformedBody, TooLarge, UnsupportedMediaType, InvalidField, DeadlineExceeded)
_OF_A_MODEL = (ModelNotFound, Unavailable)
_OF_A_JOB = (*_OF_A_BODY, ModelNotFound, Unavailable)

_BINARY_NOTE = (
    "With the header Inference-Header-Content-Length the body is that many bytes of JSON, and then the raw tensors "
    "for which the JSON gives binary_data_size."
)


MODELS: tuple[type[BaseModel], ...] = (
    HuggingFaceRequest,
    v2_tensors.InferRequest,
    v2_tensors.IndexRequest,
    v2_tensors.LoadRequest,
    v2_tensors.UnloadRequest,
    *answers.MODELS,
)
"""Whose schemas the document needs."""


def responses() -> _Json:
    """Components: one, for every error."""
    schema = _schema(answers.ProtocolError)
    example = {"error": str(ModelNotFound("sentiment-xl", ["ner-bilstm", "sentiment-bilstm"]))}
    return {
        "protocol-error": {
            "description": "An error, in the protocol's own form.",
            "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
            "content": {JSON: {"schema": schema, "example": example}},
        }
    }


def hugging_face() -> _Json:
    """The operation `POST /models/{name}`."""
    return {
        **_operation("huggingFace", "Predictions in the shape of Hugging Face's inference clients", *_OF_A_JOB),
        "parameters": [_path_parameter("name"), _header("X-Request-ID"), _header("X-Request-Timeout")],
        "requestBody": _body(HuggingFaceRequest, examples.HUGGING_FACE_REQUESTS),
        "responses": _with_truncated(_responses("Predictions", _results(), examples.HUGGING_FACE_ANSWERS, *_OF_A_JOB)),
    }


def _with_truncated(responses: _Json) -> _Json:
    """The same, with the header that says whether an input was cut."""
    words = "`true` when an input was over the token limit and lost its tail, else `false`."
    truncated = {"description": words, "schema": {"type": "string", "enum": ["true", "false"]}}
    good = responses["200"]
    return {**responses, "200": {**good, "headers": {**good["headers"], "X-Truncated": truncated}}}


def paths(*, admin: bool) -> _Json:
    """Everything under `/v2`; `admin` says whether models can be loaded and unloaded."""
    model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    found: _Json = {
        "/v2": {
            "get": _get(
                "v2Server", "The server's name, version and extensions", answers.ServerMetadata, examples.SERVER
            )
        },
        "/v2/health/live": {"get": _health("v2Live", "Whether the process runs", answers.ServerLive, {"live": True})},
        "/v2/health/ready": {
            "get": _health("v2Ready", "Whether requests are welcome", answers.ServerReady, {"ready": True}, Unavailable)
        },
        "/v2/models/stats": {
            "get": _get(
                "v2Statistics", "What all models were asked", answers.Statistics, examples.STATISTICS, Unavailable
            )
        },
        "/v2/repository/index": {"post": _repository("v2Index", "The repository's versions", v2_tensors.IndexRequest)},
    }
    for path, suffix in ((model, ""), (version, "Version")):
        names = ["name", "version"] if suffix else ["name"]
        found |= {
            path: {
                "get": _of_model(
                    _get(
                        f"v2Model{suffix}", "A model's tensors", answers.ModelMetadata, examples.METADATA, ModelNotFound
                    ),
                    names,
                )
            },
            f"{path}/ready": {
                "get": _of_model(
                    _get(
                        f"v2ModelReady{suffix}",
                        "Whether a model answers",
                        answers.ModelReady,
                        {"name": "sentiment-bilstm", "ready": True},
                        *_OF_A_MODEL,
                    ),
                    names,
                )
            },
            f"{path}/config": {
                "get": _of_model(
                    _get(
                        f"v2ModelConfig{suffix}",
                        "A model's configuration, as tools of Triton ask for it",
                        answers.ModelConfig,
                        examples.CONFIG,
                        *_OF_A_MODEL,
                    ),
                    names,
                )
            },
            f"{path}/stats": {
                "get": _of_model(
                    _get(
                        f"v2ModelStatistics{suffix}",
                        "What a model was asked since the start",
                        answers.Statistics,
                        examples.STATISTICS,
                        *_OF_A_MODEL,
                    ),
                    names,
                )
            },
            f"{path}/infer": {"post": _of_model(_infer(f"v2Infer{suffix}"), names)},
        }
    if admin:
        for verb, request in (("load", v2_tensors.LoadRequest), ("unload", v2_tensors.UnloadRequest)):
            operation = _repository(f"v2{verb.title()}", f"{verb.title()} a model", request, ModelNotFound)
            found[f"/v2/repository/models/{{name}}/{verb}"] = {"post": _of_model(operation, ["name"])}
    return found


def _infer(name: str) -> _Json:
    summary = "Predictions, and gates where they are asked for, as tensors"
    return {
        **_operation(name, summary, *_OF_A_JOB),
        "description": _BINARY_NOTE,
        "parameters": [_header("X-Request-Timeout")],
        "requestBody": _body(v2_tensors.InferRequest, examples.INFER_REQUESTS),
        "responses": _responses(summary, _schema(answers.InferAnswer), examples.INFER_ANSWERS, *_OF_A_JOB),
    }


def _repository(name: str, summary: str, request: type[BaseModel], *errors: type[RequestError]) -> _Json:
    all_errors = (*_OF_A_BODY, *errors, *((Unavailable, BundleRefused) if errors else ()))
    content = {JSON: {"schema": _schema(request), "example": {}}}
    operation = {**_operation(name, summary, *all_errors), "requestBody": {"required": False, "content": content}}
    if errors:
        operation["responses"] = _responses(summary, None, {}, *all_errors)
    else:
        operation["responses"] = _responses(summary, _list(answers.IndexEntry), {"index": examples.INDEX}, *all_errors)
    return operation


def _get(name: str, summary: str, answer: type[BaseModel], example: _Json, *errors: type[RequestError]) -> _Json:
    operation = _operation(name, summary, *errors)
    operation["responses"] = _responses(summary, _schema(answer), {"answer": example}, *errors)
    return operation


def _health(name: str, summary: str, answer: type[BaseModel], example: _Json, *errors: type[RequestError]) -> _Json:
    operation = _get(name, summary, answer, example, *errors)
    for error in (Unauthorized, RateLimited):
        del operation["responses"][str(error.status)]
    return {**operation, "security": []}


def _operation(name: str, summary: str, *errors: type[RequestError]) -> _Json:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [_header("X-Request-ID")],
        "responses": _responses(summary, None, {}, *errors),
    }


def _responses(summary: str, schema: _Json | None, shown: _Json, *errors: type[RequestError]) -> _Json:
    good: _Json = {
        "description": summary,
        "headers": {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}},
    }
    if schema is not None:
        examples = {name: {"value": value} for name, value in shown.items()}
        good["content"] = {JSON: {"schema": schema, "examples": examples}}
    statuses = sorted({error.status for error in (*_OF_EVERY_ROUTE, *errors)})
    return {"200": good, **{str(status): {"$ref": "#/components/responses/protocol-error"} for status in statuses}}


def _body(request: type[InputsRequest | v2_tensors.InferRequest], shown: _Json) -> _Json:
    examples = {name: {"value": value} for name, value in shown.items()}
    content = {"schema": _schema(request), "examples": examples}
    return {"required": True, "content": {JSON: content}}


def _schema(model: type[BaseModel]) -> _Json:
    return {"$ref": _SCHEMAS + model.__name__}


def _list(*models: type[BaseModel]) -> _Json:
    schemas = [_schema(model) for model in models]
    return {"type": "array", "items": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}


def _results() -> _Json:
    """One result an input: of a classifier labels, of a tagger tokens or groups, bare where one text came."""
    of_tagger: tuple[type[BaseModel], ...] = (answers.HuggingFaceToken, answers.HuggingFaceGroup)
    kinds = [_list(answers.HuggingFaceLabel), _list(*of_tagger), *map(_schema, of_tagger)]
    return {"type": "array", "items": {"anyOf": kinds}}


def _of_model(operation: _Json, names: list[str]) -> _Json:
    return {**operation, "parameters": [*map(_path_parameter, names), *operation["parameters"]]}


def _path_parameter(name: str) -> _Json:
    example = {"name": "sentiment-bilstm", "version": "1"}[name]
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}


def _header(name: str) -> _Json:
    return {"$ref": f"#/components/parameters/{name}"}
