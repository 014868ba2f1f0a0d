"""The shapes of the answers, for the API document and for checks. Answers are built from arrays
(`service.http.render`), not from these classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.http.schemas.base import Shape
from service.model import bundle
from service.model.bundle import Feature, Head, Parity, Precision, RawText, Score, Task
from service.model.contributions import Split
from service.model.equations import CellName, Direction, GruReset, Peepholes

Probability = Annotated[float, Field(ge=0, le=1)]


class Token(Shape):
    """A token: the slice `[start:end]` of the text as sent, in Unicode code points."""

    text: str = Field(description="The slice of the text as sent.")
    start: int = Field(ge=0, description="Its start in the text.")
    end: int = Field(ge=1, description="Its end, exclusive.")


class LabelledToken(Token):
    """A token with a tagger's label for it."""

    label: str = Field(description="The label, such as B-PER.")
    score: Probability = Field(description="The label's probability.")


class Entity(Token):
    """A named entity. `token_end` is exclusive, too. Its score is the joint probability of its tokens' labels."""

    label: str = Field(description="The kind of entity, such as PER.")
    score: Probability = Field(description="The joint probability of its tokens' labels.")
    token_start: int = Field(ge=0, description="The number of its first token.")
    token_end: int = Field(ge=1, description="The number of the token after its last.")


class Sentiment(Shape):
    """A classifier's prediction. `scores` are probabilities and sum to 1."""

    label: str = Field(description="The most probable label.")
    score: Probability = Field(description="Its probability.")
    scores: dict[str, Probability] = Field(description="Every label's probability; they sum to 1.")
    truncated: Annotated[bool, Field(description="True if the input was over the token limit and lost its tail.")]


class Entities(Shape):
    """A tagger's prediction; `tokens` only on request."""

    entities: list[Entity] = Field(description="The entities, in the order of the text.")
    truncated: Annotated[bool, Field(description="True if the input was over the token limit and lost its tail.")]
    tokens: list[LabelledToken] | None = Field(
        None, description="Every token and its label; only with `tokens` in the request."
    )


class _Answer(Shape):
    model: str = Field(description="The model that answered.")
    version: str = Field(description="Its version.")
    task: Task = Field(description="Its task.")


class Predictions(_Answer):
    """One prediction for each input, in order."""

    predictions: list[Sentiment | Entities] = Field(description="One for each input, in order.")


class Summary(Shape):
    """One number for each token, over the selected units. `std` is of the population, the shares are under 0.1 and over
    0.9."""

    mean: list[float] = Field(description="The mean of the units.")
    std: list[float] = Field(description="Their standard deviation, of the population.")
    below: list[Probability] = Field(description="The share of units under 0.1.")
    above: list[Probability] = Field(description="The share of units over 0.9.")


class OverTime(Shape):
    """One number for each selected unit, over all tokens. `below` and `above` are shares of time, for gates in 0..1."""

    mean: list[float] = Field(description="The mean over the tokens.")
    change: list[float] = Field(description="The mean change from one token to the next.")
    below: list[Probability] | None = Field(None, description="The share of tokens with the unit under 0.1.")
    above: list[Probability] | None = Field(None, description="The share of tokens with the unit over 0.9.")


class UnitStatistics(Shape):
    """Statistics of each unit over the text. `horizon`, in steps, exists if a gate keeps the cell's state."""

    gates: dict[str, OverTime] = Field(description="By gate.")
    horizon: list[Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        None, description="The memory horizon of each unit, in steps."
    )


class _OfADirection(Shape):
    layer: int = Field(ge=0, description="The layer's number, from 0.")
    direction: Direction = Field(description="The direction of reading.")


class Layer(_OfADirection):
    """One direction of one layer. By gate: a row for each token with a number for each unit, or their summary."""

    gates: dict[str, list[list[float]] | Summary] = Field(
        description="By gate: a row for each token with a number for each unit, or with `reduce` their summary."
    )
    statistics: UnitStatistics | None = Field(
        None, description="Statistics of each unit over the text; only with `statistics` in the request."
    )


class Contributions(Shape):
    """The contribution of each token: for every label, `bias + sum over tokens = logits`."""

    labels: list[str] = Field(description="The labels, in the order of the numbers below.")
    bias: list[float] = Field(description="The part of the logits that belongs to no token: a number for each label.")
    tokens: Annotated[list[list[float]], Field(description="A row for each token, a number for each label.")]
    logits: list[float] = Field(
        description="The sums, a number for each label; for a tagger those of the token in `explain`."
    )
    of: Split = Field(
        description="The subject of the rows: tokens, or positions of the top layer if there are layers below it."
    )
    method: str = Field(description="The rule of the attribution.")


