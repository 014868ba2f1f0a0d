"""Options of the command line, made from the fields of a pydantic model.

A field gives an option its name, its type, its default, its bounds and its help. Both programs use this: ``serve`` for
`service.settings.Settings`, ``python -m training`` for the models of `training.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

_Command = TypeVar("_Command", bound=Callable[..., Any])
_TYPES: dict[object, click.ParamType[Any]] = {str: click.STRING, Path: click.Path(path_type=Path)}


def option(
    name: str, field: FieldInfo, *, negatable: bool | None = None, **changed: Any
) -> Callable[[_Command], _Command]:
    """The option of one field, as a decorator. `changed` goes to `click.option` in place of what the field says.

    A field that is true or false becomes a flag; if it is true by default, or `negatable`, ``--no-NAME`` stands beside.
    """
    flag = f"--{name.replace('_', '-')}"
    attributes: dict[str, Any] = {
        "required": field.is_required(),
        "show_default": True,
        "show_envvar": True,
        "help": field.description,
    }
    if not field.is_required():
        attributes["default"] = field.default
    if field.annotation is bool:
        both = field.default if negatable is None else negatable
        declaration = f"{flag}/--no-{flag[2:]}" if both else flag
        return click.option(declaration, name, **{"is_flag": True, **attributes, **changed})
    if "type" not in changed:
        attributes["type"], attributes["multiple"] = _kind(field)
    return click.option(flag, name, **{**attributes, **changed})


def _kind(field: FieldInfo) -> tuple[click.ParamType[Any], bool]:
    """The type of a field's option, and whether the option can be given several times."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    several = get_origin(kind) is tuple
    if several:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind)), several
    if kind in (int, float):
        return _number(kind, field), several
    return _TYPES[kind], several


def _number(kind: type[int] | type[float], field: FieldInfo) -> click.ParamType[Any]:
    bounds: dict[str, Any] = {}
    for each in field.metadata:
        match each:
            case Ge(ge=value):
                bounds["min"] = value
            case Gt(gt=value):
                bounds |= {"min": value, "min_open": True}
            case Le(le=value):
                bounds["max"] = value
            case Lt(lt=value):
                bounds |= {"max": value, "max_open": True}
    if not bounds:
        return click.INT if kind is int else click.FLOAT
    return click.IntRange(**bounds) if kind is int else click.FloatRange(**bounds)
