"""Requests made up from the API document and from texts that nobody writes: no 500, and no answer undocumented.

`make fuzz` runs the long form: FUZZ_CASES requests over all routes, at least 10,000. What it counted stands at its end.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.http.app import create_app
from service.settings import read
from tests.integration.conftest import ROOT, Process
from tests.patience import PATIENCE

CASES = int(os.environ.get("FUZZ_CASES", "600"))
"""Requests in all, about; shared between the routes."""
JSON = {"Content-Type": "application/json", "X-Request-Timeout": f"{PATIENCE:g}"}
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
counts: Counter[str] = Counter()


@cache
def document() -> dict[str, Any]:
    """The live document of an application with every route; its models are not even looked at."""
    app = create_app(read({"admin": True}, _env_file=None))
    response = httpx.Response(200, content=app_document(app))
    found: dict[str, Any] = response.json()
    return found


def app_document(app: Any) -> bytes:
    import asyncio

    async def ask() -> bytes:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://fuzz") as client:
            return (await client.get("/openapi.json")).content

    return asyncio.run(ask())


SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]  # type: ignore[union-attr]  # an error has no ok and ends the run
QUIET = settings(
    deadline=None,
    database=None,
    derandomize=CASES <= 600,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service of the models that ship, with every route."""
    process = Process(tmp_path_factory.mktemp("fuzz"), ROOT / "models", "--admin")
    yield process.until_ready()
    try:
        assert process.process.poll() is None, process.output
        assert "Traceback" not in process.output
        assert "unexpected error" not in process.output
    finally:
        process.close()
        print(f"\nfuzz: {sum(counts.values())} requests, by status {dict(sorted(counts.items()))}")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("operation", OPERATIONS, ids=[each.label for each in OPERATIONS])
