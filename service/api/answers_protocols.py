"""The shapes of the foreign protocols' answers, for the API document, as `service.api.answers` has those of our own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.api.answers import Probability, Shape
from service.api.tensors import Datatype

_Place = Annotated[int, Field(ge=0)]


class ProtocolError(Shape):
    """An error as the foreign protocols have it; the status says which kind."""

    error: str = Field(description="What was wrong, and what would be right.")


class HuggingFaceLabel(Shape):
    """A label for a text."""

    label: str = Field(description="The label.")
    score: float = Field(description="Its probability, or what `function_to_apply` makes of its logit.")


class _Words(Shape):
    score: Probability = Field(description="The probability of the label; of a group the mean of its tokens'.")
    word: str = Field(description="The slice of the text, as it was sent.")
    start: _Place = Field(description="Where it begins in the text, in Unicode code points.")
    end: _Place = Field(description="Where it ends, exclusive.")


class HuggingFaceToken(_Words):
    """A token with its label: what comes with the strategy `none`."""

    entity: str = Field(description="The label, such as B-PER.")


class HuggingFaceGroup(_Words):
    """Tokens of one entity: what comes with any other strategy."""

    entity_group: str = Field(description="The kind of entity, such as PER.")


class ServerMetadata(Shape):
    """The server, in the Open Inference Protocol."""

    name: str = Field(description="Its name.")
    version: str = Field(description="Its version.")
    extensions: list[str] = Field(description="The protocol's extensions that it has.")


class ServerLive(Shape):
    """That the process runs."""

    live: bool = Field(description="true: whoever does not run does not answer.")


class ServerReady(Shape):
    """That requests are welcome."""

    ready: bool = Field(description="true: whoever is not ready answers 503.")


class ModelReady(Shape):
    """That a model answers."""

    name: str = Field(description="The model.")
    ready: bool = Field(description="true.")


class TensorMetadata(Shape):
    """A tensor that a model takes or gives."""

    name: str = Field(description="Its name.")
    datatype: Datatype = Field(description="The type of its elements.")
    shape: list[Annotated[int, Field(ge=-1)]] = Field(description="Its sizes, -1 for what differs between requests.")


class ModelMetadata(Shape):
    """A model's tensors."""

    name: str = Field(description="The model.")
    versions: list[str] = Field(description="The version that is served.")
    platform: str = Field(description="What runs it.")
    inputs: list[TensorMetadata] = Field(description="The one input, `text`.")
    outputs: list[TensorMetadata] = Field(description="Everything that can be asked for, the gates last.")


class OutputPlace(Shape):
    """Of an output that is binary."""

    binary_data_size: int = Field(ge=0, description="Its bytes behind the JSON.")


class OutputTensor(Shape):
    """An output. It has either data, or parameters that say how many of the bytes behind the JSON are its own."""

    name: str = Field(description="Its name.")
    datatype: Datatype = Field(description="The type of its elements.")
    shape: list[_Place] = Field(description="Its sizes.")
    parameters: OutputPlace | None = Field(None, description="Where it is binary.")
    data: list[Any] | None = Field(None, description="Its elements, row by row in one flat list.")


class InferAnswer(Shape):
    """Predictions, and gates where they were asked for."""

    model_name: str = Field(description="The model that answered.")
    model_version: str = Field(description="Its version.")
    id: str | None = Field(None, description="What the request had as its id.")
    outputs: list[OutputTensor] = Field(description="The outputs asked for, and `lengths` with those that are padded.")


class IndexEntry(Shape):
    """A version in the repository."""

    name: str = Field(description="The model.")
    version: str = Field(description="The version.")
    state: Literal["READY", "UNAVAILABLE"] = Field(description="Whether it is served.")
    reason: str = Field(description="Why it is not; empty where it is.")


MODELS: tuple[type[Shape], ...] = (
    ProtocolError,
    HuggingFaceLabel,
    HuggingFaceToken,
    HuggingFaceGroup,
    ServerMetadata,
    ServerLive,
    ServerReady,
    ModelReady,
    ModelMetadata,
    InferAnswer,
    IndexEntry,
)
"""Whose schemas the document needs."""
