"""Errors as answers: ``application/problem+json`` (RFC 9457), with the request's id and pointers to wrong fields.

A problem's `type` points to its description in the API document. The foreign protocols have their own form for every
error, ``{"error": "…"}``, with the same statuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from starlette.responses import Response

from service.errors import (
    FieldProblem,
    InvalidField,
    MethodNotAllowed,
    RateLimited,
    RequestError,
    Unauthorized,
    Unavailable,
    UnsupportedCoding,
)
from service.http.render import JSON

MEDIA_TYPE = "application/problem+json"
_LONGEST_WAIT = 86_400.0
"""Upper bound on `Retry-After`, in seconds. With a rate near 0 the wait would be infinite."""
TYPE_PREFIX = "/openapi.json#/components/responses/"

INTERNAL = "Something went wrong here, not in the request. The log has it under this request_id."


@dataclass(frozen=True, slots=True)
class Problem:
    """One error as an answer."""

    status: int
    slug: str
    title: str
    detail: str
    errors: Sequence[FieldProblem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, object]:
        """The answer's JSON, as plain values."""
        body: dict[str, object] = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in self.errors]
        return body

    def response(self, request_id: str, method: str, path: str) -> Response:
        """The answer to a request, in the error form of its protocol."""
        if is_foreign(method, path):
            return Response(orjson.dumps({"error": self.detail}), self.status, dict(self.headers), JSON)
        return Response(orjson.dumps(self.body(request_id)), self.status, dict(self.headers), MEDIA_TYPE)


FOREIGN = (("/v1", ""), ("/v1/", ""), ("/v2", ""), ("/v2/", ""), ("/models/", "POST"))
"""Routes of the foreign protocols: an exact path or a prefix, and the method; empty for any."""


def is_foreign(method: str, path: str) -> bool:
    """True if a request uses a foreign protocol, also on an unknown path."""
    return any(
        (path.startswith(prefix) if prefix.endswith("/") else path == prefix) and of_method in ("", method)
        for prefix, of_method in FOREIGN
    )


def of(error: Exception) -> Problem:
    """The problem of an error. An unexpected error reveals no details."""
    if isinstance(error, RequestError):
        errors = error.problems if isinstance(error, InvalidField) else ()
        return Problem(error.status, error.slug, error.title, error.detail, errors, _headers(error))
    return Problem(RequestError.status, RequestError.slug, RequestError.title, INTERNAL)


def is_unexpected(error: Exception) -> bool:
    """True if the answer to this error is 500: a bug, not a refusal."""
    return of(error).status == RequestError.status


def _headers(error: RequestError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": error.challenge}
    if isinstance(error, MethodNotAllowed):
        return {"Allow": error.allow}
    if isinstance(error, UnsupportedCoding):
        return {"Accept-Encoding": error.accepted}
    if isinstance(error, RateLimited | Unavailable):
        return {"Retry-After": str(max(1, math.ceil(min(error.retry_after or 1, _LONGEST_WAIT))))}
    return {}
