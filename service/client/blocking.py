"""The calls of the asynchronous client without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


def run(coroutine: Coroutine[Any, Any, _Value]) -> _Value:
    """The result of a coroutine all of whose waits block, so that it never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: _Value = done.value
        return value
    raise RuntimeError("the coroutine has suspended")


def blocking(
    method: Callable[Concatenate[Any, _Arguments], Coroutine[Any, Any, _Value]],
) -> Callable[Concatenate[Any, _Arguments], _Value]:
    """A method of an asynchronous class as one of its synchronous counterpart.

    The counterpart has the same private methods, as coroutines that never suspend. The method must call no others.
    """

    @wraps(method)
    def call(self: Any, /, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Value:
        return run(method(self, *arguments, **named))

    return call
