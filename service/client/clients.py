"""The two clients. `AsyncClient` has the calls; `Client` runs them without an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self, Unpack
from urllib.parse import quote

import httpx

from service.client.answers import Entity, Feedback, ModelInfo, Models, Predictions, Shadow, Traces, UnitCard, read
from service.client.base import (
    POLL_SECONDS,
    Base,
    GateFields,
    PredictFields,
    blocking,
    feedback_body,
    predicting,
    run,
    tracing,
    unit_path,
)
from service.client.cutting import Answer, Inputs, Piece
from service.client.problems import Unreachable
from service.client.streams import AsyncTextStream, StreamFields, TextStream
from service.client.whole import aread_whole, read_whole


class AsyncClient(Base[httpx.AsyncClient]):
    """An asynchronous client, for one event loop. Its arguments are those of `Base`."""

    _client = httpx.AsyncClient
    _transport = httpx.AsyncHTTPTransport
    _read_whole = staticmethod(aread_whole)
    _sleep = staticmethod(asyncio.sleep)

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
        return AsyncTextStream(self._post, fields, state)

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
        return read(Feedback, (await self._post("/feedback", body)).content)

    async def shadow(self, name: str) -> Shadow:
        """The comparison of a model's shadow with the served version. Raises `NotFound` if it has none."""
        return await self._get(Shadow, f"/models/{quote(name, safe='')}/shadow")

    async def ready(self) -> bool:
        """True if the service is ready. Asked once, without retries."""
        return await self._is_ready()

    async def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait for the service to start. Raises `Unreachable` when it is not ready in time."""
        end = time.monotonic() + seconds
        while not await self._is_ready():
            if time.monotonic() >= end:
                raise Unreachable(f"The service was not ready within {seconds:g} seconds.")
            await self._sleep(POLL_SECONDS)

    async def _each(
        self, work: Callable[[Piece], Coroutine[Any, Any, list[Answer]]], pieces: Sequence[Piece]
    ) -> list[list[Answer]]:
        allowed = asyncio.Semaphore(self._concurrency)

        async def bounded(piece: Piece) -> list[Answer]:
            async with allowed:
                return await work(piece)

        tasks = [asyncio.ensure_future(bounded(piece)) for piece in pieces]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


class Client(Base[httpx.Client]):
    """A synchronous client. Connections are kept and shared; it may be used from several threads at once.

    Its arguments are those of `Base`, its methods those of `AsyncClient`.
    """

    _client = httpx.Client
    _transport = httpx.HTTPTransport
    _read_whole = staticmethod(read_whole)

    predict = blocking(AsyncClient.predict)
    gates = blocking(AsyncClient.gates)
    models = blocking(AsyncClient.models)
    model = blocking(AsyncClient.model)
    unit = blocking(AsyncClient.unit)
    feedback = blocking(AsyncClient.feedback)
    shadow = blocking(AsyncClient.shadow)
    ready = blocking(AsyncClient.ready)
    wait_until_ready = blocking(AsyncClient.wait_until_ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def stream(self, *, state: str | None = None, **fields: Unpack[StreamFields]) -> TextStream:
        """A text that is sent in pieces. `state` continues another stream, from this service or another instance."""
        return TextStream(self._post, fields, state)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251  # there is no event loop

    async def _each(
        self, work: Callable[[Piece], Coroutine[Any, Any, list[Answer]]], pieces: Sequence[Piece]
    ) -> list[list[Answer]]:
        if len(pieces) == 1:
            return [await work(pieces[0])]
        with ThreadPoolExecutor(min(self._concurrency, len(pieces)), thread_name_prefix="client") as pool:
            futures = [pool.submit(lambda piece: run(work(piece)), piece) for piece in pieces]
            try:
                return [future.result() for future in futures]
            finally:
                for future in futures:
                    future.cancel()
