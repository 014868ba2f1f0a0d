"""The base classes of bodies, by what they do with members that they do not know."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError, WrapValidator
from pydantic import ValidatorFunctionWrapHandler as Handler
from pydantic_core import PydanticCustomError

Name = Annotated[str, StringConstraints(max_length=256)]

UNLESS_EMPTY = BeforeValidator(lambda value: None if value == [] else value)
"""For an optional object in a foreign protocol: an empty list is treated as missing. Some clients write an empty object
so."""


def one_of(expected: str) -> WrapValidator:
    """The check of a union, with one error at the field. pydantic has an error for each type, and a pointer that ends
    in the type's name."""

    def check(value: object, handler: Handler) -> object:
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("union", f"Input should be {expected}") from None

    return WrapValidator(check)


class Strict(BaseModel):
    """A body of the service's own: an unknown member is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Lenient(BaseModel):
    """A body of a foreign protocol: unknown members are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Shape(BaseModel):
    """An answer or a part of one, with exactly these fields."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
