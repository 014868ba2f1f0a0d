"""``training data``: public datasets as files that ``training fit`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from service.model.bundle import Task
from training.commands.console import PATH, console, option
from training.data.datasets import KNOWN, Wanted, write

_NAMES = ", ".join(sorted(KNOWN))


@click.command()
@click.argument("name", help=f"One of {_NAMES}; or any other dataset, with --task and its columns.")
@option("--out", type=PATH, required=True, help="Folder for train, dev and test; $DATA/NAME, most likely.")
@option("--source", help="A folder that holds the dataset, or another id of it.")
@option("--task", type=click.Choice(get_args(Task)), help="What it is for, where NAME is not one of those.")
@option("--text", help="The column of texts, or of tokens.")
@option("--label", help="The column of labels, or of tags.")
@option("--dev", help="The split that becomes dev.")
def data(
    name: str, out: Path, source: str | None, task: Task | None, text: str | None, label: str | None, dev: str | None
) -> None:
    """Fetch a public dataset through the library `datasets`, and write it as labelled files.

    Texts become JSON lines with `text` and `label`, tagged sentences columns of TOKEN and TAG. `imdb` and
    `yelp-polarity` have no split for dev: their test split becomes it, and no test file is written. This needs a
    network, but for --source FOLDER. A dataset's licence is its own: read it before you share a model.
    """
    known = KNOWN.get(name)
    if known is None and (task is None or text is None or label is None):
        raise click.BadParameter(f"{name!r} is none of {_NAMES}: give --task, --text and --label", param_hint="NAME")
    wanted = known or Wanted(name, task or "sentiment")
    wanted = wanted.but(source=source, task=task, text=text, label=label, dev=dev)
    for file, rows in write(wanted, out):
        console.print(f"{file}: {rows:,} rows")
