"""The shapes of the answers, for the API document and for whoever wants to check one. Answers are not built from them:
they are built from arrays (`service.http.render`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.model.bundle import Feature, Head, Parity, Precision, RawText, Score, Task
from service.model.equations import CellName, Direction, GruReset, Peepholes

Probability = Annotated[float, Field(ge=0, le=1)]


class Shape(BaseModel):
    """An answer or a part of one: these fields and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class Token(Shape):
    """A token: the slice `[start:end]` of the text as sent, in Unicode code points."""

    text: str = Field(description="The slice of the text, as it was sent.")
    start: int = Field(ge=0, description="Where it begins in the text.")
    end: int = Field(ge=1, description="Where it ends, exclusive.")


class LabelledToken(Token):
    """A token with a tagger's label for it."""

    label: str = Field(description="The label, such as B-PER.")
    score: Probability = Field(description="The label's probability.")


class Entity(Token):
    """A named entity; `token_end` is exclusive too. Its score is the probability of all its tokens' labels."""

    label: str = Field(description="The kind of entity, such as PER.")
    score: Probability = Field(description="The probability of all its tokens' labels.")
    token_start: int = Field(ge=0, description="The number of its first token.")
    token_end: int = Field(ge=1, description="The number of the token after its last.")


class Sentiment(Shape):
    """A classifier's prediction. `scores` are probabilities and sum to 1."""

    label: str = Field(description="The most probable label.")
    score: Probability = Field(description="Its probability.")
    scores: dict[str, Probability] = Field(description="Every label's probability; they sum to 1.")
    truncated: Annotated[bool, Field(description="Whether the input was over the token limit and lost its tail.")]


class Entities(Shape):
    """A tagger's prediction; `tokens` where the request asks for it."""

    entities: list[Entity] = Field(description="The entities, in the order of the text.")
    truncated: Annotated[bool, Field(description="Whether the input was over the token limit and lost its tail.")]
    tokens: list[LabelledToken] | None = Field(
        None, description="Every token and its label, where the request asks for `tokens`."
    )


class Predictions(Shape):
    """One prediction an input, in order."""

    model: str = Field(description="The model that answered.")
    version: str = Field(description="Its version.")
    task: Task = Field(description="Its task.")
    predictions: list[Sentiment | Entities] = Field(description="One an input, in order.")


class Summary(Shape):
    """One number a token, over the selected units: `std` of the population, shares under 0.1 and over 0.9."""

    mean: list[float] = Field(description="The mean of the units.")
    std: list[float] = Field(description="Their standard deviation, that of the population.")
    below: list[Probability] = Field(description="The share of units under 0.1.")
    above: list[Probability] = Field(description="The share of units over 0.9.")


class OverTime(Shape):
    """A number for each selected unit, over all tokens: `below` and `above` are shares of time, of gates in 0..1."""

    mean: list[float] = Field(description="The mean over the tokens.")
    change: list[float] = Field(description="The mean change from one token to the next.")
    below: list[Probability] | None = Field(None, description="The share of tokens at which the unit is under 0.1.")
    above: list[Probability] | None = Field(None, description="The share of tokens at which it is over 0.9.")


class UnitStatistics(Shape):
    """What each unit does over the text. `horizon`, in steps, where the cell has a gate that keeps its state."""

    gates: dict[str, OverTime] = Field(description="By gate.")
    horizon: list[Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        None, description="The memory horizon of each unit, in steps."
    )


class Layer(Shape):
    """One direction of one layer: by gate, a row for each token and a number for each unit, or their summary."""

    layer: int = Field(ge=0, description="The layer's number, from 0.")
    direction: Direction = Field(description="The direction in which it read.")
    gates: dict[str, list[list[float]] | Summary] = Field(
        description="By gate: a row for each token with a number for each unit, or with `reduce` their summary."
    )
    statistics: UnitStatistics | None = Field(
        None, description="What each unit does over the text, where the request asks for `statistics`."
    )


class Contributions(Shape):
    """What each token gave: for every label, `bias + sum over tokens = logits`."""

    labels: list[str] = Field(description="The labels, in the order of the numbers below.")
    bias: list[float] = Field(description="What the logits are without any token: a number for each label.")
    tokens: Annotated[list[list[float]], Field(description="A row for each token, a number for each label.")]
    logits: list[float] = Field(
        description="The sums: a number for each label. Of a tagger they are those of the token that `explain` names."
    )
    of: Literal["tokens", "top-layer positions"] = Field(
        description="What is split: tokens, or the positions of the top layer where layers lie below it."
    )
    method: str = Field(description="The rule by which it is split.")


class Deletion(Shape):
    """Tokens deleted one after the other."""

    order: list[Annotated[int, Field(ge=0)]] = Field(
        description="All token numbers of the answer, the largest share first; a tagger's explained token last."
    )
    scores: list[Probability] = Field(
        description="The label's probability when the first 1, 2, … tokens of the order are gone. The last one stays."
    )


