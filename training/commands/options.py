"""A command's options as one model, made from the model's fields."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt
from click.core import ParameterSource
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from service.commands.options import option

_UNSAID = (None, ParameterSource.DEFAULT)
"""Sources of values that neither the command line, a variable nor a file gave."""
_TYPES: dict[object, click.ParamType[Any]] = {str: click.STRING, Path: click.Path(path_type=Path)}


def takes(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a model, and call it with the model as its first argument.

    Each field that has a description is an option. Values that the model refuses end the command with status 2.
    """
    fields = {name: field for name, field in model.model_fields.items() if field.description}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: object) -> None:
            context = click.get_current_context()
            found = {name: values.pop(name) for name in fields}
            # Defaults are left to the model, which can then tell what was given (`model_fields_set`).
            unsaid = {name for name in fields if context.get_parameter_source(name) in _UNSAID}
            given = {name: value for name, value in found.items() if name not in unsaid}
            try:
                options = model(**given)
            except ValidationError as error:
                raise click.UsageError(_reason(error)) from error
            command(options, **values)

        ordered = sorted(fields.items(), key=lambda pair: not pair[1].is_required())  # help shows the required first
        for name, field in reversed(ordered):  # click lists the options of decorators from the last one up
            run = option(name, field, **_kind(field))(run)
        return run

    return decorate


def _kind(field: FieldInfo) -> dict[str, Any]:
    """The type of a field's option with its bounds, and whether the option can be given several times."""
    kind: Any = field.annotation
    if kind is bool:
        return {}
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    several = get_origin(kind) is tuple
    if several:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return {"type": click.Choice(get_args(kind)), "multiple": several}
    return {"type": _number(kind, field) if kind in (int, float) else _TYPES[kind], "multiple": several}


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


def _reason(error: ValidationError) -> str:
    """The first thing that a model refuses, with the option that it is about."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    return f"Invalid value for '--{str(first['loc'][0]).replace('_', '-')}': {message}"
