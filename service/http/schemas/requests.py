"""The bodies that `/predict` and `/gates` take: JSON in, checked values out, every error with a pointer into the body.

The models are strict and know every field. Two things are checked by hand: unknown fields, before anything else, and
`inputs`, whose items are of two kinds: a union's own messages would put the kinds' names into the pointer.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints, ValidationError
from pydantic import WithJsonSchema as JsonSchema

from service.errors import FieldProblem, InvalidField, MalformedBody, TooLarge
from service.model.bundle import Task
from service.model.faithfulness import MAX_TOKENS
from service.model.gates import Reduce
from service.model.interventions import MAX_SETTINGS, Interventions, Setting
from service.serving.explaining import Wanted

MAX_PROBLEMS = 16
"""Wrong fields that one answer lists."""
SHOWN_LENGTH = 40
"""Characters of a wrong string that an answer repeats."""

Input = str | list[str]
"""One input: a raw text, or its tokens."""

_Name = Annotated[str, StringConstraints(max_length=256)]

_ITEM_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1, "title": "Raw text"},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "title": "Tokens of one input"},
    ]
}
_INPUTS_SCHEMA = {
    "description": "A text, or a list whose items are texts or lists of tokens (one input, tokenised already).",
    "anyOf": [
        {"type": "string", "minLength": 1, "title": "Raw text"},
        {"type": "array", "items": _ITEM_SCHEMA, "minItems": 1, "title": "Inputs"},
    ],
}


def _checked_inputs(value: object) -> str | list[Input]:
    """`inputs`, if its types are right. Raises `InvalidField`."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise InvalidField("/inputs", f"A text or a list is expected, not {_kind(value)}.")
    if not value:
        raise InvalidField("/inputs", "The list is empty; one input at least is expected.")
    for position, item in enumerate(value):
        if isinstance(item, str):
            continue
        if not isinstance(item, list):
            raise InvalidField(f"/inputs/{position}", f"A text or a list of tokens is expected, not {_kind(item)}.")
        if set(map(type, item)) - {str}:
            number = next(number for number, token in enumerate(item) if not isinstance(token, str))
            raise InvalidField(f"/inputs/{position}/{number}", f"A token is a string, not {_kind(item[number])}.")
    return value


class InputsRequest(BaseModel):
    """One input or many: what every request of predictions has."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    inputs: Annotated[str | list[Input], PlainValidator(_checked_inputs), JsonSchema(_INPUTS_SCHEMA)]

    def items(self) -> list[Input]:
        """The inputs, one or many."""
        return [self.inputs] if isinstance(self.inputs, str) else self.inputs

    def pointer(self, position: int) -> str:
        """Where in the request the input of this number stands."""
        return "/inputs" if isinstance(self.inputs, str) else f"/inputs/{position}"


class PredictRequest(InputsRequest):
    """What to predict, and with which model."""

    model: _Name | None = Field(None, description="A model's name, as `GET /models` lists it.")
    version: _Name | None = Field(
        None,
        description="A version of the model that is served; left out: the highest, or a canary where one is on trial.",
    )
    task: Task | None = Field(
        None, description="Takes this task's default model where `model` is left out; with neither, sentiment's."
    )
    truncate: bool = Field(
        False, description="Keep the head of an input that is over the model's token limit, instead of refusing it."
    )
    tokens: bool = Field(False, description="Taggers: return every token's label too.")
    split: bool = Field(
        True,
        description="Taggers, raw text: read the text sentence by sentence, each from a zero state. Without effect for "
        "lists of tokens, which are one sentence, and for classifiers, which read a text as a whole.",
    )


class SettingRequest(BaseModel):
    """Hold one gate, or a state, of one direction of one layer at a value."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    layer: int = Field(description="The layer's number, from 0.")
    direction: _Name = Field(description='"forward" or "backward".')
    gate: _Name = Field(description="One of the cell's gates, or a state: `cell`, `hidden`.")
    value: float = Field(
        allow_inf_nan=False, description="Within the gate's range: 0 to 1, or -1 to 1; `cell` has none of its own."
    )
    units: list[int] | None = Field(None, fail_fast=True, description="Numbers of units; all where left out.")
    tokens: list[int] | None = Field(
        None, fail_fast=True, description="Numbers of tokens, in the text as sent; all where left out."
    )

    def setting(self) -> Setting:
        """The same as the model takes it."""
        units, tokens = (None if each is None else tuple(each) for each in (self.units, self.tokens))
        # An unknown direction is refused with the model's own in `check_settings`.
        return Setting(self.layer, self.direction, self.gate, self.value, units, tokens)  # type: ignore[arg-type]


