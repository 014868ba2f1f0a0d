"""The JSON files of a bundle: the base class of their parts, types that they share, and how a file is read."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import BundleError

MOST = 1 << 53
"""Largest whole number that every reader of JSON, and float64, represents exactly."""
SHOWN_LENGTH = 40
"""Characters of a wrong value that a refusal repeats."""

Count = Annotated[int, Field(ge=0, le=MOST)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Frozen(BaseModel):
    """A part of a file: no other fields, no other types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Part = TypeVar("Part", bound=Frozen)


def parsed(kind: type[Part], content: memoryview | bytes, file: str) -> Part:
    """A file of JSON as its model. Raises `BundleError`, which names the first wrong field, its value and the right
    ones."""
    try:
        return kind.model_validate_json(bytes(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "value_error":  # it names its fields
            raise BundleError(f"{file}: {first['ctx']['error']}") from error
        where, value = ".".join(map(str, first["loc"])), first["input"]
        short = where and isinstance(value, str | int | float | None) and len(str(value)) <= SHOWN_LENGTH
        seen = f", not {value!a}" if short and first["type"] != "extra_forbidden" else ""
        raise BundleError(f"{file}: {where or 'the document'}: {first['msg']}{seen}") from error
