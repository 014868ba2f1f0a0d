"""``training data``: public datasets as files that ``training fit`` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click

from service.model.bundle import Task
from training.commands.console import PATH, check_apart, console, note, option
from training.data import corpora, payload_log
from training.data.datasets import KNOWN, SPLITS, Wanted, file_of, write

FROM_LOG = "from-log"
"""In a name's place: the service's payload log and its feedback."""

_NAMES = ", ".join(sorted(KNOWN))


@click.command()
@click.argument("name", help=f"One of {_NAMES}; any other dataset, with --task and its columns; or {FROM_LOG}.")
@click.argument("log", type=PATH, required=False, help=f"With {FROM_LOG}: the service's payload log.")
@option(
    "--out",
    type=PATH,
    required=True,
    help=f"Folder for train, dev and test, such as $DATA/NAME. With {FROM_LOG}: the file, such as train.tsv.",
)
@option("--source", help="Folder that holds the dataset, or another id of the dataset.")
@option(
    "--task",
    type=click.Choice(get_args(Task)),
    help=f"Task of a dataset that is not in the list. With {FROM_LOG}: only answers of this task.",
)
@option("--model", help=f"With {FROM_LOG}: only answers of this model.")
@option("--text", help="Column of texts, or of tokens.")
@option("--label", help="Column of labels, or of tags.")
@option("--dev", help="Split that becomes dev.")
def data(
    name: str,
    log: Path | None,
    out: Path,
    source: str | None,
    task: Task | None,
    model: str | None,
    text: str | None,
    label: str | None,
    dev: str | None,
) -> None:
    """Fetch a public dataset through the library `datasets`, and write it as labelled files.

    Texts become JSON lines with `text` and `label`, tagged sentences columns of TOKEN and TAG. `imdb` and
    `yelp-polarity` have no split for dev: their test split becomes it, and no test file is written. This needs a
    network, but for --source FOLDER. A dataset's licence is its own: read it before you share a model.

    `data from-log LOG --out train.tsv` makes a training file of the service's payload log: the inputs that have
    feedback, with the labels of that feedback. Feedback that repeats or contradicts itself, and texts with several
    labels, are named. The ending of --out says the format: tables of texts are .tsv, .csv and .jsonl, a tagger's files
    .conll, .tsv, .csv and .jsonl; .gz may follow.
    """
    if name == FROM_LOG:
        _refuse({"--source": source, "--text": text, "--label": label, "--dev": dev}, "a dataset")
        _from_log(log, out, task, model)
        return
    if log is not None:
        raise click.BadParameter(f"only {FROM_LOG} takes a log", param_hint="LOG")
    _refuse({"--model": model}, FROM_LOG)
    known = KNOWN.get(name)
    if known is None and (task is None or text is None or label is None):
        raise click.BadParameter(f"{name!r} is none of {_NAMES}: give --task, --text and --label", param_hint="NAME")
    wanted = known or Wanted(name, task or "sentiment")
    wanted = wanted.but(source=source, task=task, text=text, label=label, dev=dev)
    written = [file_of(out, split, wanted.task) for split in SPLITS]
    check_apart({"--out": written}, {"--source": Path(source).rglob("*") if source else None})
    for file, rows in write(wanted, out, note):
        console.print(f"{file}: {rows:,} rows")


def _refuse(given: Mapping[str, str | None], owner: str) -> None:
    """Raises `click.UsageError` for an option that would do nothing: it is that of an `owner`."""
    if option := next((name for name, value in given.items() if value is not None), None):
        raise click.UsageError(f"{option} is for {owner}")


def _from_log(log: Path | None, out: Path, task: Task | None, model: str | None) -> None:
    """The branch for a payload log."""
    if log is None:
        raise click.BadParameter(f"{FROM_LOG} needs the log that the service wrote", param_hint="LOG")
    check_apart({"--out": out}, {"LOG": payload_log.files_of(log)})
    corpora.check_name(out, task or corpora.tasks_of(out)[-1])
    found = payload_log.read(log, task=task, model=model)
    for line in found.notes:
        note(f"note: {line}")
    count = payload_log.write(found, out)
    console.print(f"{out}: {count:,} {'sentences' if found.task == 'ner' else 'texts'}")
