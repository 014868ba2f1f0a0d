"""The base classes of bodies, by what they do with members that they do not know."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(max_length=256)]

UNLESS_EMPTY = BeforeValidator(lambda value: None if value == [] else value)
"""For an optional object in a foreign protocol: an empty list is treated as missing. Some clients write an empty object
so."""


class Strict(BaseModel):
    """A body of the service's own: an unknown member is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Lenient(BaseModel):
    """A body of a foreign protocol: unknown members are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class Shape(BaseModel):
    """An answer or a part of one, with exactly these fields."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