class Faithfulness(Shape):
    """Whether the split is true, measured by the model itself for the predicted label."""

    label: str = Field(description="The predicted label; a tagger's of the explained token.")
    score: Probability = Field(description="Its probability with all tokens.")
    deletion: Deletion = Field(description="Its probability while tokens are deleted.")
    comprehensiveness: float = Field(
        description="How much of it is lost without the 1, 5, 10, 20 and 50 % of the tokens with the largest shares, "
        "in the mean (DeYoung et al. 2020)."
    )
    sufficiency: float = Field(description="How much is lost when these tokens alone are kept, in the mean.")


class DeletionEffects(Shape):
    """How each logit changes when a token is gone."""

    labels: list[str] = Field(description="The labels, in the order of the numbers below.")
    tokens: list[list[float] | None] = Field(
        description="A row for each token, a number for each label; null for the token that a tagger explains."
    )
    exact: bool = Field(description="True: in the cell's closed form. False: by running the model without each token.")
    method: str = Field(description="How the numbers were found.")


class Trace(Shape):
    """One input's trace. Row t of every array belongs to token t, in both directions."""

    tokens: list[Token] = Field(description="The tokens, each with its place in the text.")
    sentences: list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]] | None = Field(
        None,
        description="A tagger's raw text: [first token, token after the last] of each sentence, each read from a zero "
        "state. Left out for lists of tokens, for classifiers and with `split` false: there the text is one sequence.",
    )
    prediction: Sentiment | Entities = Field(description="What `/predict` answers.")
    layers: list[Layer] = Field(description="The layers and directions, those asked for.")
    contributions: Contributions | None = Field(
        description="What each token gave; null where it was not asked for, or cannot be told."
    )
    contributions_note: Annotated[str | None, Field(description="Why `contributions` is null.")] = None
    kept: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="With `drop`: the number that each token of the answer has in the text as sent."
    )
    baseline: Sentiment | Entities | None = Field(
        None, description="With `set` or `drop`: the prediction for the text as sent, with nothing set."
    )
    faithfulness: Faithfulness | None = Field(
        None, description="Where the request asks for it; null for a cell whose answer does not split."
    )
    deletion_effects: DeletionEffects | None = Field(None, description="Where the request asks for `deletion`.")


class Traces(Shape):
    """One trace an input, in order, and the equations that the numbers obey."""

    model: str = Field(description="The model that answered.")
    version: str = Field(description="Its version.")
    task: Task = Field(description="Its task.")
    cell: CellName = Field(description="Its recurrent cell.")
    equations: dict[str, str] = Field(description="By gate, the equation that its numbers obey.")
    traces: list[Trace] = Field(description="One an input, in order.")


class GateFigures(Shape):
    """The means of what was observed of a gate, a unit over a text being one observation; null before the first."""

    layer: int = Field(ge=0, description="The layer's number, from 0.")
    direction: Direction = Field(description="The direction in which it reads.")
    gate: str = Field(description="The gate's name.")
    activation: float | None = Field(description="Its mean activation.")
    below: Probability | None = Field(None, description="The share of tokens under 0.1, of gates in 0..1.")
    above: Probability | None = Field(None, description="The share of tokens over 0.9, of gates in 0..1.")
    horizon: float | None = Field(None, description="The memory horizon, in steps, of the gate that keeps the state.")


class Observed(Shape):
    """What was observed over so many texts; `data` names the corpus, `share` that of live inputs sampled."""

    texts: int = Field(description="How many texts.")
    tokens: int = Field(description="How many tokens they had.")
    gates: list[GateFigures] = Field(description="The figures of every gate.")
    data: str | None = Field(None, description="The corpus, of what was observed in training.")
    share: float | None = Field(None, description="The share of inputs that is sampled, of live traffic.")


class GateDrift(Shape):
    """The population stability index of a gate's mean activations, live against training."""

    layer: int = Field(description="The layer's number, from 0.")
    direction: Direction = Field(description="The direction in which it reads.")
    gate: str = Field(description="The gate's name.")
    psi: float = Field(description="Its population stability index.")


class Drift(Shape):
    """Under 0.1 little has changed, over 0.25 much has; null and empty until enough texts have been sampled."""

    largest: float | None = Field(description="The largest index of any gate.")
    gates: list[GateDrift] = Field(description="The index of every gate.")


class ModelHealth(Shape):
    """How a model's gates did in training (null where the bundle does not say), and how they do in live traffic."""

    trained: Observed | None = Field(description="What was observed over the dev set.")
    live: Observed = Field(description="What was observed in live traffic since the service started.")
    drift: Drift = Field(description="How far the two are apart.")


class ServedVersion(Shape):
    """One version of a model."""

    version: str = Field(description="The version.")
    state: Literal["ready", "refused"] = Field(description="`refused`: it is on disk and cannot be served.")
    share: Probability = Field(description="The share of the requests that name no version.")
    shadow: bool = Field(description="Whether it runs again what the stable version answers.")
    shadow_share: Probability = Field(description="Of a shadow: the share of those requests.")
    stable: bool = Field(description="Whether it is the highest that is neither canary nor shadow.")
    reason: str | None = Field(description="Why it is refused.")


