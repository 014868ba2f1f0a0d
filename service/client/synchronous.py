"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from httpx_retries import Retry

from service.client import answers
from service.client.answers import ModelInfo, Models, Predictions, Traces
from service.client.base import POLL_SECONDS, Base, Call, predicting, tracing
from service.client.cutting import Answer, Inputs, Piece, joined
from service.client.problems import Problem, TooLarge, Unreachable, check


class Client(Base[httpx.Client]):
    """A synchronous client. Connections are kept and shared; it may be used from several threads at once.

    `timeout` is each request's seconds, told to the service too, so that it stops when nobody waits any more. A service
    that is full (503), over a rate (429) or not there is asked again up to `retries` times, when its `Retry-After` says
    or after `backoff` times 1, 2, 4, … seconds, at most `max_wait`. A list is cut into requests of `batch` inputs, of
    which `concurrency` are on their way at once. Other `options` go to httpx's transport: `verify`, `cert`, `proxy`, …
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
        backoff: float = 0.2,
        max_wait: float = 30.0,
        batch: int = 64,
        concurrency: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(
            url,
            api_key=api_key,
            timeout=timeout,
            retries=retries,
            backoff=backoff,
            max_wait=max_wait,
            batch=batch,
            concurrency=concurrency,
            http=httpx.Client,
            transport=httpx.HTTPTransport,
            options=options,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        task: str | None = None,
        truncate: bool = False,
        tokens: bool = False,
    ) -> Predictions:
        """Predictions for a text, or for a list of texts and of token lists. Raises `ClientError`."""
        return self._all(predicting(model, task, truncate, tokens), inputs)

    def gates(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        task: str | None = None,
        truncate: bool = False,
        gates: Sequence[str] | None = None,
        layers: Sequence[int] | None = None,
        directions: Sequence[str] | None = None,
        units: Sequence[int] | None = None,
        reduce: Literal["none", "summary"] | None = None,
        contributions: bool = True,
        explain: int | None = None,
    ) -> Traces:
        """Traces with gates as float32 arrays, in full precision. Raises `ClientError`."""
        call = tracing(
            model=model,
            task=task,
            truncate=truncate,
            gates=gates,
            layers=layers,
            directions=directions,
            units=units,
            reduce=reduce,
            explain=explain,
        )
        call[1]["contributions"] = contributions
        return self._all(call, inputs)

    def models(self) -> Models:
        """What is loaded."""
        return answers.models(self._get("/models").content)

    def model(self, name: str) -> ModelInfo:
        """One model. Raises `NotFound`."""
        return answers.model(self._get(f"/models/{name}").json())

    def ready(self) -> bool:
        """Whether requests are welcome now; asked once, without retries."""
        try:
            return self._http.get("/health/ready", extensions={"retry": Retry(total=0)}).is_success
        except httpx.TransportError:
            return False

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait for the service to start. Raises `Unreachable` when it is not ready in time."""
        end = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() >= end:
                raise Unreachable(f"The service was not ready within {seconds:g} seconds.")
            time.sleep(POLL_SECONDS)

    def _all(self, call: Call[Answer], inputs: Inputs) -> Answer:
        pieces = self.pieces(inputs)
        if len(pieces) == 1:
            return joined(self._piece(call, pieces[0]))
        with ThreadPoolExecutor(min(self._concurrency, len(pieces)), thread_name_prefix="client") as pool:
            futures = [pool.submit(self._piece, call, piece) for piece in pieces]
            try:
                return joined([answer for future in futures for answer in future.result()])
            finally:
                for future in futures:
                    future.cancel()

    def _piece(self, call: Call[Answer], piece: Piece) -> list[Answer]:
        """The answers to a piece: one, or those of its halves where it is over a limit of the service."""
        path, body, headers, read = call
        try:
            response = self._http.post(path, json={**body, "inputs": piece.body()}, headers=headers)
        except httpx.TransportError as error:
            raise self.failure(error) from error
        try:
            check(response)
        except TooLarge as error:
            if len(piece.inputs) == 1:
                raise error.shifted(piece.first) from None
            return [answer for half in piece.halves() for answer in self._piece(call, half)]
        except Problem as error:
            raise error.shifted(piece.first) from None
        return [read(response.content)]

    def _get(self, path: str) -> httpx.Response:
        try:
            response = self._http.get(path)
        except httpx.TransportError as error:
            raise self.failure(error) from error
        check(response)
        return response
