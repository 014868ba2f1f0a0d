"""The shapes of the answers, for the API document and for whoever wants to check one. Answers are not built from them:
they are built from arrays (`service.api.render`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.bundle import Head, Precision, Score, Task
from service.equations import CellName, Direction, GruReset

_Probability = Annotated[float, Field(ge=0, le=1)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Token(_Answer):
    """A token: the slice `[start:end]` of the text as sent, in Unicode code points."""

    text: str
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]


class LabelledToken(Token):
    """A token with a tagger's label for it."""

    label: str
    score: _Probability


class Entity(Token):
    """A named entity; `token_end` is exclusive too. Its score is the probability of all its tokens' labels."""

    label: str
    score: _Probability
    token_start: Annotated[int, Field(ge=0)]
    token_end: Annotated[int, Field(ge=1)]


class Sentiment(_Answer):
    """A classifier's prediction. `scores` are probabilities and sum to 1."""

    label: str
    score: _Probability
    scores: dict[str, _Probability]
    truncated: Annotated[bool, Field(description="Whether the input was over the token limit and lost its tail.")]


class Entities(_Answer):
    """A tagger's prediction; `tokens` where the request asks for it."""

    entities: list[Entity]
    truncated: Annotated[bool, Field(description="Whether the input was over the token limit and lost its tail.")]
    tokens: list[LabelledToken] | None = None


class Predictions(_Answer):
    """One prediction an input, in order."""

    model: str
    version: str
    task: Task
    predictions: list[Sentiment | Entities]


class Summary(_Answer):
    """One number a token, over the selected units: `std` of the population, shares under 0.1 and over 0.9."""

    mean: list[float]
    std: list[float]
    below: list[_Probability]
    above: list[_Probability]


class OverTime(_Answer):
    """A number for each selected unit, over all tokens: `below` and `above` are shares of time, of gates in 0..1."""

    mean: list[float]
    change: list[float]
    below: list[_Probability] | None = None
    above: list[_Probability] | None = None


class UnitStatistics(_Answer):
    """What each unit does over the text. `horizon`, in steps, where the cell has a gate that keeps its state."""

    gates: dict[str, OverTime]
    horizon: list[Annotated[float, Field(ge=0, le=1e6)]] | None = None


class Layer(_Answer):
    """One direction of one layer: by gate, a row for each token and a number for each unit, or their summary."""

    layer: Annotated[int, Field(ge=0)]
    direction: Direction
    gates: dict[str, list[list[float]] | Summary]
    statistics: UnitStatistics | None = None


class Contributions(_Answer):
    """What each token gave: for every label, `bias + sum over tokens = logits`."""

    labels: list[str]
    bias: list[float]
    tokens: Annotated[list[list[float]], Field(description="A row for each token, a number for each label.")]
    logits: list[float]
    of: Literal["tokens", "top-layer positions"]
    method: str


class Trace(_Answer):
    """One input's trace. Row t of every array belongs to token t, in both directions."""

    tokens: list[Token]
    prediction: Sentiment | Entities
    layers: list[Layer]
    contributions: Contributions | None
    contributions_note: Annotated[str | None, Field(description="Why `contributions` is null.")] = None


class Traces(_Answer):
    """One trace an input, in order, and the equations that the numbers obey."""

    model: str
    version: str
    task: Task
    cell: CellName
    equations: dict[str, str]
    traces: list[Trace]


class GateFigures(_Answer):
    """The means of what was observed of a gate, a unit over a text being one observation; null before the first."""

    layer: Annotated[int, Field(ge=0)]
    direction: Direction
    gate: str
    activation: float | None
    below: _Probability | None = None
    above: _Probability | None = None
    horizon: float | None = None


class Observed(_Answer):
    """What was observed over so many texts; `data` names the corpus, `share` that of live inputs sampled."""

    texts: int
    tokens: int
    gates: list[GateFigures]
    data: str | None = None
    share: float | None = None


class GateDrift(_Answer):
    """The population stability index of a gate's mean activations, live against training."""

    layer: int
    direction: Direction
    gate: str
    psi: float


class Drift(_Answer):
    """Under 0.1 little has changed, over 0.25 much has; null and empty until enough texts have been sampled."""

    largest: float | None
    gates: list[GateDrift]


class ModelHealth(_Answer):
    """How a model's gates did in training (null where the bundle does not say), and how they do in live traffic."""

    trained: Observed | None
    live: Observed
    drift: Drift


class ModelDescription(BaseModel):
    """A loaded model."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    version: str
    task: Task
    cell: CellName
    gru_reset: GruReset | None = None
    directions: list[Direction]
    layers: int
    hidden: int
    head: Head
    precision: Annotated[
        Precision,
        Field(description="In what the recurrent layers of a prediction compute; gates are float32 always."),
    ]
    labels: list[str]
    gates: list[str]
    equations: dict[str, str]
    provider: Annotated[Literal["cpu", "cuda"], Field(description="Where the recurrent layers run.")]
    placement: Annotated[
        dict[Literal["recurrent", "other"], dict[Literal["cpu", "cuda"], int]],
        Field(description="How many nodes of the graph each provider runs, as ONNX Runtime assigned them."),
    ]
    token_limit: int
    quality: list[Score]
    quality_before: Annotated[
        list[Score], Field(description="Of an int8 model: the figures of the float32 model that it was made from.")
    ]
    licence: str
    health: ModelHealth | None = None


class Refused(_Answer):
    """A bundle on disk that cannot be served."""

    name: str
    version: str
    reason: str


class Models(_Answer):
    """What is loaded, and which model a request gets that names none."""

    default: dict[Task, str]
    models: list[ModelDescription]
    refused: list[Refused]


class Version(_Answer):
    """One version in the models folder: whether it is served, and why not."""

    name: str
    version: str
    ready: bool
    reason: str | None


class Versions(_Answer):
    """Everything in the models folder, by name and version."""

    versions: list[Version]


class Unloaded(_Answer):
    """A model that is not served any more."""

    name: str
    ready: Literal[False]


class Status(_Answer):
    """Alive, or ready."""

    status: Literal["ok"]


class Index(_Answer):
    """Where to go from here."""

    service: str
    version: str
    openapi: str
    routes: list[str]


class WrongField(_Answer):
    """One wrong field: a JSON pointer (RFC 6901) into the request."""

    pointer: str
    detail: str


class Problem(_Answer):
    """An error (RFC 9457). `request_id` is that of the header X-Request-ID; the log has the request under it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[WrongField] | None = None