class ModelDescription(BaseModel):
    """A loaded model."""

    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)

    name: str = Field(description="The name that requests give.")
    version: str = Field(description="The version that is described: the stable one, where none is asked for.")
    versions: list[ServedVersion] | None = Field(None, description="All versions of the model, ascending.")
    task: Task = Field(description="What the model does.")
    cell: CellName = Field(description="The recurrent cell.")
    gru_reset: GruReset | None = Field(
        None, description="Of a GRU: whether the reset gate comes before or after the recurrent product."
    )
    peepholes: Peepholes | None = Field(
        None, description="Of a peephole LSTM: whether gates see their own unit's cell (diagonal) or the whole (full)."
    )
    directions: list[Direction] = Field(description="The directions in which it reads.")
    layers: int = Field(description="How many recurrent layers.")
    hidden: int = Field(description="Units of each direction.")
    head: Head = Field(description="How states become logits: pooling over time, or a row for each token (tagger).")
    precision: Annotated[
        Precision,
        Field(description="In what the recurrent layers of a prediction compute; gates are float32 always."),
    ]
    labels: list[str] = Field(description="The labels, in the order of the logits.")
    gates: list[str] = Field(description="The names of the gates that `/gates` returns.")
    equations: dict[str, str] = Field(description="By gate, its equation.")
    provider: Annotated[Literal["cpu", "cuda"], Field(description="Where the recurrent layers run.")]
    placement: Annotated[
        dict[Literal["recurrent", "other"], dict[Literal["cpu", "cuda"], int]],
        Field(description="How many nodes of the graph each provider runs, as ONNX Runtime assigned them."),
    ]
    relies_on: list[str] = Field(
        description="What `model.onnx` relies on, that runtimes other than ONNX Runtime may ignore: `sequence_lens`."
    )
    runtimes: str = Field(
        description="The page of the documentation that shows which runtimes give the same logits, for this graph and "
        "for the portable one (`python -m training export --portable`)."
    )
    token_limit: int = Field(description="Tokens of one input, at most.")
    parameters: int | None = Field(description="How many numbers its weights are.")
    features: list[Feature] = Field(description="What of a token it reads.")
    quality: list[Score] = Field(description="What was measured of it.")
    raw_text: list[RawText] = Field(
        description="Of a tagger: its figures on raw text, beside those on its corpora's tokens. Empty where that was "
        "not measured."
    )
    quality_before: Annotated[
        list[Score], Field(description="Of an int8 model: the figures of the float32 model that it was made from.")
    ]
    parity: Parity = Field(description="What its export found when it compared torch, the graphs and the equations.")
    licence: str = Field(description="The licence of its weights.")
    seed: int = Field(description="The seed of its training.")
    epochs: int = Field(description="The epochs of its training.")
    health: ModelHealth | None = Field(None, description="How its gates do.")


class Refused(Shape):
    """A bundle on disk that cannot be served."""

    name: str = Field(description="The bundle's name.")
    version: str = Field(description="Its version.")
    reason: str = Field(description="Why it cannot be served.")


class Models(Shape):
    """What is loaded, and which model a request gets that names none."""

    default: dict[Task, str] = Field(description="By task, the model of a request that names none.")
    models: list[ModelDescription] = Field(description="The models that are loaded.")
    refused: list[Refused] = Field(description="The bundles on disk that cannot be served.")


class Version(Shape):
    """One version in the models folder: whether it is served, and why not."""

    name: str = Field(description="The model's name.")
    version: str = Field(description="The version.")
    ready: bool = Field(description="Whether it is served.")
    reason: str | None = Field(description="Why it is not.")


class Versions(Shape):
    """Everything in the models folder, by name and version."""

    versions: list[Version] = Field(description="The versions, by name and number.")


class Unloaded(Shape):
    """A model that is not served any more."""

    name: str = Field(description="The model's name.")
    ready: Literal[False] = Field(description="Always false.")


class Status(Shape):
    """Alive, or ready."""

    status: Literal["ok"] = Field(description="Always ok; what is not ok is answered with an error.")


class Index(Shape):
    """Where to go from here."""

    service: str = Field(description="The service's name.")
    version: str = Field(description="The service's version.")
    openapi: str = Field(description="Where its API document is.")
    routes: list[str] = Field(description="The routes there are.")


class WrongField(Shape):
    """One wrong field: a JSON pointer (RFC 6901) into the request."""

    pointer: str = Field(description="Which field; an empty pointer is the whole body.")
    detail: str = Field(description="What is wrong, and what would be right.")


class Problem(Shape):
    """An error (RFC 9457). `request_id` is that of the header X-Request-ID; the log has the request under it."""

    type: str = Field(description="A URI reference that ends in the error's name.")
    title: str = Field(description="What kind of error it is.")
    status: int = Field(description="The status of the answer.")
    detail: str = Field(description="What was wrong, and what would be right.")
    request_id: str = Field(description="The request's id.")
    errors: list[WrongField] | None = Field(None, description="The wrong fields, where fields are wrong.")


class ProtocolError(Shape):
    """An error as the foreign protocols have it; the status says which kind."""

    error: str = Field(description="What was wrong, and what would be right.")