class Deletion(Shape):
    """The tokens deleted one after another."""

    order: list[Annotated[int, Field(ge=0)]] = Field(
        description="All token numbers of the answer, the largest contribution first; a tagger's explained token last."
    )
    scores: list[Probability] = Field(
        description="The label's probability without the first 1, 2, … tokens of the order. The last token stays."
    )


class Faithfulness(Shape):
    """The faithfulness of the contributions to the predicted label, measured by the model itself."""

    label: str = Field(description="The predicted label; a tagger's of the explained token.")
    score: Probability = Field(description="Its probability with all tokens.")
    deletion: Deletion = Field(description="Its probability while tokens are deleted.")
    comprehensiveness: float = Field(
        description="The mean loss of probability without the 1, 5, 10, 20 and 50 % of the tokens with the largest "
        "contributions (DeYoung et al. 2020)."
    )
    sufficiency: float = Field(description="The mean loss of probability with only these tokens.")


class DeletionEffects(Shape):
    """The change of each logit when a token is deleted."""

    labels: list[str] = Field(description="The labels, in the order of the numbers below.")
    tokens: list[list[float] | None] = Field(
        description="A row for each token, a number for each label; null for a tagger's explained token."
    )
    exact: bool = Field(description="True: from the cell's closed form. False: from runs without each token.")
    method: str = Field(description="The method of computation.")


class Trace(Shape):
    """One input's trace. Row t of every array belongs to token t, in both directions."""

    tokens: list[Token] = Field(description="The tokens, each with its place in the text.")
    sentences: list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]] | None = Field(
        None,
        description="For a tagger's raw text: [first token, token after the last] of each sentence, each read from a "
        "zero state. Missing for lists of tokens, for classifiers and with `split` false: then the text is "
        "one sequence.",
    )
    prediction: Sentiment | Entities = Field(description="The prediction of `/predict`.")
    layers: list[Layer] = Field(description="The requested layers and directions.")
    contributions: Contributions | None = Field(
        description="The contribution of each token; null if not requested, or if the cell has none."
    )
    contributions_note: Annotated[str | None, Field(description="The reason why `contributions` is null.")] = None
    kept: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="With `drop`: each remaining token's number in the text as sent."
    )
    baseline: Sentiment | Entities | None = Field(
        None, description="With `set` or `drop`: the prediction for the text as sent, without interventions."
    )
    faithfulness: Faithfulness | None = Field(
        None, description="Only with `faithfulness` in the request; null for a cell without contributions."
    )
    deletion_effects: DeletionEffects | None = Field(None, description="Only with `deletion` in the request.")


class Traces(_Answer):
    """One trace for each input, in order, and the equations of the numbers."""

    cell: CellName = Field(description="Its recurrent cell.")
    equations: dict[str, str] = Field(description="By gate, its equation.")
    traces: list[Trace] = Field(description="One for each input, in order.")


class GateFigures(_OfADirection):
    """Means over the observations of a gate; null before the first. An observation is one unit over one text."""

    gate: str = Field(description="The gate's name.")
    activation: float | None = Field(description="Its mean activation.")
    below: Probability | None = Field(None, description="The share of tokens under 0.1, for gates in 0..1.")
    above: Probability | None = Field(None, description="The share of tokens over 0.9, for gates in 0..1.")
    horizon: float | None = Field(None, description="The memory horizon in steps, for the gate that keeps the state.")


class Observed(Shape):
    """Observations over texts. `data` names the corpus, `share` the sampled part of live inputs."""

    texts: int = Field(description="The number of texts.")
    tokens: int = Field(description="The number of tokens in them.")
    gates: list[GateFigures] = Field(description="The figures of every gate.")
    data: str | None = Field(None, description="The corpus; only for training.")
    share: float | None = Field(None, description="The sampled share of inputs; only for live traffic.")


class GateDrift(_OfADirection):
    """The population stability index of a gate's mean activations, live against training."""

    gate: str = Field(description="The gate's name.")
    psi: float = Field(description="Its population stability index.")


