"""All errors in one tree. Each class that can reach an HTTP client carries its status.

ServiceError
├── BundleError             a bundle on disk cannot be served (or written)
├── StartupError            the service cannot start with its configuration
└── RequestError            one request is rejected or fails; `status`, `slug`, `title`
    ├── MalformedBody           400  not JSON, not UTF-8, an unpaired surrogate
    ├── MalformedRequest        400  not HTTP/1.1
    ├── Unauthorized            401  API keys are configured and the request has no valid one
    ├── Forbidden               403  a valid API key, or a web page, without the right
    ├── RouteNotFound           404  no such route
    ├── ModelNotFound           404  no such model; lists the loaded ones
    │   └── VersionNotFound     404  the model is loaded in other versions; lists them
    ├── AnswerNotFound          404  feedback on a request that is not among the last ones
    ├── NoShadow                404  a report on the shadow of a model without one
    ├── UnitNotFound            404  the model has no such unit; lists the units
    ├── MethodNotAllowed        405  the route has other methods; gives them
    ├── BundleRefused           409  a bundle cannot be loaded; gives the reason
    │   └── Unfit               409  a canary or shadow does not fit the served version; gives the reason
    ├── RequestTooSlow          408  its header or body did not arrive in time
    ├── TooLarge                413  over a limit; gives the limit and both numbers
    ├── UnsupportedMediaType    415  not a JSON body
    │   └── UnsupportedCoding   415  a body in a content coding other than gzip or deflate
    ├── InvalidField            422  a field is wrong; carries a JSON pointer into the request
    ├── InvalidHeader           422  a header is wrong
    ├── UpgradeRequired         426  the route is a WebSocket; the request has no handshake
    ├── HeaderTooLarge          431  its header is over a limit
    ├── RateLimited             429  a key is over its rate; `retry_after`
    ├── Unavailable             503  full, loading or draining; `retry_after`
    └── DeadlineExceeded        504  the answer was not ready in time
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar


class Refusal(StrEnum):
    """The reason of a rejection: the label `reason` of `gatelight_refusals_total`."""

    CLOSED = "closed"
    """The service is shutting down."""
    CONNECTIONS = "connections"
    """Too many connections are open."""
    DEADLINE = "deadline"
    """The deadline had passed on arrival."""
    EDGE = "edge"
    """Too much parsing and tokenising waits for a thread."""
    FORBIDDEN = "forbidden"
    """The key lacks the right."""
    FULL = "full"
    """Too many tokens wait."""
    HEADER_SIZE = "header-size"
    """The header is over a limit."""
    INTERNAL = "internal-error"
    """An error in the service."""
    MALFORMED = "malformed-request"
    """The request is not HTTP/1.1."""
    METHOD = "method-not-allowed"
    """CONNECT, or a method that is not known."""
    NO_MODEL = "no-model"
    """No model is loaded."""
    PIPELINED = "pipelined"
    """Too many requests wait on one connection."""
    RATE = "rate-limited"
    """A key is over its rate."""
    SLOW_BODY = "slow-body"
    """The body did not arrive in time."""
    SLOW_HEADER = "slow-header"
    """The header did not arrive in time."""
    SLOW_READER = "slow-reader"
    """The client takes its answer too slowly, so its connection is cut."""
    STREAMS = "streams"
    """Too many streams are open."""
    TOO_LARGE = "too-large"
    """The body, the inputs or the trace are over a limit."""
    TRACE = "trace"
    """Too many numbers in current traces."""
    UNAUTHORIZED = "unauthorized"
    """No valid key."""
    UNREAD = "unread"
    """Too many bytes of incomplete bodies have arrived: the first such body is rejected."""
    UNSENT = "unsent"
    """Too many bytes of answers wait for their clients: a slow reader is cut."""


class ServiceError(Exception):
    """Base of every error that this package raises on purpose."""


class BundleError(ServiceError):
    """A bundle on disk is incomplete, altered, or differs from its manifest."""


class StartupError(ServiceError):
    """The service cannot start. The message names the cause and the remedy."""


class RequestError(ServiceError):
    """One request cannot be answered. `detail` is a text for its sender. `reason` is the label under which the
    rejection is counted; None if it is not a rejection or is counted already. `problems` are the wrong fields.
    `headers` are added to the answer."""

    reason: Refusal | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    problems: Sequence[FieldProblem] = ()
    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, retry_after: float | None = None, reason: Refusal | None = None) -> None:
        super().__init__(detail)
        self.detail, self.retry_after = detail, retry_after
        self.reason = reason or self.reason


class MalformedBody(RequestError):
    status, slug, title = 400, "malformed-body", "The body cannot be read"


class Unauthorized(RequestError):
    reason = Refusal.UNAUTHORIZED
    headers: Mapping[str, str] = MappingProxyType({"WWW-Authenticate": "Bearer"})
    status, slug, title = 401, "unauthorized", "An API key is needed"


class Forbidden(RequestError):
    """`key` identifies the API key in the log; None if there was none."""

    reason = Refusal.FORBIDDEN
    key: str | None = None
    status, slug, title = 403, "forbidden", "Not for this key"


class RouteNotFound(RequestError):
    status, slug, title = 404, "route-not-found", "No such route"


class MethodNotAllowed(RequestError):
    """`allow` is the value of the answer's `Allow`."""

    status, slug, title = 405, "method-not-allowed", "Another method is needed"

    def __init__(self, detail: str, allow: str, reason: Refusal | None = None) -> None:
        super().__init__(detail, reason=reason)
        self.headers = {"Allow": allow}


