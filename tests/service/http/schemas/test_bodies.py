"""What holds for the bodies of all requests, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

import service.http.app  # noqa: F401  # all bodies are defined with it
from service.http.protocols.huggingface import Parameters
from service.http.protocols.v2_tensors import InferRequest
from service.http.schemas.base import Lenient
from service.http.schemas.requests import checked


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


def parts(annotation: Any) -> Iterator[Any]:
    """The types in a union."""
    if isinstance(annotation, type) or get_origin(annotation) in (list, dict):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from parts(inner)


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
