"""What a stream is asked for, over a WebSocket or by `POST /stream`, and what `POST /stream` answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.errors import InvalidField
from service.model.bundle import Task

_Name = Annotated[str, StringConstraints(max_length=256)]


class StreamOptions(BaseModel):
    """Which model reads, and what its events hold."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: _Name | None = Field(None, description="A model that reads forward, as `GET /models` lists it.")
    version: _Name | None = Field(None, description="One of its versions; the stable one where left out.")
    task: Task | None = Field(None, description="Takes this task's default model where `model` is left out.")
    gates: list[_Name] | None = Field(
        None, fail_fast=True, description="Names of gates whose activations each event holds; none where left out."
    )
    layers: list[int] | None = Field(None, fail_fast=True, description="Numbers of layers, from 0; all where left out.")
    units: list[int] | None = Field(None, fail_fast=True, description="Numbers of units, from 0; all where left out.")
    every: int = Field(1, ge=1, le=1_000_000, description="An event for every so many tokens.")
    decimals: int | None = Field(
        4, ge=0, le=17, description="Rounding of the gates; null for full float32. Nothing else is rounded."
    )
    split: bool = Field(True, description="Taggers, raw text: read the text sentence by sentence.")
    state: str | None = Field(None, description="The state to go on from. `split` is the one that it began with.")


class Piece(BaseModel):
    """The next piece of a text: as text, cut anywhere, or as tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    text: str | None = Field(None, description="The next piece of the text, cut anywhere.")
    tokens: list[str] | None = Field(None, fail_fast=True, description="The next tokens of a text that comes so.")
    end: bool = Field(False, description="The text ends here.")

    def check(self) -> None:
        """Raises `InvalidField` for text and tokens together."""
        if self.text is not None and self.tokens is not None:
            raise InvalidField("/tokens", "A piece is text or tokens; send one of them.")


class StreamRequest(StreamOptions, Piece):
    """A piece of a text, and the state that the pieces before it left."""


class Opening(StreamOptions):
    """The first message of a stream over a WebSocket."""

    state_every: int = Field(
        0, ge=0, le=1_000_000, description="A message with the state after every so many tokens; 0 for none."
    )
    key: str | None = Field(None, max_length=1024, description="The API key, of a client that can send no header.")


class TokenEvent(BaseModel):
    """One token that is complete."""

    type: Literal["token"] = Field(description="The kind of the event.")
    t: int = Field(description="Its number, from 0.")
    text: str = Field(description="The token as it was sent.")
    start: int = Field(description="Where it begins in the whole text, in code points.")
    end: int = Field(description="Where it ends there, exclusive.")
    scores: dict[str, float] | None = Field(None, description="Classifiers: the answer for the text so far.")
    label: str | None = Field(None, description="Taggers: its label, provisional.")
    gates: dict[str, dict[str, list[float]]] | None = Field(None, description="By layer and gate: one number a unit.")


class LabelsEvent(BaseModel):
    """Labels of tokens that are settled: no later token changes them."""

    type: Literal["labels"] = Field(description="The kind of the event.")
    t: int = Field(description="The number of the first of these tokens.")
    labels: list[str] = Field(description="Their labels.")
    scores: list[float] = Field(description="The labels' probabilities.")
    spans: list[list[int]] = Field(description="Where each token begins and ends in the whole text.")


class EntityEvent(BaseModel):
    """An entity that is settled."""

    type: Literal["entity"] = Field(description="The kind of the event.")
    label: str = Field(description="The kind of the entity.")
    text: str = Field(description="Its text as it was sent.")
    start: int = Field(description="Where it begins in the whole text, in code points.")
    end: int = Field(description="Where it ends there, exclusive.")
    score: float = Field(description="The probability that each of its tokens has its label.")
    token_start: int = Field(description="The number of its first token.")
    token_end: int = Field(description="The number behind that of its last token.")


Event = TokenEvent | LabelsEvent | EntityEvent


class StreamAnswer(BaseModel):
    """What a piece came to."""

    model: str = Field(description="The model that read.")
    version: str = Field(description="Its version.")
    events: list[Event] = Field(description="What became known, in order.")
    state: str | None = Field(description="To be sent with the next piece; null behind the end.")
    prediction: dict[str, Any] | None = Field(description="Behind the end: the prediction, as `/predict` has it.")
