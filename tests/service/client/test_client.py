"""The client against a server of a few lines: what it sends, when it asks again, what it raises."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
import threading
import time
import tomllib
from copy import copy
from pathlib import Path
from typing import Any

import pytest

import service.client as public
from service.client import (
    Busy,
    Client,
    ClientError,
    FieldProblem,
    Forbidden,
    InvalidRequest,
    Problem,
    TimedOut,
    TooLarge,
    Unreachable,
)
from service.client.base import Base
from service.client.cutting import PIECE_CHARACTERS, cut
from tests.patience import PATIENCE, until
from tests.service.stub import Reply, answer, ask, both, problem, stub

ROOT = Path(__file__).resolve().parents[3]


@both
def test_a_long_list_is_cut_and_put_together_in_order(asynchronous: bool) -> None:
    together = threading.Barrier(3, timeout=PATIENCE)

    def slow_first(request: Any, number: int) -> Reply:
        if number <= 3:
            together.wait()
        time.sleep(0.1 if "0" in request["inputs"] else 0.02)
        return answer(request)

    texts = [str(number) for number in range(95)]
    with stub(slow_first) as server:
        assert ask(server.url, texts, asynchronous, batch=10, concurrency=3) == texts
        assert len(server.seen) == 10
        assert server.most_at_once == 3
        assert len(server.ports) <= 3  # connections are used again


@both
def test_pieces_too_large_for_the_service_are_halved(asynchronous: bool) -> None:
    def small(request: Any, number: int) -> Reply:
        return problem(413) if len(request["inputs"]) > 3 else answer(request)

    texts = [str(number) for number in range(20)]
    with stub(small) as server:
        assert ask(server.url, texts, asynchronous, batch=16) == texts
    with stub(lambda request, number: problem(413)) as server, pytest.raises(TooLarge):
        ask(server.url, ["a", "b"], asynchronous)


@both
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_says(status: int, asynchronous: bool) -> None:
    def busy(request: Any, number: int) -> Reply:
        if number == 1:
            return status, {"Retry-After": "1"}, {"title": "Busy", "detail": "later"}
        return answer(request)

    with stub(busy) as server:
        started = time.monotonic()
        assert ask(server.url, "a", asynchronous) == ["a"]
        assert time.monotonic() - started >= 1
        assert len(server.seen) == 2


@both
def test_retries_end(asynchronous: bool) -> None:
    with stub(lambda request, number: problem(503, "full")) as server:
        with pytest.raises(Busy, match="full") as busy:
            ask(server.url, "a", asynchronous, retries=2, backoff=0.01)
        assert len(server.seen) == 3
        assert busy.value.retry_after == 0


def test_waits_are_what_the_docstring_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to `backoff` times 2, 4, 8, … seconds, `max_wait` at most."""
    waits: list[float] = []
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    monkeypatch.setattr("time.sleep", waits.append)
    with stub(lambda request, number: (502, {}, {})) as server, pytest.raises(Problem):
        ask(server.url, "a", False, retries=4, backoff=0.5, max_wait=5.0)
    assert waits == [1.0, 2.0, 4.0, 5.0]
    assert "`backoff` times 2, 4, 8" in " ".join((Base.__doc__ or "").split())


@both
@pytest.mark.parametrize(("status", "kind"), [(400, InvalidRequest), (401, Forbidden), (500, Problem), (504, TimedOut)])
def test_other_problems_are_raised_at_once(status: int, kind: type[Problem], asynchronous: bool) -> None:
    with stub(lambda request, number: problem(status, "why")) as server:
        with pytest.raises(kind, match="why") as raised:
            ask(server.url, "a", asynchronous)
        assert (raised.value.status, raised.value.title) == (status, "A title")
        assert len(server.seen) == 1


def test_a_problem_passes_from_process_to_process() -> None:
    sent = TooLarge(413, "Over a limit", "/inputs/0: no", (FieldProblem("/inputs/0", "no"),), "an id", 1.5)
    for each in (sent, sent.shifted(0)):
        for came in (pickle.loads(pickle.dumps(each)), copy(each)):
            assert (type(came), vars(came), str(came)) == (TooLarge, vars(sent), "413 Over a limit: /inputs/0: no")


@both
def test_pointers_count_over_the_whole_list(asynchronous: bool) -> None:
    def refuse_seven(request: Any, number: int) -> Reply:
        if "7" not in request["inputs"]:
            return answer(request)
        pointer = f"/inputs/{request['inputs'].index('7')}"
        return problem(422, f"{pointer}: bad", errors=[{"pointer": f"{pointer}/0", "detail": "bad"}])

    with stub(refuse_seven) as server, pytest.raises(InvalidRequest) as refused:
        ask(server.url, [str(number) for number in range(20)], asynchronous, batch=5)
    assert [each.pointer for each in refused.value.errors] == ["/inputs/7/0"]


