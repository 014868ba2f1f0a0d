"""`/v1`: KServe's first protocol (TensorFlow Serving's), with explanations.

Answers are those of `/predict`, and the contributions of `/gates`. Unknown members of a body are ignored. Errors are
problems with a member `error`, where KServe's clients look for the text.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter
from pydantic import Field, PlainValidator
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from service.errors import InvalidField
from service.http.context import Here, Running
from service.http.described import described, of_a_model
from service.http.endpoint import Answer, Job, JobRoute, Outcome, PathModel
from service.http.protocols.v2_schemas import ModelReady
from service.http.render import dumps, finite, json_response
from service.http.schemas.base import Lenient, Shape
from service.http.schemas.examples import SENTIMENT, json_body
from service.http.schemas.requests import Input
from service.http.schemas.responses import Entities, Sentiment, Token
from service.model.contributions import check_explain, note
from service.model.equations import gate_names
from service.model.gates import select
from service.serving.explaining import TraceOptions

_Text = Annotated[str, Field(min_length=1)]


class V1Text(Lenient):
    """A raw text."""

    text: _Text = Field(description="The text.")


class V1Tokens(Lenient):
    """One tokenised input."""

    tokens: list[_Text] = Field(min_length=1, description="Its tokens.")


_Instances = Annotated[list[V1Text | V1Tokens | _Text], Field(min_length=1)]
"""The type of `instances`, in the API document."""


def _checked_instances(value: object) -> list[Input]:
    """Raises `InvalidField`."""
    if not isinstance(value, list):
        raise InvalidField("/instances", 'A list is expected, such as [{"text": "A great film."}].')
    if not value:
        raise InvalidField("/instances", "The list is empty; one instance at least is expected.")
    return [_checked_instance(item, f"/instances/{number}") for number, item in enumerate(value)]


def _checked_instance(item: object, where: str) -> Input:
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        raise InvalidField(where, 'An object is expected, such as {"text": "A great film."}.')
    text, tokens = (None if item.get(name) == [] else item.get(name) for name in ("text", "tokens"))
    if text is not None and tokens is not None:
        raise InvalidField(where, "It has both `text` and `tokens`; send one of them.")
    if isinstance(text, str):
        return text
    if text is not None:
        raise InvalidField(f"{where}/text", "A text is expected.")
    if not isinstance(tokens, list):
        raise InvalidField(where, "It has neither `text`, a string, nor `tokens`, a list of strings.")
    for number, token in enumerate(tokens):
        if not isinstance(token, str):
            raise InvalidField(f"{where}/tokens/{number}", "A token is a string.")
    return tokens


class V1Parameters(Lenient):
    """Options of the answer."""

    truncate: bool | None = Field(None, description="Keep the head of an input over the model's token limit.")
    tokens: bool | None = Field(None, description="Taggers: also return every token's label.")
    split: bool | None = Field(None, description="Taggers, raw text: read it sentence by sentence; true by default.")
    explain: Annotated[int, Field(ge=0)] | None = Field(
        None, description="`:explain` of taggers: the number of the token that is explained."
    )


class V1Request(Lenient):
    """Instances, as KServe's clients send them."""

    counted: ClassVar[str] = "instances"
    instances: Annotated[list[Input], PlainValidator(_checked_instances, json_schema_input_type=_Instances)] = Field(
        description="The inputs: objects with `text`, or with `tokens` (one tokenised input), or plain texts."
    )
    parameters: V1Parameters | None = Field(None, description="How to answer.")

    @property
    def chosen(self) -> V1Parameters:
        """The parameters, with their defaults if none were sent."""
        return self.parameters or V1Parameters.model_construct()

    @staticmethod
    def pointer(position: int) -> str:
        """The JSON pointer to an instance."""
        return f"/instances/{position}"


class V1Models(Shape):
    """The models that are loaded."""

    models: list[str] = Field(description="Their names.")


class V1Predictions(Shape):
    """One prediction for each instance, as in `/predict`."""

    predictions: list[Sentiment | Entities] = Field(description="The predictions, in order.")


class V1Explanation(Shape):
    """The contribution of each token: for every label, `bias` plus the sum over tokens is the logit."""

    tokens: list[Token] = Field(description="The tokens.")
    labels: list[str] = Field(description="The labels, in the order of the columns.")
    contributions: list[list[float]] | None = Field(
        description="By token, its contribution to each label's logit; null if the cell has no additive state, or "
        "without `explain` for a tagger."
    )
    bias: list[float] | None = Field(description="The part of the logits that belongs to no token.")
    logits: list[float] | None = Field(description="The explained logits.")
    of: str | None = Field(description="The subject of the rows: tokens, or positions of the top layer.")
    method: str | None = Field(description="The rule of the attribution.")
    note: str | None = Field(description="The reason why there are no contributions.")
    prediction: Sentiment | Entities = Field(description="The prediction.")


