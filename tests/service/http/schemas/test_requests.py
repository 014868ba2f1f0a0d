"""Requests: what is taken, and where a pointer leads when something is not."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import InvalidField, MalformedBody, TooLarge
from service.http.schemas.requests import MAX_PROBLEMS, GatesRequest, PredictRequest, escape, parse
from service.http.schemas.rollout import RolloutRequest


def predict(**request: Any) -> PredictRequest:
    return parse(orjson.dumps(request), PredictRequest, 256)


def gates(**request: Any) -> GatesRequest:
    return parse(orjson.dumps(request), GatesRequest, 256)


def pointers(**request: Any) -> list[str]:
    with pytest.raises(InvalidField) as error:
        gates(**request)
    return [problem.pointer for problem in error.value.problems]


def resolve(document: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) leads to. Raises `LookupError`."""
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def test_defaults() -> None:
    request = gates(inputs="a")
    assert (request.model, request.task, request.truncate, request.tokens) == (None, None, False, False)
    assert (request.gates, request.layers, request.directions, request.units) == (None, None, None, None)
    assert (request.reduce, request.contributions, request.decimals, request.explain) == ("none", True, 4, None)


def test_one_input_and_many() -> None:
    one, many = predict(inputs="a"), predict(inputs=["a", ["b", "c"]])
    assert (one.items(), one.pointer(0)) == (["a"], "/inputs")
    assert (many.items(), many.pointer(1)) == (["a", ["b", "c"]], "/inputs/1")


def test_null_is_full_precision() -> None:
    assert gates(inputs="a", decimals=None).decimals is None


def test_null_leaves_a_field_out() -> None:
    request = gates(inputs="a", model=None, task=None, gates=None, units=None, explain=None)
    assert request == gates(inputs="a")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, ["/inputs"]),
        ({"inputs": 3}, ["/inputs"]),
        ({"inputs": []}, ["/inputs"]),
        ({"inputs": ["a", 3]}, ["/inputs/1"]),
        ({"inputs": ["a", ["b", None]]}, ["/inputs/1/1"]),
        ({"inputs": "a", "more": 1, "less": 2}, ["/more", "/less"]),
        ({"inputs": "a", "": 1}, ["/"]),
        ({"inputs": "a", "~/": 1}, ["/~0~1"]),
        ({"inputs": "a", "units": [1, 2, "3", "4"]}, ["/units/2"]),
        ({"inputs": "a", "gates": {}, "layers": 1}, ["/gates", "/layers"]),
        ({"inputs": "a", "decimals": 18}, ["/decimals"]),
        ({"inputs": "a", "decimals": -1}, ["/decimals"]),
        ({"inputs": "a", "decimals": True}, ["/decimals"]),
        ({"inputs": "a", "contributions": 1}, ["/contributions"]),
        ({"inputs": "a", "model": "x" * 257}, ["/model"]),
    ],
)
def test_pointers(request_: dict[str, Any], expected: list[str]) -> None:
    assert pointers(**request_) == expected


def test_a_pointer_to_a_wrong_name_ends_with_the_name() -> None:
    for name in ("zz", "0", "a/b"):
        with pytest.raises(InvalidField) as found:
            parse(json.dumps({"canary": {"3": 0.5, name: 0.5}}).encode(), RolloutRequest, 1)
        assert [each.pointer for each in found.value.problems] == [f"/canary/{escape(name)}"]


def test_the_number_of_inputs_is_counted_before_they_are_looked_at() -> None:
    with pytest.raises(TooLarge, match=r"300.*256"):
        predict(inputs=[3] * 300)
    assert len(predict(inputs=["a"] * 256).items()) == 256


def test_few_problems_are_listed() -> None:
    assert len(pointers(**{f"field{number}": 1 for number in range(1000)})) == MAX_PROBLEMS


def test_messages_do_not_repeat_long_strings() -> None:
    for wrong in ({"reduce": "x" * 10_000}, {"task": "x" * 10_000}, {"inputs": ["a", ["b", {"c": "x" * 10_000}]]}):
        with pytest.raises(InvalidField) as error:
            gates(**{"inputs": "a", **wrong})
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b'{"inputs":"\\ud800"}', b"\xff", b'"' + b"\xed\xa0\x80" + b'"'])
def test_what_is_not_json(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(body, PredictRequest, 256)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidField) as error:
        parse(body, PredictRequest, 256)
    assert [problem.pointer for problem in error.value.problems] == [""]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*GatesRequest.model_fields, "x/y", "~"]), _JSON, max_size=6))
def test_every_pointer_leads_into_the_request(request: dict[str, Any]) -> None:
    body = orjson.dumps(request)
    try:
        taken = parse(body, GatesRequest, 256)
    except InvalidField as error:
        for problem in error.problems:
            if problem.detail != "The field is missing.":
                resolve(request, problem.pointer)
            assert problem.detail
    else:
        assert taken.inputs == request["inputs"]


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    with contextlib.suppress(MalformedBody, TooLarge, InvalidField):
        parse(body, PredictRequest, 256)


@given(st.text(max_size=10))
def test_escaped_keys_are_found_again(key: str) -> None:
    assert resolve({key: 1}, f"/{escape(key)}") == 1
