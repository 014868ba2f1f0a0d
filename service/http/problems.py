"""Errors as answers: ``application/problem+json`` (RFC 9457), with the request's id and pointers to wrong fields.

A problem's `type` points to its description in the API document. Two foreign protocols have their own form for every
error, ``{"error": "…"}``, with the same statuses. `/v1` has problems whose `detail` is also the member `error`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum

import orjson
from starlette.responses import Response

from service.errors import RateLimited, RequestError, Unavailable
from service.http.render import JSON

MEDIA_TYPE = "application/problem+json"
_LONGEST_WAIT = 86_400.0
"""Upper bound on `Retry-After`, in seconds. With a rate near 0 the wait would be infinite."""
TYPE_PREFIX = "/openapi.json#/components/responses/"

INTERNAL = "Something went wrong here, not in the request. The log has it under this request_id."


class Form(Enum):
    """The form of an error as an answer."""

    PROBLEM = "a problem"
    EXTENDED = "a problem with the extension member `error`, which KServe's clients read"
    PROTOCOL = "the member `error` alone"


_FORMS = (
    ("/v1", "", Form.EXTENDED),
    ("/v1/", "", Form.EXTENDED),
    ("/v2", "", Form.PROTOCOL),
    ("/v2/", "", Form.PROTOCOL),
    ("/models/", "POST", Form.PROTOCOL),
)
"""An exact path or a prefix, the method (empty for any), and the form of errors there."""


def form_of(method: str, path: str) -> Form:
    """The form of a request's errors, also on an unknown path."""
    for prefix, of_method, form in _FORMS:
        if (path.startswith(prefix) if prefix.endswith("/") else path == prefix) and of_method in ("", method):
            return form
    return Form.PROBLEM


def of(error: Exception) -> RequestError:
    """The error that an answer tells of. An unexpected one reveals no details."""
    return error if isinstance(error, RequestError) else RequestError(INTERNAL)


def is_unexpected(error: Exception) -> bool:
    """True if the answer to this error is 500: a bug, not a refusal."""
    return of(error).status == RequestError.status


def response(error: Exception, request_id: str, method: str, path: str) -> Response:
    """An error as the answer to a request, in the form of its protocol."""
    told, form = of(error), form_of(method, path)
    content = {} if form is Form.PROTOCOL else body(told, request_id)
    if form is not Form.PROBLEM:
        content["error"] = told.detail
    media_type = JSON if form is Form.PROTOCOL else MEDIA_TYPE
    return Response(orjson.dumps(content), told.status, headers(told), media_type)


def body(error: RequestError, request_id: str) -> dict[str, object]:
    """The JSON of an answer, as plain values."""
    found: dict[str, object] = {
        "type": TYPE_PREFIX + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
    }
    if error.problems:
        found["errors"] = [{"pointer": each.pointer, "detail": each.detail} for each in error.problems]
    return found


def headers(error: RequestError) -> Mapping[str, str]:
    """The headers that an error adds to its answer."""
    if isinstance(error, RateLimited | Unavailable):
        seconds = max(1, math.ceil(min(error.retry_after or 1, _LONGEST_WAIT)))
        return {**error.headers, "Retry-After": str(seconds)}
    return error.headers
