"""The head of an answer: the same bytes as uvicorn's own, however often the header lines came before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.process import cycle
from service.process.cycle import Cycle

DATE = (b"date", b"Thu, 01 Jan 2026 00:00:00 GMT")
BODY = b"{}"
LENGTH = (b"content-length", b"2")
names = st.sampled_from((b"content-type", b"X-Some", b"vary", b"x-request-id", b"bad name", b"Content-Length"))
values = st.sampled_from((b"application/json", b"2", b"a b", b"\xe9", b"split\r\nx: y", b""))
headers = st.tuples(names, values).filter(lambda header: header[0].lower() != b"content-length" or header[1] == b"2")
special = st.sampled_from(((b"connection", b"close"), (b"Connection", b"x, Close"), (b"transfer-encoding", b"chunked")))


class _Flow:
    write_paused = False


class _Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def answered(
    kind: type[RequestResponseCycle],
    lines: list[Any],
    method: str,
    status: int,
    *,
    keep: bool,
    version: str = "1.1",
    pieces: Sequence[bytes] = (BODY,),
) -> object:
    """All that an answer does: the bytes, whether the connection closes, and the error."""
    transport: Any = _Transport()
    made = kind(
        scope={"method": method, "http_version": version},  # type: ignore[typeddict-item]  # the parts of a scope that are read
        transport=transport,
        flow=_Flow(),  # type: ignore[arg-type]  # stands for uvicorn's flow control
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[DATE],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep,
        on_response=lambda: None,
    )

    async def answer() -> None:
        await made.send({"type": "http.response.start", "status": status, "headers": lines})
        for number, piece in enumerate(pieces, 1):
            await made.send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    try:
        asyncio.run(answer())
    except RuntimeError:
        return "error"
    return b"".join(transport.written), transport.closed, made.response_complete, made.keep_alive


@given(
    st.lists(headers | special, max_size=5),
    st.sampled_from(("GET", "HEAD")),
    st.sampled_from((200, 404, 503)),
    st.booleans(),
)
@example([(b"content-type", b"application/json"), LENGTH], "GET", 200, True)
@example([LENGTH, (b"connection", b"close")], "GET", 200, True)
@example([LENGTH, LENGTH], "GET", 200, False)
@example([], "HEAD", 200, True)
def test_an_answer_is_written_as_uvicorn_writes_it(
    lines: list[tuple[bytes, bytes]], method: str, status: int, keep: bool
) -> None:
    theirs = answered(RequestResponseCycle, lines, method, status, keep=keep)
    for _ in range(2):  # the second time the lines are known
        assert answered(Cycle, lines, method, status, keep=keep) == theirs


@pytest.mark.parametrize("pieces", [[b""], [b"ab"], [b"ab", b"", b"c"], [b"ab", b"c", b""]])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("lines", [[], [(b"content-type", b"text/event-stream")], [(b"Content-Length", b"%d")]])
def test_a_client_of_http_1_0_gets_no_chunks(
    lines: list[tuple[bytes, bytes]], method: str, pieces: list[bytes]
) -> None:
    body = b"".join(pieces)
    lines = [(name, b"%d" % len(body) if value == b"%d" else value) for name, value in lines]
    found = answered(Cycle, lines, method, 200, keep=False, version="1.0", pieces=pieces)
    head = b"".join(b"%b: %b\r\n" % (name.lower(), value) for name, value in [DATE, *lines])
    written = b"HTTP/1.1 200 OK\r\n" + head + b"connection: close\r\n\r\n" + (body if method == "GET" else b"")
    assert found == (written, True, True, False)


def test_headers_that_are_lists_are_uvicorns() -> None:
    lines = [[b"content-length", b"2"]]
    theirs = answered(RequestResponseCycle, lines, "GET", 200, keep=True)
    assert answered(Cycle, lines, "GET", 200, keep=True) == theirs


@pytest.mark.parametrize("bad", [(b"x-bad", b"a\r\nset-cookie: b"), (b"x bad", b"a"), (b"x-request-id", b"\x00")])
def test_a_header_that_would_split_the_answer_is_never_written(bad: tuple[bytes, bytes]) -> None:
    for _ in range(2):
        assert answered(Cycle, [LENGTH, bad], "GET", 200, keep=True) == "error"


def test_the_lines_that_are_kept_are_bounded_and_no_request_id_is_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "_lines", {})
    monkeypatch.setattr(cycle, "MOST_LINES", 3)
    for number in range(20):
        lines = [LENGTH, (b"x-some", b"%d" % number), (b"x-request-id", b"%d" % number)]
        answered(Cycle, lines, "GET", 200, keep=True)
        assert len(cycle._lines) <= 3
        assert not any(name == b"x-request-id" for name, _ in cycle._lines)
