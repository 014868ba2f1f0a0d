"""``training fit``: files in, bundle out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from training.commands import recipe
from training.commands.console import PATH, Display, bar, check_apart, command_line, console, option, tell
from training.commands.options import takes
from training.loop.logs import check_tensorboard
from training.loop.processes import started
from training.options import FitOptions
from training.run import run


@click.command()
@takes(FitOptions)
@option(
    "--recipe",
    "recipe_file",
    type=PATH,
    callback=recipe.read,
    is_eager=True,
    help="TOML file of these options. Flags override it.",
)
def fit(options: FitOptions, recipe_file: Path | None) -> None:
    """Train a network, export it, score it, and write it as a bundle that the service can load.

    Ctrl-C ends the training early and keeps the best model so far. --resume continues a training that was killed, and
    gives the same model as an undisturbed training.

    `torchrun --nproc-per-node 2 -m training -- fit …` trains in two processes. Each takes its share of the batches of a
    step. An interrupt ends them without a model; --resume continues.
    """
    check_apart({"--log": options.log}, {"--recipe": recipe_file})
    if options.tensorboard:
        check_tensorboard()
    options = options.but(command=command_line(sys.argv[1:], os.environ.get("DATA")))
    if not started().first:
        run(options, lambda _: None, lambda _: None)
        return
    with bar() as shown:
        made, outcome = run(options, tell, Display(shown))
    assert made is not None
    best = "none" if outcome.best is None else f"{outcome.best:.4f}"
    console.print(f"{made.name} version {made.version}: best dev score {best} in {outcome.epochs} epochs")
    for figure in made.manifest.quality:
        console.print(f"  {figure.data}: {figure.metric} {figure.value:.4f}")
