"""A request's head: RFC 9112's rules for it, its size, its target and its bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from urllib.parse import unquote

import httptools

from service.errors import HeaderTooLarge, MalformedRequest, MethodNotAllowed, Refusal

MOST_LINES = 200
"""Header lines of one request. Browsers send about 20, and each proxy on the way adds a few."""
WEBSOCKETS = b"/stream"
"""The path of the WebSockets."""
LONGEST_HOST = 512
"""Bytes of a Host header; a name in DNS has at most 255."""

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
"""A host and a port as RFC 3986 writes them; empty if the target has no authority."""

_STRANGE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} ([!-~]{1,8000}) HTTP/1\.[01]\r\n")
"""A request line, whatever the method."""

END = b"\r\n\r\n"
"""The end of a head."""
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""16 bytes in base64."""

_SHORT = 64
"""Bytes of a request target that is remembered."""
_AROUND = len(b"  HTTP/1.1\r\n\r\n")
"""Bytes of a head beside its method, its target and its lines."""
_name = itemgetter(0)

Lines = Sequence[tuple[bytes, bytes]]
"""Header lines; the names in lower case."""


def check(method: bytes, version: str, lines: Lines) -> None:
    """Check a whole head. Raises `HeaderTooLarge`, `MalformedRequest`, and `MethodNotAllowed` for CONNECT."""
    names = list(map(_name, lines))
    if len(names) > MOST_LINES:
        raise HeaderTooLarge(len(names), MOST_LINES, "Lines in the request's header")
    if version not in ("1.0", "1.1"):
        raise MalformedRequest(f"The request is HTTP/{version}; send HTTP/1.1.")
    hosts = names.count(b"host")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise MalformedRequest(f"The request has {hosts or 'no'} Host headers; HTTP/1.1 wants exactly one.")
    if hosts and not _is_host(lines[names.index(b"host")][1]):
        raise MalformedRequest("The Host header is not a host name or address with an optional port.")
    if b"transfer-encoding" in names and [v.lower() for n, v in lines if n == b"transfer-encoding"] != [b"chunked"]:
        raise MalformedRequest("The request has a Transfer-Encoding other than chunked; send chunked, once.")
    if method == b"CONNECT":
        raise not_allowed("CONNECT is not allowed: this service is no proxy. Send GET or POST.")


def strange_target(data: bytes) -> bytes:
    """The target of a request whose method the parser does not know; empty for bytes that are no request."""
    found = _STRANGE.match(data)
    return found[1] if found is not None else b""


def not_allowed(detail: str) -> MethodNotAllowed:
    """The error for a method that no route has."""
    return MethodNotAllowed(detail, "GET, POST", Refusal.METHOD)


def check_size(method: bytes, target: bytes, lines: Lines, most: int) -> None:
    """Raise `HeaderTooLarge` for a head of more than `most` bytes, from its first to its empty line."""
    size = len(method) + len(target) + _AROUND + sum(len(name) + len(value) + 4 for name, value in lines)
    if size > most:
        raise HeaderTooLarge(size, most)


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return len(value) <= LONGEST_HOST and _HOST.fullmatch(value) is not None


def target(url: bytes) -> tuple[str, bytes, bytes]:
    """The path, decoded and as sent, and the query of a request target: a path, or a URL. Raises `MalformedRequest`."""
    return _known_target(url) if len(url) <= _SHORT else _target(url)


def _target(url: bytes) -> tuple[str, bytes, bytes]:
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError as error:
        raise MalformedRequest("The request target is not a path such as /predict, nor a URL.") from error
    raw = parsed.path or b"/"
    path = raw.decode("ascii")
    return unquote(path) if "%" in path else path, raw, parsed.query or b""


_known_target = lru_cache(maxsize=256)(_target)


def written(method: bytes, version: str, target: bytes, lines: Lines) -> bytes:
    first = b"%s %s HTTP/%s" % (method, target, version.encode("ascii"))
    return b"\r\n".join((first, *(name + b": " + value for name, value in lines), b"", b""))


def is_websocket(method: bytes, version: str, target: bytes, lines: Lines) -> bool:
    """True if a head asks for a WebSocket (RFC 6455, 4.2.1) at a path that has one."""
    named: dict[bytes, bytes] = {}
    for name, value in lines:  # several lines of one header are one list
        named[name] = b",".join((named[name], value.lower())) if name in named else value.strip().lower()
    path = target.partition(b"?")[0]
    return (
        method == b"GET"
        and version == "1.1"
        and (path[:-1] if path.endswith(b"/") else path) == WEBSOCKETS
        and named.get(b"upgrade") == b"websocket"
        and b"upgrade" in [part.strip() for part in named.get(b"connection", b"").split(b",")]
        and b"sec-websocket-key" in named
        and named.get(b"content-length", b"0") == b"0"
        and b"transfer-encoding" not in named
    )


def check_handshake(lines: Lines) -> None:
    """Check the key and the version of a WebSocket's handshake (RFC 6455, 4.2.1). Raises `MalformedRequest`."""
    keys = [value for name, value in lines if name == b"sec-websocket-key"]
    versions = [value for name, value in lines if name == b"sec-websocket-version"]
    if versions != [b"13"] or len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise MalformedRequest("A WebSocket wants one Sec-WebSocket-Version, 13, and one key of 16 bytes in base64.")
