"""Train recurrent networks on labelled text, and score what came out.

Every option can also be set by an environment variable, TRAINING_COMMAND_OPTION (TRAINING_FIT_HIDDEN=256), or by a
line in a file named .env; a flag goes before the environment, the environment before the file.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer
from dotenv import load_dotenv
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from service import bundle
from service.equations import Direction
from service.errors import BundleError
from training.corpora import CorpusError
from training.evaluate import Report, of_bundle
from training.fit import Progress, Recipe
from training.job import Job, TrainingError, run

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(stderr=True, log_path=False)


class Task(StrEnum):
    sentiment = "sentiment"
    ner = "ner"


class Cell(StrEnum):
    lstm = "lstm"
    gru = "gru"


class Pooling(StrEnum):
    last = "last"
    mean = "mean"
    max = "max"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


_DEFAULT = Recipe()


@app.command("fit")
def fit_command(
    task: Annotated[Task, typer.Option(help="What to learn: a label for each text, or the entities in it.")],
    train: Annotated[list[Path], typer.Option(help="Labelled data to learn from. Give it again for further files.")],
    dev: Annotated[list[Path], typer.Option(help="Labelled data that picks the best epoch; several count the same.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder, models/NAME; the next version is written below it.")],
    cell: Annotated[Cell, typer.Option(help="The recurrent cell.")] = Cell.lstm,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read in both directions.")] = False,
    layers: Annotated[int, typer.Option(min=1, max=16, help="Recurrent layers.")] = 1,
    hidden: Annotated[int, typer.Option(min=1, max=8192, help="Units of each direction.")] = 128,
    pooling: Annotated[Pooling, typer.Option(help="How a text's states become one (sentiment).")] = Pooling.max,
    test: Annotated[list[Path] | None, typer.Option(help="Data scored once at the end, for the card.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Word vectors to start from: GloVe text, .gz or .npz.")] = None,
    words: Annotated[int, typer.Option(min=2, help="Rows of the word table, at most.")] = 20_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training data, at most.")] = _DEFAULT.epochs,
    patience: Annotated[int, typer.Option(min=1, help="Stop after this many without a better dev score.")] = (
        _DEFAULT.patience
    ),
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Adam's step size at the start.")] = (
        _DEFAULT.learning_rate
    ),
    clip: Annotated[float, typer.Option(min=1e-9, help="Largest norm of the gradient.")] = _DEFAULT.clip,
    batch_rows: Annotated[int, typer.Option(min=1, help="Rows of a batch, at most.")] = _DEFAULT.batch_rows,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Padded tokens of a batch, at most.")] = (
        _DEFAULT.batch_tokens
    ),
    window: Annotated[int, typer.Option(min=0, help="Learn from random runs of this many tokens (sentiment).")] = (
        _DEFAULT.window
    ),
    dropout: Annotated[float, typer.Option(min=0, max=0.95, help="Share of units dropped, for a whole text.")] = 0.3,
    word_dropout: Annotated[float, typer.Option(min=0, max=0.95, help="Share of words made unknown.")] = 0.02,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.95, help="Share of the target spread out.")] = (
        _DEFAULT.label_smoothing
    ),
    seed: Annotated[int, typer.Option(help="The same seed gives the same model on one machine.")] = _DEFAULT.seed,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    licence: Annotated[str, typer.Option(help="The licence for the card.")] = "not stated",
) -> None:
    """Train a network, export it, score it, and write it as a bundle that the service can load.

    Ctrl-C ends the training early and keeps the best model so far.
    """
    options = locals()
    recipe = Recipe(**{field.name: options[field.name] for field in fields(Recipe)})
    ways: tuple[Direction, ...] = ("forward", "backward") if bidirectional else ("forward",)
    job = Job(
        task=task.value,
        cell=cell.value,
        directions=ways,
        layers=layers,
        hidden=hidden,
        head="tagger" if task == Task.ner else pooling.value,
        train=tuple(train),
        dev=tuple(dev),
        test=tuple(test or ()),
        vectors=vectors,
        words=words,
        dropout=dropout,
        word_dropout=word_dropout,
        recipe=recipe,
        device=_device(device),
        out=out,
        licence=licence,
        command=_command(sys.argv[1:], os.environ.get("DATA")),
    )
    with _bar() as bar:
        show = _Display(bar, recipe.epochs)
        made, outcome = run(job, console.log, show)
    best = "none" if outcome.best is None else f"{outcome.best:.4f}"
    console.print(f"{made.name} version {made.version}: best dev score {best} in {outcome.epochs} epochs")
    for figure in made.manifest.quality:
        console.print(f"  {figure.data}: {figure.metric} {figure.value:.4f}")


@app.command("evaluate")
def evaluate_command(
    model: Annotated[Path, typer.Argument(help="A bundle: models/NAME (its highest version) or models/NAME/VERSION.")],
    data: Annotated[list[Path], typer.Option(help="Labelled data. Give it again for further files.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Score a bundle through the very runtime that serves it."""
    found = bundle.load(_version_folder(model))
    for path in data:
        report = of_bundle(found, path)
        print(report.as_json(found.name, found.version)) if json else _print_report(found, report)


