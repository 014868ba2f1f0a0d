"""Requests and messages of streams, over a WebSocket or by `POST /stream`, and the answer of `POST /stream`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from service.errors import InvalidField
from service.http.schemas.base import Name, Shape, Strict
from service.http.schemas.responses import WrongField
from service.model.bundle import Task


class StreamOptions(Strict):
    """The model of a stream and the contents of its events."""

    model: Name | None = Field(None, description="A model that reads forward, as in `GET /models`.")
    version: Name | None = Field(None, description="One of its versions; the stable one by default.")
    task: Task | None = Field(None, description="The task: its default model is used if `model` is missing.")
    gates: list[Name] | None = Field(None, fail_fast=True, description="Names of gates in each event; none by default.")
    layers: list[int] | None = Field(None, fail_fast=True, description="Numbers of layers, from 0; all by default.")
    units: list[int] | None = Field(None, fail_fast=True, description="Numbers of units, from 0; all by default.")
    every: int = Field(1, ge=1, le=1_000_000, description="Send an event for every N-th token.")
    decimals: int | None = Field(
        4, ge=0, le=17, description="Decimals of the gates; null for full float32. Nothing else is rounded."
    )
    split: bool = Field(True, description="Taggers, raw text: read the text sentence by sentence.")
    state: str | None = Field(None, description="The state to continue from. It keeps its own `split`.")


class Piece(Strict):
    """The next piece of a text: text, cut anywhere, or tokens."""

    text: str | None = Field(None, description="The next piece of the text, cut anywhere.")
    tokens: list[str] | None = Field(
        None, fail_fast=True, description="The next tokens, of a text that comes as tokens."
    )
    end: bool = Field(False, description="The text ends here.")

    def check(self) -> None:
        """Raises `InvalidField` for a piece with both text and tokens, and for an empty token."""
        if self.text is not None and self.tokens is not None:
            raise InvalidField("/tokens", "A piece is text or tokens; send one of them.")
        if self.tokens is not None and "" in self.tokens:
            raise InvalidField(f"/tokens/{self.tokens.index('')}", "The token is empty.")


class StreamRequest(StreamOptions, Piece):
    """A piece of a text, and the state after the pieces before it."""


class StreamOpening(StreamOptions):
    """The first message of a stream over a WebSocket."""

    state_every: int = Field(0, ge=0, le=1_000_000, description="Send the state after every N-th token; 0 for never.")
    key: str | None = Field(None, max_length=1024, description="The API key of a client that cannot send headers.")


class TokenEvent(BaseModel):
    """A complete token."""

    type: Literal["token"] = Field(description="The kind of the event.")
    t: int = Field(description="Its number, from 0.")
    text: str = Field(description="The token as it was sent.")
    start: int = Field(description="Its start in the whole text, in code points.")
    end: int = Field(description="Its end, exclusive.")
    scores: dict[str, float] | None = Field(None, description="Classifiers: the answer for the text so far.")
    label: str | None = Field(None, description="Taggers: its label, provisional.")
    gates: dict[str, dict[str, list[float]]] | None = Field(
        None, description="By layer and gate: one number for each unit."
    )


class LabelsEvent(BaseModel):
    """Settled labels. No later token changes them."""

    type: Literal["labels"] = Field(description="The kind of the event.")
    t: int = Field(description="The number of the first of these tokens.")
    labels: list[str] = Field(description="Their labels.")
    scores: list[float] = Field(description="The labels' probabilities.")
    spans: list[list[int]] = Field(description="The start and end of each token in the whole text.")


class EntityEvent(BaseModel):
    """A settled entity."""

    type: Literal["entity"] = Field(description="The kind of the event.")
    label: str = Field(description="The kind of the entity.")
    text: str = Field(description="Its text as it was sent.")
    start: int = Field(description="Its start in the whole text, in code points.")
    end: int = Field(description="Its end, exclusive.")
    score: float = Field(description="The joint probability of its tokens' labels.")
    token_start: int = Field(description="The number of its first token.")
    token_end: int = Field(description="The number of the token after its last.")


Event = TokenEvent | LabelsEvent | EntityEvent


class ReadyEvent(Shape):
    """The answer to the opening."""

    type: Literal["ready"] = Field(description="The kind of the event.")
    model: str = Field(description="The model that reads.")
    version: str = Field(description="Its version.")
    cell: str = Field(description="Its cell.")


class StateEvent(Shape):
    """The state, to continue from elsewhere."""

    type: Literal["state"] = Field(description="The kind of the event.")
    state: str = Field(description="The state, for the next opening.")
    t: int = Field(description="The number of tokens that were read.")
    read: int = Field(description="The length of the text that the state covers, in code points.")


class DoneEvent(Shape):
    """The text has ended, and the stream begins anew."""

    type: Literal["done"] = Field(description="The kind of the event.")
    prediction: dict[str, Any] = Field(description="The prediction of `/predict`.")
    tokens: int = Field(description="The number of tokens of the text.")
    request_id: str = Field(description="The id for feedback on the prediction of the newest text.")


class ErrorEvent(Shape):
    """An error. If the stream cannot go on, the connection closes: with 1008, 1009, 1012 or 1013."""

    type: Literal["error"] = Field(description="The kind of the event.")
    status: int = Field(description="The status that `POST /stream` would have.")
    detail: str = Field(description="What was wrong, and the right form.")
    errors: list[WrongField] | None = Field(None, description="The wrong fields, if there are any.")


SENT: tuple[type[BaseModel], ...] = (StreamOpening, Piece)
"""The messages of a WebSocket's client: the first, and all others."""
ANSWERED: tuple[type[BaseModel], ...] = (
    ReadyEvent,
    TokenEvent,
    LabelsEvent,
    EntityEvent,
    StateEvent,
    DoneEvent,
    ErrorEvent,
)
"""The messages of the service over a WebSocket."""


class StreamAnswer(BaseModel):
    """The result of a piece."""

    model: str = Field(description="The model that read.")
    version: str = Field(description="Its version.")
    events: list[Event] = Field(description="The new events, in order.")
    state: str | None = Field(description="The state to send with the next piece; null after the end.")
    prediction: dict[str, Any] | None = Field(description="After the end: the prediction of `/predict`.")
