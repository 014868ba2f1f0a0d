"""What the two clients share: everything but how they wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import httpx
from httpx_retries import Retry, RetryTransport

from service.client import answers
from service.client.answers import Predictions, Traces
from service.client.cutting import Answer, Inputs, Piece, cut, listed
from service.client.problems import ClientError, of_transport
from service.version import VERSION

_RETRIED = (429, 502, 503)
GRACE = 2.0
"""Seconds that the client waits on for an answer that the service has promised by its deadline: that says more."""
POLL_SECONDS = 0.1

_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)


class Base(Generic[_Http]):
    """What both clients are made of: an httpx client with retries, and the bodies of requests."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        timeout: float,
        retries: int,
        backoff: float,
        max_wait: float,
        batch: int,
        concurrency: int,
        http: type[_Http],
        transport: Any,
        options: dict[str, Any],
    ) -> None:
        if batch < 1 or concurrency < 1 or timeout <= 0:
            raise ValueError("batch and concurrency are 1 or more, timeout is over 0")
        self._batch, self._concurrency, self._timeout = batch, concurrency, timeout
        retry = Retry(
            total=retries,
            backoff_factor=backoff,
            max_backoff_wait=max_wait,
            allowed_methods=("GET", "POST"),  # a prediction changes nothing: asking twice does no harm
            status_forcelist=_RETRIED,
            retry_on_exceptions=(httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout),
        )
        headers = {"User-Agent": f"gatelight-client/{VERSION}", "X-Request-Timeout": f"{timeout:.3f}"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._http: _Http = http(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(timeout + GRACE, connect=min(timeout, 5.0), pool=None),
            transport=RetryTransport(transport=transport(limits=limits, **options), retry=retry),
        )

    def pieces(self, inputs: Inputs) -> list[Piece]:
        return cut(listed(inputs), self._batch)

    def failure(self, error: httpx.TransportError) -> ClientError:
        return of_transport(error, self._timeout)


def predicting(
    model: str | None, task: str | None, truncate: bool, tokens: bool
) -> tuple[str, dict[str, Any], dict[str, str], Callable[[bytes], Predictions]]:
    return "/predict", _body(model=model, task=task, truncate=truncate, tokens=tokens), {}, answers.predictions


def tracing(**fields: Any) -> tuple[str, dict[str, Any], dict[str, str], Callable[[bytes], Traces]]:
    return "/gates", _body(**fields), {"Accept": "application/vnd.safetensors"}, answers.traces


def _body(**fields: Any) -> dict[str, Any]:
    """The fields that are set: what is left out is the service's to decide."""
    return {name: value for name, value in fields.items() if value is not None and value is not False}


Call = tuple[str, dict[str, Any], dict[str, str], Callable[[bytes], Answer]]
"""Path, body without its inputs, headers, and what makes an answer of the bytes that come."""
