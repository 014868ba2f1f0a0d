"""What the commands share: the terminal, progress bars, the choices of options."""

from __future__ import annotations

import shlex
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from service.errors import BundleError
from service.model import bundle
from service.model.bundle import Bundle
from service.model.equations import GruReset
from training.loop.fit import Progress
from training.nets.cells import NAMED
from training.nets.networks import WordBits
from training.terminal import console as console_of

console = console_of(stderr=True)


def tell(line: str) -> None:
    """Tell a line on standard error, with the time."""
    console.print(f"[{datetime.now():%H:%M:%S}] {line}")


class Task(StrEnum):
    sentiment = "sentiment"
    ner = "ner"


class Cell(StrEnum):
    rnn = "rnn"
    lstm = "lstm"
    peephole = "peephole"
    gru = "gru"


class Reset(StrEnum):
    after = "after"
    before = "before"


class Pooling(StrEnum):
    last = "last"
    mean = "mean"
    max = "max"
    attention = "attention"


class CharacterReader(StrEnum):
    none = "none"
    cnn = "cnn"
    lstm = "lstm"


_READERS: dict[CharacterReader, bundle.CharacterNetwork] = {CharacterReader.cnn: "cnn", CharacterReader.lstm: "lstm"}


class Bits(StrEnum):
    four = "4"
    eight = "8"
    sixteen = "16"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Display:
    """The loop's progress on a bar; each epoch's score on a line of its own, also where there is no terminal."""

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


def opened(model: Path) -> Bundle:
    """The verified bundle of ``models/NAME`` (its highest version) or ``models/NAME/VERSION``.

    Raises `BundleError`, whose message names the bundle.
    """
    folder = _version_folder(model)
    try:
        return bundle.load(folder)
    except BundleError as error:
        raise BundleError(f"{folder}: {error}") from error


def _version_folder(model: Path) -> Path:
    if bundle.is_version(model.name):
        return model
    found = bundle.versions(model)
    if not found:
        raise BundleError(f"{model}: no version there; expected a folder models/NAME that fit has written")
    return model / str(found[-1])


def device_of(wanted: Device) -> str:
    if wanted == Device.auto:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == Device.cuda and not torch.cuda.is_available():
        raise typer.BadParameter("this torch sees no CUDA device; use --device cpu", param_hint="--device")
    return wanted.value


def gru_reset_of(cell: Cell, wanted: Reset | None) -> GruReset:
    if wanted is not None and cell != Cell.gru:
        raise typer.BadParameter(f"{cell.value} has no reset gate; it goes with --cell gru", param_hint="--gru-reset")
    return (wanted or Reset.after).value


def cells_of(names: str) -> list[str]:
    """``rnn,lstm`` → the cells of `training.nets.cells.NAMED`."""
    wanted = [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in NAMED]:
        raise typer.BadParameter(f"there is no cell {unknown[0]!r}; known are {', '.join(NAMED)}", param_hint="--cells")
    return list(dict.fromkeys(wanted))


def character_network_of(wanted: CharacterReader) -> bundle.CharacterNetwork | None:
    return _READERS.get(wanted)


def word_bits_of(wanted: Bits) -> WordBits:
    bits: dict[Bits, WordBits] = {Bits.four: 4, Bits.eight: 8, Bits.sixteen: 16}
    return bits[wanted]


def command_line(arguments: list[str], data: str | None) -> str:
    """This command for the card, with the folder that $DATA names written as $DATA."""
    words = []
    for argument in arguments:
        inside = data and argument.startswith(data.rstrip("/") + "/")
        words.append(f"$DATA{argument[len(str(data).rstrip('/')) :]}" if inside else shlex.quote(argument))
    return " ".join(["python -m training", *words])
