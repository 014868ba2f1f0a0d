"""The tensors of the Open Inference Protocol: reads those of a request's body, writes those of an answer.

A body is JSON, or JSON followed by the raw bytes of tensors (the binary tensor data extension). In the second case the
header Inference-Header-Content-Length gives the length of the JSON. A raw BYTES element is its length in four bytes,
little-endian, and its content.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from service.errors import InvalidField, MalformedBody
from service.http.render import array_as_json, dumps, gathered
from service.http.schemas.base import Lenient, one_of
from service.http.schemas.requests import check_count, checked, read_object
from service.model.gates import check_finite

HEADER_LENGTH = b"inference-header-content-length"
TEXT = "text"
Datatype = Literal["BYTES", "FP32", "INT64", "BOOL"]
_LITTLE_ENDIAN: dict[Datatype, str] = {"FP32": "<f4", "INT64": "<i8", "BOOL": "?"}
_LENGTH = struct.Struct("<I")
_Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class InputParameters(Lenient):
    """Parameters of an input tensor."""

    binary_data_size: int | None = Field(None, ge=0, description="Bytes of the tensor after the JSON.")


class InputTensor(Lenient):
    """The texts: BYTES [n], or [n, 1]."""

    name: Literal["text"] = Field(description="The only input.")
    shape: list[int] = Field(description="[n] or [n, 1].")
    datatype: Literal["BYTES"] = Field(description="UTF-8.")
    parameters: InputParameters | None = Field(None, description="Set if the data is binary.")
    data: list[Any] | None = Field(None, description="The texts, unless they are binary.")


class OutputParameters(Lenient):
    """Parameters of one output."""

    binary_data: bool | None = Field(None, description="Send the tensor as raw bytes after the JSON.")


class OutputRequest(Lenient):
    """A requested output."""

    name: str = Field(description="An output of the model's metadata.")
    parameters: OutputParameters | None = Field(None, description="Parameters of this output.")


class InferParameters(Lenient):
    """Parameters of a whole request."""

    binary_data_output: bool | None = Field(
        None, description="Send every output as raw bytes, unless it says otherwise."
    )
    truncate: bool | None = Field(None, description="Keep the head of a text over the model's token limit.")
    sequence_id: Annotated[_Int64 | str, one_of("a whole number within int64, or a text")] | None = Field(
        None,
        description='The sequence of the request: a whole number within int64, or a text. 7 and "7" are two sequences; '
        "0 and an empty text mean none.",
    )
    sequence_start: bool | None = Field(None, description="The text is the first piece of the sequence.")
    sequence_end: bool | None = Field(None, description="The text is the last piece of the sequence.")
    timeout: int | None = Field(
        None, ge=0, description="Microseconds until the answer must be ready; 0 means no limit."
    )


class InferRequest(Lenient):
    """The body of an inference request. Other members and parameters are ignored."""

    id: str | None = Field(None, max_length=256, description="Sent back with the answer.")
    inputs: list[InputTensor] = Field(min_length=1, max_length=1, description="The one input, `text`.")
    outputs: list[OutputRequest] | None = Field(
        None, max_length=1024, description="The outputs to return; without it, or if empty, all except the gates."
    )
    parameters: InferParameters | None = Field(None, description="Parameters of the request.")
    _texts: list[str] = PrivateAttr(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The elements of the input, from JSON or binary data."""
        return self._texts

    @property
    def binary(self) -> bool:
        """True if outputs are binary by default."""
        return bool(self.parameters and self.parameters.binary_data_output)

    @property
    def truncate(self) -> bool:
        """True to keep the head of a long text."""
        return bool(self.parameters and self.parameters.truncate)

    @property
    def seconds(self) -> float | None:
        """Seconds until the answer must be ready; None without a limit."""
        timeout = self.parameters.timeout if self.parameters else None
        return timeout / 1e6 if timeout else None

    def wanted(self) -> dict[str, bool] | None:
        """The requested outputs in order, and whether each is binary; None for the default ones."""
        if not self.outputs:
            return None
        wanted = {}
        for position, output in enumerate(self.outputs):
            if output.name in wanted:
                raise InvalidField(f"/outputs/{position}/name", f"{output.name!r} is asked for twice.")
            asked = output.parameters.binary_data if output.parameters else None
            wanted[output.name] = self.binary if asked is None else asked
        return wanted


class IndexRequest(Lenient):
    """The optional body of a request for the repository's index."""

    ready: bool | None = Field(None, description="List only the models that are served.")


class LoadParameters(Lenient):
    """Parameters of a request to load a model."""

    config: None = Field(None, description="Not supported: a bundle has no settings.")


class LoadRequest(Lenient):
    """The optional body of a request to load a model."""

    parameters: LoadParameters | None = Field(None, description="Parameters of the request.")


