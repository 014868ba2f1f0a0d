"""The body of a request, rejected by its headers if possible, and read only up to the limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.errors import TooLarge, UnsupportedMediaType
from service.http.coding import coding_of

WHAT = "Bytes in the body"


@lru_cache(maxsize=64)
def check_json(content_type: bytes) -> None:
    """Raises `UnsupportedMediaType` for a body that is not JSON in UTF-8."""
    if not content_type.strip():
        raise UnsupportedMediaType("The request has no Content-Type; send application/json.")
    media_type, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    kind, _, subtype = media_type.partition(b"/")
    if kind != b"application" or not (subtype == b"json" or subtype.endswith(b"+json")):
        raise UnsupportedMediaType("The body is not sent as JSON; send it with Content-Type: application/json.")
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip().strip(b'"') not in (b"utf-8", b"utf8"):
            raise UnsupportedMediaType("The body's charset is not UTF-8; JSON is read in UTF-8 alone.")


async def read(
    headers: Mapping[bytes, bytes], receive: Receive, limit: int, check_type: Callable[[bytes], None]
) -> bytes:
    """The whole body, still in its content coding (`service.http.coding`).

    `check_type` raises `UnsupportedMediaType` for a content type that is not read. Raises `TooLarge`, too, or
    `ClientDisconnect` if the client has gone.
    """
    coding_of(headers.get(b"content-encoding", b""))
    check_type(headers.get(b"content-type", b""))
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(WHAT, int(announced), limit)
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise TooLarge(WHAT, f"{len(body)} or more" if more else len(body), limit)
        if not more:
            return bytes(body)
    raise ClientDisconnect