class Drift(Shape):
    """Under 0.1 little has changed, over 0.25 much has. Null and empty until enough texts are sampled."""

    largest: float | None = Field(description="The largest index of any gate.")
    gates: list[GateDrift] = Field(description="The index of every gate.")


class GateReport(Shape):
    """A model's gates in training (null if the bundle has no record) and in live traffic."""

    trained: Observed | None = Field(description="Observations over the dev set.")
    live: Observed = Field(description="Observations in live traffic since the start of the service.")
    drift: Drift = Field(description="The distance between the two.")


class ServedVersion(Shape):
    """One version of a model."""

    version: str = Field(description="The version.")
    state: Literal["ready", "refused"] = Field(description="`refused`: it is on disk but cannot be served.")
    share: Probability = Field(description="Its share of the requests without a version.")
    shadow: bool = Field(description="True if it runs the stable version's requests again.")
    shadow_share: Probability = Field(description="For a shadow: its share of those requests.")
    stable: bool = Field(description="True if it is the highest version that is neither canary nor shadow.")
    reason: str | None = Field(description="The reason why it is refused.")


class ModelDescription(Shape, extra="allow"):
    """A loaded model."""

    name: str = Field(description="The model's name.")
    version: str = Field(description="The described version; by default the stable one.")
    versions: list[ServedVersion] | None = Field(None, description="All versions of the model, ascending.")
    task: Task = Field(description="The model's task.")
    cell: CellName = Field(description="The recurrent cell.")
    gru_reset: GruReset | None = Field(
        None, description="For a GRU: whether the reset gate applies before or after the recurrent product."
    )
    peepholes: Peepholes | None = Field(
        None,
        description="For a peephole LSTM: whether gates see their own unit's cell (diagonal) or the whole cell (full).",
    )
    directions: list[Direction] = Field(description="The directions of reading.")
    window_words: int = Field(1, description="The number of words that the first layer reads at each step.")
    layers: int = Field(description="The number of recurrent layers.")
    hidden: int = Field(description="Units of each direction.")
    head: Head = Field(
        description="The step from states to logits: pooling over time, or a row for each token (tagger)."
    )
    precision: Annotated[
        Precision,
        Field(description="The number format of a prediction's recurrent layers; gates are always float32."),
    ]
    labels: list[str] = Field(description="The labels, in the order of the logits.")
    gates: list[str] = Field(description="The names of the gates that `/gates` returns.")
    equations: dict[str, str] = Field(description="By gate, its equation.")
    provider: Annotated[Literal["cpu", "cuda"], Field(description="The device of the recurrent layers.")]
    placement: Annotated[
        dict[Literal["recurrent", "other"], dict[Literal["cpu", "cuda"], int]],
        Field(description="The number of graph nodes on each provider, as ONNX Runtime assigned them."),
    ]
    relies_on: list[str] = Field(
        description="Features of `model.onnx` that runtimes other than ONNX Runtime may ignore: `sequence_lens`."
    )
    runtimes: str = Field(
        description="The documentation's page about runtimes with the same logits, for this graph and for the portable "
        "one (`python -m training export --portable`)."
    )
    token_limit: int = Field(description="The maximum of tokens in one input.")
    parameters: int | None = Field(description="The number of its weights.")
    features: list[Feature] = Field(description="The features of a token that it reads.")
    quality: list[Score] = Field(description="Its measured quality.")
    raw_text: list[RawText] = Field(
        description="For a tagger: its scores on raw text, beside those on its corpora's tokens. Empty if not measured."
    )
    faithfulness: list[bundle.FaithfulnessStudy] = Field(
        [], description="How faithful the split into tokens is, beside other ways to explain the same answers."
    )
    cards: bool = Field(
        False, description="True if its units have cards: the tokens at which each is most active, and its purpose."
    )
    quality_before: Annotated[
        list[Score], Field(description="For an int8 model: the scores of the float32 model that it was made from.")
    ]
    parity: Parity = Field(description="The result of its export's comparison of torch, graphs and equations.")
    licence: str = Field(description="The licence of its weights.")
    seed: int = Field(description="The seed of its training.")
    epochs: int = Field(description="The epochs of its training.")
    gate_report: GateReport | None = Field(
        None, alias="health", description="Its gates in training and in live traffic."
    )


class CardData(Shape):
    """The data file of a card. Its texts are not here: open the file, and compare its digest."""

    name: str = Field(description="The corpus and its split.")
    sha256: str = Field(description="The SHA-256 of the file, in hexadecimal.")
    inputs: int = Field(description="How many inputs it has.")


