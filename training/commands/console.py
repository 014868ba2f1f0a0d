"""Shared parts of the commands: terminal, progress bars, common options."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from datetime import datetime
from functools import partial
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from service.model.bundle import Bundle
from training.data.outputs import Named, clash, held
from training.export import restore
from training.loop.fit import Progress
from training.options import MAX_SEED
from training.terminal import console as console_of

console = console_of(stderr=True)
PATH = click.Path(path_type=Path)
option = partial(click.option, show_default=True, show_envvar=True)
"""`click.option`, which also shows the default and the environment variable."""
model_argument = click.argument(
    "model", type=PATH, help="A bundle: models/NAME (its highest version) or models/NAME/VERSION."
)
data_option = option(
    "--data",
    type=PATH,
    multiple=True,
    required=True,
    help="File of labelled data. Give the option again for more files.",
)
seed_option = partial(option, "--seed", type=click.IntRange(0, MAX_SEED))
json_option = option("--json", is_flag=True, help="Print JSON lines.")


def note(line: str) -> None:
    """Print a note of a data reader on standard error: a choice it made, or something odd in the data."""
    console.print(line)


def tell(line: str) -> None:
    """Tell a line on standard error, with the time."""
    console.print(f"[{datetime.now():%H:%M:%S}] {line}")


class Display:
    """The loop's progress on a bar; each epoch's score on a line of its own, also without a terminal."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task = bar.add_task("train", total=None, loss="", score="")
        self._loss = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.score is not None:
            line = f"epoch {progress.epoch}: loss {self._loss:.4f}, dev {progress.score:.4f}, best {progress.best:.4f}"
            line += f"; {progress.clipped:.0%} of the steps clipped"
            tell(line)
            self._bar.update(self._task, score=f"best dev {progress.best:.4f}")
            return
        self._loss = progress.loss
        done = (progress.epoch - 1) * progress.batches + progress.batch
        total = progress.batches * progress.epochs
        self._bar.update(self._task, total=total, completed=done, loss=f"epoch {progress.epoch} loss {self._loss:.4f}")


def bar() -> Bar:
    columns = ("{task.fields[loss]}", "{task.fields[score]}")
    texts = [TextColumn(column) for column in columns]
    shown = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *texts)
    return Bar(*shown, console=console, transient=True, disable=not console.is_terminal)


def hold(*outs: Path | None, folder: bool = False) -> None:
    """Hold outputs to the end of the command: see `held`."""
    for out in filter(None, outs):
        click.get_current_context().with_resource(held(out, folder))


def opened(model: Path, to_write: bool = False) -> Bundle:
    """The bundle of ``models/NAME`` or ``models/NAME/VERSION``; one to be written is held to the end of the command."""
    if to_write:
        hold(restore.opened(model).path, folder=True)  # and read again: it may have changed before
    return restore.opened(model)


def check_apart(outputs: Named, inputs: Named) -> None:
    """Raises `click.UsageError` if a file would be written that is read, or is written already."""
    if reason := clash(outputs, inputs):
        raise click.UsageError(reason)


def listed(names: str, known: Collection[str], noun: str, option: str) -> list[str]:
    """``rnn,lstm`` → names of `known`, in order and once. Raises `click.BadParameter`."""
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in known]:
        raise click.BadParameter(f"there is no {noun} {unknown[0]!r}; known are {', '.join(known)}", param_hint=option)
    return list(dict.fromkeys(wanted))


def command_line(arguments: list[str], data: str | None) -> str:
    """This command for the card, with the folder that $DATA names written as $DATA."""
    words = []
    for argument in arguments:
        inside = data and argument.startswith(data.rstrip("/") + "/")
        words.append(f"$DATA{argument[len(str(data).rstrip('/')) :]}" if inside else shlex.quote(argument))
    return " ".join(["python -m training", *words])