class GatesRequest(PredictRequest):
    """What to predict, and which gate activations to return with it."""

    gates: list[_Name] | None = Field(
        None, fail_fast=True, description="Names of gates; all of the cell's where left out."
    )
    layers: list[int] | None = Field(None, fail_fast=True, description="Numbers of layers, from 0; all where left out.")
    directions: list[_Name] | None = Field(
        None, fail_fast=True, description='"forward", "backward"; all that the model has where left out.'
    )
    units: list[int] | None = Field(None, fail_fast=True, description="Numbers of units, from 0; all where left out.")
    reduce: Reduce = Field(
        "none",
        description='"none": every unit. "summary": mean, standard deviation, and the shares under 0.1 and over 0.9, '
        "one number a token over the selected units.",
    )
    statistics: bool = Field(
        False,
        description="Return with each layer's gates what each unit does over the text: its mean, its mean change from "
        "token to token, for gates in 0..1 the shares of time under 0.1 and over 0.9 (Karpathy et al. 2015), and its "
        "memory horizon: the steps after which its state has decayed to 1/e, -1 / mean(ln k) with k the forget gate, "
        "or 1 - update (Tallec and Ollivier 2018), at most 1,000,000.",
    )
    contributions: bool = Field(True, description="Return what each token gave to the prediction.")
    decimals: int | None = Field(
        4,
        ge=0,
        le=17,
        description="Rounding of the gate arrays in JSON; null for full float32. Nothing else is rounded.",
    )
    explain: int | None = Field(
        None, ge=0, description="Taggers: the number of the token whose logits `contributions` splits."
    )
    set: Annotated[list[SettingRequest], Field(min_length=1)] | None = Field(
        None,
        description="Interventions: from the values that are set, the equations run on. Of two entries for one value "
        f"the later one counts. At most {MAX_SETTINGS:,} entries; the values that they set count against the limit on "
        "the numbers of a trace.",
    )
    drop: Annotated[list[int], Field(min_length=1)] | None = Field(
        None,
        fail_fast=True,
        description="Numbers of tokens that are left out of every input. Token numbers of the request are those of the "
        "text as sent; the answer has rows for the tokens that are left, and their numbers in `kept`.",
    )
    faithfulness: bool = Field(
        False,
        description="Measure whether the split is true: the label's probability as tokens are deleted in the order of "
        f"their shares, comprehensiveness and sufficiency. At most {MAX_TOKENS} tokens an input. Taggers need "
        "`explain`.",
    )
    deletion: bool = Field(
        False,
        description="Return how each logit changes when a token is gone: in closed form where the cell has one, else "
        f"by running the model without it. Then at most {MAX_TOKENS} tokens an input. Taggers need `explain`.",
    )

    @property
    def interventions(self) -> Interventions:
        """`set` and `drop` as the model takes them."""
        return Interventions(tuple(each.setting() for each in self.set or ()), tuple(self.drop or ()))

    @property
    def wanted(self) -> Wanted:
        """What is to be measured."""
        return Wanted(self.faithfulness, self.deletion)


_Model = TypeVar("_Model", bound=BaseModel)


def parse(body: bytes, kind: type[_Model], max_inputs: int) -> _Model:
    """A request from its body. Raises `MalformedBody`, `TooLarge` or `InvalidField`."""
    value = read_object(body)
    if kind.model_config.get("extra") == "forbid":
        _refuse_unknown(value, kind)
    if isinstance(inputs := value.get("inputs"), list) and "inputs" in kind.model_fields:
        check_count(len(inputs), max_inputs)
    return checked(value, kind)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is. Raises `MalformedBody` or `InvalidField`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(_not_json(body, error)) from None
    if not isinstance(value, dict):
        raise InvalidField("", f"The body is expected to be an object, not {_kind(value)}.")
    return value


def check_count(inputs: int, most: int) -> None:
    """Raises `TooLarge` for more inputs than one request may have."""
    if inputs > most:
        raise TooLarge("Inputs in one request", inputs, most)


def checked(value: dict[str, Any], kind: type[_Model]) -> _Model:
    """A JSON object as a model. Raises `InvalidField`, which lists the first `MAX_PROBLEMS` wrong fields."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problems = [_problem(found) for found in error.errors(include_url=False, include_context=False)]
        raise InvalidField(problems[0].pointer, problems[0].detail, *problems[1:MAX_PROBLEMS]) from None


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    """Why a body cannot be read; the parser takes bytes that are not UTF-8 for surrogates."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return f"The body is not UTF-8: byte {wrong.start} does not belong there ({wrong.reason})."
    return f"The body is not JSON: {error}."


def escape(key: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _refuse_unknown(value: dict[str, Any], kind: type[BaseModel]) -> None:
    unknown = [key for key in value if key not in kind.model_fields][:MAX_PROBLEMS]
    if unknown:
        detail = f"There is no such field. Fields: {', '.join(sorted(kind.model_fields))}."
        problems = [FieldProblem(f"/{escape(key)}", detail) for key in unknown]
        raise InvalidField(problems[0].pointer, detail, *problems[1:])


def _problem(found: Any) -> FieldProblem:
    pointer = "".join(f"/{escape(str(step))}" for step in found["loc"])
    if found["type"] == "missing":
        return FieldProblem(pointer, "The field is missing.")
    if found["type"] == "extra_forbidden":
        return FieldProblem(pointer, "There is no such field.")
    return FieldProblem(pointer, f"{found['msg']}, not {_kind(found['input'])}.")


def _kind(value: object) -> str:
    """What a JSON value is: a short one as it stands, others in words."""
    if isinstance(value, str) and len(value) > SHOWN_LENGTH:
        return f"a string of {len(value)} characters"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return orjson.dumps(value).decode()
