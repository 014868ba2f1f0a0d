"""Shared parts of the commands: exit statuses and error messages."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TextIO, TypeVar

import click
from click.shell_completion import CompletionItem

from service import settings as configuration
from service.commands.options import option
from service.errors import ServiceError
from service.model import bundle as bundles
from service.settings import Settings, SettingsError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
EXITS = {
    EXIT_OK: "done",
    EXIT_FAILED: "it could not be done; one line on standard error says why",
    EXIT_USAGE: "the command line, or a setting, is wrong",
    EXIT_INCOMPLETE: "done, but rows were set aside, or bundles are not in order",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C)",
}
"""Meaning of the exit statuses."""

_Arguments = ParamSpec("_Arguments")
_Command = TypeVar("_Command", bound=Callable[..., object])


def foreseen(command: Callable[_Arguments, int]) -> Callable[_Arguments, None]:
    """A command that returns its exit status, so that an error is one line, and a stack trace only with --debug."""

    @functools.wraps(command)
    def run(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> None:
        try:
            status = command(*arguments, **options)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            status = EXIT_INTERRUPTED
        except BrokenPipeError:
            status = EXIT_FAILED  # the reader of the output wants no more of it, and no word about that
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            if debugging():
                traceback.print_exc()
            elif isinstance(error, ServiceError):
                click.echo(f"error: {error}", err=True)
            else:
                click.echo(f"error: {type(error).__name__}: {error} (--debug shows where)", err=True)
            status = EXIT_FAILED
        if (unwritten := drop_unwritten(sys.stdout)) is not None and status == EXIT_OK:
            click.echo(f"error: standard output: {unwritten}", err=True)
            status = EXIT_FAILED
        drop_unwritten(sys.stderr)
        sys.exit(status)

    return run


def drop_unwritten(stream: TextIO) -> str | None:
    """Write the buffer of a standard stream. If it cannot be written, drop it and return the reason; otherwise Python
    would try again at its end, and exit with status 120."""
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error.strerror or str(error)
    return None


def debugging() -> bool:
    """True if --debug stands before the command."""
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().params.get("debug"))


def model_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> Sequence[CompletionItem]:
    """For the shell's completion: the names in the models folder."""
    folder = Path(context.params.get("models") or "models")
    try:
        return [CompletionItem(name) for name, _ in bundles.discover(folder) if name.startswith(incomplete)]
    except OSError:
        return []


class _Setting(click.Option):
    """An option that is also a setting of the service: without a flag it is read from the same sources as for
    `serve`."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        assert self.name is not None
        try:
            return configuration.written(self.name)
        except SettingsError as error:
            raise click.UsageError(str(error), ctx) from error


def setting(name: str, kind: click.ParamType[Any], **changed: Any) -> Callable[[_Command], _Command]:
    """The option of a setting, which flags, the environment and ``.env`` give, in this order; with the setting's
    default and help, unless they are changed."""
    field = Settings.model_fields[name]
    return option(name, field, cls=_Setting, type=kind, envvar=configuration.variable(name), **changed)


models_option = setting("models", click.Path(path_type=Path, file_okay=False))
