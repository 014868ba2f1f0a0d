"""Checks that a whole answer came. An answer that is cut off is requested again; another kind of answer is an error."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import httpx

from service.client.problems import InvalidAnswer

SAFETENSORS = "application/vnd.safetensors"

_HEADER = 8  # bytes that hold the length of a safetensors header
_SHOWN = 60  # characters of a wrong answer that its error repeats
_WRONG = (ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError, struct.error)
"""Raised by code that reads an answer of another shape."""

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


def read_whole(response: httpx.Response) -> None:
    """Read an answer to its end. Raises `httpx.RequestError` for one that is cut off, even if its length is right."""
    response.read()
    _check(response)


async def aread_whole(response: httpx.Response) -> None:
    """The same, asynchronously."""
    await response.aread()
    _check(response)


def is_ready(response: httpx.Response) -> bool:
    """True if an answer of `/health/ready` says so. A page of a proxy does not, whatever its status."""
    try:
        return response.is_success and json.loads(response.content)["status"] == "ok"
    except _WRONG:
        return False


def _check(response: httpx.Response) -> None:
    if response.is_success and _is_cut(response):
        raise httpx.RemoteProtocolError("the answer is cut off", request=response.request)


def reading(read: Callable[_Arguments, _Value]) -> Callable[_Arguments, _Value]:
    """Make a function that reads an answer raise `InvalidAnswer` for one of another shape."""

    @wraps(read)
    def checked(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Value:
        try:
            return read(*arguments, **named)
        except _WRONG as error:
            content = next((each for each in arguments if isinstance(each, bytes)), b"")
            shown = content[:_SHOWN].decode("utf-8", "replace")
            raise InvalidAnswer(
                f"The answer is not one of the service ({type(error).__name__}: {error}); it begins with {shown!r}."
            ) from error

    return checked


def safetensors_header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and the position of its data. Raises `ValueError` or `struct.error`."""
    (length,) = struct.unpack_from("<Q", content)
    begin = _HEADER + length
    return json.loads(content[_HEADER:begin]), begin


def _is_cut(response: httpx.Response) -> bool:
    """True for the beginning of an answer. Anything else that is wrong does not get better by asking again."""
    content = response.content
    if response.request.headers.get("Accept") == SAFETENSORS and content[_HEADER : _HEADER + 1] in (b"{", b""):
        return not _is_json(content) if len(content) <= _HEADER else _is_cut_file(content)
    return content.lstrip()[:1] in (b"{", b"") and not _is_json(content)


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _is_cut_file(content: bytes) -> bool:
    (length,) = struct.unpack_from("<Q", content)
    rest = len(content) - _HEADER - length
    if rest < 0:
        return True
    try:
        header, _ = safetensors_header(content)
        return any(each["data_offsets"][1] > rest for name, each in header.items() if name != "__metadata__")
    except _WRONG:
        return False
