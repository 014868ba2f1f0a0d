"""A request and the place for its answer, as uvicorn has them, with a faster way of writing an answer's head.

uvicorn checks every header of every answer. Nearly all of an answer's headers are those of the answer before it, so
lines that were checked are kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

MOST_LINES = 1024
"""Header lines that are kept, at most."""
_UVICORNS = frozenset((b"connection", b"transfer-encoding"))
"""Headers that change how an answer is written: uvicorn reads them."""
_ALWAYS_NEW = b"x-request-id"

_lines: dict[tuple[bytes, bytes], bytes] = {}
"""Lines of headers that were checked."""


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    _unframed = False
    """True for an answer that ends with its connection, because its client knows no chunks."""

    async def send(self, message: Message) -> None:  # type: ignore[override]  # uvicorn has types of its own
        """uvicorn's, except for the head of an answer that states its length, a body in one piece, and HTTP/1.0."""
        plain = not (self.flow.write_paused or self.disconnected or self.response_complete)
        if not plain or not (self._end(message) if self.response_started else self._begin(message)):
            if self.scope["http_version"] == "1.0":
                self._spare_chunks(message)
            await super().send(message)  # type: ignore[arg-type]  # uvicorn has types of its own

    def _spare_chunks(self, message: Message) -> None:
        """Have uvicorn write an answer of unknown length without chunks, which HTTP/1.0 has not (RFC 9112, 6.1)."""
        if message["type"] == "http.response.start":
            self._unframed = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            self.chunked_encoding = False if self._unframed else self.chunked_encoding
        elif self._unframed:
            self.expected_content_length = len(message.get("body", b""))

    def _begin(self, message: Message) -> bool:
        """Write the head; False if it is left to uvicorn. Raises `RuntimeError` for a header that is not allowed."""
        if message["type"] != "http.response.start":
            return False
        length = None
        headers: list[Any] = [*self.default_headers, *message.get("headers", ())]
        try:
            lines: list[Any] = list(map(_lines.get, headers))
        except TypeError:  # a header that is no tuple
            return False
        while None in lines:
            at = lines.index(None)
            name, value = headers[at][0].lower(), headers[at][1]
            if name in _UVICORNS:
                return False
            lines[at] = line = _checked(name, value)
            if name == b"content-length":
                length = int(value) if length is None else length
            elif name != _ALWAYS_NEW:
                if len(_lines) >= MOST_LINES:
                    _lines.clear()
                _lines[headers[at]] = line
        if length is None:
            return False
        self.response_started, self.waiting_for_100_continue = True, False
        self.expected_content_length, self.chunked_encoding = length, False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[message["status"]], *lines, end)))
        return True

    def _end(self, message: Message) -> bool:
        """Write a body that is all of what the head announced, and end the answer; False if it is left to uvicorn."""
        body = message.get("body", b"")
        if (
            message["type"] != "http.response.body"
            or message.get("more_body", False)
            or self.chunked_encoding
            or self.scope["method"] == "HEAD"
            or len(body) != self.expected_content_length
        ):
            return False
        self.expected_content_length = 0
        self.transport.write(body)
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


def whole_answer(
    default_headers: list[tuple[bytes, bytes]], request_id: str, body: bytes, media_type: str, lines: bytes
) -> bytes:
    """A whole answer with status 200, as a cycle writes it, on a connection that stays open. `lines` are its last
    header lines."""
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b" % (
        STATUS_LINE[200],
        b"".join(map(_default_line, default_headers)),
        media_type.encode(),
        len(body),
        request_id.encode("ascii"),
        lines,
        body,
    )


@lru_cache(maxsize=16)
def _default_line(header: tuple[bytes, bytes]) -> bytes:
    return _checked(*header)


def _checked(name: bytes, value: bytes) -> bytes:
    """The line of a header. Raises `RuntimeError` for one that is not allowed."""
    if HEADER_RE.search(name):
        raise RuntimeError(f"An answer has a header with an invalid name: {name!r}.")
    if HEADER_VALUE_RE.search(value):
        raise RuntimeError(f"An answer has an invalid value of the header {name.decode('latin-1')}.")
    return name + b": " + value + b"\r\n"
