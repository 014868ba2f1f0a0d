"""Content codings: what is unpacked within its limit, which coding an answer has, and what may hold the event loop."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from service import settings
from service.errors import MalformedBody, TooLarge, UnsupportedCoding
from service.http.coding import MOST_MEMBERS, Compression, accepted, coding_of, packed, unpacked
from service.http.context import KEY, Here, RequestContext
from service.http.endpoint import Answer, BodyRoute
from service.http.schemas.requests import PredictRequest
from service.serving.runtime import INLINE_SECONDS

PACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
}
codings = st.sampled_from(sorted(PACK))


@given(st.lists(st.binary(max_size=2000), max_size=5), codings)
def test_what_is_packed_comes_back(pieces: list[bytes], coding: bytes) -> None:
    content = b"".join(pieces)
    assert unpacked(b"".join(packed(pieces, coding)), coding, len(content)) == content


@given(st.binary(min_size=1, max_size=5000), codings, st.integers(1, 5000))
def test_the_limit_is_that_of_what_is_unpacked(content: bytes, coding: bytes, less: int) -> None:
    body = PACK[coding](content)
    assert unpacked(body, coding, len(content)) == content
    with pytest.raises(TooLarge, match="unpacked"):
        unpacked(body, coding, max(0, len(content) - less))


@given(st.binary(min_size=100, max_size=1000), codings, st.data())
def test_what_is_cut_or_changed_is_refused(content: bytes, coding: bytes, data: st.DataObject) -> None:
    body = PACK[coding](content)
    with pytest.raises(MalformedBody):
        unpacked(body[: data.draw(st.integers(0, len(body) - 1))], coding, 10_000)
    with pytest.raises(MalformedBody):
        unpacked(body + b"x" * data.draw(st.integers(1, 50)), coding, 10_000)
    place = data.draw(st.integers(len(body) - 4, len(body) - 1))  # of the checksum, or of gzip's length
    with pytest.raises(MalformedBody):
        unpacked(body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :], coding, 10_000)


def test_members_laid_end_to_end_are_one_body_with_one_limit() -> None:
    parts = [b"a" * 1000, b"", b"b" * 1000]
    body = b"".join(map(gzip.compress, parts))
    assert unpacked(body, b"gzip", 2000) == b"".join(parts)
    with pytest.raises(TooLarge):
        unpacked(body, b"gzip", 1999)
    assert unpacked(gzip.compress(b"") * MOST_MEMBERS, b"gzip", 10) == b""
    with pytest.raises(MalformedBody, match=str(MOST_MEMBERS)):
        unpacked(gzip.compress(b"") * (MOST_MEMBERS + 1), b"gzip", 10)


@pytest.mark.parametrize("value", [b"", b" ", b"identity", b"Identity, identity", b","])
def test_no_coding(value: bytes) -> None:
    assert coding_of(value) == b""


@pytest.mark.parametrize("value", [b"gzip", b" GZIP ", b"identity, gzip", b"gzip,identity"])
def test_one_coding(value: bytes) -> None:
    assert coding_of(value) == b"gzip"


@pytest.mark.parametrize("value", [b"br", b"zstd", b"gzip, gzip", b"deflate, gzip", b"*", b"compress", b"gzip;q=1"])
def test_other_codings_are_refused(value: bytes) -> None:
    with pytest.raises(UnsupportedCoding, match="gzip or deflate"):
        coding_of(value)


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"GZip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"deflate, gzip", b"gzip"),
        (b"gzip;q=0.5, deflate;q=0.8", b"deflate"),
        (b"gzip;q=0", b""),
        (b"gzip;q=0.000, deflate;q=0.0", b""),
        (b"*", b"gzip"),
        (b"*;q=0", b""),
        (b"gzip;q=0, *", b"deflate"),
        (b"gzip;q=0, deflate;q=0, *", b""),
        (b"identity", b""),
        (b"identity, gzip;q=0.5", b""),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"identity;q=0, gzip;q=0.1", b"gzip"),
        (b"br, zstd", b""),
        (b"br;q=1.0, gzip;q=0.2", b"gzip"),
        (b"gzip ; q=0", b""),
    ],
)
def test_the_coding_that_is_wanted(value: bytes, coding: bytes) -> None:
    assert accepted(value) == coding


def runtime(**more: Any) -> tuple[Any, list[float]]:
    """A runtime that writes down what is said to take how long, and does it."""
    estimates: list[float] = []

    async def offload(seconds: float, work: Callable[[], Any], *, begins: bool = False) -> Any:
        estimates.append(seconds)
        return work()

    read = settings.read(more, _env_file=None)
    return SimpleNamespace(settings=read, offload=offload, check_open=lambda: None), estimates


@pytest.mark.parametrize(
    ("sent", "leaves"),
    [(b"{}", False), (b" " * 2_000_000, True), (Random(0).randbytes(2000), True)],
    ids=["short", "a bomb", "hardly compressed"],
)
@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_what_a_compressed_body_costs_is_not_told_by_its_size(coding: bytes, sent: bytes, leaves: bool) -> None:
    """Unpacking leaves the event loop where there may be much in it."""
    found: list[bytes] = []

    class Noting(BodyRoute):
        def parse(self, context: RequestContext, content: bytes) -> Any:
            found.append(content)

    async def nothing(asked: PredictRequest, context: Here) -> Answer:
        return Answer([b""])

    async def receive() -> Message:
        return {"type": "http.request", "body": PACK[coding](sent)}

    async def send(message: Message) -> None:
        pass

    shared, estimates = runtime()
    context = RequestContext("id", {b"content-type": b"application/json", b"content-encoding": coding}, 0.0)
    context.runtime = shared
    asyncio.run(
        _ask(
            Noting("/", nothing, response_model=None), {"type": "http", KEY: context, "path_params": {}}, receive, send
        )
    )
    assert found == [sent]
    assert [estimate > INLINE_SECONDS for estimate in estimates] == [leaves]


async def _ask(route: BodyRoute, scope: Scope, receive: Receive, send: Send) -> None:
    await route.app(scope, receive, send)


def answered(
    pieces: list[bytes], kind: bytes, wanted: list[bytes], *, length: bool = True, **more: Any
) -> tuple[dict[bytes, bytes], list[bytes], list[float]]:
    """An answer as it leaves: headers, pieces, and the estimates of what was done elsewhere."""
    shared, estimates = runtime(**more)
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", kind)]
        if length:
            headers.append((b"content-length", str(sum(map(len, pieces))).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, piece in enumerate(pieces, 1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        messages.append(message)

    scope: Scope = {"type": "http", "headers": [(b"accept-encoding", value) for value in wanted]}

    async def answer() -> None:
        await Compression(app, shared)(scope, receive, send)

    asyncio.run(answer())
    bodies = [message["body"] for message in messages[1:]]
    assert [message["more_body"] for message in messages[1:]] == [True] * (len(bodies) - 1) + [False]
    return dict(messages[0]["headers"]), bodies, estimates


def test_large_answers_are_packed_elsewhere_and_in_pieces() -> None:
    pieces = [json.dumps(Random(0).choices(range(10**9), k=100_000)).encode()] * 3
    headers, bodies, estimates = answered(pieces, b"application/json", [b"gzip"])
    assert headers[b"content-encoding"] == b"gzip"
    assert headers[b"content-length"] == str(sum(map(len, bodies))).encode()
    assert len(bodies) > 1
    assert gzip.decompress(b"".join(bodies)) == b"".join(pieces)
    assert estimates[0] > INLINE_SECONDS


@pytest.mark.parametrize(
    ("kind", "size", "more"),
    [
        (b"application/json", 4095, {}),
        (b"application/json", 8000, {"compress_bytes": 8001}),
        (b"application/json", 8000, {"compress_bytes": 0}),
        (b"application/json", 8000, {"length": False}),
        (b"application/vnd.safetensors", 8000, {}),
        (b"application/octet-stream", 8000, {}),
        (b"text/event-stream", 8000, {}),
    ],
)
def test_what_stays_as_it_is(kind: bytes, size: int, more: dict[str, Any]) -> None:
    headers, bodies, estimates = answered([b"a" * size], kind, [b"gzip"], **more)
    assert (b"content-encoding" in headers, bodies, estimates) == (False, [b"a" * size], [])
    assert b"vary" not in headers


@pytest.mark.parametrize("wanted", [[], [b"br"], [b"gzip;q=0"], [b"identity"]])
def test_who_wants_no_coding_is_told_that_there_are_others(wanted: list[bytes]) -> None:
    headers, bodies, _ = answered([b"a" * 4096], b"application/problem+json", wanted)
    assert (headers[b"vary"], bodies) == (b"Accept-Encoding", [b"a" * 4096])


def test_the_header_may_come_in_several_lines() -> None:
    headers, _, _ = answered([b"a" * 4096], b"text/plain; version=0.0.4", [b"gzip", b"br"])
    assert headers[b"content-encoding"] == b"gzip"
    headers, _, _ = answered([b"a" * 4096], b"text/plain; version=0.0.4", [b"br", b"gzip;q=0"])
    assert b"content-encoding" not in headers
