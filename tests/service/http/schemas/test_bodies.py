"""What holds for the bodies of all requests, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

import service.http.app  # noqa: F401  # all bodies are defined with it
from service.errors import InvalidField
from service.http.protocols.huggingface import Parameters
from service.http.protocols.v2_tensors import InferRequest
from service.http.schemas.base import Lenient, Strict
from service.http.schemas.requests import checked

WRONG: list[Any] = [None, True, 3, -1, 1.5, 1e30, 2**64 - 1, "", "no/such~value", "x" * 100_000]
WRONG += [[], [None], [3, "x"], [True], [[]], [{}], {}, {"a/b~c": None}, {"1": "x"}, {"1": {"2": []}}]


def kinds(base: type[BaseModel]) -> list[type[BaseModel]]:
    """All classes below one."""
    return [found for kind in base.__subclasses__() for found in (kind, *kinds(kind))]


LEAST = {
    "inputs": "a",
    "instances": ["a"],
    "name": "text",
    "shape": [1],
    "datatype": "BYTES",
    "text": "a",
    "tokens": ["a"],
}
"""Right values for required members."""
FOREIGN = [kind for kind in kinds(Lenient) if kind.__module__.startswith("service.http.protocols.")]
BODIES = {kind.__name__: kind for kind in [*kinds(Strict), *kinds(Lenient)]}


def members(kind: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in kind.model_fields.items():
        yield field.alias or name, field.annotation


def spoilt(annotation: Any) -> Iterator[Any]:
    """Wrong values for a type: of every kind, and in every place within it."""
    yield from WRONG
    for part in parts(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield from bodies(part)
        elif get_origin(part) is list:
            yield from ([value] for value in spoilt(get_args(part)[0]))
        elif get_origin(part) is dict:
            yield from ({"1": value} for value in spoilt(get_args(part)[1]))


def parts(annotation: Any) -> Iterator[Any]:
    """The types in a union."""
    if isinstance(annotation, type) or get_origin(annotation) in (list, dict):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from parts(inner)


def bodies(kind: type[BaseModel]) -> Iterator[dict[str, Any]]:
    for name, annotation in members(kind):
        yield from ({name: value} for value in spoilt(annotation))


def leads_into(document: Any, pointer: str) -> bool:
    """True if a pointer's steps are in a document, but for the last one: a member that is missing."""
    assert not pointer or pointer.startswith("/"), pointer
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    for at, step in enumerate(steps):
        if isinstance(document, list):
            if not step.isdigit() or int(step) >= len(document):
                return False
            document = document[int(step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            return isinstance(document, dict) and at == len(steps) - 1
    return True


@pytest.mark.parametrize("kind", BODIES.values(), ids=BODIES)
def test_the_pointer_of_every_error_is_a_path_into_the_body(kind: type[BaseModel]) -> None:
    for body in bodies(kind):
        try:
            checked(body, kind)
        except InvalidField as error:
            wrong = [each.pointer for each in error.problems if not leads_into(body, each.pointer)]
            assert not wrong, body


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: str(kind.__name__))
def test_an_empty_list_is_a_missing_member_in_foreign_protocols(kind: type[BaseModel]) -> None:
    """Lists stay: only their routes know what an empty one means."""
    least = {name: LEAST[name] for name, field in kind.model_fields.items() if field.is_required()}
    if kind is InferRequest:
        least["inputs"] = [LEAST]
    for name, field in kind.model_fields.items():
        if not field.is_required():
            found = getattr(checked({**least, name: []}, kind), name)
            assert found == (
                [] if any(get_origin(part) is list for part in parts(field.annotation)) else field.default
            ), name


def test_the_labels_to_ignore_may_be_none() -> None:
    assert checked({"ignore_labels": []}, Parameters).ignore_labels == []
    assert checked({"ignore_labels": None}, Parameters).ignore_labels is None
