"""Content codings: decompression of bodies within their limit, and compression of answers.

JSON and text of at least `compress_bytes` are compressed if `Accept-Encoding` allows gzip or deflate. Tensors are not:
gzip leaves 0.91 of float32 activations, at about 10 MB/s.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Sequence
from functools import lru_cache, partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import MalformedBody, TooLarge, UnsupportedCoding
from service.http.accept import weights
from service.serving.runtime import Runtime

WHAT = "Bytes in the body, unpacked"
CODINGS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""zlib's window bits by coding. RFC 9110's deflate is the format of zlib."""

MOST_UNPACKED = 1032
"""The largest ratio of decompressed to compressed size. A body's size does not tell the cost of reading it."""
MOST_MEMBERS = 64
"""Concatenated members of one gzip body."""
A_BYTE_UNPACKED, A_BYTE_PACKED = 4e-9, 20e-9  # seconds, roughly
LEVEL = 1
"""Compression level from 1 to 9. Activations as JSON shrink to 0.40; at level 6 to 0.31, in five times the time."""
PIECE = 1 << 20
"""Bytes compressed at once. Between two pieces the thread checks whether its caller has gone."""

_TEXT = (b"text/", b"application/json", b"application/problem+json", b"image/svg+xml")
_STREAM = b"text/event-stream"


@lru_cache(maxsize=64)
def coding_of(content_encoding: bytes) -> bytes:
    """The coding of a body; empty for none. Raises `UnsupportedCoding` for an unknown one and for several."""
    names = [name for part in content_encoding.lower().split(b",") if (name := part.strip()) not in (b"", b"identity")]
    if not names:
        return b""
    if len(names) > 1 or names[0] not in CODINGS:
        raise UnsupportedCoding("A body is read as it is, or with Content-Encoding gzip or deflate, once.")
    return names[0]


def unpacking_seconds(size: int, limit: int) -> float:
    """Upper bound on the seconds to decompress a body of `size` bytes."""
    return A_BYTE_UNPACKED * min(MOST_UNPACKED * size, limit)


def unpacked(content: bytes, coding: bytes, limit: int) -> bytes:
    """Decompress a body, at most `limit` + 1 bytes.

    Raises `TooLarge` for a longer body, and `MalformedBody` for one that is not valid or is cut off.
    """
    parts: list[bytes] = []
    room = limit
    for _ in range(MOST_MEMBERS):
        unpacker = zlib.decompressobj(CODINGS[coding])
        try:
            parts.append(unpacker.decompress(content, room + 1))
        except zlib.error:
            raise MalformedBody("The body is not compressed in the way that its Content-Encoding says.") from None
        room -= len(parts[-1])
        if room < 0:
            raise TooLarge(WHAT, f"{limit + 1} or more", limit)
        if not unpacker.eof:
            raise MalformedBody("The compressed body is cut off.")
        content = unpacker.unused_data
        if not content:
            return b"".join(parts)
        if coding == b"deflate":
            raise MalformedBody("Something follows the compressed body.")
    raise MalformedBody(f"The compressed body has more than {MOST_MEMBERS} members.")


@lru_cache(maxsize=64)
def accepted(accept_encoding: bytes) -> bytes:
    """The coding for an answer; empty for none. The highest weight wins, then gzip, then deflate."""
    ranges = weights(accept_encoding.replace(b"x-gzip", b"gzip"))
    anything = ranges.get(b"*", 0.0)
    best = max((b"gzip", b"deflate"), key=lambda name: ranges.get(name, anything))
    weight = ranges.get(best, anything)
    return best if weight > 0 and weight >= ranges.get(b"identity", 0.0) else b""


def packed(pieces: Sequence[bytes], coding: bytes) -> list[bytes]:
    """Compress a body piece by piece."""
    packer = zlib.compressobj(LEVEL, wbits=CODINGS[coding])
    parts = [packer.compress(piece[start : start + PIECE]) for piece in pieces for start in range(0, len(piece), PIECE)]
    return [part for part in (*parts, packer.flush()) if part]


class Compression:
    """Middleware between the edge and the routes: compresses whole answers, large ones in a thread.

    Answers without a length are streams and stay uncompressed.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self.app = self._app = app
        self._runtime = runtime

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and self._runtime.settings.compress_bytes:
            send = _packing(scope, send, self._runtime)
        return self._app(scope, receive, send)


def _packing(scope: Scope, send: Send, runtime: Runtime) -> Send:
    """A `send` that collects an answer to compress, and passes on any other."""
    collected: list[Message] = []
    coding = b""

    async def packing(message: Message) -> None:
        nonlocal coding
        if message["type"] == "http.response.start":
            coding = _coding_for(message, scope, runtime.settings.compress_bytes)
        if not coding:
            await send(message)
            return
        collected.append(message)
        if len(collected) == 1 or message.get("more_body", False):
            return
        start, *bodies = collected
        headers = dict(start["headers"])
        cost = A_BYTE_PACKED * int(headers[b"content-length"])
        pieces = await runtime.offload(cost, partial(packed, [each.get("body", b"") for each in bodies], coding))
        headers[b"content-encoding"] = coding
        headers[b"content-length"] = str(sum(map(len, pieces))).encode()
        if b"etag" in headers:  # the same content in other bytes
            headers[b"etag"] = b"W/" + headers[b"etag"].removeprefix(b"W/")
        await send({**start, "headers": list(headers.items())})
        last = len(pieces) - 1
        for number, piece in enumerate(pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number < last})

    return packing


def _coding_for(start: Message, scope: Scope, least: int) -> bytes:
    """The coding for an answer of at least `least` bytes; empty for none. Adds `Vary` where the request decides."""
    headers = dict(start["headers"])
    if int(headers.get(b"content-length", b"0")) < least or b"content-encoding" in headers:
        return b""
    kind = headers.get(b"content-type", b"")
    if not kind.startswith(_TEXT) or kind.startswith(_STREAM):
        return b""
    vary = headers.get(b"vary")
    headers[b"vary"] = b"Accept-Encoding" if vary is None else vary + b", Accept-Encoding"
    start["headers"] = list(headers.items())
    return accepted(b",".join(value for name, value in scope["headers"] if name == b"accept-encoding"))
