"""The API document: its examples are what the service takes and answers."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import orjson
import pytest
from fastapi.openapi.models import OpenAPI

from service import settings
from service.http.app import create_app
from service.http.described import MESSAGES
from service.http.endpoint import BodyRoute
from service.http.problems import Form, form_of
from service.http.schemas import examples, responses, streams
from service.http.schemas.requests import GatesRequest, PredictRequest, parse


def document(*, secured: bool = False, admin: bool = False) -> dict[str, Any]:
    """The API document of an application."""
    keys = {"api_keys": "a-key-of-the-test"} if secured else {}
    return create_app(settings.read({"admin": admin, **keys}, _env_file=None)).openapi()


def test_routes_with_a_body_are_analysed_for_the_document_only() -> None:
    """It would take a twentieth of a start. Threads that want the same route's attributes all get them."""
    app = create_app(settings.read({"admin": True}, _env_file=None))
    routes = [route for route in app.routes if isinstance(route, BodyRoute)]
    new = BodyRoute("/of/{name}", routes[0].endpoint, methods=["POST"], response_model=None)
    assert "dependant" not in vars(new)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: (new.body_field, new.operation_id, new.include_in_schema), range(20)))
    assert len(found) == 20
    assert all(field is not None for field, _, _ in found)
    assert new.app == new.answer, "the framework's own reading of bodies never takes over"
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = new.nothing_like_it
    assert len(app.openapi()["paths"]) > len({route.path for route in routes}) > 10


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


def test_examples_of_a_websocket_s_messages() -> None:
    kinds = {kind.__name__: kind for kind in (*streams.SENT, *streams.ANSWERED)}
    assert set(examples.STREAM_MESSAGES) == set(kinds)
    for name, message in examples.STREAM_MESSAGES.items():
        kinds[name].model_validate_json(orjson.dumps(message))
    messages = document()["paths"]["/stream"]["get"][MESSAGES]
    for side, expected in (("sent", streams.SENT), ("answered", streams.ANSWERED)):
        named = [reference["$ref"].rpartition("/")[2] for reference in messages[side]["oneOf"]]
        assert named == [kind.__name__ for kind in expected]
        assert set(named) <= set(document()["components"]["schemas"])


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


def test_no_schema_is_named_by_its_module() -> None:
    named = [name for name in document(admin=True)["components"]["schemas"] if "__" in name]
    assert named == [], "two schemas of one name: the framework tells them apart by their modules"


def test_every_field_is_described() -> None:
    schemas = document(secured=False)["components"]["schemas"]
    for name in ("PredictRequest", "GatesRequest"):
        assert schemas[name]["additionalProperties"] is False
    for name, schema in schemas.items():
        for field, facts in schema["properties"].items():
            assert facts.get("description"), (name, field)


OF_A_CONNECTION = {"400", "408", "431", "500", "503"}
OF_ACCESS = {"401", "403", "429"}
OF_A_BODY = {"413", "415", "422", "504"}
HEALTH = {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}


@cache
def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = document(admin=True)["paths"]
    return [(path, method, operation) for path, of_path in paths.items() for method, operation in of_path.items()]


def test_every_route_has_what_any_request_can_meet() -> None:
    for path, method, operation in operations():
        statuses = set(operation["responses"])
        assert statuses >= OF_A_CONNECTION, (path, method)
        assert statuses & OF_ACCESS == (set() if path in HEALTH else OF_ACCESS), (path, method)
        assert ("security" in operation) is (path in HEALTH), path


def test_routes_that_take_a_body_have_what_is_wrong_with_bodies() -> None:
    for path, method, operation in operations():
        if "requestBody" in operation:
            wanted = OF_A_BODY - ({"504"} if path.startswith("/admin/") else set())
            assert set(operation["responses"]) >= wanted, (path, method)
        else:
            assert not set(operation["responses"]) & (OF_A_BODY - {"422"}), (path, method)


def test_routes_with_a_model_in_their_path_know_that_there_may_be_none() -> None:
    for path, method, operation in operations():
        if "{name}" in path:
            assert "404" in operation["responses"], (path, method)
        names = {parameter.get("name") for parameter in operation.get("parameters", ())}
        assert set(re.findall(r"{(\w+)}", path)) <= names, (path, method)


def test_errors_have_the_form_of_their_protocol() -> None:
    for path, method, operation in operations():
        foreign = form_of(method.upper(), path) is Form.PROTOCOL
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                slug = response["$ref"].rpartition("/")[2]
                assert (slug == "protocol-error") is foreign, (path, method, status)


def test_every_operation_has_its_own_id_and_the_header_of_ids() -> None:
    found = operations()
    assert len({operation["operationId"] for _, _, operation in found}) == len(found)
    for path, method, operation in found:
        assert {"$ref": "#/components/parameters/X-Request-ID"} in operation["parameters"], (path, method)
        good = next(response for status, response in operation["responses"].items() if status < "300")
        assert good["headers"]["X-Request-ID"] == {"$ref": "#/components/headers/X-Request-ID"}, (path, method)
