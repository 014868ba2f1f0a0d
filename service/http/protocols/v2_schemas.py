"""The answers of the Open Inference Protocol and of Triton's extensions to it, with examples, for the API document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from service.http.protocols.v2_tensors import Datatype
from service.http.schemas.base import Shape

_Place = Annotated[int, Field(ge=0)]


class ServerMetadata(Shape):
    """The server, in the Open Inference Protocol."""

    name: str = Field(description="Its name.")
    version: str = Field(description="Its version.")
    extensions: list[str] = Field(description="The supported extensions of the protocol.")


class ServerLive(Shape):
    """The process runs."""

    live: bool = Field(description="Always true.")


class ServerReady(Shape):
    """The service is ready for requests."""

    ready: bool = Field(description="Always true: a service that is not ready answers 503.")


class ModelReady(Shape):
    """The model is ready."""

    name: str = Field(description="The model.")
    ready: bool = Field(description="Always true: a model that is not ready is an error.")


class TensorMetadata(Shape):
    """An input or output tensor of a model."""

    name: str = Field(description="Its name.")
    datatype: Datatype = Field(description="The type of its elements.")
    shape: list[Annotated[int, Field(ge=-1)]] = Field(description="Its sizes; -1 for a size that varies.")


class ModelMetadata(Shape):
    """A model's tensors."""

    name: str = Field(description="The model.")
    versions: list[str] = Field(description="The loaded versions.")
    platform: str = Field(description="The platform that runs it.")
    inputs: list[TensorMetadata] = Field(description="The one input, `text`.")
    outputs: list[TensorMetadata] = Field(description="All outputs, the gates last.")


class OutputPlace(Shape):
    """Parameters of a binary output."""

    binary_data_size: int = Field(ge=0, description="Its bytes after the JSON.")


class OutputTensor(Shape):
    """An output. It has either data, or the number of its bytes after the JSON."""

    name: str = Field(description="Its name.")
    datatype: Datatype = Field(description="The type of its elements.")
    shape: list[_Place] = Field(description="Its sizes.")
    parameters: OutputPlace | None = Field(None, description="Set if the output is binary.")
    data: list[Any] | None = Field(None, description="Its elements, row by row in one flat list.")


class AnswerParameters(Shape):
    """Parameters of an answer."""

    truncated: bool = Field(description="True if an input lost its tail; the output `truncated` tells which.")
    sequence_id: int | str | None = Field(None, description="The sequence of the request.")
    sequence_end: bool | None = Field(None, description="True if the sequence has ended.")


class InferAnswer(Shape):
    """Predictions, and gates if requested."""

    model_name: str = Field(description="The model that answered.")
    model_version: str = Field(description="Its version.")
    id: str | None = Field(None, description="The id of the request.")
    parameters: AnswerParameters = Field(description="Parameters of the whole answer.")
    outputs: list[OutputTensor] = Field(description="The requested outputs, and `lengths` with padded ones.")


class TensorConfig(Shape):
    """A tensor, in a configuration."""

    name: str = Field(description="Its name.")
    data_type: str = Field(description="The type of its elements, such as TYPE_STRING.")
    dims: list[Annotated[int, Field(ge=-1)]] = Field(description="Its sizes; -1 for a size that varies.")


class ModelConfig(Shape):
    """A model's configuration, in the form of Triton's extension."""

    name: str = Field(description="The model.")
    platform: str = Field(description="The platform that runs it.")
    backend: str = Field(description="The name of Triton's backend for it.")
    version_policy: dict[str, Any] = Field(description="The loaded versions.")
    max_batch_size: int = Field(
        ge=0, description="0: the tensors' sizes are complete and include the number of inputs."
    )
    input: list[TensorConfig] = Field(description="The one input, `text`.")
    output: list[TensorConfig] = Field(description="All outputs, the gates last.")
    instance_group: list[dict[str, Any]] = Field(description="Where it runs, and its number of threads.")
    default_model_filename: str = Field(description="The graph for predictions.")
    parameters: dict[str, dict[str, str]] = Field(description="Task, cell, labels separated by commas, token limit.")


class Duration(Shape):
    """A count and a total duration."""

    count: int = Field(ge=0, description="How often.")
    ns: int = Field(ge=0, description="Nanoseconds in total.")