class V1Explanations(Shape):
    """One explanation for each instance."""

    explanations: list[V1Explanation] = Field(description="The explanations, in order.")


_REQUESTS: dict[str, object] = {
    "two texts": {"instances": [{"text": "A warm, funny and wise film."}, {"text": "A dull one."}]},
    "tokens": {"instances": [{"tokens": ["A", "great", "film"]}]},
}
_EXPLANATION = {
    "tokens": [{"text": "great", "start": 0, "end": 5}],
    "labels": ["negative", "positive"],
    "contributions": [[-1.9, 2.1]],
    "bias": [0.1, -0.1],
    "logits": [-1.8, 2.0],
    "of": "tokens",
    "method": "cell-state decomposition",
    "note": None,
    "prediction": SENTIMENT,
}


class _Bare(StringConvertor):
    """A part of a path without a colon, which would begin a verb."""

    regex = "[^/:]+"


register_url_convertor("bare", _Bare())
router = APIRouter()
instances = APIRouter(route_class=JobRoute)

_EXPLAIN = "/parameters/explain"
_Asked = Annotated[V1Request, json_body(_REQUESTS)]


@router.get(
    "/v1/models",
    response_model=V1Models,
    **described("v1Models", "The names of all models", examples={"answer": {"models": ["ner-bilstm"]}}),
)
async def models(runtime: Running) -> Response:
    return json_response({"models": list(runtime.registry.models)})


@of_a_model(
    router.get,
    "/v1/models/{name:bare}",
    "v1Model",
    "Whether a model is ready",
    response_model=ModelReady,
    examples={"answer": {"name": "ner-bilstm", "ready": True}},
)
async def ready(model: PathModel, runtime: Running) -> Response:
    runtime.check_ready()
    return json_response({"name": model.name, "ready": True})


@of_a_model(
    instances.post,
    "/v1/models/{name}:predict",
    "v1Predict",
    "Predictions in KServe's first protocol",
    response_model=V1Predictions,
    examples={"sentiment": {"predictions": [SENTIMENT]}},
)
def predict(model: PathModel, asked: _Asked, context: Here) -> Job[V1Request]:
    chosen = asked.chosen
    return Job(
        asked,
        model,
        asked.instances,
        _predictions,
        asked.pointer,
        truncate=bool(chosen.truncate),
        split=chosen.split is not False,
        tokens=bool(chosen.tokens),
    )


@of_a_model(
    instances.post,
    "/v1/models/{name}:explain",
    "v1Explain",
    "The contribution of each token to the prediction, in KServe's first protocol",
    response_model=V1Explanations,
    examples={"sentiment": {"explanations": [_EXPLANATION]}},
)
def explain(model: PathModel, asked: _Asked, context: Here) -> Job[V1Request]:
    manifest, chosen = model.bundle.manifest, asked.chosen
    if chosen.explain is not None and manifest.head != "tagger":
        raise InvalidField(_EXPLAIN, f"{model.name} has one prediction a text; explain is for taggers.")
    # As few gates as possible. Contributions are computed before the selection.
    selection = select(manifest, gates=[gate_names(manifest.cell)[0]], layers=[0], units=[0])
    return Job(
        asked,
        model,
        asked.instances,
        _explanations,
        asked.pointer,
        truncate=bool(chosen.truncate),
        split=chosen.split is not False,
        trace=TraceOptions(selection, contributions=True, explain=chosen.explain),
        check=lambda encoded: check_explain(chosen.explain, [len(source) for source in encoded], _EXPLAIN),
    )


def _predictions(job: Job[Any], outcome: Outcome) -> Answer:
    return Answer([dumps({"predictions": outcome.predictions})])


def _explanations(job: Job[Any], outcome: Outcome) -> Answer:
    manifest = job.model.bundle.manifest
    why = note(manifest, job.request.chosen.explain)
    found = []
    for source, prediction, trace in zip(outcome.encoded, outcome.predictions, outcome.traces or (), strict=True):
        split: Any = finite(trace.contributions) if trace.contributions is not None else {}
        found.append(
            {
                "tokens": source.tokens(),
                "labels": list(manifest.labels),
                "contributions": split.get("tokens"),
                **{name: split.get(name) for name in ("bias", "logits", "of", "method")},
                "note": why if trace.contributions is None else None,
                "prediction": prediction,
            }
        )
    return Answer([dumps({"explanations": found})])
