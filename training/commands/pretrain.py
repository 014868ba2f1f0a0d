"""``training pretrain``: texts in, an encoder out that ``training fit --start`` begins with."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from training.commands.console import Cell, Display, Reset, bar, console, gru_reset_of, tell
from training.commands.layout import LabelColumn, TextColumn, layout_of
from training.loop.pretrain import Pretraining, Reading, run
from training.nets.networks import Design

_DEFAULT = Reading()


def pretrain(
    texts: Annotated[list[Path], typer.Option(help="Texts to read: labelled tables, or .txt with one text a line.")],
    out: Annotated[Path, typer.Option(help="The encoder's file, such as encoder.safetensors.")],
    dev: Annotated[list[Path] | None, typer.Option(help="Texts held out, for the perplexity of each epoch.")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    cell: Annotated[Cell, typer.Option(help="The recurrent cell.")] = Cell.lstm,
    gru_reset: Annotated[
        Reset | None,
        typer.Option(help="A GRU's reset gate: after the recurrent product (torch, cuDNN) or before it (Cho 2014)."),
    ] = None,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read in both directions.")] = False,
    layers: Annotated[int, typer.Option(min=1, max=16, help="Recurrent layers; one with --bidirectional.")] = 1,
    hidden: Annotated[int, typer.Option(min=1, max=8192, help="Units of each direction.")] = 128,
    vectors: Annotated[Path | None, typer.Option(help="Word vectors to start from: GloVe text, .gz or .npz.")] = None,
    words: Annotated[int, typer.Option(min=2, help="Rows of the word table, at most.")] = 20_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the texts.")] = _DEFAULT.epochs,
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Adam's step size at the start.")] = (
        _DEFAULT.learning_rate
    ),
    clip: Annotated[float, typer.Option(min=1e-9, help="Largest norm of the gradient.")] = _DEFAULT.clip,
    window: Annotated[int, typer.Option(min=2, help="Tokens of the runs that texts are cut into.")] = (_DEFAULT.window),
    batch_rows: Annotated[int, typer.Option(min=1, help="Runs of a batch.")] = _DEFAULT.batch_rows,
    dropout: Annotated[float, typer.Option(min=0, max=0.95, help="Share of numbers dropped.")] = _DEFAULT.dropout,
    seed: Annotated[int, typer.Option(help="The same seed gives the same encoder on one machine.")] = _DEFAULT.seed,
) -> None:
    """Teach a sentiment encoder to read, as a language model, on texts whose labels it does not need."""
    options = locals()
    reading = Reading(**{field.name: options[field.name] for field in fields(Reading)})
    job = Pretraining(
        design=Design(
            "sentiment",
            cell.value,
            ("forward", "backward") if bidirectional else ("forward",),
            layers,
            hidden,
            "max",
            reset=gru_reset_of(cell, gru_reset),
        ),
        texts=tuple(texts),
        dev=tuple(dev or ()),
        vectors=vectors,
        words=words,
        reading=reading,
        layout=layout_of(text_column, label_column),
    )
    with bar() as shown:
        reached = run(job, out, tell, Display(shown))
    console.print(f"{out}: an encoder" + ("" if reached is None else f", perplexity on dev {reached:.1f}"))
