"""Answers as typed values. Fields that a newer service adds are passed over; `ModelInfo.more` keeps a model's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from service.client.typed import typed
from service.client.whole import reading, safetensors_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_STATISTICS = "statistics/"
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
    ``unscored`` if the answer, and so its model, is no longer known, or if the version has other content by now."""

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
def read(kind: type[_Kind], content: bytes) -> _Kind:
    """An answer in JSON. Raises `InvalidAnswer`."""
    return typed(kind, json.loads(content))


@reading
def traces(content: bytes) -> Traces:
    """A safetensors answer of `/gates`: its arrays are views of the bytes that came. Raises `InvalidAnswer`."""
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
    for position, trace in enumerate(body["traces"]):
        for each in trace["layers"]:
            each |= _layer(gates.get((position, each["layer"], each["direction"]), {}))
    return typed(Traces, body)


def _layer(arrays: dict[str, Array]) -> dict[str, Any]:
    """The members of a layer from its arrays: `statistics/GATE.WHAT` are its statistics, all others its gates."""
    members: dict[str, Any] = {"gates": {}}
    statistics: dict[str, Any] = {"gates": {}}
    for name, array in arrays.items():
        if not name.startswith(_STATISTICS):
            members["gates"][name] = array
            continue
        members["statistics"] = statistics
        gate, _, what = name.removeprefix(_STATISTICS).rpartition(".")
        (statistics["gates"].setdefault(gate, {}) if gate else statistics)[what] = array
    return members