class ModelNotFound(RequestError):
    status, slug, title = 404, "model-not-found", "No such model"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no model named {name!r}. Loaded: {', '.join(sorted(known)) or 'none'}.")


class VersionNotFound(ModelNotFound):
    """The model is loaded, but not in the requested version."""

    def __init__(self, name: str, version: str, served: Sequence[str]) -> None:
        are = f"versions {', '.join(served)} are" if len(served) > 1 else f"version {', '.join(served)} is"
        RequestError.__init__(self, f"Version {version!r} of {name!r} is not loaded; {are}.")


class AnswerNotFound(RequestError):
    status, slug, title = 404, "answer-not-found", "No such answer"

    def __init__(self, request_id: str, most: int) -> None:
        shown = request_id if len(request_id) <= 128 else f"{request_id[:128]}…"
        super().__init__(f"No request {shown!r} is among the last {most} that were answered.")


class NoShadow(RequestError):
    status, slug, title = 404, "no-shadow", "No shadow"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} has no shadow. The setting shadow gives it one, such as {name}=2, or an admin route.")


class UnitNotFound(RequestError):
    status, slug, title = 404, "unit-not-found", "No such unit"


class BundleRefused(RequestError):
    status, slug, title = 409, "bundle-refused", "The bundle cannot be served"


class Unfit(BundleRefused):
    slug, title = "unfit", "The versions do not fit together"


class TooLarge(RequestError):
    """A value is over a limit. `what` names the limit in words, `got` is the value, `limit` the most allowed."""

    reason = Refusal.TOO_LARGE
    status, slug, title = 413, "too-large", "Over a limit"

    def __init__(self, what: str, got: int | str, limit: int) -> None:
        super().__init__(f"{what}: {got}, the limit is {limit}.")


class MalformedRequest(RequestError):
    reason = Refusal.MALFORMED
    status, slug, title = 400, "malformed-request", "Not HTTP/1.1"


class RequestTooSlow(RequestError):
    status, slug, title = 408, "request-too-slow", "The request came too slowly"


class HeaderTooLarge(RequestError):
    reason = Refusal.HEADER_SIZE
    status, slug, title = 431, "header-too-large", "The header is over a limit"

    def __init__(self, got: int, limit: int, what: str = "Bytes in the request's header") -> None:
        super().__init__(f"{what}: {got}, the limit is {limit}.")


class UnsupportedMediaType(RequestError):
    status, slug, title = 415, "unsupported-media-type", "Not a JSON body"


class UnsupportedCoding(UnsupportedMediaType):
    headers = MappingProxyType({"Accept-Encoding": "gzip, deflate"})
    slug, title = "unsupported-coding", "Not a content coding that is read"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field: a JSON pointer (RFC 6901) into the request, and the fault."""

    pointer: str
    detail: str


class InvalidField(RequestError):
    """One or more fields are wrong.

    `pointer` is relative to the checked part. The caller that knows the outer path re-raises with `under`.
    """

    status, slug, title = 422, "invalid-field", "A field is wrong"

    def __init__(self, pointer: str, detail: str, *more: FieldProblem) -> None:
        super().__init__(f"{pointer}: {detail}" if pointer else detail)
        self.problems = (FieldProblem(pointer, detail), *more)

    def under(self, prefix: str) -> InvalidField:
        """The same error with `prefix`, such as ``/inputs/3``, before every pointer."""
        first, *rest = (FieldProblem(prefix + p.pointer, p.detail) for p in self.problems)
        return InvalidField(first.pointer, first.detail, *rest)


class InvalidHeader(RequestError):
    status, slug, title = 422, "invalid-header", "A header is wrong"


class UpgradeRequired(RequestError):
    headers = MappingProxyType({"Upgrade": "websocket", "Connection": "Upgrade"})
    status, slug, title = 426, "upgrade-required", "Another protocol is needed"


class RateLimited(RequestError):
    """`key` identifies the API key in the log."""

    reason = Refusal.RATE
    key: str | None = None
    status, slug, title = 429, "rate-limited", "Too many requests for this key"


class Unavailable(RequestError):
    status, slug, title = 503, "unavailable", "Not available now"


class DeadlineExceeded(RequestError):
    status, slug, title = 504, "deadline-exceeded", "Not ready within the deadline"

    def __init__(self, detail: str = "The answer was not ready within the request's deadline.") -> None:
        super().__init__(detail)
