"""The shapes of the foreign protocols' answers, for the API document, as `service.http.schemas.responses` has those of
our own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.http.protocols.v2_tensors import Datatype
from service.http.schemas.responses import Probability, Shape

_Place = Annotated[int, Field(ge=0)]


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


class AnswerParameters(Shape):
    """What concerns the whole answer."""

    truncated: bool = Field(description="Whether an input lost its tail; the output `truncated` says which.")
    sequence_id: int | str | None = Field(None, description="The sequence that the request belongs to.")
    sequence_end: bool | None = Field(None, description="Whether the sequence has ended.")


class InferAnswer(Shape):
    """Predictions, and gates where they were asked for."""

    model_name: str = Field(description="The model that answered.")
    model_version: str = Field(description="Its version.")
    id: str | None = Field(None, description="What the request had as its id.")
    parameters: AnswerParameters = Field(description="Of the whole answer.")
    outputs: list[OutputTensor] = Field(description="The outputs asked for, and `lengths` with those that are padded.")


class TensorConfig(Shape):
    """A tensor, in a configuration."""

    name: str = Field(description="Its name.")
    data_type: str = Field(description="The type of its elements, such as TYPE_STRING.")
    dims: list[Annotated[int, Field(ge=-1)]] = Field(description="Its sizes, -1 for what differs between requests.")


class ModelConfig(Shape):
    """A model's configuration, in the form of Triton's extension."""

    name: str = Field(description="The model.")
    platform: str = Field(description="What runs it.")
    backend: str = Field(description="The same, by the name of Triton's backend.")
    version_policy: dict[str, Any] = Field(description="The version that is served.")
    max_batch_size: int = Field(ge=0, description="0: the tensors' sizes are whole, the number of inputs included.")
    input: list[TensorConfig] = Field(description="The one input, `text`.")
    output: list[TensorConfig] = Field(description="Everything that can be asked for, the gates last.")
    instance_group: list[dict[str, Any]] = Field(description="Where it runs, and in how many threads.")
    default_model_filename: str = Field(description="The graph that answers predictions.")
    parameters: dict[str, dict[str, str]] = Field(description="Task, cell, labels, separated by commas, token limit.")


class Duration(Shape):
    """How often something was done, and how long it took in all."""

    count: int = Field(ge=0, description="How often.")
    ns: int = Field(ge=0, description="Nanoseconds, all together.")


class StageDurations(Shape):
    """What requests for a model took. Waits and runs are counted by row (a text, or a sentence of a
    tagger's text), all else by request."""

    success: Duration = Field(description="Requests that were answered, over all protocols.")
    fail: Duration = Field(description="Requests that were refused or failed after their model was known.")
    queue: Duration = Field(description="Waits for a batch.")
    compute_input: Duration = Field(description="Tokenising.")
    compute_infer: Duration = Field(description="Runs of the model, counted by row and timed by batch.")
    compute_output: Duration = Field(description="Decoding and serialising.")
    cache_hit: Duration = Field(description="None: nothing is cached.")
    cache_miss: Duration = Field(description="None.")


class BatchStatistics(Shape):
    """Batches of one size."""

    batch_size: int = Field(ge=1, description="Rows in each.")
    compute_input: Duration = Field(description="Not measured by batch.")
    compute_infer: Duration = Field(description="The batches, and what they took.")
    compute_output: Duration = Field(description="Not measured by batch.")


class ModelStatistics(Shape):
    """What a model was asked since the start of the service, over all workers."""

    name: str = Field(description="The model.")
    version: str = Field(description="Its version.")
    last_inference: int = Field(
        ge=0, description="When its last request ended, in milliseconds since 1970; 0 for never."
    )
    inference_count: int = Field(ge=0, description="Inputs that were answered.")
    execution_count: int = Field(ge=0, description="Batches in which they ran.")
    inference_stats: StageDurations = Field(description="By outcome and stage.")
    batch_stats: list[BatchStatistics] = Field(description="By size of batch.")


class Statistics(Shape):
    """Statistics of one model or of all."""

    model_stats: list[ModelStatistics] = Field(description="One entry a model.")


class IndexEntry(Shape):
    """A version in the repository."""

    name: str = Field(description="The model.")
    version: str = Field(description="The version.")
    state: Literal["READY", "UNAVAILABLE"] = Field(description="Whether it is served.")
    reason: str = Field(description="Why it is not; empty where it is.")
