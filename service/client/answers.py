"""Answers as typed values. Fields that a newer service adds are passed over; `ModelInfo.more` keeps a model's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from service.client.whole import reading, safetensors_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_STATISTICS = "statistics/"
_Kind = TypeVar("_Kind")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Sentiment:
    """A classifier's prediction: the best label, its probability, and the probability of each."""

    label: str
    score: float
    scores: dict[str, float]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Token:
    """A token: the slice `[start:end]` of the text as sent; a tagger's label and its probability on request."""

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
    """A tagger's prediction; `tokens` only on request."""

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
    sources: list[tuple[str, int]] = field(default_factory=list, compare=False)
    """For each input the id of its request and its number there; `feedback` takes both."""


@dataclass(frozen=True, slots=True)
class Contributions:
    """The share of each token in the logits: for every label, `bias + tokens.sum(axis=0) = logits`. `tokens` is
    [tokens, labels]."""

    labels: list[str]
    bias: Array
    tokens: Array
    logits: Array
    of: str
    method: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """`order` has all token numbers, the largest share first; `scores[k]` is the label's probability when the first
    k + 1 of them are gone."""

    order: list[int]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """The predicted label's probability as the tokens with the largest contributions are deleted, or kept alone."""

    label: str
    score: float
    deletion: Deletion
    comprehensiveness: float
    sufficiency: float


@dataclass(frozen=True, slots=True)
class DeletionEffects:
    """The change of each logit when a token is deleted: a row for each token, None for a tagger's explained token.
    `exact` is true for the cell's closed form, false for runs of the model without the token."""

    labels: list[str]
    tokens: list[list[float] | None]
    exact: bool
    method: str


@dataclass(frozen=True, slots=True)
class OverTime:
    """One gate over a text, float32 [units] each: the mean, the mean change from one token to the next, and the shares
    of the tokens with the unit under 0.1 and over 0.9. The shares are None for a gate that does not lie in 0..1."""

    mean: Array
    change: Array
    below: Array | None = None
    above: Array | None = None


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    """Statistics of each selected unit over a text, by gate. `horizon`, float32 [units], is the memory in steps, at
    most 1,000,000; None for a cell without a gate that keeps its state."""

    gates: dict[str, OverTime]
    horizon: Array | None = None


@dataclass(frozen=True, slots=True)
class LayerGates:
    """One direction of one layer: by gate, float32 [tokens, units]; or by `gate.mean` and so on, [tokens]."""

    layer: int
    direction: str
    gates: dict[str, Array]
    statistics: UnitStatistics | None = None
    """Only on request."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One input's trace. Row t of every array belongs to token t, in both directions.

    `sentences` has [first token, end] of each sentence of a tagger's raw text, each read from a zero state; None if
    the text is one sequence.
    """

    tokens: list[Token]
    prediction: Prediction
    layers: list[LayerGates]
    contributions: Contributions | None
    contributions_note: str | None = None
    sentences: list[list[int]] | None = None
    kept: list[int] | None = None
    """With dropped tokens: each remaining token's number in the text as sent."""
    baseline: Prediction | None = None
    """With interventions: the prediction without them."""
    faithfulness: Faithfulness | None = None
    deletion_effects: DeletionEffects | None = None

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
    sources: list[tuple[str, int]] = field(default_factory=list, compare=False)
    """For each input the id of its request and its number there; `feedback` takes both."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model. `more` has all other members of the answer."""

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
class CardData:
    """The data file of a card's places. Its texts are not in the bundle: open the file, and compare its digest."""

    name: str
    sha256: str
    inputs: int


@dataclass(frozen=True, slots=True)
class Place:
    """A token of the data file: the line from 1, the token's number in its input, the unit's hidden state after it."""

    line: int
    token: int
    value: float


@dataclass(frozen=True, slots=True)
class Ablation:
    """The loss while a unit's hidden state is held at 0: `score` is the metric of the whole model, `cost` what it
    loses, `lost` the mean drop of the predicted labels' probabilities, `changed` the share of answers that change.
    `effects` has the mean change of each logit, below the top layer."""

    inputs: int
    metric: str
    score: float
    cost: float
    lost: float
    changed: float
    effects: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class UnitCard:
    """The card of one unit. `logits` has, by label, the change of the logit for each 1 of its hidden state; None below
    the top layer. `data`, `places` and `ablation` are None if the bundle has no cards."""

    model: str
    version: str
    layer: int
    direction: str
    unit: int
    logits: dict[str, float] | None
    data: CardData | None
    places: list[Place] | None
    ablation: Ablation | None


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded models, the default models, and the models that could not be loaded."""

    default: dict[str, str]
    models: list[ModelInfo]
    refused: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Feedback that was taken. `outcome` is ``right`` or ``wrong``; ``repeated`` for an input that had some already;
    ``unscored`` if the answer, and so its model, is no longer known."""

    request_id: str
    input: int
    outcome: str
    model: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Shadow:
    """How a shadow does beside the version that is served. `more` has all other members of the answer."""

    served: str
    shadow: str
    requests: int
    dropped: int
    agreement: float | None
    mean_score_change: float | None
    latency_ratio: float | None
    disagreements: list[dict[str, Any]]
    more: dict[str, Any]


@reading
def predictions(content: bytes) -> Predictions:
    """From an answer of `/predict`. This and the others raise `InvalidAnswer`."""
    body = json.loads(content)
    return _made(Predictions, body, predictions=[_prediction(each) for each in _list(body["predictions"])])


