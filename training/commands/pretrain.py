"""``training pretrain``: texts in, an encoder out that ``training fit --start`` begins with."""

from __future__ import annotations

import click

from training.commands.console import Display, bar, console, tell
from training.commands.options import takes
from training.loop.pretrain import Pretraining, run
from training.options import PretrainOptions


@click.command()
@takes(PretrainOptions)
def pretrain(options: PretrainOptions) -> None:
    """Train a sentiment encoder as a language model. The texts need no labels."""
    job = Pretraining(
        design=options.design,
        texts=options.texts,
        dev=options.dev,
        vectors=options.vectors,
        words=options.words,
        recipe=options.recipe,
        layout=options.layout,
    )
    with bar() as shown:
        reached = run(job, options.out, tell, Display(shown))
    console.print(f"{options.out}: an encoder" + ("" if reached is None else f", perplexity on dev {reached:.1f}"))
