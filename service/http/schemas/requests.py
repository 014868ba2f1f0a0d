"""The bodies of `/predict` and `/gates`: JSON in, checked values out. Every error has a pointer into the body.

The models are strict and reject unknown fields. Two checks are written by hand: unknown fields, before all others, and
`inputs`, because its items have two types, and a union's own messages would put the type names into the pointer.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, Field, PlainValidator, ValidationError

from service.errors import FieldProblem, InvalidField, MalformedBody, TooLarge
from service.http.schemas.base import Name, Strict
from service.model.bundle import Task
from service.model.faithfulness import MAX_TOKENS
from service.model.gates import Reduce
from service.model.interventions import MAX_SETTINGS, Interventions, Setting
from service.serving.explaining import MeasureOptions

MAX_PROBLEMS = 16
"""Wrong fields listed in one answer."""
SHOWN_LENGTH = 40
"""Characters of a wrong string repeated in an answer."""

Input = str | list[str]
"""One input: a raw text, or its tokens."""

_A_KEY = "[key]"
"""pydantic's last step to a member whose name is wrong."""

_Text = Annotated[str, Field(min_length=1, title="Raw text")]
_Tokens = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, title="Tokens of one input")]
_Inputs = _Text | Annotated[list[_Text | _Tokens], Field(min_length=1, title="Inputs")]
"""The type of `inputs`, in the API document."""


def _checked_inputs(value: object) -> str | list[Input]:
    """`inputs` after a check of its types. Raises `InvalidField`."""
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


class InputsRequest(Strict):
    """One input or many, in every request for predictions."""

    counted: ClassVar[str] = "inputs"
    """The list whose entries are counted against the limit on inputs."""
    inputs: Annotated[str | list[Input], PlainValidator(_checked_inputs, json_schema_input_type=_Inputs)] = Field(
        description="A text, or a list of texts and lists of tokens (each one tokenised input)."
    )

    def items(self) -> list[Input]:
        return [self.inputs] if isinstance(self.inputs, str) else self.inputs

    def pointer(self, position: int) -> str:
        """The JSON pointer to an input."""
        return "/inputs" if isinstance(self.inputs, str) else f"/inputs/{position}"


class PredictRequest(InputsRequest):
    """A request for predictions."""

    model: Name | None = Field(None, description="A model's name, as in `GET /models`.")
    version: Name | None = Field(
        None,
        description="A loaded version of the model. Without it: the stable one, or a canary.",
    )
    task: Task | None = Field(
        None, description="The task: its default model is used if `model` is missing. Without both: sentiment's."
    )
    truncate: bool = Field(
        False, description="Keep the head of an input over the model's token limit instead of rejecting it."
    )
    tokens: bool = Field(False, description="Taggers: also return every token's label.")
    split: bool = Field(
        True,
        description="Taggers, raw text: read the text sentence by sentence, each from a zero state. Without effect for "
        "a list of tokens, which is one sentence, and for classifiers, which read a text as a whole.",
    )


class SettingRequest(Strict):
    """Hold one gate or state of one direction of one layer at a value."""

    layer: int = Field(description="The layer's number, from 0.")
    direction: Name = Field(description='"forward" or "backward".')
    gate: Name = Field(description="One of the cell's gates, or a state: `cell`, `hidden`.")
    value: float = Field(
        allow_inf_nan=False, description="Within the gate's range: 0 to 1, or -1 to 1; `cell` has no range."
    )
    units: list[int] | None = Field(None, fail_fast=True, description="Numbers of units; all by default.")
    tokens: list[int] | None = Field(
        None, fail_fast=True, description="Numbers of tokens in the text as sent; all by default."
    )

    def setting(self) -> Setting:
        """The intervention in the model's form."""
        units, tokens = (None if each is None else tuple(each) for each in (self.units, self.tokens))
        # `check_settings` rejects an unknown direction.
        return Setting(self.layer, self.direction, self.gate, self.value, units, tokens)  # type: ignore[arg-type]  # pydantic has checked the names