@reading
def traces(content: bytes) -> Traces:
    """From a safetensors answer of `/gates`: its arrays are views of the bytes that came."""
    import numpy as np

    header, begin = safetensors_header(content)
    body = json.loads(header.pop("__metadata__")["response"])
    gates: dict[tuple[int, int, str], dict[str, Array]] = {}
    for name, tensor in header.items():
        number, layer, direction, gate = name.split("/", 3)
        if tensor["dtype"] != "F32":
            raise ValueError(f"{name} is {tensor['dtype']}, not F32")
        start, end = tensor["data_offsets"]
        array = np.frombuffer(content, "<f4", (end - start) // 4, begin + start).reshape(tensor["shape"])
        gates.setdefault((int(number), int(layer), direction), {})[gate] = array
    found = [_trace(trace, number, gates) for number, trace in enumerate(_list(body["traces"]))]
    return _made(Traces, body, traces=found)


@reading
def models(content: bytes) -> Models:
    """From an answer of `/models`."""
    body = json.loads(content)
    return _made(Models, body, models=[_model(each) for each in _list(body["models"])])


@reading
def model(content: bytes) -> ModelInfo:
    """From an answer of `/models/NAME`."""
    return _model(json.loads(content))


@reading
def unit(content: bytes) -> UnitCard:
    """From an answer of `/models/NAME/units/LAYER/DIRECTION/UNIT`."""
    body = json.loads(content)
    return _made(
        UnitCard,
        body,
        data=_optional(body["data"], lambda data: _made(CardData, data)),
        places=_optional(body["places"], lambda places: [_made(Place, each) for each in _list(places)]),
        ablation=_optional(body["ablation"], lambda ablation: _made(Ablation, ablation)),
    )


@reading
def feedback(content: bytes) -> Feedback:
    """From an answer of `/feedback`."""
    return _made(Feedback, json.loads(content))


@reading
def shadow(content: bytes) -> Shadow:
    """From an answer of `/models/NAME/shadow`."""
    body = json.loads(content)
    return _made(Shadow, body, more=_more(Shadow, body))


def _model(body: dict[str, Any]) -> ModelInfo:
    return _made(ModelInfo, body, more=_more(ModelInfo, body))


def _more(kind: type[Any], body: dict[str, Any]) -> dict[str, Any]:
    known = {each.name for each in fields(kind)}
    return {name: value for name, value in body.items() if name not in known}


def _trace(body: dict[str, Any], number: int, gates: dict[tuple[int, int, str], dict[str, Array]]) -> Trace:
    layers = [
        _layer(each["layer"], each["direction"], gates.get((number, each["layer"], each["direction"]), {}))
        for each in _list(body["layers"])
    ]
    return _made(
        Trace,
        body,
        tokens=_tokens(body["tokens"]),
        prediction=_prediction(body["prediction"]),
        layers=layers,
        contributions=_contributions(body["contributions"]),
        baseline=_optional(body.get("baseline"), _prediction),
        faithfulness=_optional(body.get("faithfulness"), _faithfulness),
        deletion_effects=_optional(body.get("deletion_effects"), _effects),
    )


def _layer(layer: int, direction: str, arrays: dict[str, Array]) -> LayerGates:
    """A layer from its arrays: those named `statistics/…` are the statistics, all others the gates."""
    gates = {name: array for name, array in arrays.items() if not name.startswith(_STATISTICS)}
    found = {name.removeprefix(_STATISTICS): array for name, array in arrays.items() if name.startswith(_STATISTICS)}
    by_gate: dict[str, dict[str, Array]] = {}
    for name, array in found.items():
        gate, _, statistic = name.rpartition(".")
        if gate and statistic in _types(OverTime):
            by_gate.setdefault(gate, {})[statistic] = array
    statistics = {gate: OverTime(**each) for gate, each in by_gate.items()}
    return LayerGates(layer, direction, gates, UnitStatistics(statistics, found.get("horizon")) if found else None)


def _optional(body: _Value | None, read: Callable[[_Value], _Kind]) -> _Kind | None:
    return None if body is None else read(body)


def _faithfulness(body: dict[str, Any]) -> Faithfulness:
    return _made(Faithfulness, body, deletion=_made(Deletion, body["deletion"]))


def _effects(body: dict[str, Any]) -> DeletionEffects:
    return _made(DeletionEffects, body)


def _contributions(body: dict[str, Any] | None) -> Contributions | None:
    if body is None:
        return None
    import numpy as np

    with np.errstate(over="raise"):
        arrays = {name: np.array(body[name], np.float32) for name in ("bias", "tokens", "logits")}
    return _made(Contributions, body, **arrays)


def _prediction(body: dict[str, Any]) -> Prediction:
    if "entities" not in body:
        return _made(Sentiment, body)
    tokens = None if body.get("tokens") is None else _tokens(body["tokens"])
    return _made(Entities, body, entities=[_made(Entity, each) for each in _list(body["entities"])], tokens=tokens)


def _tokens(bodies: object) -> list[Token]:
    return [_made(Token, each) for each in _list(bodies)]


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"a list is expected, not {type(value).__name__}")
    return value


def _made(kind: type[_Kind], body: dict[str, Any], **given: object) -> _Kind:
    """A value of a kind from the fields of a JSON object that it knows. Raises `TypeError` for one of another type."""
    values = {}
    for name, types in _types(kind).items():  # type: ignore[arg-type]  # a class can be hashed
        if name in given:
            values[name] = given[name]
        elif name in body:
            values[name] = value = body[name]
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise TypeError(f"{name} is {type(value).__name__}")
    return kind(**values)


@cache
def _types(kind: type) -> dict[str, tuple[type, ...]]:
    """The types of JSON's values that each field of a dataclass may have; a whole number is a float too."""
    hints = get_type_hints(kind, localns={"Array": object})
    found = {}
    for name, hint in hints.items():
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        types = tuple(get_origin(option) or option for option in options)
        found[name] = (*types, int) if float in types else types
    return found
