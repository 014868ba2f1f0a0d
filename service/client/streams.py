"""A text that is sent in pieces, with either client. The state stays here: every request brings it along.

So a stream survives its service: when a worker is killed, or a replica restarts, the same piece goes to another one
with the same state (replicas share the setting `state_key`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from service.client.base import ModelFields, blocking, members
from service.client.whole import reading


class StreamFields(ModelFields, total=False):
    gates: Sequence[str] | None
    """Names of gates in each event."""
    layers: Sequence[int] | None
    units: Sequence[int] | None
    every: int
    """An event for every N-th token."""
    decimals: int | None


Event = dict[str, Any]
"""A new fact: `type` is ``token``, ``labels`` or ``entity``."""
Piece = str | Sequence[str]
"""A piece of the text, cut anywhere; or tokens."""


class _Base:
    """The common part of both streams. `post` sends a body to a path and returns the answer. `state` can be kept, and
    given to a later stream."""

    def __init__(
        self, post: Callable[[str, dict[str, Any]], Awaitable[httpx.Response]], fields: StreamFields, state: str | None
    ) -> None:
        self._post = post
        self._fields = members(StreamFields, fields)
        self.state = state
        self.events: list[Event] = []
        """Those of the last piece."""
        self.prediction: dict[str, Any] | None = None
        """As `/predict` has it, once the text has ended."""
        self.source: tuple[str, int] | None = None
        """The first arguments of `feedback` on this prediction."""

    async def _exchange(self, piece: Piece, *, end: bool) -> None:
        part = {"text": piece} if isinstance(piece, str) else {"tokens": list(piece)}
        response = await self._post("/stream", {**self._fields, **part, "state": self.state, "end": end})
        self.events, self.state, self.prediction = _read(response.content, end=end)
        self.source = (response.headers.get("X-Request-ID", ""), 0) if end else None


@reading
def _read(content: bytes, *, end: bool) -> tuple[list[Event], str | None, dict[str, Any] | None]:
    """The events, the state and the prediction of an answer. Raises `InvalidAnswer`."""
    answer = json.loads(content)
    events, state, prediction = answer["events"], answer["state"], answer["prediction"]
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError("events is no list of objects")
    if not isinstance(state, str) and (state is not None or not end):
        raise ValueError("state is no text")
    if isinstance(prediction, dict) is not end or (not end and prediction is not None):
        raise ValueError("a prediction comes with the end of the text")
    return events, state, prediction


class AsyncTextStream(_Base):
    """A text in pieces. Made by `AsyncClient.stream`."""

    async def send(self, piece: Piece) -> list[Event]:
        """Send the next piece: the events that it came to. Raises `ClientError`; the stream is as it was then."""
        await self._exchange(piece, end=False)
        return self.events

    async def end(self, piece: Piece = "") -> dict[str, Any]:
        """Send the last piece: the prediction of the whole text. The next begins another. Raises `ClientError`."""
        await self._exchange(piece, end=True)
        assert self.prediction is not None  # `_read` has checked it
        return self.prediction


class TextStream(_Base):
    """A text in pieces. Made by `Client.stream`. Its methods are those of `AsyncTextStream`."""

    send = blocking(AsyncTextStream.send)
    end = blocking(AsyncTextStream.end)
