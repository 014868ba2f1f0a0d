"""Recipes: options of ``training fit`` in a TOML file. Flags, variables and ``.env`` go before it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from training.data.sources import filled

_PLAIN = (str, int, float, bool)


def read(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Make a recipe's values the defaults of the command's options.

    Names are those of the options, with - or _; values may hold $VARIABLE. Raises `click.BadParameter`.
    """
    if path is None:
        return None
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    known = {option.name: option for option in context.command.params if option.name != parameter.name}
    found: dict[str, object] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            there = ", ".join(sorted(each.replace("_", "-") for each in known if each))
            raise click.BadParameter(f"{path}: there is no option {key!r}; there are {there}")
        several = getattr(known[name], "multiple", False) and not isinstance(value, list)
        found[name] = _value(path, key, [value] if several else value)
    context.default_map = {**(context.default_map or {}), **found}
    return path


def _value(path: Path, key: str, value: object) -> object:
    if isinstance(value, list):
        return [_value(path, key, each) for each in value]
    if not isinstance(value, _PLAIN):
        raise click.BadParameter(f"{path}: {key} is a text, a number, true or false, or a list of these")
    try:
        return filled(value) if isinstance(value, str) else value
    except KeyError as error:
        raise click.BadParameter(f"{path}: {key} needs the environment variable {error.args[0]}") from error
