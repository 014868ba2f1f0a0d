"""The bodies and answers of `/v1`, with examples."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator
from pydantic import WithJsonSchema as JsonSchema

from service.errors import InvalidField
from service.http.schemas.base import UNLESS_EMPTY, Lenient, Shape
from service.http.schemas.examples import SENTIMENT
from service.http.schemas.requests import Input
from service.http.schemas.responses import Entities, Sentiment, Token

_INSTANCE = {
    "anyOf": [
        {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]},
        {
            "type": "object",
            "properties": {"tokens": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}},
            "required": ["tokens"],
        },
        {"type": "string", "minLength": 1},
    ]
}
_INSTANCES = {
    "description": "The inputs: objects with `text`, or with `tokens` (one tokenised input), or plain texts.",
    "type": "array",
    "items": _INSTANCE,
    "minItems": 1,
}


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
    text, tokens = item.get("text"), item.get("tokens")
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
    instances: Annotated[list[Any], PlainValidator(_checked_instances), JsonSchema(_INSTANCES)]
    parameters: Annotated[V1Parameters | None, UNLESS_EMPTY] = Field(None, description="How to answer.")

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


REQUESTS: dict[str, object] = {
    "two texts": {"instances": [{"text": "A warm, funny and wise film."}, {"text": "A dull one."}]},
    "tokens": {"instances": [{"tokens": ["A", "great", "film"]}]},
}
EXPLANATION = {
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