class GatesRequest(PredictRequest):
    """A request for predictions with gate activations."""

    gates: list[Name] | None = Field(None, fail_fast=True, description="Names of gates; all of the cell's by default.")
    layers: list[int] | None = Field(None, fail_fast=True, description="Numbers of layers, from 0; all by default.")
    directions: list[Name] | None = Field(
        None, fail_fast=True, description='"forward", "backward"; all of the model\'s by default.'
    )
    units: list[int] | None = Field(None, fail_fast=True, description="Numbers of units, from 0; all by default.")
    reduce: Reduce = Field(
        "none",
        description='"none": every unit. "summary": mean, standard deviation, and the shares under 0.1 and over 0.9, '
        "as one number for each token over the selected units.",
    )
    statistics: bool = Field(
        False,
        description="Also return statistics of each unit over the text: its mean, its mean change from token to token, "
        "for gates in 0..1 the shares of time under 0.1 and over 0.9 (Karpathy et al. 2015), and its memory "
        "horizon, the number of steps after which its state has decayed to 1/e: -1 / mean(ln k), with k the "
        "forget gate, or 1 - update (Tallec and Ollivier 2018), at most 1,000,000.",
    )
    contributions: bool = Field(True, description="Return the contribution of each token to the prediction.")
    decimals: int | None = Field(
        4,
        ge=0,
        le=17,
        description="Decimals of the gate arrays in JSON; null for full float32. Nothing else is rounded.",
    )
    explain: int | None = Field(
        None, ge=0, description="Taggers: the number of the token that `contributions` explains."
    )
    set: Annotated[list[SettingRequest], Field(min_length=1)] | None = Field(
        None,
        description="Interventions: the equations continue from the values set here. If two entries set one value, "
        f"the later one counts. At most {MAX_SETTINGS:,} entries. The values that they set count against the limit on "
        "the numbers of a trace.",
    )
    drop: Annotated[list[int], Field(min_length=1)] | None = Field(
        None,
        fail_fast=True,
        description="Numbers of tokens to leave out of every input. All token numbers in the request refer to the text "
        "as sent. The answer has rows for the remaining tokens, and their numbers in `kept`.",
    )
    faithfulness: bool = Field(
        False,
        description="Measure the faithfulness of the contributions: the label's probability as tokens are deleted in "
        "the order of their contributions, comprehensiveness and sufficiency. "
        f"At most {MAX_TOKENS} tokens an input. Taggers need `explain`.",
    )
    deletion: bool = Field(
        False,
        description="Return the change of each logit when a token is deleted: in closed form if the cell has one, else "
        f"by running the model without it, for at most {MAX_TOKENS} tokens an input. Taggers need `explain`.",
    )

    @property
    def interventions(self) -> Interventions:
        """`set` and `drop` in the model's form."""
        return Interventions(tuple(each.setting() for each in self.set or ()), tuple(self.drop or ()))

    @property
    def wanted(self) -> MeasureOptions:
        return MeasureOptions(self.faithfulness, self.deletion)


_Model = TypeVar("_Model", bound=BaseModel)


def parse(body: bytes, kind: type[_Model], max_inputs: int) -> _Model:
    """A request from its body. Raises `MalformedBody`, `TooLarge` or `InvalidField`."""
    value = read_object(body)
    if kind.model_config.get("extra") == "forbid":
        _refuse_unknown(value, kind)
    counted = getattr(kind, "counted", None)
    if counted is not None and isinstance(inputs := value.get(counted), list):
        check_count(len(inputs), max_inputs)
    return checked(value, kind)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises `MalformedBody` or `InvalidField`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(_not_json(body, error)) from None
    if not isinstance(value, dict):
        raise InvalidField("", f"The body is expected to be an object, not {_kind(value)}.")
    return value


def check_count(inputs: int, most: int) -> None:
    """Raises `TooLarge` for more inputs than the limit."""
    if inputs > most:
        raise TooLarge("Inputs in one request", inputs, most)


def checked(value: dict[str, Any], kind: type[_Model]) -> _Model:
    """A JSON object as a model. Raises `InvalidField` with the first `MAX_PROBLEMS` wrong fields."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problems = [_problem(found) for found in error.errors(include_url=False, include_context=False)]
        raise InvalidField(problems[0].pointer, problems[0].detail, *problems[1:MAX_PROBLEMS]) from None


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    """The reason why a body is not JSON. The parser reports bytes that are not UTF-8 as surrogates."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return f"The body is not UTF-8: byte {wrong.start} does not belong there ({wrong.reason})."
    return f"The body is not JSON: {error}."


def escape(key: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


@cache
def _fields_of(kind: type[BaseModel]) -> frozenset[str]:
    return frozenset(kind.model_fields)


def _refuse_unknown(value: dict[str, Any], kind: type[BaseModel]) -> None:
    if value.keys() <= _fields_of(kind):
        return
    unknown = [key for key in value if key not in kind.model_fields][:MAX_PROBLEMS]
    detail = f"There is no such field. Fields: {', '.join(sorted(kind.model_fields))}."
    problems = [FieldProblem(f"/{escape(key)}", detail) for key in unknown]
    raise InvalidField(problems[0].pointer, detail, *problems[1:])


def _problem(found: Any) -> FieldProblem:
    steps = found["loc"][:-1] if found["loc"][-1:] == (_A_KEY,) else found["loc"]
    pointer = "".join(f"/{escape(str(step))}" for step in steps)
    if found["type"] == "missing":
        return FieldProblem(pointer, "The field is missing.")
    if found["type"] == "extra_forbidden":
        return FieldProblem(pointer, "There is no such field.")
    if found["type"] == "too_short" and not found["input"]:
        return FieldProblem(pointer, "The list is empty; leave it out, or give it an entry.")
    if found["type"] == "model_type":
        return FieldProblem(pointer, f"An object is expected, not {_kind(found['input'])}.")
    if found["type"] == "too_long":  # pydantic names both numbers
        return FieldProblem(pointer, f"{found['msg'].replace(' after validation', '')}.")
    return FieldProblem(pointer, f"{found['msg']}, not {_kind(found['input'])}.")


def _kind(value: object) -> str:
    """A JSON value for a message: short ones as they are, others by their type."""
    if isinstance(value, str) and len(value) > SHOWN_LENGTH:
        return f"a string of {len(value)} characters"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return orjson.dumps(value).decode()
