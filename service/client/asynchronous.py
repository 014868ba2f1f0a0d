"""The asynchronous client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self

import httpx
from httpx_retries import Retry

from service.client import answers
from service.client.answers import ModelInfo, Models, Predictions, Traces
from service.client.base import POLL_SECONDS, Base, Call, predicting, tracing
from service.client.cutting import Answer, Inputs, Piece, joined
from service.client.problems import Problem, TooLarge, Unreachable, check


class AsyncClient(Base[httpx.AsyncClient]):
    """An asynchronous client, for one event loop.

    Its arguments are those of `Client`.
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
            http=httpx.AsyncClient,
            transport=httpx.AsyncHTTPTransport,
            options=options,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        inputs: Inputs,
        *,
        model: str | None = None,
        task: str | None = None,
        truncate: bool = False,
        tokens: bool = False,
    ) -> Predictions:
        """Predictions for a text, or for a list of texts and of token lists. Raises `ClientError`."""
        return await self._all(predicting(model, task, truncate, tokens), inputs)

    async def gates(
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
        return await self._all(call, inputs)

    async def models(self) -> Models:
        """What is loaded."""
        return answers.models((await self._get("/models")).content)

    async def model(self, name: str) -> ModelInfo:
        """One model. Raises `NotFound`."""
        return answers.model((await self._get(f"/models/{name}")).json())

    async def ready(self) -> bool:
        """Whether requests are welcome now; asked once, without retries."""
        try:
            response = await self._http.get("/health/ready", extensions={"retry": Retry(total=0)})
        except httpx.TransportError:
            return False
        return response.is_success

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait for the service to start. Raises `Unreachable` when it is not ready in time."""
        end = time.monotonic() + seconds
        while not await self.ready():
            if time.monotonic() >= end:
                raise Unreachable(f"The service was not ready within {seconds:g} seconds.")
            await asyncio.sleep(POLL_SECONDS)

    async def _all(self, call: Call[Answer], inputs: Inputs) -> Answer:
        pieces = self.pieces(inputs)
        allowed = asyncio.Semaphore(self._concurrency)

        async def bounded(piece: Piece) -> list[Answer]:
            async with allowed:
                return await self._piece(call, piece)

        tasks = [asyncio.ensure_future(bounded(piece)) for piece in pieces]
        try:
            return joined([answer for found in await asyncio.gather(*tasks) for answer in found])
        finally:
            for task in tasks:
                task.cancel()

    async def _piece(self, call: Call[Answer], piece: Piece) -> list[Answer]:
        """The answers to a piece: one, or those of its halves where it is over a limit of the service."""
        path, body, headers, read = call
        try:
            response = await self._http.post(path, json={**body, "inputs": piece.body()}, headers=headers)
        except httpx.TransportError as error:
            raise self.failure(error) from error
        try:
            check(response)
        except TooLarge as error:
            if len(piece.inputs) == 1:
                raise error.shifted(piece.first) from None
            return [answer for half in piece.halves() for answer in await self._piece(call, half)]
        except Problem as error:
            raise error.shifted(piece.first) from None
        return [read(response.content)]

    async def _get(self, path: str) -> httpx.Response:
        try:
            response = await self._http.get(path)
        except httpx.TransportError as error:
            raise self.failure(error) from error
        check(response)
        return response
