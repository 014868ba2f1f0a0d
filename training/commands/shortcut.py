"""``training shortcut``: whether explanations find a shortcut that was planted in the training data."""

from __future__ import annotations

import json as json_lines
import tempfile
from dataclasses import asdict
from pathlib import Path

import click
from pydantic import Field
from rich.table import Table

from training.commands.console import json_option, note, option, tell
from training.commands.faithfulness import names_of
from training.commands.options import takes
from training.data.checks import Part
from training.data.corpora import CorpusError, labels
from training.material import Data
from training.options import FitOptions, NetworkOptions, Pooling, Seed, TextColumns
from training.run import run
from training.studies.attributions import METHODS, Subject, chosen
from training.studies.shortcut import ShortcutResult, plant, search
from training.terminal import show


class ShortcutOptions(TextColumns, NetworkOptions):
    """The options of `training shortcut`."""

    train: Path = Field(description="Texts with labels to learn from.")
    dev: Path = Field(description="Texts with labels to explain the answers of.")
    hidden: int = Field(64, ge=1, le=8192, description="Units of each direction.")
    pooling: Pooling = Field("attention", description="How a text's states become one.")
    epochs: int | None = Field(None, ge=1, description="Passes over the texts. Default: as many as suit them.")
    share: float = Field(0.5, ge=0.01, le=1, description="Share of the training texts that get a word.")
    most: int = Field(200, ge=1, description="Most dev texts.")
    seed: Seed = Field(1, description="Seed of places, labels and weights.")


@click.command()
@option("--methods", help=f"Methods, from {', '.join(METHODS)}. Default: all.")
@json_option
@takes(ShortcutOptions)
def shortcut(options: ShortcutOptions, methods: str | None, json: bool) -> None:
    """Plant a word for each label in training texts, train on them, and see which explanations rank it first.

    The right answer is known: a model that follows the planted word decides by it. The model is not kept.
    """
    wanted = names_of(methods)
    found = Data.read("sentiment", options.layout, note, (options.train,), (options.dev,))
    (train,), (dev,) = found.train, found.dev
    names = labels(train.examples, "sentiment", options.train)
    planted = plant(dev.examples, names, 1.0, options.seed + 1)
    data = Data(
        (Part(options.train, plant(train.examples, names, options.share, options.seed)),),
        (Part(options.dev, planted),),
    )
    with tempfile.TemporaryDirectory(prefix="shortcut-") as scratch:
        chosen_network = {name: getattr(options, name) for name in NetworkOptions.model_fields}
        training = FitOptions(
            **chosen_network,
            task="sentiment",
            train=(options.train,),
            dev=(options.dev,),
            out=Path(scratch) / "planted",
            pooling=options.pooling,
            epochs=options.epochs,
            word_dropout=0.0,  # the planted words must not become the unknown one
            seed=options.seed,
            device="cpu",
            checkpoint_every=0,
            command="training shortcut",
        )
        made, _ = run(training, tell, lambda _: None, data)
        assert made is not None
        subject = Subject(made)
        used, left_out = chosen(made.manifest, wanted)
        for name, why in left_out.items():
            tell(f"{name} is left out: {why}")
        outcome = search(subject, subject.corpus("planted dev", planted), used, options.most)
    if not outcome.inputs:
        raise CorpusError(
            str(options.dev), "the model does not follow the planted word in any input: more --epochs may help"
        )
    _print(outcome, json, f"{options.cell}, {' and '.join(options.directions)}")


def _print(outcome: ShortcutResult, json: bool, title: str) -> None:
    if json:
        for each in outcome.found:
            line = {"followed": outcome.followed, "inputs": outcome.inputs, **asdict(each)}
            print(json_lines.dumps(line))
        return
    caption = f"{outcome.inputs} answers; the planted word decides {outcome.followed:.1%} of all"
    table = Table("method", "ranks the planted word first", "its mean rank", title=title, caption=caption)
    for each in outcome.found:
        first = f"{each.first.mean:.3f} [{each.first.low:.3f}, {each.first.high:.3f}]"
        table.add_row(each.method, first, f"{each.rank:.2f}")
    show(table)
