"""``training data``: public datasets as files that ``training fit`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.console import Task, console
from training.data.datasets import KNOWN, Wanted, write

_NAMES = ", ".join(sorted(KNOWN))


def data(
    name: Annotated[str, typer.Argument(help=f"One of {_NAMES}; or any other dataset, with --task and its columns.")],
    out: Annotated[Path, typer.Option(help="Folder for train, dev and test; $DATA/NAME, most likely.")],
    source: Annotated[str | None, typer.Option(help="A folder that holds the dataset, or another id of it.")] = None,
    task: Annotated[Task | None, typer.Option(help="What it is for, where NAME is not one of those.")] = None,
    text: Annotated[str | None, typer.Option(help="The column of texts, or of tokens.")] = None,
    label: Annotated[str | None, typer.Option(help="The column of labels, or of tags.")] = None,
    dev: Annotated[str | None, typer.Option(help="The split that becomes dev.")] = None,
) -> None:
    """Fetch a public dataset through the library `datasets`, and write it as labelled files.

    Texts become JSON lines with `text` and `label`, tagged sentences columns of TOKEN and TAG. `imdb` and
    `yelp-polarity` have no split for dev: their test split becomes it, and no test file is written. This needs a
    network, but for --source FOLDER. A dataset's licence is its own: read it before you share a model.
    """
    known = KNOWN.get(name)
    if known is None and (task is None or text is None or label is None):
        raise typer.BadParameter(f"{name!r} is none of {_NAMES}: give --task, --text and --label", param_hint="NAME")
    wanted = known or Wanted(name, task.value if task else "sentiment")
    wanted = wanted.but(source=source, task=task.value if task else None, text=text, label=label, dev=dev)
    for file, rows in write(wanted, out):
        console.print(f"{file}: {rows:,} rows")
