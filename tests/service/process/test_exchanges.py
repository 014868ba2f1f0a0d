"""One connection's requests and answers, over a transport in memory: order, offers of other protocols, refusals."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service import settings
from service.observability.metrics import Metrics
from service.process.connection import MOST_PIPELINED, Protocol
from service.process.head import MOST_LINES
from service.process.wire import Wire
from tests.service.virtual import VirtualLoop, run

H = b"Host: x\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
CODED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKED = CODED + b"3;a=b\r\nabc\r\n4\r\ndefg\r\n0\r\n"


class Line(asyncio.Transport):
    """A transport that remembers what was written, and when reading was paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = self.closed = self.aborted = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.ended
        assert not self.closed
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path and the body, after as many seconds as the path says."""
    body, more = b"", True
    if not scope["path"].startswith("/early"):
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
    if found := re.search(r"wait(\d+)", scope["path"]):
        await asyncio.sleep(int(found[1]))
    answer = scope["path"].encode() + b" " + body
    headers = [(b"content-length", b"%d" % len(answer))]
    if scope["path"].startswith("/parting"):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


SETTINGS = settings.read({}, _env_file=None)
METRICS = Metrics()
CONFIG = uvicorn.Config(echo, log_config=None)


def connect(loop: VirtualLoop) -> tuple[Protocol, Line]:
    protocol = Protocol(CONFIG, ServerState(), {}, loop, wire=Wire(SETTINGS, METRICS))
    line = Line()
    protocol.connection_made(line)
    return protocol, line


def answers(written: bytes) -> list[tuple[int, bytes, dict[bytes, bytes]]]:
    """Status, body and headers of each answer; what is no answer fails."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        matched = re.fullmatch(rb"HTTP/1\.1 (\d{3}) .*", status)
        assert matched, written
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        size = 0 if matched[1] == b"100" else int(headers[b"content-length"])
        assert len(rest) >= size
        found.append((int(matched[1]), rest[:size], headers))
        written = rest[size:]
    return found


def ask(pieces: Sequence[bytes]) -> tuple[list[tuple[int, bytes, dict[bytes, bytes]]], Line]:
    """What a connection answers to pieces that come one after another; it is idle at the end."""

    async def main(loop: VirtualLoop) -> Line:
        protocol, line = connect(loop)
        for piece in pieces:
            if piece and not line.closed:
                protocol.data_received(piece)
                await asyncio.sleep(0)
        await asyncio.sleep(60)
        return line

    line = run(main)
    return answers(line.written), line


REQUESTS = [
    (b"GET /1 HTTP/1.1\r\n" + H + b"\r\n", b"/1 "),
    (b"POST /2 HTTP/1.1\r\n" + H + OFFER + b"Content-Length: 5\r\n\r\nGET /", b"/2 GET /"),
    (b"POST /3 HTTP/1.1\r\n" + H + OFFER + CHUNKED + b"X-T: t\r\n\r\n", b"/3 abcdefg"),
    (b"GET /4 HTTP/1.1\r\n" + OFFER + H + b"\r\n", b"/4 "),
    (b"POST /5 HTTP/1.1\r\n" + H + b"Upgrade: h2c, websocket\r\nUpgrade: foo/2\r\nConnection: keep-alive\r\n"
     b"Connection: upgrade\r\nContent-Length: 3\r\n\r\nxyz", b"/5 xyz"),
    (b"\r\nGET http://h:1/6?q HTTP/1.1\r\n" + H + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
     b"Sec-WebSocket-Key: x\r\n\r\n", b"/6 "),
    (b"POST /7 HTTP/1.1\r\n" + H + b"Content-Length: 0\r\nUpgrade: h2c\r\n\r\n", b"/7 "),
]  # fmt: skip
STREAM = b"".join(request for request, _ in REQUESTS)
BODIES = [body for _, body in REQUESTS]


def test_offers_of_another_protocol_are_ignored_wherever_the_stream_is_cut() -> None:
    async def main(loop: VirtualLoop) -> None:
        for cut in range(len(STREAM)):
            protocol, line = connect(loop)
            protocol.data_received(STREAM[:cut])
            await asyncio.sleep(0.001)
            protocol.data_received(STREAM[cut:])
            await asyncio.sleep(0.1)
            assert [(status, body) for status, body, _ in answers(line.written)] == [(200, body) for body in BODIES]
            assert not line.closed
            protocol.connection_lost(None)

    run(main)


