"""Errors as answers: ``application/problem+json`` (RFC 9457), with the request's id, and where the bad fields are.

A problem's `type` points to its description in the API document. The foreign protocols have a form of their own for
every error, ``{"error": "…"}``, under the same statuses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.errors import (
    FieldProblem,
    InvalidField,
    RateLimited,
    RequestError,
    Unauthorized,
    Unavailable,
    UnsupportedCoding,
)
from service.http.render import JSON

MEDIA_TYPE = "application/problem+json"
_LONGEST_WAIT = 86_400.0
"""Seconds, of all that `Retry-After` asks for: with next to no rate the wait comes to infinity."""
TYPE_PREFIX = "/openapi.json#/components/responses/"

INTERNAL = "Something went wrong here, not in the request. The log has it under this request_id."
HTTP_PROBLEMS = {
    404: ("route-not-found", "No such route"),
    405: ("method-not-allowed", "Another method is needed"),
    422: ("invalid-header", "A header is wrong"),
}
"""What is no `RequestError`: status to slug and title."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One error as it is answered."""

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
        """The answer to a request, in the form that its protocol has for errors."""
        if is_foreign(method, path):
            return Response(orjson.dumps({"error": self.detail}), self.status, dict(self.headers), JSON)
        return Response(orjson.dumps(self.body(request_id)), self.status, dict(self.headers), MEDIA_TYPE)


FOREIGN = (("/v1", ""), ("/v1/", ""), ("/v2", ""), ("/v2/", ""), ("/models/", "POST"))
"""Routes of the foreign protocols: an exact path, or how a path begins; and the method, empty for any."""


def is_foreign(method: str, path: str) -> bool:
    """True if a request speaks a foreign protocol. It holds for paths without a route too."""
    return any(
        (path.startswith(prefix) if prefix.endswith("/") else path == prefix) and of_method in ("", method)
        for prefix, of_method in FOREIGN
    )


def of(error: Exception) -> Problem:
    """The problem that an error is answered with. Of an error that nobody meant to raise nothing is told."""
    if isinstance(error, RequestError):
        errors = error.problems if isinstance(error, InvalidField) else ()
        return Problem(error.status, error.slug, error.title, error.detail, errors, _headers(error))
    if isinstance(error, HTTPException) and error.status_code in HTTP_PROBLEMS:
        slug, title = HTTP_PROBLEMS[error.status_code]
        return Problem(error.status_code, slug, title, error.detail, headers=error.headers or {})
    return Problem(RequestError.status, RequestError.slug, RequestError.title, INTERNAL)


def is_unexpected(error: Exception) -> bool:
    """True for what nobody meant to raise."""
    return of(error).status == RequestError.status


def _headers(error: RequestError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": error.challenge}
    if isinstance(error, UnsupportedCoding):
        return {"Accept-Encoding": error.accepted}
    if isinstance(error, RateLimited | Unavailable):
        return {"Retry-After": str(max(1, math.ceil(min(error.retry_after or 1, _LONGEST_WAIT))))}
    return {}
