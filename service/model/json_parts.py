"""The JSON files of a bundle: the base class of their parts, types that they share, and how a file is read."""

from __future__ import annotations

import json
from collections import Counter
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from service.errors import BundleError

MOST = 1 << 53
"""Largest whole number that every reader of JSON, and float64, represents exactly."""
SHOWN_LENGTH = 40
"""Characters of a wrong value that a refusal repeats."""

Count = Annotated[int, Field(ge=0, le=MOST)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
SCHEMA_VERSION: Literal[1] = 1


def _exactly_one(value: object) -> object:
    if type(value) is not int:  # True and 1.0 equal 1
        raise PydanticCustomError("literal_error", "Input should be 1")
    return value


SchemaVersion = Annotated[Literal[1], BeforeValidator(_exactly_one)]
"""The version of a file's schema. A manifest must name it."""


class Frozen(BaseModel):
    """A part of a file: no other fields, no other types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Part = TypeVar("Part", bound=Frozen)


def parsed(kind: type[Part], content: memoryview | bytes, file: str) -> Part:
    """A file of JSON as its model. Raises `BundleError`, which names the first wrong field, its value and the right
    ones, or a name that an object has twice."""
    try:
        part = kind.model_validate_json(bytes(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":  # it names its fields
            raise BundleError(f"{file}: {first['ctx']['error']}") from error
        where, value = ".".join(map(str, first["loc"])), first["input"]
        short = where and isinstance(value, str | int | float | None) and len(str(value)) <= SHOWN_LENGTH
        seen = f", not {value!a}" if short and first["type"] != "extra_forbidden" else ""
        raise BundleError(f"{file}: {where or 'the document'}: {first['msg']}{seen}") from error

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(found := dict(pairs)) < len(pairs):  # pydantic takes the last one; other readers take the first
            name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise BundleError(f"{file}: an object names {name[:SHOWN_LENGTH]!a} twice; each name may stand there once")
        return found

    json.loads(bytes(content), object_pairs_hook=once, parse_int=str, parse_float=str)
    return part