@examples(deadline=None, max_examples=60)
@given(st.permutations(REQUESTS), st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_requests_in_any_order_and_any_pieces(requests: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(request for request, _ in requests)
    places = [0, *sorted(cuts), len(stream)]
    found, _ = ask([stream[first:end] for first, end in pairwise(places)])
    assert [(status, body) for status, body, _ in found] == [(200, body) for _, body in requests]


@pytest.mark.parametrize("body", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("target", [b"h:443", b"/predict", b"[::1]:443"])
def test_connect_is_refused_and_the_connection_closed(target: bytes, body: bytes) -> None:
    found, line = ask([REQUESTS[0][0] + b"CONNECT " + target + b" HTTP/1.1\r\n" + H + body + b"\r\n" + REQUESTS[1][0]])
    assert [status for status, _, _ in found] == [200, 405]
    assert found[1][2][b"allow"] == b"get, post"
    assert json.loads(found[1][1])["status"] == 405
    assert line.closed


def test_every_accepted_request_is_answered_before_the_one_too_many() -> None:
    requests = [b"GET /%d HTTP/1.1\r\n" % n + H + b"X-Request-ID: id-%d\r\n\r\n" % n for n in range(70)]
    found, line = ask([b"".join(requests)])
    assert [status for status, _, _ in found] == [200] * (MOST_PIPELINED + 1) + [503]
    assert [body for _, body, _ in found[:-1]] == [b"/%d " % n for n in range(MOST_PIPELINED + 1)]
    assert json.loads(found[-1][1])["request_id"] == f"id-{MOST_PIPELINED + 1}"
    assert found[-1][2][b"connection"] == b"close"
    assert line.ended
    assert line.closed


BAD = [
    (b"\x16\x03\x01\x02\x00 no HTTP", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + H + b"\r\n", 400),
    (b"GET / HTTP/1.0\r\n" + H + H + b"\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a,b:1:2\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: caf\xc3\xa9\r\n\r\n", 400),
    (b"GET http://h/ HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\n" + H + b"\r\n", 400),
    (b"GET / HTTP/0.9\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"GET / HTTP/1.1\n" + H + b"\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"GET foo HTTP/1.1\r\n" + H + b"\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + OFFER + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\n" + H + b"a:b\r\n" * 5000 + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\n" + H + b"a:b\r\n" * MOST_LINES + b"\r\n", 431),
    (b"GET /" + b"x" * 40_000, 431),
    (b"POST / HTTP/1.1\r\n" + H + CHUNKED + b"X: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    (b"POST / HTTP/1.1\r\n" + H + CHUNKED + b"a:b\r\n" * 10_000 + b"\r\n", 431),
    (b"POST / HTTP/1.1\r\n" + H + CODED + b"1;" + b"x" * 40_000 + b"\r\na\r\n0\r\n\r\n", 431),
    (b"POST / HTTP/1.1\r\n" + H + CODED + b"1\r\na\r\n0;x=" + b"x" * 40_000 + b"\r\n\r\n", 431),
    (b"POST / HTTP/1.1\r\n" + H + CHUNKED + b"a:b\r\n" * (MOST_LINES + 1) + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\n" + H + b"\tContent-Length: 3\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\tb\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nabc", 408),
    (b"POST / HTTP/1.1\r\n" + H + b"Content-Le", 408),
]  # fmt: skip


@pytest.mark.parametrize("before", [[], REQUESTS[:1], REQUESTS[1:3]], ids=["alone", "behind one", "behind two"])
@pytest.mark.parametrize("whole", [True, False], ids=["in one piece", "apart"])
@pytest.mark.parametrize(("bad", "status"), BAD, ids=range(len(BAD)))
def test_a_refusal_stands_behind_what_was_accepted(
    bad: bytes, status: int, before: list[tuple[bytes, bytes]], whole: bool
) -> None:
    accepted = b"".join(request for request, _ in before)
    behind = b"" if status == 408 or bad.endswith(b"x") else REQUESTS[0][0]
    found, line = ask([accepted + bad + behind] if whole else [accepted, bad[:40], bad[40:], behind])
    assert [status for status, _, _ in found] == [*(200 for _ in before), status]
    assert [body for _, body, _ in found[:-1]] == [body for _, body in before]
    assert found[-1][2][b"connection"] == b"close"
    assert found[-1][2][b"content-type"] == b"application/problem+json"
    assert line.closed


def test_a_refusal_waits_for_an_answer_that_takes_long() -> None:
    slow = b"POST /wait25 HTTP/1.1\r\n" + H + b"Content-Length: 1\r\n\r\nx"
    for bad, status in ((b"POST /b HTTP/1.1\r\n" + H + b"Content-Length: 9\r\n\r\nx", 408), (b"\x00", 400)):
        found, line = ask([slow, bad])
        assert [status for status, _, _ in found] == [200, status]
        assert found[0][1] == b"/wait25 x"
        assert line.closed


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /1 HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n",
        b"GET /1 HTTP/1.1\r\n" + H + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n",
        b"GET /1 HTTP/1.0\r\n\r\n",
        b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\r\n\r\n", REQUESTS[0][0], REQUESTS[1][0], b"\x16 no HTTP", b"x" * 100_000])
@pytest.mark.parametrize("whole", [True, False])
def test_what_follows_the_last_request_is_thrown_away(request_: bytes, behind: bytes, whole: bool) -> None:
    found, line = ask([request_ + behind] if whole else [request_, behind])
    assert [(status, body) for status, body, _ in found] == [(200, b"/1 ")]
    assert found[0][2][b"connection"] == b"close"
    assert line.closed


def test_a_service_that_parts_answers_what_waits_first() -> None:
    requests = [b"GET /parting%d HTTP/1.1\r\n" % n + H + b"\r\n" for n in range(3)]
    found, line = ask([b"".join(requests)])
    assert [body for _, body, _ in found] == [b"/parting0 ", b"/parting1 ", b"/parting2 "]
    assert [b"connection" in headers for _, _, headers in found] == [False, False, True]
    assert line.closed


EXPECTS = b"POST /%b HTTP/1.1\r\n" + H + b"Expect: 100-continue\r\nContent-Length: 3\r\n%b\r\n"


@pytest.mark.parametrize("offer", [b"", OFFER])
def test_a_client_that_waits_is_told_to_go_on(offer: bytes) -> None:
    head = EXPECTS % (b"a", offer)
    found, line = ask([head, b"", b"", b"abc"])
    assert [(status, body) for status, body, _ in found] == [(100, b""), (200, b"/a abc")]
    assert not line.closed or b"connection" not in found[1][2], "it is kept"
    found, _ = ask([head + b"abc" + head + b"abc"])
    assert [(status, body) for status, body, _ in found] == [(200, b"/a abc")] * 2, "whole already: nothing to wait for"
    found, line = ask([EXPECTS % (b"early", offer), b"", REQUESTS[0][0]])
    assert [status for status, _, _ in found] == [200]
    assert found[0][2][b"connection"] == b"close", "what comes next may be the body, or not"
    assert line.closed
    found, _ = ask([EXPECTS.replace(b"1.1", b"1.0") % (b"a", offer), b"", b"abc"])
    assert [status for status, _, _ in found] == [200], "HTTP/1.0 has no interim answers"


def test_a_refusal_of_the_body_goes_on_where_the_client_was_told_to() -> None:
    found, line = ask([EXPECTS % (b"a", b""), b"", b"x"])
    assert [status for status, _, _ in found] == [100, 408]
    assert line.closed


@pytest.mark.parametrize(
    "head",
    [b"OPTIONS * HTTP/1.1", b"GET http://h HTTP/1.1", b"GET http://h?a=b HTTP/1.1", b"GET http://h:80/x HTTP/1.1"],
)
def test_every_form_of_target_has_a_path(head: bytes) -> None:
    found, _ = ask([head + b"\r\n" + H + b"\r\n"])
    assert [status for status, _, _ in found] == [200]
    assert found[0][1] in (b"* ", b"/ ", b"/x ")


@pytest.mark.parametrize(
    "host", [b"", b"x", b"x:", b"x:80", b"127.0.0.1:80", b"[::1]", b"[::1]:80", b"a_b.c-d", b"a%20b"]
)
def test_hosts_that_are_right(host: bytes) -> None:
    found, _ = ask([b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"])
    assert [status for status, _, _ in found] == [200]


@pytest.mark.parametrize("behind", [b" ", b"\t", b" \t  "])
def test_white_space_around_a_header_is_no_part_of_it(behind: bytes) -> None:
    lines = [b"Host: x", b"X-Request-ID: mine", b"Connection: close"]
    head = b"".join(line.replace(b" ", behind) + behind + b"\r\n" for line in lines)
    found, line = ask([b"POST /a HTTP/1.1\r\n" + head + CHUNKED.replace(b"chunked", b"chunked ") + b"\r\n"])
    assert [(status, body) for status, body, _ in found] == [(200, b"/a abcdefg")]
    assert line.closed
    bad, _ = ask([b"GET / HTTP/1.1\r\nX-Request-ID: mine" + behind + b"\r\n\r\n"])
    assert json.loads(bad[0][1])["request_id"] == "mine"


@pytest.mark.parametrize("size", [SETTINGS.max_header, SETTINGS.max_header + 1])
@pytest.mark.parametrize("step", [100_000, 1000, SETTINGS.max_header - 1])
@pytest.mark.parametrize("target", [b"/", b"/" + b"x" * 1000])
def test_the_limit_of_a_header_is_exact(size: int, step: int, target: bytes) -> None:
    """From its first byte to its empty line, in pieces of any size."""
    begun = b"OPTIONS " + target + b" HTTP/1.1\r\n" + H + b"X: "
    head = begun + b"x" * (size - len(begun) - 4) + b"\r\n\r\n"
    assert len(head) == size
    found, _ = ask([head[start : start + step] for start in range(0, size, step)])
    assert [status for status, _, _ in found] == [200 if size == SETTINGS.max_header else 431]


@pytest.mark.parametrize("lines", [MOST_LINES, MOST_LINES + 1])
def test_the_limit_of_trailer_lines_is_exact(lines: int) -> None:
    found, _ = ask([b"POST /a HTTP/1.1\r\n" + H + CHUNKED + b"a:b\r\n" * lines + b"\r\n"])
    assert [status for status, _, _ in found] == [200 if lines == MOST_LINES else 431]


@pytest.mark.parametrize("method", [b"BREW", b"get", b"POSTS", b"G", b"X-Y_Z"])
@pytest.mark.parametrize("target", [b"/predict", b"/v1/models/a:predict", b"/v2/models/a/infer", b"*"])
@pytest.mark.parametrize("behind", [b"", b"\r\n", b"\r\n" + REQUESTS[0][0]])
def test_a_method_that_is_not_known_is_no_route_s(method: bytes, target: bytes, behind: bytes) -> None:
    found, line = ask([REQUESTS[0][0], method + b" " + target + b" HTTP/1.1\r\n" + H + behind])
    assert [status for status, _, _ in found] == [200, 405]
    assert found[1][2][b"allow"] == b"get, post"
    told = json.loads(found[1][1])
    assert ("error" in told) is target.startswith((b"/v1", b"/v2"))
    assert ("detail" in told) is not target.startswith(b"/v2")
    assert line.closed
    words, _ = ask([method + b" is no request\r\n"])
    assert [status for status, _, _ in words] == [400]
    second, _ = ask([REQUESTS[0][0] + method + b" / HTTP/1.1\r\n"])
    assert [status for status, _, _ in second] == [200, 400], "only the first request of some bytes is looked at"


def test_half_closed_connections_are_answered_and_incomplete_requests_not() -> None:
    async def main(loop: VirtualLoop, sent: bytes, expected: list[bytes], kept: bool) -> None:
        protocol, line = connect(loop)
        protocol.data_received(sent)
        assert protocol.eof_received() is kept
        if not kept:
            return
        await asyncio.sleep(40)
        assert [body for _, body, _ in answers(line.written)] == expected
        assert line.closed

    whole = b"GET /%b HTTP/1.1\r\n" + H + b"\r\n"
    half = b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 9\r\n\r\nx"
    for sent, expected, kept in (
        (whole % b"a", [b"/a "], True),
        (whole % b"wait30", [b"/wait30 "], True),
        (whole % b"wait1" + whole % b"wait30", [b"/wait1 ", b"/wait30 "], True),
        (whole % b"wait1" + half, [b"/wait1 "], True),
        (whole % b"wait1" + b"GET / HT", [b"/wait1 "], True),
        (half, [], False),
        (b"GET / HT", [], False),
        (b"", [], False),
    ):
        run(lambda loop, sent=sent, expected=expected, kept=kept: main(loop, sent, expected, kept))  # type: ignore[misc]  # mypy infers no lambda with defaults


def test_a_client_that_may_have_hung_up_is_sent_the_beginning_of_its_answer() -> None:
    async def main(loop: VirtualLoop) -> None:
        protocol, line = connect(loop)
        protocol.data_received(b"GET /wait9 HTTP/1.1\r\n" + H + b"\r\n")
        await asyncio.sleep(0)
        assert protocol.eof_received()
        assert line.written == b""
        await asyncio.sleep(0.1)
        assert line.written == b"H"
        await asyncio.sleep(0.1)
        assert line.written == b"HT"
        protocol.connection_lost(ConnectionResetError())
        await asyncio.sleep(1)
        assert protocol.tasks == set(), "it must not cost anything either"

    run(main)


def test_reading_goes_on_behind_a_large_body() -> None:
    """Only reading shows a hang-up."""

    async def main(loop: VirtualLoop) -> None:
        body = b"x" * 200_000
        protocol, line = connect(loop)
        protocol.data_received(b"POST /wait5 HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0.1)
        for start in range(0, len(body), 70_000):
            protocol.data_received(body[start : start + 70_000])
        await asyncio.sleep(0.1)
        assert line.reading
        protocol.data_received(b"POST /2 HTTP/1.1\r\n" + H + b"Content-Length: 10\r\n\r\n" + bytes(10))
        assert line.reading
        third = bytes(SETTINGS.max_body - 10)
        protocol.data_received(b"POST /3 HTTP/1.1\r\n" + H + b"Content-Length: %d\r\n\r\n" % len(third) + third)
        assert line.reading
        for _ in range(2):
            protocol.data_received(b"POST /4 HTTP/1.1\r\n" + H + b"Content-Length: 1\r\n\r\nx")
        assert not line.reading, "what waits its turn is bounded"
        await asyncio.sleep(40)
        assert line.reading
        assert [len(body) for _, body, _ in answers(line.written)] == [7 + len(body), 13, 3 + len(third), 4, 4]

    run(main)


def test_what_is_taken_from_uvicorn_is_there() -> None:
    """`pyproject.toml` pins the minor version: these are no part of its public face."""
    protocol, cycle = vars(HttpToolsProtocol), vars(RequestResponseCycle)
    assert protocol.keys() >= {
        "connection_made",
        "connection_lost",
        "eof_received",
        "data_received",
        "on_message_begin",
        "on_url",
        "on_header",
        "on_headers_complete",
        "on_body",
        "on_message_complete",
        "on_response_complete",
        "shutdown",
        "pause_writing",
        "resume_writing",
        "timeout_keep_alive_handler",
        "_start_asgi_task",
        "_unset_keepalive_if_required",
    }
    assert cycle.keys() >= {"run_asgi", "send", "receive"}
    assert vars(FlowControl).keys() >= {"pause_reading", "resume_reading", "pause_writing", "resume_writing", "drain"}

    async def main(loop: VirtualLoop) -> None:
        made, _ = connect(loop)
        made.data_received(REQUESTS[0][0])
        assert vars(made).keys() >= {
            "parser", "loop", "flow", "transport", "client", "scheme", "pipeline", "scope", "headers", "cycle", "tasks",
            "server_state", "expect_100_continue", "timeout_keep_alive_task", "logger", "access_logger", "url",
        }  # fmt: skip
        assert vars(made.cycle).keys() >= {
            "scope", "transport", "disconnected", "keep_alive", "waiting_for_100_continue", "body", "more_body",
            "message_event", "response_started", "response_complete", "expected_content_length", "on_response",
        }  # fmt: skip
        assert vars(made.flow).keys() >= {"read_paused", "write_paused"}

    run(main)
