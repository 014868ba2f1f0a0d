"""The command line: ``python -m service serve``. Its flags are made from the fields of `Settings`."""

from __future__ import annotations

import sys

from service import interpreter

if __name__ == "__main__":
    interpreter.begin()

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import structlog
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from service import settings as configuration
from service.commands.check import check
from service.commands.completion import completion
from service.commands.console import EXIT_FAILED, EXIT_USAGE, debugging, drop_unwritten, foreseen
from service.commands.models import models
from service.commands.options import option
from service.commands.predict import predict
from service.errors import StartupError
from service.observability import logs
from service.settings import Settings, SettingsError
from service.version import VERSION

_METAVARS: dict[object, str] = {int: "N", float: "X", Path: "PATH", Path | None: "PATH"}


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(VERSION, message="%(version)s")
@click.option("--debug", is_flag=True, help="Show the source of an unexpected error.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Recurrent text models, served over HTTP or run over files, with their gates.

    \b
        python -m service serve                                        the service
        python -m service predict --model sentiment-bilstm texts.txt   files, without a server
        python -m service models                                       the list of models, verified
        python -m service check sentiment-bilstm                       one bundle, verified in full

    An option with a variable can be set by that variable, or by its line in a file .env. A flag overrides both.

    Exit statuses: 0 done, 1 it could not be done, 2 a wrong command line or setting, 3 done but rows were set aside or
    bundles are not in order, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _completed(name: str, field: FieldInfo) -> click.ParamType[Any]:
    """The type that a shell completes for a setting."""
    if words := configuration.choices(field):
        return click.Choice(words)
    if field.annotation in (Path, Path | None):
        return click.Path(file_okay=name != "models")
    return click.STRING


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, "") or isinstance(value, SecretStr) else str(value)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give `serve` an option for each setting.

    Values pass as they were written: `Settings` has the types, the bounds and the messages.
    """
    for name, field in reversed(Settings.model_fields.items()):
        facts = f"default: {_default(field)}; env: {configuration.variable(name)}"
        shown: dict[str, Any] = {"help": f"{field.description}  [{facts}]", "show_default": False, "show_envvar": False}
        if field.annotation is bool:
            command = option(name, field, negatable=True, default=None, **shown)(command)
            continue
        metavar = "|".join(configuration.choices(field)) or _METAVARS.get(field.annotation, "TEXT")
        completed = _completed(name, field).shell_complete
        written = option(
            name, field, type=click.STRING, default=None, metavar=metavar, shell_complete=completed, **shown
        )
        command = written(command)
    return command


@click.command()
@with_settings
@foreseen
def serve(**flags: object) -> int:
    """Serve the models of a folder over HTTP.

    Every flag can also be set by an environment variable, or by the same name in a file .env. Flags override variables,
    and variables override the file.

    The service listens at once, and is ready (/health/ready) when its models are loaded. If no model can be loaded, it
    ends with status 1; with --reload it waits for one.
    """
    try:
        settings = configuration.read({name: value for name, value in flags.items() if value is not None})
    except SettingsError as error:
        click.echo(f"error: {error}", err=True)
        return EXIT_USAGE
    logs.configure(settings.log_format, settings.log_level)
    log = structlog.get_logger()
    for name in configuration.unknown_variables():
        log.warning("no such setting", variable=name)
    try:
        status: int = _server().serve(settings)
    except StartupError as error:
        if debugging():
            raise
        log.error(f"cannot start: {error}")
        return EXIT_FAILED
    finally:
        drop_unwritten(sys.stderr)
    return status


def _server() -> ModuleType:
    """The module that starts the server. Imported late: it is slow and needs ONNX Runtime; `--help` does not."""
    try:
        return import_module("service.process.start")
    except ImportError as error:
        if error.name != "onnxruntime":
            raise
        raise StartupError(
            "ONNX Runtime is not installed. Install the extra 'cpu' (the package onnxruntime) or, for NVIDIA GPUs, "
            "the extra 'cuda' (the package onnxruntime-gpu), and never both."
        ) from error


for command in (serve, predict, models, check, completion):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m service")