class UnloadRequest(Lenient):
    """The optional body of a request to unload a model. No model depends on another."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output: an array, or for BYTES the flat list of its strings."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    values: NDArray[Any] | list[str]
    binary: bool


def read(content: bytes, header_length: bytes | None, max_inputs: int) -> InferRequest:
    """A request with its texts. Raises `MalformedBody`, `TooLarge` or `InvalidField`."""
    head, raw = _parted(content, header_length)
    request = checked(read_object(head), InferRequest)
    (tensor,) = request.inputs
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]) or tensor.shape[0] < 1:
        raise InvalidField("/inputs/0/shape", "The shape is [n] or [n, 1], with n texts, 1 at least.")
    count = tensor.shape[0]
    check_count(count, max_inputs)
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    data = tensor.data or None  # an empty list counts as missing
    if (size is None) == (data is None):
        raise InvalidField("/inputs/0", "A tensor has either data, or parameters with binary_data_size.")
    if size is not None and size != len(raw):
        raise MalformedBody(f"binary_data_size is {size}, and {len(raw)} bytes follow the JSON.")
    if size is None and raw:
        raise MalformedBody(f"{len(raw)} bytes follow the JSON, and no tensor is said to be binary.")
    texts = _unpacked(raw) if data is None else _strings(data)
    if len(texts) != count:
        raise InvalidField("/inputs/0/shape", f"By its shape the tensor has {count} elements; {len(texts)} came.")
    request._texts = texts
    return request


def _parted(content: bytes, header_length: bytes | None) -> tuple[bytes, bytes]:
    """The JSON of a body, and the bytes after it."""
    if header_length is None:
        return content, b""
    end = int(header_length) if header_length.isdigit() and len(header_length) < 12 else -1
    if not 0 <= end <= len(content):
        raise MalformedBody(f"Inference-Header-Content-Length is no number from 0 to the body's {len(content)} bytes.")
    return content[:end], content[end:]


def _strings(data: Sequence[Any]) -> list[str]:
    """Texts from JSON: flat, or one in each row of [n, 1]."""
    texts = []
    for position, item in enumerate(data):
        text = item[0] if isinstance(item, list) and len(item) == 1 else item
        if not isinstance(text, str):
            raise InvalidField(f"/inputs/0/data/{position}", "A BYTES element is a string.")
        texts.append(text)
    return texts


def _unpacked(raw: bytes) -> list[str]:
    """Texts from binary data."""
    texts: list[str] = []
    start = 0
    while start < len(raw):
        body = start + _LENGTH.size
        end = body + _LENGTH.unpack_from(raw, start)[0] if body <= len(raw) else len(raw) + 1
        if end > len(raw):
            raise MalformedBody(f"BYTES element {len(texts)} ends past the end of the body.")
        try:
            texts.append(raw[body:end].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise MalformedBody(f"BYTES element {len(texts)} is not UTF-8: byte {error.start}.") from None
        start = end
    return texts


def write(head: dict[str, object], tensors: Sequence[Tensor]) -> tuple[list[bytes], int | None]:
    """An answer as pieces of a body, and the length of its JSON; None if it is all JSON.

    `head` holds the fields before the outputs. Raises `ValueError` for a number that is not finite.
    """
    raw = [_packed(tensor) if tensor.binary else b"" for tensor in tensors]
    text = list(gathered(_json(head, tensors, raw)))
    if not any(tensor.binary for tensor in tensors):
        return text, None
    return [*text, *filter(None, raw)], sum(map(len, text))


def _json(head: dict[str, object], tensors: Sequence[Tensor], raw: Sequence[bytes]) -> Iterator[bytes]:
    yield dumps(head)[:-1] + b',"outputs":['
    for number, (tensor, content) in enumerate(zip(tensors, raw, strict=True)):
        described: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if tensor.binary:
            described["parameters"] = {"binary_data_size": len(content)}
        yield b"," * (number > 0) + dumps(described)[:-1]
        if not tensor.binary:
            yield b',"data":'
            yield from _data(tensor.values)
        yield b"}"
    yield b"]}"


def _data(values: NDArray[Any] | list[str]) -> Iterator[bytes]:
    """The elements row by row in one flat list."""
    if isinstance(values, list) or not values.size:
        yield dumps(list(values.flat) if not isinstance(values, list) else values)
    else:
        yield from array_as_json(values.reshape(-1), None)


def _packed(tensor: Tensor) -> bytes:
    values = tensor.values
    if isinstance(values, list):
        return b"".join(_LENGTH.pack(len(raw)) + raw for raw in (value.encode() for value in values))
    check_finite(values)
    return np.ascontiguousarray(values, _LITTLE_ENDIAN[tensor.datatype]).tobytes()
