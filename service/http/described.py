"""Additions to the API document: errors, headers and examples of routes.

FastAPI builds the document from the routes. Each route adds `**described(...)` to its decorator, with its own errors.
The class and the path of a route tell the rest: the errors of its kind and their form, and the headers that it obeys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from fastapi._compat import get_definitions
from fastapi.openapi.utils import get_fields_from_routes, get_openapi_path
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from service.errors import (
    AnswerNotFound,
    BundleRefused,
    DeadlineExceeded,
    Forbidden,
    HeaderTooLarge,
    InvalidField,
    InvalidHeader,
    MalformedBody,
    MalformedRequest,
    MethodNotAllowed,
    ModelNotFound,
    NoShadow,
    RateLimited,
    RequestError,
    RequestTooSlow,
    RouteNotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unfit,
    UnitNotFound,
    UnsupportedCoding,
    UnsupportedMediaType,
    UpgradeRequired,
)
from service.http import problems
from service.http.endpoint import BodyRoute, JobRoute
from service.http.render import JSON
from service.http.schemas import streams
from service.http.schemas.examples import REQUEST_ID
from service.http.schemas.responses import Problem as ProblemShape
from service.http.schemas.responses import ProtocolError
from service.http.security.access import HEALTH
from service.version import DESCRIPTION, TITLE, VERSION

_Json = dict[str, Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_Kinds = Sequence[type[BaseModel]]
_SCHEMAS = "#/components/schemas/"
MESSAGES = "x-websocket-messages"
"""The extension of the document for the messages of a WebSocket."""
_KEY = "key"
"""Name of the security scheme."""

EXAMPLES: tuple[RequestError, ...] = (
    MalformedBody("The body is not JSON in UTF-8: unexpected character: line 1 column 1 (char 0)."),
    Unauthorized("Send an API key: Authorization: Bearer KEY."),
    Forbidden("This key cannot load and unload models."),
    RouteNotFound("There is no route /prediction; /openapi.json lists those there are."),
    ModelNotFound("sentiment-xl", ["ner-bilstm", "sentiment-bilstm"]),
    AnswerNotFound(REQUEST_ID, 10_000),
    NoShadow("sentiment-bilstm"),
    UnitNotFound("sentiment-gru has no unit 0/backward/3; it has layer 0, forward, units 0 to 127."),
    MethodNotAllowed("/predict takes POST.", "POST"),
    BundleRefused("sentiment-bilstm 2 cannot be served: model.onnx does not match the manifest."),
    Unfit(
        "shadow: sentiment-bilstm 4 has the labels bad, good, and version 3, which is served, has negative, positive."
    ),
    TooLarge("Inputs in one request", 300, 256),
    MalformedRequest("The request is not HTTP/1.1: Invalid method encountered."),
    RequestTooSlow("The request's body did not come within 20 seconds."),
    HeaderTooLarge(40_000, 32_768),
    UnsupportedMediaType("The body is not sent as JSON; send it with Content-Type: application/json."),
    UnsupportedCoding("A body is read as it is, or with Content-Encoding gzip or deflate, once."),
    InvalidField("/gates/0", "gru has no gate 'forget'; it has update, reset, candidate, hidden."),
    InvalidHeader("The header X-Request-Timeout holds seconds, over 0, such as 2.5."),
    UpgradeRequired("GET /stream opens a WebSocket; the request has no handshake of one. POST /stream needs none."),
    RateLimited("This key may send 10 requests a second.", retry_after=1),
    Unavailable("The models are loading.", retry_after=2),
    DeadlineExceeded(),
)
"""One example of each error of the service."""
Error = type[RequestError]

_OF_A_CONNECTION: tuple[Error, ...] = (MalformedRequest, RequestTooSlow, HeaderTooLarge, Unavailable)
"""Errors of any request, raised before its route is known."""
_OF_ACCESS: tuple[Error, ...] = (Unauthorized, Forbidden, RateLimited)
"""Errors of every route except health."""
_OF_A_BODY: tuple[Error, ...] = (MalformedBody, TooLarge, UnsupportedMediaType, InvalidField)
"""Errors of routes that read a body."""

_HEADERS: _Json = {
    "X-Request-ID": {"description": "The request's id.", "required": True, "schema": {"type": "string"}},
    "traceparent": {
        "description": "The request's span in W3C Trace Context form; only with the setting `tracing`.",
        "schema": {"type": "string"},
    },
}
_OF_ERRORS: _Json = {
    "Retry-After": {"description": "On 429 and 503: seconds to wait.", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "On 401: how to send the key.", "schema": {"type": "string"}},
    "Accept-Encoding": {"description": "On 415: the supported codings.", "schema": {"type": "string"}},
    "Allow": {"description": "On 405: the methods of the route.", "schema": {"type": "string"}},
}
"""Headers of some errors."""
_OF_UPGRADES: _Json = {
    "Upgrade": {"description": "The protocol of the connection: websocket.", "schema": {"type": "string"}},
    "Connection": {"description": "Upgrade: the header Upgrade counts.", "schema": {"type": "string"}},
    "Sec-WebSocket-Accept": {"description": "The proof that the key was read.", "schema": {"type": "string"}},
}
"""Headers of an answer to the handshake of a WebSocket, and of an error that asks for one."""
_PARAMETERS: _Json = {
    "X-Request-ID": {
        "name": "X-Request-ID",
        "in": "header",
        "description": "The request's id, printable ASCII without spaces. It is sent back; without one the service "
        "makes an id.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        "example": REQUEST_ID,
    },
    "X-Route-Key": {
        "name": "X-Route-Key",
        "in": "header",
        "description": "For a model with a canary and a request without a version: the same key gets the same version. "
        "Without a key the request's id decides.",
        "schema": {"type": "string"},
        "example": "reader-7",
    },
    "X-Request-Timeout": {
        "name": "X-Request-Timeout",
        "in": "header",
        "description": "Time limit on the answer, in seconds.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "example": 2.5,
    },
}
_PLACES: _Json = {
    name: {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}
    for name, example in (("name", "ner-bilstm"), ("version", "1"))
}
"""The path parameters of routes of a model. `PathModel` reads them, so that FastAPI does not see them."""


def described(
    name: str,
    summary: str,
    *errors: Error,
    examples: Mapping[str, object] | None = None,
    content: _Json | None = None,
    headers: _Json | None = None,
    status: int = 200,
    not_modified: bool = False,
) -> _Json:
    """Arguments of a route's decorator.

    `name` is the operation's id, `errors` the route's own errors: `document` adds those of its kind. `examples` are of
    the JSON answer, `content` holds other answers by media type, `headers` those of the answer, `status` its status.
    `not_modified` routes answer 304 to a browser with the current file.
    """
    good: _Json = {"headers": {**_refs("headers", _HEADERS), **(headers or {})}, "content": dict(content or {})}
    if examples:
        good["content"][JSON] = {"examples": {each: {"value": value} for each, value in examples.items()}}
    return {
        "operation_id": name,
        "summary": summary,
        "response_description": summary,
        "responses": {
            status: good,
            **({304: {"description": "Not modified.", "headers": good["headers"]}} if not_modified else {}),
            **_responses(errors),
        },
    }


def described_socket(name: str, summary: str, sent: _Kinds, answered: _Kinds, examples: Mapping[str, _Json]) -> _Json:
    """Arguments of the route of a WebSocket's handshake. The document has the messages as an extension: `sent` by the
    client, and `answered`; `examples` are of both, by the class's name."""
    required = {each: {**header, "required": True} for each, header in _OF_UPGRADES.items()}
    sides = {
        side: {"oneOf": [_ref("schemas", kind.__name__) for kind in kinds]}
        | {"examples": [examples[kind.__name__] for kind in kinds]}
        for side, kinds in (("sent", sent), ("answered", answered))
    }
    return {
        **described(name, summary, UpgradeRequired, headers=required, status=101),
        "status_code": 101,
        "openapi_extra": {MESSAGES: sides},
    }


