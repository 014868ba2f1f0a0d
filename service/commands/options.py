"""Options of the command line, made from the fields of a pydantic model.

A field gives an option its name, its default and its help. Both programs use this: ``serve`` for
`service.settings.Settings`, ``python -m training`` for the models of `training.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from pydantic.fields import FieldInfo

_Command = TypeVar("_Command", bound=Callable[..., Any])


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
    return click.option(flag, name, **{**attributes, **changed})
