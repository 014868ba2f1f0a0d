"""The API document: its examples are what the service takes and answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fastapi.openapi.models import OpenAPI

from service import settings
from service.http.app import create_app
from service.http.schemas import examples, responses
from service.http.schemas.requests import GatesRequest, PredictRequest, parse


def document(*, secured: bool = False, admin: bool = False) -> dict[str, Any]:
    """The API document of an application."""
    keys = {"api_keys": "a-key-of-the-test"} if secured else {}
    return create_app(settings.read({"admin": admin, **keys}, _env_file=None)).openapi()


@pytest.mark.parametrize("request_", examples.PREDICT_REQUESTS.values(), ids=examples.PREDICT_REQUESTS)
def test_examples_of_predict(request_: dict[str, Any]) -> None:
    parse(orjson.dumps(request_), PredictRequest, 256)


@pytest.mark.parametrize("request_", examples.GATES_REQUESTS.values(), ids=examples.GATES_REQUESTS)
def test_examples_of_gates(request_: dict[str, Any]) -> None:
    parse(orjson.dumps(request_), GatesRequest, 256)


def test_examples_of_answers() -> None:
    for prediction in examples.PREDICTIONS.values():
        responses.Predictions.model_validate_json(orjson.dumps(prediction))
    for trace in examples.TRACES.values():
        responses.Traces.model_validate_json(orjson.dumps(trace))
    responses.ModelDescription.model_validate_json(orjson.dumps(examples.MODEL))
    responses.Models.model_validate_json(orjson.dumps(examples.MODELS))


def test_examples_of_errors() -> None:
    described = document(secured=True)["components"]["responses"]
    foreign = described.pop("protocol-error")["content"]["application/json"]["example"]
    assert set(foreign) == {"error"}
    for slug, response in described.items():
        example = response["content"]["application/problem+json"]["example"]
        responses.Problem.model_validate(example)
        assert example["type"].endswith(slug)


@pytest.mark.parametrize("secured", [True, False])
def test_the_document_is_openapi(secured: bool) -> None:
    built = document(secured=secured)
    OpenAPI.model_validate(built)
    assert built["paths"]["/health/live"]["get"]["security"] == []
    assert ({} in built["security"]) is not secured


def test_every_field_is_described() -> None:
    schemas = document(secured=False)["components"]["schemas"]
    for name in ("PredictRequest", "GatesRequest"):
        assert schemas[name]["additionalProperties"] is False
    for name, schema in schemas.items():
        for field, facts in schema["properties"].items():
            assert facts.get("description"), (name, field)
