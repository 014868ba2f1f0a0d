"""The base classes of bodies, by what they do with members that they do not know."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, WrapValidator, model_validator
from pydantic import ValidatorFunctionWrapHandler as Handler
from pydantic_core import PydanticCustomError

Name = Annotated[str, StringConstraints(max_length=256)]


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
    """A body of a foreign protocol: unknown members are ignored. An empty list counts as missing, except in members
    that are lists."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty_lists(cls, value: Any) -> Any:
        if not isinstance(value, dict) or [] not in value.values():
            return value
        plain = _plain_members(cls)
        return {name: item for name, item in value.items() if item != [] or name not in plain}


class Shape(BaseModel):
    """An answer or a part of one, with exactly these fields."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


@cache
def _plain_members(kind: type[BaseModel]) -> frozenset[str]:
    """The optional members that are no lists."""
    fields = kind.model_fields.items()
    return frozenset(name for name, field in fields if not field.is_required() and not _may_be_a_list(field.annotation))


def _may_be_a_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(map(_may_be_a_list, get_args(annotation)))