@both
def test_an_error_that_is_no_problem_of_the_service(asynchronous: bool) -> None:
    with stub(lambda request, number: (418, {}, {})) as server, pytest.raises(Problem, match="418"):
        ask(server.url, "a", asynchronous)


@both
def test_nobody_there(asynchronous: bool) -> None:
    with socket.socket() as bound:  # it does not listen, and nobody else can
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable):
            ask(f"http://127.0.0.1:{bound.getsockname()[1]}", "a", asynchronous, retries=1, backoff=0.01)


@both
def test_a_service_that_does_not_answer(asynchronous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.client.base.GRACE", 0.1 - PATIENCE)  # it waits for a tenth of a second
    over = threading.Event()

    def late(request: Any, number: int) -> Reply:
        over.wait(PATIENCE)
        return answer(request)

    with stub(late) as server:
        with pytest.raises(TimedOut, match="waited 120 seconds"):
            ask(server.url, "a", asynchronous, timeout=PATIENCE)
        until(lambda: server.headers)  # the client may have gone before its request is read
        over.set()
        assert server.headers[0]["x-request-timeout"] == "120.000"


@both
def test_a_model_replaced_meanwhile(asynchronous: bool) -> None:
    with (
        stub(lambda request, number: answer(request, version=str(number))) as server,
        pytest.raises(ClientError, match="replaced"),
    ):
        ask(server.url, ["a", "b"], asynchronous, batch=1)


def test_what_is_sent() -> None:
    with stub(lambda request, number: answer(request)) as server:
        with Client(server.url, api_key="k") as client:
            client.predict("a", model="m", task="ner", truncate=True, tokens=True)
            client.predict([("a", "b"), "c"])
        assert server.seen[0] == {"inputs": "a", "model": "m", "task": "ner", "truncate": True, "tokens": True}
        assert server.seen[1] == {"inputs": [["a", "b"], "c"]}
        assert server.headers[0]["authorization"] == "Bearer k"


def test_pieces_hold_no_more_than_a_body_may() -> None:
    pieces = cut(["x" * (PIECE_CHARACTERS // 2)] * 5 + [["token"] * 100_000], most=64)
    assert [len(piece.inputs) for piece in pieces] == [1, 1, 1, 1, 1, 1]
    assert [piece.first for piece in pieces] == list(range(6))
    assert [len(piece.inputs) for piece in cut(["a"] * 130, most=64)] == [64, 64, 2]


def test_wrong_arguments() -> None:
    with Client() as client, pytest.raises(ValueError, match="no input"):
        client.predict([])
    wrong: tuple[dict[str, Any], ...] = ({"batch": 0}, {"concurrency": 0}, {"timeout": 0.0})
    for options in wrong:
        with pytest.raises(ValueError, match="batch and concurrency"):
            Client(**options)


def test_a_field_that_there_is_not() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(TypeError, match=r"unknown: gate; there are .*gates"):
        client.gates("a film", gate=["forget"])  # type: ignore[call-arg]  # that is the point


def test_the_public_names() -> None:
    assert sorted(public.__all__) == sorted(
        name
        for name, value in vars(public).items()
        if isinstance(value, type) and value.__module__.startswith("service.client")
    )


def test_nothing_of_the_server_is_imported() -> None:
    code = (
        "import sys, service.client\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "heavy = {'fastapi', 'starlette', 'uvicorn', 'uvloop', 'pydantic', 'onnxruntime', 'tokenizers', 'torch',\n"
        "         'structlog', 'orjson', 'numpy', 'safetensors', 'prometheus_client'}\n"
        "own = {name for name in sys.modules if name.startswith('service.')}\n"
        "print(sorted(loaded & heavy), sorted(n for n in own if not n.startswith('service.client')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] ['service.version']"


@both
@pytest.mark.parametrize("errors", ["no", None, 7, ["no"], [{"reason": "no"}], {"inputs": "no"}])
def test_an_error_of_somebody_in_between_is_a_problem_too(asynchronous: bool, errors: object) -> None:
    with (
        stub(lambda request, number: (422, {"Retry-After": "²"}, {"title": "A title", "errors": errors})) as server,
        pytest.raises(InvalidRequest, match="A title") as raised,
    ):
        ask(server.url, "a", asynchronous)
    assert raised.value.retry_after is None


def test_whoever_installs_the_client_gets_its_types() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert (ROOT / "service" / "py.typed").is_file()
    assert "py.typed" in setuptools["package-data"]["service"]
