"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, Unpack

import httpx

from service.client.asynchronous import AsyncClient
from service.client.base import Base
from service.client.blocking import blocking, run
from service.client.cutting import Answer, Piece
from service.client.streams import StreamFields, TextStream
from service.client.whole import read_whole


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
