"""JSON as typed values: the dataclasses of `service.client.answers`, made by the types of their fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_Kind = TypeVar("_Kind")


def typed(kind: type[_Kind], body: Any) -> _Kind:
    """A value of a dataclass from a JSON object. Members that it does not know are its `more`, or passed over.

    Raises `TypeError` for a member that is missing or of another type, `FloatingPointError` for a number beyond
    float32.
    """
    readers = _readers(kind)  # type: ignore[arg-type]  # a class can be hashed
    values = {name: read(body[name]) for name, read in readers.items() if name in body}
    if "more" in readers:
        values["more"] = {name: value for name, value in body.items() if name not in readers}
    return kind(**values)


@cache
def _readers(kind: type) -> dict[str, Callable[[Any], Any]]:
    """For each field of a dataclass, the function that reads its value."""
    return {name: _reader(hint) for name, hint in get_type_hints(kind, localns={"Array": object}).items()}


@cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    if hint is object:  # the type of arrays, which is known only to type checkers
        return _array
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(typed, hint)
    if isinstance(hint, UnionType):
        kinds = [each for each in get_args(hint) if each is not NoneType]
        options = [(_required(each), _reader(each)) for each in kinds]
        return partial(_one_of, options, len(kinds) < len(get_args(hint)))
    if get_origin(hint) is list:
        return partial(_list, _reader(get_args(hint)[0]))
    if get_origin(hint) is dict:
        return partial(_dict, _reader(get_args(hint)[1]))
    return partial(_plain, object if hint is Any else hint)


def _plain(kind: type, value: Any) -> Any:
    """A value of a type of JSON; a whole number is a float, too."""
    if not isinstance(value, (float, int) if kind is float else kind) or (
        isinstance(value, bool) and kind in (int, float)
    ):
        raise TypeError(f"{kind.__name__} is expected, not {type(value).__name__}")
    return value


def _list(read: Callable[[Any], Any], value: Any) -> list[Any]:
    return list(map(read, _plain(list, value)))


def _dict(read: Callable[[Any], Any], value: Any) -> dict[str, Any]:
    return {name: read(each) for name, each in _plain(dict, value).items()}


def _one_of(options: list[tuple[list[str], Callable[[Any], Any]]], optional: bool, value: Any) -> Any:
    """The first type all of whose required members are there; None where that is allowed."""
    if value is None and optional:
        return None
    for required, read in options:
        if all(name in value for name in required):
            return read(value)
    raise TypeError(f"a member is missing: {', '.join(options[0][0])}")


def _required(kind: Any) -> list[str]:
    """The fields of a dataclass without a default; none of any other type."""
    found = fields(kind) if is_dataclass(kind) else ()
    return [each.name for each in found if each.default is each.default_factory is MISSING]


def _array(value: Any) -> Array:
    import numpy as np

    with np.errstate(over="raise"):
        return np.asarray(value, np.float32)
