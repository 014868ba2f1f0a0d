"""Server-sent events of `POST /stream`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from service.errors import RequestError, TooLarge
from service.http.streaming import routes


@pytest.mark.parametrize(
    ("error", "status", "logged"), [(ValueError("a number is not finite"), 500, 1), (TooLarge("Tokens", 9, 8), 413, 0)]
)
def test_an_error_after_the_first_event_is_the_last_event(error: Exception, status: int, logged: int) -> None:
    async def events() -> AsyncIterator[list[dict[str, Any]]]:
        yield [{"type": "token", "t": 0}]
        raise error

    context = cast(Any, SimpleNamespace(log={}))
    opened = cast(Any, SimpleNamespace(ready={"type": "ready"}))

    async def sending() -> list[bytes]:
        return [each async for each in routes._sent(context, opened, [], events())]

    with capture_logs() as logs:
        sent = asyncio.run(sending())
    kind, _, data = sent[-1].decode().removesuffix("\n\n").partition("\n")
    assert kind == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert told["status"] == status
    assert "not finite" not in told["detail"]  # an unexpected error reveals no details
    assert len(logs) == logged
    assert context.log["error"] == (error.slug if isinstance(error, RequestError) else "internal-error")
