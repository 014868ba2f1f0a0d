"""``training distil``: texts labelled by larger models, or by several, for students to learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from training.commands.console import PATH, check_apart, console, hold, note, opened, option, seed_option, tell
from training.data import corpora
from training.data.corpora import CorpusError, Example
from training.distil import mixture as mixtures
from training.distil import tagging, transfer
from training.distil import teacher as teachers
from training.distil.output import Output, short_digest
from training.loop.checkpoints import Checkpoints

_DEFAULT = teachers.Tuning()
_RULE = tagging.Rule()
_seed = seed_option(default=_DEFAULT.seed, help="The same seed draws the same rows.")
_threads = option("--threads", type=click.IntRange(1), default=1, help="Threads that torch uses.")


def _out(ending: str, about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --out, a file by whose ending `fit` tells the format."""

    def checked(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
        if not value.name.endswith(ending):
            raise click.BadParameter(f"{value} does not end in {ending}, by which `fit` tells the format")
        return value

    return option("--out", type=PATH, required=True, help=about, callback=checked)


def _table(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    try:
        corpora.check_name(value, "sentiment")
    except CorpusError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _apart(out: Path, mixture: Path) -> mixtures.Mixture:
    """A mixture, with --out held for the command. Raises `click.UsageError` if --out is one of its files."""
    loaded = mixtures.load(mixture)
    check_apart({"--out": out}, {"--mixture": [mixture, *(each.file for each in loaded.source), *loaded.held_out]})
    hold(out)
    return loaded


@click.group()
def distil() -> None:
    """Label many texts by larger models, for smaller ones to learn from: a fine-tuned teacher (teacher, label), or
    several taggers together (tag)."""


@distil.command()
@option("--base", type=PATH, required=True, help="A local transformers folder with the encoder to start from.")
@option("--mixture", type=PATH, required=True, help="A TOML file that names the data, as recipes/teacher.toml does.")
@option("--out", type=PATH, required=True, help="The folder that the teacher is written to.")
@option(
    "--learning-rate",
    type=click.FloatRange(1e-9),
    default=_DEFAULT.learning_rate,
    help="The highest learning rate.",
)
@option("--batch-rows", type=click.IntRange(1), default=_DEFAULT.batch_rows, help="Rows of a batch, at most.")
@option("--steps", type=click.IntRange(1), help="Batches, at most. Default: the whole mixture once.")
@_seed
@_threads
@option("--checkpoint-every", type=click.IntRange(1), default=200, help="Steps from one checkpoint to the next.")
@option("--resume", is_flag=True, help="Continue from the last checkpoint in --out.")
def teacher(
    base: Path,
    mixture: Path,
    out: Path,
    learning_rate: float,
    batch_rows: int,
    steps: int | None,
    seed: int,
    threads: int,
    checkpoint_every: int,
    resume: bool,
) -> None:
    """Fine-tune a sentence encoder on a mixture of domains. Needs the extra distil."""
    torch.set_num_threads(threads)
    if out.is_dir() and out.samefile(base):
        raise click.UsageError(f"--out: {out} is the folder of --base, whose encoder would be written over")
    hold(out, folder=True)
    tuning = teachers.Tuning(learning_rate=learning_rate, batch_rows=batch_rows, steps=steps, seed=seed)
    drawn, aside = mixtures.draw(mixtures.load(mixture), seed, note)
    rows = [row for row in drawn if row.label is not None]
    tell(f"{len(rows):,} rows; {aside:,} rows of the files are held out, and left out")
    if without := len(drawn) - len(rows):
        note(f"note: {without:,} of {len(drawn):,} rows are set aside: they have no label")
    torch.manual_seed(seed)
    made, reader = teachers.fresh(base, tuning.dropout), teachers.Reader(base)
    checkpoints = Checkpoints(out, teachers.described(tuning, mixture, base), checkpoint_every)

    def report(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            tell(f"step {step:,} of {steps:,}: loss {loss:.4f}")

    teachers.tune(made, reader, rows, tuning, checkpoints, resume, report)
    teachers.save(made, reader, out)
    checkpoints.remove()
    console.print(f"{out}: a teacher")


@distil.command()
@option("--teacher", type=PATH, required=True, help="The folder that `distil teacher` wrote.")
@option("--mixture", type=PATH, required=True, help="A TOML file that names the texts, as recipes/transfer.toml does.")
@_out(".jsonl.gz", "The transfer set, a file that ends in .jsonl.gz.")
@option("--most", type=click.IntRange(1), default=1_000_000, help="Texts to answer, at most.")
@_seed
@_threads
def label(teacher: Path, mixture: Path, out: Path, most: int, seed: int, threads: int) -> None:
    """Write a teacher's logits for many texts, for `fit --soft`. A run that was killed continues where it stopped."""
    torch.set_num_threads(threads)
    loaded = _apart(out, mixture)
    drawn, aside = mixtures.draw(loaded, seed, note)
    distinct = transfer.distinct(drawn)
    found = distinct[:most]
    tell(f"{len(found):,} texts; {aside:,} rows of the files are held out, and left out")
    if bare := sum(not mixtures.key(row.text) for row in drawn):
        note(f"note: {bare:,} of {len(drawn):,} rows are set aside: they hold {mixtures.NO_KEY}")
    if more := len(distinct) - len(found):
        note(f"note: {more:,} more texts are left out by --most {most:,}")
    made, reader = teachers.load(teacher)
    settings = {
        "teacher": f"{teacher.name} ({short_digest(teacher / teachers.HEAD)})",
        "mixture": f"{mixture.name} ({short_digest(mixture)})",
        "seed": seed,
    }
    transfer.write(
        partial(teachers.answer, made, reader),
        found,
        Output(out, settings),
        lambda done, total: tell(f"{done:,} of {total:,} texts"),
    )
    console.print(f"{out}: a transfer set")


@distil.command()
@option("--model", type=PATH, multiple=True, required=True, help="A tagger with a CRF. Give it again for more.")
@option("--mixture", type=PATH, required=True, help="A TOML file that names the texts, as recipes/names.toml does.")
@_out(".jsonl.gz", "The file for `fit --train`, which ends in .jsonl.gz.")
@option(
    "--confidence",
    type=click.FloatRange(0, 1),
    default=_RULE.confidence,
    help="The probability of every token's label in a sentence that is kept, at least.",
)
@option(
    "--without",
    type=click.FloatRange(0, 1),
    default=_RULE.without,
    help="The share of sentences without a name that is kept.",
)
@option(
    "--lower",
    type=click.FloatRange(0, 1),
    default=_RULE.lower,
    help="The share of sentences of which a copy in lower case is added.",
)
@_seed
@_threads
def tag(
    model: tuple[Path, ...],
    mixture: Path,
    out: Path,
    confidence: float,
    without: float,
    lower: float,
    seed: int,
    threads: int,
) -> None:
    """Let taggers label texts together, for another one to learn from (self-training). A run that was killed continues
    where it stopped."""
    torch.set_num_threads(threads)
    loaded, rule = _apart(out, mixture), tagging.Rule(confidence, without, lower, seed)
    committee = tagging.Committee([opened(each) for each in model])
    names = [each.name for each in committee.members]
    settings = {
        "models": [f"{each.name} ({each.digest})" for each in committee.members],
        "mixture": f"{mixture.name} ({short_digest(mixture)})",
        **asdict(rule),
    }
    drawn, aside = mixtures.draw(loaded, seed, note)
    held_out = mixtures.held_out_keys(loaded.held_out)
    inputs, more = tagging.cut((row.text for row in drawn), committee.tokenizer, held_out, note)
    tell(f"{len(inputs):,} sentences; {aside + more:,} texts and sentences are held out, and left out")
    kept = tagging.write(
        committee.label,
        inputs,
        Output(out, settings),
        rule,
        lambda done, total: tell(f"{done:,} of {total:,} sentences"),
    )
    console.print(f"{out}: {kept:,} of {len(inputs):,} sentences, labelled by {', '.join(names)}")


@distil.command()
@option("--mixture", type=PATH, required=True, help="A TOML file that names the data, as recipes/student.toml does.")
@option(
    "--out",
    type=PATH,
    required=True,
    callback=_table,
    help="The table to write, in the format of its ending: .tsv, .csv or .jsonl; .gz may follow.",
)
@option("--neutral", is_flag=True, help="Keep rows labelled neutral. Without it they are left out.")
@_seed
def draw(mixture: Path, out: Path, neutral: bool, seed: int) -> None:
    """Write the labelled rows of a mixture as one table for `fit --train`."""
    drawn, aside = mixtures.draw(_apart(out, mixture), seed, note)
    named = [Example(row.text.strip(), mixtures.LABELS[row.label]) for row in drawn if row.label is not None]
    rows = [each for each in named if neutral or each.label != "neutral"]
    if without := len(drawn) - len(named):
        note(f"note: {without:,} of {len(drawn):,} rows are set aside: they have no label")
    if dropped := len(named) - len(rows):
        note(f"note: {dropped:,} of {len(drawn):,} rows are set aside: they are neutral (--neutral keeps them)")
    corpora.write(rows, out, "sentiment")
    console.print(f"{out}: {len(rows):,} rows; {aside:,} rows of the files are held out, and left out")
