"""The asynchronous client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx
from httpx_retries import Retry

from service.client.answers import Entity, Feedback, ModelInfo, Models, Predictions, Shadow, Traces, UnitCard, read
from service.client.base import (
    POLL_SECONDS,
    Base,
    GateFields,
    PredictFields,
    Request,
    feedback_body,
    predicting,
    tracing,
    unit_path,
    with_sources,
)
from service.client.cutting import Answer, Inputs, Piece, cut, joined
from service.client.problems import Problem, TooLarge, Unreachable, check, of_transport
from service.client.streams import AsyncTextStream, StreamFields
from service.client.whole import aread_whole, is_ready

_Kind = TypeVar("_Kind")


class AsyncClient(Base[httpx.AsyncClient]):
    """An asynchronous client, for one event loop. Its arguments are those of `Base`."""

    _client = httpx.AsyncClient
    _transport = httpx.AsyncHTTPTransport
    _read_whole = staticmethod(aread_whole)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(self, inputs: Inputs, **fields: Unpack[PredictFields]) -> Predictions:
        """Predictions for a text, or for a list of texts and of token lists. Raises `ClientError`."""
        return await self._all(predicting(fields), inputs)

    async def gates(self, inputs: Inputs, **fields: Unpack[GateFields]) -> Traces:
        """Traces with gates as float32 arrays, in full precision. Raises `ClientError`."""
        return await self._all(tracing(fields), inputs)

    def stream(self, *, state: str | None = None, **fields: Unpack[StreamFields]) -> AsyncTextStream:
        """A text that is sent in pieces. `state` continues another stream, from this service or another instance."""

        async def post(body: dict[str, Any]) -> bytes:
            return (await self._send("POST", "/stream", json=body)).content

        return AsyncTextStream(post, fields, state)

    async def models(self) -> Models:
        """The loaded models."""
        return await self._get(Models, "/models")

    async def model(self, name: str) -> ModelInfo:
        """One model. Raises `NotFound`."""
        return await self._get(ModelInfo, f"/models/{quote(name, safe='')}")

    async def unit(
        self,
        name: str,
        unit: int,
        *,
        layer: int = 0,
        direction: Literal["forward", "backward"] = "forward",
        version: str | None = None,
    ) -> UnitCard:
        """The card of one unit: where it is most active, what is lost without it, its direction in the logits.

        `version` is one that is served; left out, the stable one. Raises `NotFound` for a unit that the model has not.
        """
        return await self._get(UnitCard, unit_path(name, unit, layer, direction, version))

    async def feedback(
        self,
        request_id: str,
        number: int = 0,
        *,
        label: str | None = None,
        entities: Sequence[Entity | Mapping[str, Any]] | None = None,
    ) -> Feedback:
        """Send the right answer: a label, or the entities of a tagger's input. `Predictions.sources` has both
        positional arguments for each input. Raises `NotFound` for a request that is not among the last ones."""
        body = feedback_body(request_id, number, label, entities)
        return read(Feedback, (await self._send("POST", "/feedback", json=body)).content)

    async def shadow(self, name: str) -> Shadow:
        """The comparison of a model's shadow with the served version. Raises `NotFound` if it has none."""
        return await self._get(Shadow, f"/models/{quote(name, safe='')}/shadow")

    async def ready(self) -> bool:
        """True if the service is ready. Asked once, without retries."""
        try:
            response = await self._http.get("/health/ready", extensions={"retry": Retry(total=0)})
        except httpx.RequestError:
            return False
        return is_ready(response)

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait for the service to start. Raises `Unreachable` when it is not ready in time."""
        end = time.monotonic() + seconds
        while not await self.ready():
            if time.monotonic() >= end:
                raise Unreachable(f"The service was not ready within {seconds:g} seconds.")
            await asyncio.sleep(POLL_SECONDS)

    async def _all(self, request: Request[Answer], inputs: Inputs) -> Answer:
        pieces = cut(inputs, self._batch)
        allowed = asyncio.Semaphore(self._concurrency)

        async def bounded(piece: Piece) -> list[Answer]:
            async with allowed:
                return await self._piece(request, piece)

        tasks = [asyncio.ensure_future(bounded(piece)) for piece in pieces]
        try:
            return joined([answer for found in await asyncio.gather(*tasks) for answer in found])
        finally:
            for task in tasks:
                task.cancel()

    async def _piece(self, request: Request[Answer], piece: Piece) -> list[Answer]:
        """The answers to a piece: one, or those of its halves if it is over a limit of the service."""
        path, body, headers, read = request
        try:
            response = await self._send("POST", path, json={**body, "inputs": piece.body()}, headers=headers)
        except TooLarge as error:
            if len(piece.inputs) == 1:
                raise error.shifted(piece.first) from None
            return [answer for half in piece.halves() for answer in await self._piece(request, half)]
        except Problem as error:
            raise error.shifted(piece.first) from None
        return [with_sources(read(response.content), piece, response)]

    async def _get(self, kind: type[_Kind], path: str) -> _Kind:
        return read(kind, (await self._send("GET", path)).content)

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.RequestError as error:
            raise of_transport(error, self._timeout) from error
        check(response)
        return response
