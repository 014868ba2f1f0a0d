"""Answers as typed values. Fields that a newer service adds are passed over; `ModelInfo.more` keeps a model's."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class Sentiment:
    """A classifier's prediction: the best label, its probability, and the probability of each."""

    label: str
    score: float
    scores: dict[str, float]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Token:
    """A token: the slice `[start:end]` of the text as sent; a tagger's label and its probability where asked for."""

    text: str
    start: int
    end: int
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    """A named entity: the slice `[start:end]` of the text, tokens `[token_start:token_end]`."""

    label: str
    text: str
    start: int
    end: int
    score: float
    token_start: int
    token_end: int


@dataclass(frozen=True, slots=True)
class Entities:
    """A tagger's prediction; `tokens` where they were asked for."""

    entities: list[Entity]
    truncated: bool
    tokens: list[Token] | None = None


Prediction = Sentiment | Entities


@dataclass(frozen=True, slots=True)
class Predictions:
    """One prediction an input, in order."""

    model: str
    version: str
    task: str
    predictions: list[Prediction]


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each token gave: for every label, `bias + tokens.sum(axis=0) = logits`. `tokens` is [tokens, labels]."""

    labels: list[str]
    bias: Array
    tokens: Array
    logits: Array
    of: str
    method: str


@dataclass(frozen=True, slots=True)
class LayerGates:
    """One direction of one layer: by gate, float32 [tokens, units]; or by `gate.mean` and so on, [tokens]."""

    layer: int
    direction: str
    gates: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Trace:
    """One input's trace. Row t of every array belongs to token t, in both directions."""

    tokens: list[Token]
    prediction: Prediction
    layers: list[LayerGates]
    contributions: Contributions | None
    contributions_note: str | None = None

    def gate(self, name: str, layer: int = 0, direction: str = "forward") -> Array:
        """One gate's array. Raises `KeyError` when the trace has none of that name there."""
        for each in self.layers:
            if (each.layer, each.direction) == (layer, direction):
                return each.gates[name]
        raise KeyError(f"the trace has no layer {layer} {direction}")


@dataclass(frozen=True, slots=True)
class Traces:
    """One trace an input, in order, and the equations that the numbers obey."""

    model: str
    version: str
    task: str
    cell: str
    equations: dict[str, str]
    traces: list[Trace]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model. `more` has what else the service says of it."""

    name: str
    version: str
    task: str
    cell: str
    directions: list[str]
    layers: int
    hidden: int
    labels: list[str]
    gates: list[str]
    equations: dict[str, str]
    provider: str
    token_limit: int
    quality: list[dict[str, Any]]
    licence: str
    more: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Models:
    """What is loaded, which model a request gets that names none, and what could not be loaded."""

    default: dict[str, str]
    models: list[ModelInfo]
    refused: list[dict[str, str]]


def predictions(content: bytes) -> Predictions:
    """From an answer of `/predict`."""
    body = json.loads(content)
    return _made(Predictions, body, predictions=[_prediction(each) for each in body["predictions"]])


def traces(content: bytes) -> Traces:
    """From a safetensors answer of `/gates`: its arrays are views of the bytes that came."""
    import numpy as np

    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    body = json.loads(header.pop("__metadata__")["response"])
    gates: dict[tuple[int, int, str], dict[str, Array]] = {}
    for name, tensor in header.items():
        number, layer, direction, gate = name.split("/", 3)
        start, end = tensor["data_offsets"]
        array = np.frombuffer(content, "<f4", (end - start) // 4, 8 + length + start).reshape(tensor["shape"])
        gates.setdefault((int(number), int(layer), direction), {})[gate] = array
    found = [_trace(trace, number, gates) for number, trace in enumerate(body["traces"])]
    return _made(Traces, body, traces=found)


def models(content: bytes) -> Models:
    """From an answer of `/models`."""
    body = json.loads(content)
    return _made(Models, body, models=[model(each) for each in body["models"]])


def model(body: dict[str, Any]) -> ModelInfo:
    """From an answer of `/models/NAME`."""
    known = {field.name for field in fields(ModelInfo)}
    return _made(ModelInfo, body, more={name: value for name, value in body.items() if name not in known})


def _trace(body: dict[str, Any], number: int, gates: dict[tuple[int, int, str], dict[str, Array]]) -> Trace:
    layers = [
        LayerGates(each["layer"], each["direction"], gates.get((number, each["layer"], each["direction"]), {}))
        for each in body["layers"]
    ]
    return _made(
        Trace,
        body,
        tokens=_tokens(body["tokens"]),
        prediction=_prediction(body["prediction"]),
        layers=layers,
        contributions=_contributions(body["contributions"]),
    )


def _contributions(body: dict[str, Any] | None) -> Contributions | None:
    if body is None:
        return None
    import numpy as np

    arrays = {name: np.array(body[name], np.float32) for name in ("bias", "tokens", "logits")}
    return _made(Contributions, body, **arrays)


def _prediction(body: dict[str, Any]) -> Prediction:
    if "entities" not in body:
        return _made(Sentiment, body)
    tokens = None if body.get("tokens") is None else _tokens(body["tokens"])
    return _made(Entities, body, entities=[_made(Entity, each) for each in body["entities"]], tokens=tokens)


def _tokens(bodies: Sequence[dict[str, Any]]) -> list[Token]:
    return [_made(Token, each) for each in bodies]


def _made(kind: type[_Kind], body: dict[str, Any], **given: object) -> _Kind:
    """A value of a kind from the fields of a JSON object that it knows."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # every kind here is a dataclass
    return kind(**{**{name: value for name, value in body.items() if name in names}, **given})