class StageDurations(Shape):
    """Durations of a model's requests. Waits and runs are counted by row (a text, or a sentence of a tagger's text),
    all others by request."""

    success: Duration = Field(description="Answered requests, over all protocols.")
    fail: Duration = Field(description="Requests that were rejected or failed after their model was known.")
    queue: Duration = Field(description="Waits for a batch.")
    compute_input: Duration = Field(description="Tokenising.")
    compute_infer: Duration = Field(description="Runs of the model, counted by row and timed by batch.")
    compute_output: Duration = Field(description="Decoding and serialising.")
    cache_hit: Duration = Field(description="Always 0: nothing is cached.")
    cache_miss: Duration = Field(description="None.")


class BatchStatistics(Shape):
    """Batches of one size."""

    batch_size: int = Field(ge=1, description="Rows in each.")
    compute_input: Duration = Field(description="Not measured by batch.")
    compute_infer: Duration = Field(description="The batches and their durations.")
    compute_output: Duration = Field(description="Not measured by batch.")


class ModelStatistics(Shape):
    """The requests for a model since the start of the service, over all workers."""

    name: str = Field(description="The model.")
    version: str = Field(description="Its version.")
    last_inference: int = Field(
        ge=0, description="The end of its last request, in milliseconds since 1970; 0 for never."
    )
    inference_count: int = Field(ge=0, description="Answered inputs.")
    execution_count: int = Field(ge=0, description="Batches that ran them.")
    inference_stats: StageDurations = Field(description="By outcome and stage.")
    batch_stats: list[BatchStatistics] = Field(description="By size of batch.")


class Statistics(Shape):
    """Statistics of one model or of all."""

    model_stats: list[ModelStatistics] = Field(description="One entry for each model.")


class IndexEntry(Shape):
    """A version in the repository."""

    name: str = Field(description="The model.")
    version: str = Field(description="The version.")
    state: Literal["READY", "UNAVAILABLE"] = Field(description="READY if it is served.")
    reason: str = Field(description="The reason why it is not served; empty if it is.")


_TEXT = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["A great film."]}
INFER_REQUESTS: dict[str, Any] = {
    "a label": {"inputs": [_TEXT]},
    "a gate": {"id": "1", "inputs": [_TEXT], "outputs": [{"name": "label"}, {"name": "gate.0.forward.forget"}]},
}
INFER_ANSWERS: dict[str, Any] = {
    "a label": {
        "model_name": "sentiment-bilstm",
        "model_version": "1",
        "parameters": {"truncated": False},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["positive"]},
            {"name": "score", "datatype": "FP32", "shape": [1], "data": [0.98]},
            {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [-1.9, 1.9]},
            {"name": "lengths", "datatype": "INT64", "shape": [1], "data": [4]},
        ],
    }
}
METADATA = {
    "name": "sentiment-bilstm",
    "versions": ["1"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
    "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "gate.0.forward.forget", "datatype": "FP32", "shape": [-1, -1, 128]},
    ],
}
CONFIG = {
    "name": "sentiment-bilstm",
    "platform": "onnxruntime_onnx",
    "backend": "onnxruntime",
    "version_policy": {"specific": {"versions": [1]}},
    "max_batch_size": 0,
    "input": [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}],
    "output": [{"name": "label", "data_type": "TYPE_STRING", "dims": [-1]}],
    "instance_group": [{"name": "sentiment-bilstm", "kind": "KIND_CPU", "count": 2}],
    "default_model_filename": "model.onnx",
    "parameters": {"task": {"string_value": "sentiment"}, "labels": {"string_value": "negative,positive"}},
}
_RUN = {"count": 1, "ns": 240_000}
_NONE = {"count": 0, "ns": 0}
STATISTICS = {
    "model_stats": [
        {
            "name": "sentiment-bilstm",
            "version": "1",
            "last_inference": 1_767_225_600_000,
            "inference_count": 1,
            "execution_count": 1,
            "inference_stats": {
                "success": {"count": 1, "ns": 1_100_000},
                "fail": _NONE,
                "queue": {"count": 1, "ns": 40_000},
                "compute_input": {"count": 1, "ns": 60_000},
                "compute_infer": _RUN,
                "compute_output": {"count": 1, "ns": 30_000},
                "cache_hit": _NONE,
                "cache_miss": _NONE,
            },
            "batch_stats": [{"batch_size": 1, "compute_input": _NONE, "compute_infer": _RUN, "compute_output": _NONE}],
        }
    ]
}
INDEX = [{"name": "sentiment-bilstm", "version": "1", "state": "READY", "reason": ""}]
