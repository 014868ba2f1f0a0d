"""Refusals while an answer is half sent: they stand behind it, or there is none."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.process.connection import Protocol
from service.process.wire import Wire
from tests.service.process.test_exchanges import METRICS, SETTINGS, H, Line
from tests.service.virtual import VirtualLoop, run

SECONDS = 60
"""From the first half of an answer to the second, more than a request may take to come."""
FIRST, SECOND = b"first half, ", b"second half"


async def _halves(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in two pieces, once the body is there, or at once on /early; /chunks says no length."""
    more = not scope["path"].startswith("/early")
    while more:
        message = await receive()
        more = message.get("more_body", False)
    size = [] if scope["path"].endswith("chunks") else [(b"content-length", b"%d" % len(FIRST + SECOND))]
    await send({"type": "http.response.start", "status": 200, "headers": size})
    await send({"type": "http.response.body", "body": FIRST, "more_body": True})
    await asyncio.sleep(SECONDS)
    await send({"type": "http.response.body", "body": SECOND})


CONFIG = uvicorn.Config(_halves, log_config=None)
CHUNKS = b"c\r\nfirst half, \r\nb\r\nsecond half\r\n0\r\n\r\n"
"""The body of an answer without a length."""


def asked(path: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST %b HTTP/%b\r\n" % (path, version) + H + b"".join(lines) + b"Content-Length: 3\r\n\r\nabc"


def written(*pieces: bytes, accepted: int = 1) -> tuple[bytes, bytes, Line]:
    """What was sent by the time when half of the first answer is, and a slow request refused; and by the end."""

    async def main(loop: VirtualLoop) -> tuple[bytes, bytes, Line]:
        protocol = Protocol(CONFIG, ServerState(), {}, loop, wire=Wire(SETTINGS, METRICS))
        line = Line()
        protocol.connection_made(line)
        for piece in pieces:
            protocol.data_received(piece)
            for _ in range(5):
                await asyncio.sleep(0)
        await asyncio.sleep(SECONDS / 2)
        assert not line.closed
        half = line.written
        await asyncio.sleep(accepted * SECONDS)
        return half, line.written, line

    return run(main)


REFUSED = [
    (b"POST /2 HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nabc", 408),
    (b"POST /2 HTTP/1.1\r\n" + H + b"Content-Le", 408),
    (b"POST /2 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab", 408),
    (b"POST /2 HTTP/1.1\r\n" + H + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 408),
    (b"\x16\x03\x01 no HTTP", 400),
    (b"GET /2 HTTP/1.1\r\n\r\n", 400),
    (b"POST /2 HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"GET /2 HTTP/1.1\r\n" + H + b"a:b\r\n" * 500 + b"\r\n", 431),
    (b"CONNECT a:1 HTTP/1.1\r\n" + H + b"\r\n", 405),
]


@pytest.mark.parametrize("together", [True, False], ids=["in one piece", "apart"])
@pytest.mark.parametrize("path", [b"/", b"/chunks"])
@pytest.mark.parametrize(("bad", "status"), REFUSED, ids=range(len(REFUSED)))
def test_a_refusal_stands_behind_the_answer_that_is_half_sent(
    bad: bytes, status: int, path: bytes, together: bool
) -> None:
    half, whole, line = written(asked(path) + bad) if together else written(asked(path), bad)
    body = FIRST if path == b"/" else b"c\r\n" + FIRST + b"\r\n"
    assert re.fullmatch(rb"HTTP/1\.1 200 OK\r\n(\S+: \S+\r\n)+\r\n" + body, half)
    rest = whole.removeprefix(half)
    answer = SECOND if path == b"/" else CHUNKS.removeprefix(body)
    assert rest.startswith(answer + b"HTTP/1.1 %d " % status)
    head, _, problem = rest.removeprefix(answer).partition(b"\r\n\r\n")
    assert json.loads(problem)["status"] == status
    assert b"connection: close" in head
    assert line.closed


@pytest.mark.parametrize("bad", [b"", b"zz\r\n"], ids=["too slow", "no chunk"])
@pytest.mark.parametrize("path", [b"/early", b"/early/chunks"])
def test_an_answer_that_has_begun_before_its_request_is_whole_is_the_last(path: bytes, bad: bytes) -> None:
    """Its own request is refused: no second answer to it may follow, and no other request can."""
    head = b"POST " + path + b" HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    half, whole, line = written(*((head, bad) if bad else (head,)))
    assert half.count(b"HTTP/1.1") == whole.count(b"HTTP/1.1") == 1
    assert whole.endswith(FIRST + SECOND if path == b"/early" else CHUNKS)
    assert line.closed


def test_requests_accepted_behind_the_half_sent_answer_are_answered_before_the_refusal() -> None:
    half, whole, line = written(asked(b"/") + asked(b"/chunks"), asked(b"/"), REFUSED[0][0], accepted=3)
    assert half.endswith(FIRST)
    assert re.findall(rb"HTTP/1\.1 (\d+)", whole) == [b"200", b"200", b"200", b"408"]
    assert re.findall(FIRST + rb"(?:\r\nb\r\n)?" + SECOND, whole) == [FIRST + SECOND, CHUNKS[3:-7], FIRST + SECOND]
    assert line.closed
