"""``training distil``: a teacher is fine-tuned, and its logits are written down for students to learn from."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import click
import torch

from training.commands.console import PATH, console, option
from training.distil import mixture as mixtures
from training.distil import teacher as teachers
from training.distil import transfer
from training.loop.checkpoints import Checkpoints

_DEFAULT = teachers.Tuning()
_seed = option("--seed", type=int, default=_DEFAULT.seed, help="The same seed draws the same rows.")
_threads = option("--threads", type=click.IntRange(1), default=1, help="Threads that torch uses.")


@click.group()
def distil() -> None:
    """Fine-tune a large teacher, and write its answers to many texts for `fit --soft`."""


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
    tuning = teachers.Tuning(learning_rate=learning_rate, batch_rows=batch_rows, steps=steps, seed=seed)
    drawn, aside = mixtures.draw(mixtures.load(mixture), seed)
    rows = [row for row in drawn if row.label is not None]
    out.mkdir(parents=True, exist_ok=True)
    console.log(f"{len(rows):,} rows; {aside:,} rows of the files are held out, and left out")
    torch.manual_seed(seed)
    made, reader = teachers.fresh(base, tuning.dropout), teachers.Reader(base)
    checkpoints = Checkpoints(out, teachers.described(tuning, mixture, base), checkpoint_every)

    def report(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            console.log(f"step {step:,} of {steps:,}: loss {loss:.4f}")

    teachers.tune(made, reader, rows, tuning, checkpoints, resume, report)
    teachers.save(made, reader, out)
    checkpoints.remove()
    console.print(f"{out}: a teacher")


@distil.command()
@option("--teacher", type=PATH, required=True, help="The folder that `distil teacher` wrote.")
@option("--mixture", type=PATH, required=True, help="A TOML file that names the texts, as recipes/transfer.toml does.")
@option("--out", type=PATH, required=True, help="The transfer set, a file that ends in .jsonl.gz.")
@option("--most", type=click.IntRange(1), default=1_000_000, help="Texts to answer, at most.")
@_seed
@_threads
def label(teacher: Path, mixture: Path, out: Path, most: int, seed: int, threads: int) -> None:
    """Write a teacher's logits for many texts. A run that was killed continues where it stopped."""
    torch.set_num_threads(threads)
    drawn, aside = mixtures.draw(mixtures.load(mixture), seed)
    found = transfer.distinct(drawn)[:most]
    console.log(f"{len(found):,} texts; {aside:,} rows of the files are held out, and left out")
    made, reader = teachers.load(teacher)
    transfer.write(
        partial(teachers.answer, made, reader),
        found,
        out,
        lambda done, total: console.log(f"{done:,} of {total:,} texts"),
    )
    console.print(f"{out}: a transfer set")


@distil.command()
@option("--mixture", type=PATH, required=True, help="A TOML file that names the data, as recipes/student.toml does.")
@option("--out", type=PATH, required=True, help="The table to write, a file that ends in .tsv.gz.")
@option("--neutral", is_flag=True, help="Keep rows labelled neutral. Without it they are left out.")
@_seed
def draw(mixture: Path, out: Path, neutral: bool, seed: int) -> None:
    """Write the labelled rows of a mixture as one table for `fit --train`."""
    drawn, aside = mixtures.draw(mixtures.load(mixture), seed)
    named = [(" ".join(row.text.split()), mixtures.LABELS[row.label]) for row in drawn if row.label is not None]
    rows = [(text, name) for text, name in named if neutral or name != "neutral"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(out, "wt", encoding="utf-8", newline="\n") as file:
        file.write("text\tlabel\n")
        file.writelines(f"{text}\t{name}\n" for text, name in rows)
    console.print(f"{out}: {len(rows):,} rows; {aside:,} rows of the files are held out, and left out")
