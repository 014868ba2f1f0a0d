"""All errors of the client, as one tree.

ClientError
├── Unreachable         no answer came: no connection, or it broke
├── InvalidAnswer       an answer that is not one of the service: HTML of a proxy, JSON of another shape
└── Problem             the service answered with an error; `status`, `title`, `detail`, `errors`, `request_id`
    ├── InvalidRequest      400, 415, 422  the request is wrong
    ├── Forbidden           401, 403       no API key, or one without the right
    ├── NotFound            404            no such model
    ├── TooLarge            413            over a limit of the service, for one input alone
    ├── Busy                429, 503       too much was asked, and retries did not help; `retry_after`
    └── TimedOut            504            not ready within the deadline; also raised when the client gave up waiting
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import httpx

_INPUT = re.compile(r"/inputs/(\d+)(.*)", re.DOTALL)


class ClientError(Exception):
    """Base of every error that the client raises on purpose."""


class Unreachable(ClientError):
    """No answer came, after all retries."""


class InvalidAnswer(ClientError):
    """An answer came with status 200 that is not one of the service, after all retries of one that is cut off."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """A wrong field: a JSON pointer into the request, in which inputs are counted over the whole list, and the why."""

    pointer: str
    detail: str


@dataclass(eq=False)
class Problem(ClientError):
    """The service answered with an error (RFC 9457). Its log has the request under `request_id`."""

    status: int
    title: str
    detail: str
    errors: tuple[FieldProblem, ...] = ()
    request_id: str | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        # An exception is pickled and copied by its `args`, which has no arguments that were passed by name.
        self.args = (self.status, self.title, self.detail, self.errors, self.request_id, self.retry_after)

    def __str__(self) -> str:
        return f"{self.status} {self.title}: {self.detail}"

    def shifted(self, first: int) -> Problem:
        """The same problem for a request that begins with input number `first`."""
        errors = tuple(FieldProblem(_shifted(each.pointer, first), each.detail) for each in self.errors)
        return replace(self, detail=_shifted(self.detail, first), errors=errors)


class InvalidRequest(Problem):
    """400, 415, 422: the request is wrong."""


class Forbidden(Problem):
    """401, 403: there is no API key, or one that may not do this."""


class NotFound(Problem):
    """404: there is no such model."""


class TooLarge(Problem):
    """413: over a limit of the service, for one input alone."""


class Busy(Problem):
    """429, 503: too much was asked, and retries did not help."""


class TimedOut(Problem):
    """504: not ready within the deadline."""


_KINDS: dict[int, type[Problem]] = {
    400: InvalidRequest,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: Busy,
    503: Busy,
    504: TimedOut,
}


def check(response: httpx.Response) -> None:
    """Raises the `Problem` that an answer is, if it is one."""
    if response.is_success:
        return
    body = _body(response)
    status = response.status_code
    raise _KINDS.get(status, Problem)(
        status,
        str(body.get("title") or response.reason_phrase or "error"),
        str(body.get("detail") or body.get("error") or "The answer says no more."),
        tuple(_field_problems(body.get("errors"))),
        response.headers.get("X-Request-ID"),
        _seconds(response.headers.get("Retry-After")),
    )


def of_transport(error: httpx.RequestError, seconds: float) -> ClientError:
    """The error for a request without any answer."""
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
        return TimedOut(504, "Not ready within the deadline", f"The client waited {seconds:g} seconds.")
    return Unreachable(f"No answer came: {str(error) or type(error).__name__}.")


def _body(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that an error's body is; empty for one of something else, such as a proxy."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _field_problems(errors: object) -> list[FieldProblem]:
    """An error's wrong fields; none if they have another shape, as in another server's error."""
    found = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    return [FieldProblem(str(each.get("pointer", "")), str(each.get("detail", ""))) for each in found]


def _seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After; None for a date, which is not waited for."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None


def _shifted(pointer: str, first: int) -> str:
    found = _INPUT.fullmatch(pointer)
    return f"/inputs/{int(found[1]) + first}{found[2]}" if found else pointer
