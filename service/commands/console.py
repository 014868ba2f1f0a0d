"""What the commands share: how they end, and how errors are told."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from click.shell_completion import CompletionItem

from service import bundle as bundles
from service.errors import ServiceError

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
EXITS = {
    EXIT_OK: "done",
    EXIT_FAILED: "it could not be done; one line on standard error says why",
    EXIT_USAGE: "the command line, or a setting, is wrong",
    EXIT_INCOMPLETE: "done, but rows were set aside, or bundles are not in order",
    EXIT_INTERRUPTED: "interrupted (Ctrl-C)",
}
"""What the commands' exit statuses mean."""

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
            sys.stderr.close()  # whoever read the output wants no more of it, and no word about that
            status = EXIT_FAILED
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
        sys.exit(status)

    return run


def debugging() -> bool:
    """Whether --debug stands before the command."""
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().params.get("debug"))


def model_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> Sequence[CompletionItem]:
    """For the shell's completion: the names in the models folder."""
    folder = Path(context.params.get("models") or "models")
    try:
        return [CompletionItem(name) for name, _ in bundles.discover(folder) if name.startswith(incomplete)]
    except OSError:
        return []


def models_option() -> Callable[[_Command], _Command]:
    """``--models``, which the service's setting of the same name also sets."""
    return click.option(
        "--models",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("models"),
        envvar="SERVICE_MODELS",
        show_default=True,
        show_envvar=True,
        help="Folder of the model repository: MODELS/NAME/VERSION/.",
    )