def main() -> None:
    """The command line. Foreseen errors are one line on standard error and exit status 1."""
    try:
        load_dotenv(".env")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f".env cannot be read: {error}")
    try:
        app(auto_envvar_prefix="TRAINING")
    except (CorpusError, BundleError, TrainingError, OSError) as error:
        _fail(str(error))


def _fail(reason: str) -> NoReturn:
    console.print(f"error: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(1)


class _Display:
    """The loop's progress on a bar; each epoch's score on a line of its own, also where there is no terminal."""

    def __init__(self, bar: Bar, epochs: int) -> None:
        self._bar, self._epochs, self._total = bar, epochs, 0
        self._task = bar.add_task("train", total=None, loss="", score="")
        self._loss = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.score is not None:
            line = f"epoch {progress.epoch}: loss {self._loss:.4f}, dev {progress.score:.4f}, best {progress.best:.4f}"
            console.log(line)
            self._bar.update(self._task, score=f"best dev {progress.best:.4f}")
            return
        self._loss = progress.loss
        done = (progress.epoch - 1) * progress.batches + progress.batch
        total = progress.batches * self._epochs
        self._bar.update(self._task, total=total, completed=done, loss=f"epoch {progress.epoch} loss {self._loss:.4f}")


def _bar() -> Bar:
    columns = ("{task.fields[loss]}", "{task.fields[score]}")
    texts = [TextColumn(column) for column in columns]
    return Bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *texts, console=console, transient=True)


def _print_report(found: bundle.Bundle, report: Report) -> None:
    corpus = report.corpus
    counts = f"{len(corpus.gold):,} inputs, {corpus.truncated} cut"
    table = Table("metric", "value", title=f"{found.name} version {found.version} on {corpus.name}: {counts}")
    for metric, value in report.metrics.items():
        table.add_row(metric.replace("_", " "), f"{value:.4f}")
    for kind, of_type in sorted(report.entities.types.items()) if report.entities else ():
        table.add_row(f"f1 of {kind}", f"{of_type.f1:.4f}")
    Console().print(table)


def _version_folder(model: Path) -> Path:
    if bundle.is_version(model.name):
        return model
    found = bundle.versions(model)
    if not found:
        raise BundleError(f"{model}: no version there; expected a folder models/NAME that fit has written")
    return model / str(found[-1])


def _device(wanted: Device) -> str:
    if wanted == Device.auto:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == Device.cuda and not torch.cuda.is_available():
        raise typer.BadParameter("this torch sees no CUDA device; use --device cpu", param_hint="--device")
    return wanted.value


def _command(arguments: list[str], data: str | None) -> str:
    """This command for the card, with the folder that $DATA names written as $DATA."""
    words = []
    for argument in arguments:
        inside = data and argument.startswith(data.rstrip("/") + "/")
        words.append(f"$DATA{argument[len(str(data).rstrip('/')) :]}" if inside else shlex.quote(argument))
    return " ".join(["python -m training", *words])
