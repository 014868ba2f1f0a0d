"""Rejections by the connection itself: the answer, and the reason under which it is counted."""

from __future__ import annotations

import structlog
from starlette.responses import Response

from service.errors import Refused, RequestError
from service.http import problems
from service.http.middleware import rejection

_log = structlog.get_logger()


def answer(error: Exception, method: str, target: bytes, request_id: str, reason: Refused) -> Response:
    """The answer to an incomplete request, in the error form of its route."""
    if reason is Refused.INTERNAL:
        _log.error("unexpected error", exc_info=error)
    path = target.partition(b"?")[0].decode("latin-1")
    return rejection(problems.of(error), request_id, method, path)


def reason_of(error: Exception) -> Refused:
    """The label in `gatelight_refusals_total`."""
    return (error.reason if isinstance(error, RequestError) else None) or Refused.INTERNAL