def of_a_model(
    add: Callable[..., Any], path: str, name: str, summary: str, *errors: Error, response_model: Any, **facts: Any
) -> Callable[[_Function], _Function]:
    """Decorate a function as two routes: at a path with a model's `{name}`, and at that of one of its versions.

    `add` is a method of a router, such as `router.get`; the other arguments are those of `described`.
    """

    def decorate(function: _Function) -> _Function:
        of_version = path.replace("{name", "{name}/versions/{version")
        for each, operation in ((path, name), (of_version, f"{name}Version")):
            add(each, response_model=response_model, **described(operation, summary, *errors, **facts))(function)
        return function

    return decorate


def document(routes: Sequence[BaseRoute], *, secured: bool) -> _Json:
    """The API document of these routes. `secured` is true if API keys are required.

    Uses the functions of `fastapi.openapi.utils.get_openapi` except its last one, which drops nulls from examples and
    defaults, writes whole numbers as 1.0, and takes most of the time.
    """
    found = [route for route in routes if isinstance(route, APIRoute)]
    fields = get_fields_from_routes(found)
    mapping, schemas = get_definitions(fields=fields, model_name_map={}, separate_input_output_schemas=False)
    paths: _Json = {}
    ids: set[str] = set()
    for route in found:
        path, _, _ = get_openapi_path(
            route=cast(Any, route),
            operation_ids=ids,
            model_name_map={},
            field_mapping=mapping,
            separate_input_output_schemas=False,
        )
        for method, operation in path.items():
            _tidy(operation)
            _complete(operation, method.upper(), route)
        paths.setdefault(route.path_format, {}).update(path)
    kinds = [(kind, "validation") for kind in (ProblemShape, ProtocolError, *streams.SENT, *streams.ANSWERED)]
    _, errors = models_json_schema(kinds, ref_template=_SCHEMAS + "{model}")  # type: ignore[arg-type]  # a list is invariant
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": dict(sorted({**schemas, **errors["$defs"]}.items())),
            "responses": {
                **{each.slug: _response(each) for each in (*EXAMPLES, RequestError(problems.INTERNAL))},
                "protocol-error": _protocol_error(),
            },
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "securitySchemes": {_KEY: {"type": "http", "scheme": "bearer"}},
        },
        "security": [{_KEY: []}] if secured else [{}, {_KEY: []}],
    }