class Place(Shape):
    """A token of a data file."""

    line: int = Field(
        ge=1, description="The line of the file, from 1: of the token, or of the row that holds the text."
    )
    token: int = Field(ge=0, description="The number of the token in its input.")
    value: float = Field(description="The unit's hidden state after that token.")


class Ablation(Shape):
    """The loss of quality while a unit's hidden state is held at 0."""

    inputs: int = Field(description="Over how many inputs of the file it was measured.")
    metric: Literal["accuracy", "f1"] = Field(description="The measured quantity.")
    score: Probability = Field(description="The figure of the whole model, over the same inputs.")
    cost: float = Field(description="That figure less the figure without the unit.")
    lost: float = Field(description="The mean drop of the probability of the labels that the whole model predicts.")
    changed: Probability = Field(description="The share of answers (texts, or tokens of a tagger) that change.")
    effects: dict[str, float] | None = Field(
        None, description="By label, the mean change of the logit; for layers below the top."
    )


class UnitCard(Shape):
    """The card of one unit. `data`, `places` and `ablation` are null if the bundle has no cards."""

    model: str = Field(description="The model.")
    version: str = Field(description="Its version.")
    layer: int = Field(description="The unit's layer, from 0.")
    direction: Direction = Field(description="Its direction.")
    unit: int = Field(description="Its number, from 0.")
    logits: dict[str, float] | None = Field(
        description="Its direction in the logits: by label, the change of the logit for each 1 of its hidden state. "
        "Null below the top layer, because the head does not see those states."
    )
    data: CardData | None = Field(description="The file that the places are in.")
    places: list[Place] | None = Field(
        description="The tokens with its hidden state farthest from 0, the farthest first."
    )
    ablation: Ablation | None = Field(description="The loss without it.")


class RefusedVersion(Shape):
    """A bundle on disk that cannot be served."""

    name: str = Field(description="The bundle's name.")
    version: str = Field(description="Its version; empty if the folder of the name cannot be read.")
    reason: str = Field(description="The reason why it cannot be served.")


class Models(Shape):
    """The loaded models, and the model of a request without one."""

    default: dict[Task, str] = Field(description="By task, the model of a request without one.")
    models: list[ModelDescription] = Field(description="The loaded models.")
    refused: list[RefusedVersion] = Field(description="The bundles on disk that cannot be served.")


class Version(Shape):
    """One version in the models folder, and whether it is served."""

    name: str = Field(description="The model's name.")
    version: str = Field(description="The version.")
    ready: bool = Field(description="True if it is served.")
    reason: str | None = Field(description="The reason why it is not served.")


class Versions(Shape):
    """Everything in the models folder, by name and version."""

    versions: list[Version] = Field(description="The versions, by name and number.")


class Unloaded(Shape):
    """A model that is no longer served."""

    name: str = Field(description="The model's name.")
    ready: Literal[False] = Field(description="Always false.")


class Status(Shape):
    """The service is alive, or ready."""

    status: Literal["ok"] = Field(description="Always ok; any other state is an error.")


class Index(Shape):
    """The service's entry points."""

    service: str = Field(description="The service's name.")
    version: str = Field(description="The service's version.")
    openapi: str = Field(description="The path of its API document.")
    routes: list[str] = Field(description="The routes of the service.")


class WrongField(Shape):
    """One wrong field: a JSON pointer (RFC 6901) into the request."""

    pointer: str = Field(description="The wrong field; an empty pointer means the whole body.")
    detail: str = Field(description="What is wrong, and the right form.")


class Problem(Shape):
    """An error (RFC 9457). `request_id` equals the header X-Request-ID and identifies the request in the log."""

    type: str = Field(description="A URI reference that ends in the error's name.")
    title: str = Field(description="The kind of error.")
    status: int = Field(description="The status of the answer.")
    detail: str = Field(description="What was wrong, and the right form.")
    request_id: str = Field(description="The request's id.")
    errors: list[WrongField] | None = Field(None, description="The wrong fields, if there are any.")
    error: str | None = Field(None, description="Below `/v1` only: the detail again, for KServe's clients.")


class ProtocolError(Shape):
    """An error in the form of `/v2` and of Hugging Face's route; its kind is in the status."""

    error: str = Field(description="What was wrong, and the right form.")