def test_what_the_document_allows_and_what_it_does_not(operation: Any, fuzzed: Process) -> None:
    """Half of the cases fit the document, half break it."""
    modes = schemathesis.GenerationMode
    each = max(10, CASES // len(OPERATIONS) // 2)
    for mode in (modes.POSITIVE, modes.NEGATIVE):

        @settings(QUIET, max_examples=each)
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            if counts.total() % 2 and "unload" not in operation.path and "name" in case.path_parameters:
                case.path_parameters["name"] = "sentiment-gru"
            response = case.call(base_url=fuzzed.url, timeout=PATIENCE)
            counts[str(response.status_code)] += 1
            assert response.status_code != 500
            case.validate_response(response, checks=CHECKS)

        try:
            ask()
        except schemathesis.errors.SchemathesisError:
            if mode is modes.POSITIVE:
                raise


def documented(path: str, response: httpx.Response) -> dict[str, Any]:
    """An answer as JSON, when its status stands in the document and nothing in it is NaN."""
    counts[str(response.status_code)] += 1
    assert response.status_code != 500
    assert str(response.status_code) in document()["paths"][path]["post"]["responses"], response.text[:500]
    answer: dict[str, Any] = json.loads(response.text, parse_constant=_refuse)
    return answer


def _refuse(constant: str) -> None:
    pytest.fail(f"the answer has a {constant}, which is no JSON")


CHARACTERS = st.characters(codec="utf-8")
PIECES = st.sampled_from(
    [
        *(
            "\0",
            "\ufeff",
            "\u202e",
            "\u200f\u05e9\u05dc\u05d5\u05dd",
            "\u0645\u0631\u062d\u0628\u0627",
            "e\u0301",
            "\U0001f468\u200d\U0001f469",
            "\ufffe",
        ),
        *(
            "\U0010ffff",
            "\u0f43",
            "\ufdfa",
            "\u1100\u1161",
            "A" * 2000,
            "\u0301" * 500,
            " " * 300,
            "n't",
            "\r\n",
            "\x85",
            ".",
        ),
    ]
)
TEXTS = st.lists(st.one_of(st.text(CHARACTERS, max_size=30), PIECES), max_size=8).map("".join)
INPUTS = st.one_of(TEXTS, st.lists(st.one_of(TEXTS, st.lists(TEXTS, max_size=5)), max_size=4))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", ["/predict", "/gates"])
def test_texts_that_nobody_writes(path: str, fuzzed: Process) -> None:
    extra = {"reduce": "summary"} if path == "/gates" else {"tokens": True}

    @settings(QUIET, max_examples=max(30, CASES // 20))
    @given(INPUTS, st.sampled_from(["sentiment", "ner"]))
    def ask(inputs: Any, task: str) -> None:
        response = fuzzed.client.post(path, json={"inputs": inputs, "task": task, **extra})
        answer = documented(path, response)
        if response.status_code == 200:
            texts = [inputs] if isinstance(inputs, str) else inputs
            for text, found in zip(texts, answer.get("predictions") or answer["traces"], strict=True):
                whole = text if isinstance(text, str) else " ".join(text)
                for token in found.get("tokens", ()):
                    assert whole[token["start"] : token["end"]] == token["text"]

    ask()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"inputs":"\\ud800"}', 400),
        (b'{"inputs":"\\udc00\\ud800 a"}', 400),
        (b'{"inputs":"\xed\xa0\x80"}', 400),
        (b'{"inputs":"\xff"}', 400),
        (b'{"inputs":"a\\u0000b"}', 200),
        (b'{"inputs":"a\x00b"}', 400),
        (b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"inputs":' + b"[" * 500 + b"]" * 500 + b"}", 422),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
        (b'{"inputs":"a","explain":1e999}', 400),
        (b'{"inputs":"a","explain":-1e-999}', 422),
        (b'{"inputs":"a","explain":123456789012345678901234567890}', 422),
        (b'{"inputs":"a","decimals":1.0}', 422),
        (b'{"inputs":"a","layers":[9223372036854775807]}', 422),
        (b'{"inputs":"a","units":[18446744073709551616]}', 422),
        (b'{"inputs":"a","units":[' + b"0," * 200_000 + b"0]}", 422),
        (b'{"inputs":NaN}', 400),
        (b'{"inputs":Infinity}', 400),
        (b'{"inputs":"a","inputs":"b"}', 200),
        (b'{"inputs":"' + b"a" * 1_000_000 + b'"}', 200),
        (b'{"inputs":"a' + "\u0301".encode() * 500_000 + b'"}', 200),
        (b'{"inputs":"' + "\u202e\u05d0 ".encode() * 100_000 + b'","truncate":true}', 200),
        (b'{"inputs":"' + "\U0001f1e6".encode() * 250_000 + b'","truncate":true}', 200),
        (b'{"inputs":"' + b"\\u0301" * 160_000 + b'","truncate":true}', 200),
        (b"\xef\xbb\xbf{}", 400),
        (b"", 400),
        (b"null", 422),
        (b"1e400", 400),
        (b'{"inputs":' + b'"a",' * 3 + b"}", 400),
    ],
    ids=range(29),
)
def test_bodies_that_nobody_sends(fuzzed: Process, body: bytes, status: int) -> None:
    for path in ("/gates", "/predict"):
        answer = documented(path, fuzzed.client.post(path, content=body, headers=JSON, timeout=PATIENCE))
        if path == "/gates":
            assert answer.get("status", 200) in ({status, 413} if status == 200 else {status}), answer
    assert fuzzed.client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PATCH", "OPTIONS", "DELETE", "PROPFIND"])
def test_methods_that_no_route_has(fuzzed: Process, method: str) -> None:
    for path in (
        "/predict",
        "/",
        "/models/x",
        "/%00",
        "/\u00e9",
        "/" + "a/" * 1000,
        "//",
        "/..%2f..",
        "/v2/models/%ff/infer",
    ):
        response = fuzzed.client.request(method, path)
        counts[str(response.status_code)] += 1
        assert response.status_code in (400, 404, 405)
