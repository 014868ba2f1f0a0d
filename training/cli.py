"""Train recurrent networks on labelled text, score them, and study them.

Every option can also be set by an environment variable, TRAINING_COMMAND_OPTION (TRAINING_FIT_HIDDEN=256), or by a
line in a file .env. Flags override variables, and variables override the file.

Exit statuses: 0 done, 1 it could not be done, and one line on standard error says why, 2 a wrong command line or
setting, 130 interrupted. An interrupted `fit` that has a model keeps it, and ends with 0.
"""

from __future__ import annotations

import copy
import sys
from typing import NoReturn

import click
from dotenv import load_dotenv

from service.errors import BundleError
from service.version import VERSION
from training.commands.compare import compare
from training.commands.console import console, option
from training.commands.data import data
from training.commands.distil import distil
from training.commands.evaluate import evaluate
from training.commands.export import export
from training.commands.faithfulness import faithfulness
from training.commands.fit import fit
from training.commands.gate_statistics import gate_statistics
from training.commands.gradients import gradients
from training.commands.longrange import longrange
from training.commands.plot import plot
from training.commands.predict import predict
from training.commands.pretrain import pretrain
from training.commands.retokenize import retokenize
from training.commands.robustness import robustness
from training.commands.shortcut import shortcut
from training.commands.tokens import tokens
from training.commands.units import find, units
from training.errors import TrainingError
from training.loop.processes import ProcessesError, started

PREFIX = "TRAINING"
"""Prefix of the environment variables."""

COMMANDS = (
    *(fit, pretrain, export, retokenize, evaluate, robustness, gate_statistics, predict, compare, data, tokens),
    *(plot, longrange, gradients, distil, faithfulness, shortcut, units, find),
)
_INTERRUPTED = 130
_FORESEEN = (TrainingError, BundleError, OSError)
"""Errors with a complete message: they are printed without the name of their class."""


@click.group(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="%(version)s", allow_from_autoenv=False)
@option("--debug", is_flag=True, help="Show the source of an error in the code.")
@click.pass_context
def app(context: click.Context, debug: bool) -> None:
    """Before any command."""
    context.ensure_object(dict)["debug"] = debug
    if started().count > 1 and context.invoked_subcommand != "fit":
        raise ProcessesError(f"{context.invoked_subcommand} runs in one process: only fit can be started by torchrun")


for command in COMMANDS:
    app.add_command(command)
_old = copy.copy(gate_statistics)
_old.hidden = True
app.add_command(_old, "health")  # its name in earlier releases


def main() -> None:
    """The command line. Any error is one line on standard error and exit status 1; --debug raises it."""
    try:
        load_dotenv(".env")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f".env cannot be read: {error}")
    debug = {"debug": False}
    try:
        sys.exit(app.main(standalone_mode=False, prog_name="python -m training", auto_envvar_prefix=PREFIX, obj=debug))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if debug["debug"]:
            raise
        foreseen = isinstance(error, _FORESEEN)
        _fail(_reason(error) if foreseen else f"{type(error).__name__}: {error} (--debug shows where)")


def _reason(error: Exception) -> str:
    """The message of a foreseen error; of one of the system its file and what is wrong, without its number."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    name = error.filename2 or error.filename
    return f"{name}: {error.strerror}" if name else error.strerror


def _fail(reason: str) -> NoReturn:
    console.print(f"error: {' '.join(reason.splitlines())}", style="red")
    sys.exit(1)