def _tidy(operation: _Json) -> None:
    """Keep references only, without FastAPI's own descriptions and default answers."""
    for status, response in list(operation["responses"].items()):
        if "$ref" in response:
            operation["responses"][status] = {"$ref": response["$ref"]}
        elif status == "422":
            del operation["responses"][status]
        elif not response.get("content", True):
            del response["content"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "anyOf" in content["schema"]:  # an optional body that is never null
            content["schema"] = content["schema"]["anyOf"][0]


def _complete(operation: _Json, method: str, route: APIRoute) -> None:
    """Add the parameters of a route, and the errors of its kind."""
    health = route.path in HEALTH
    errors = [*_OF_A_CONNECTION, *(() if health else _OF_ACCESS)]
    headers = ["X-Request-ID"]
    if isinstance(route, BodyRoute):
        errors += _OF_A_BODY
        if route.timed:
            errors.append(DeadlineExceeded)
            headers.append("X-Request-Timeout")
        if route.routed and "version" not in route.param_convertors:
            headers.append("X-Route-Key")
    if isinstance(route, JobRoute) or "name" in route.param_convertors:
        errors.append(ModelNotFound)
    protocol = problems.form_of(method, route.path) is problems.Form.PROTOCOL
    responses = {"500": _ref("responses", RequestError.slug), **_responses(errors), **operation["responses"]}
    operation["responses"] = {
        status: _ref("responses", "protocol-error") if protocol and status >= "400" else response
        for status, response in sorted(responses.items())
    }
    others = [each for each in operation.get("parameters", ()) if each["name"] not in _PLACES]
    places = [_PLACES[name] for name in route.param_convertors if name in _PLACES]
    operation["parameters"] = [*places, *others, *(_ref("parameters", each) for each in headers)]
    if health:
        operation["security"] = []


def _responses(errors: Iterable[Error]) -> _Json:
    """By status, references to the descriptions of errors. The last of two errors with one status counts."""
    return {str(each.status): _ref("responses", each.slug) for each in errors}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _refs(kind: str, named: _Json) -> _Json:
    return {name: _ref(kind, name) for name in named}


def _response(error: RequestError) -> _Json:
    known = {**_OF_ERRORS, **_OF_UPGRADES}
    own = {name: {**known[name], "required": True} for name in problems.headers(error)}
    content = {"schema": _ref("schemas", ProblemShape.__name__), "example": problems.body(error, REQUEST_ID)}
    headers = {**_refs("headers", _HEADERS), **own}
    return {"description": f"{error.title}.", "headers": headers, "content": {problems.MEDIA_TYPE: content}}


def _protocol_error() -> _Json:
    example = {"error": str(ModelNotFound("sentiment-xl", ["ner-bilstm", "sentiment-bilstm"]))}
    return {
        "description": "An error, in the protocol's own form.",
        "headers": {**_refs("headers", _HEADERS), **_OF_ERRORS},
        "content": {JSON: {"schema": _ref("schemas", ProtocolError.__name__), "example": example}},
    }
