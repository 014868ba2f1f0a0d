"""``training fit``: files in, bundle out."""

from __future__ import annotations

import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from service.model.equations import Direction
from service.model.rules import Style
from training.commands import recipe as recipes
from training.commands.console import (
    Bits,
    Cell,
    CharacterReader,
    Device,
    Display,
    Pooling,
    Reset,
    Task,
    bar,
    character_network_of,
    command_line,
    console,
    device_of,
    gru_reset_of,
    tell,
    word_bits_of,
)
from training.commands.layout import LabelColumn, TagColumn, TextColumn, TokenColumn, layout_of
from training.job import Job
from training.loop.fit import Precision, Recipe
from training.loop.logs import check_tensorboard
from training.loop.processes import started
from training.loop.schedules import OptimiserName, ScheduleName
from training.loop.truncated import DocumentLoss
from training.nets.initial import Initial, InputStart, RecurrentStart
from training.nets.networks import Design
from training.run import run

_DEFAULT, _INITIAL = Recipe(), Initial()


def fit(
    task: Annotated[Task, typer.Option(help="What to learn: a label for each text, or the entities in it.")],
    train: Annotated[list[Path], typer.Option(help="Labelled data to learn from. Give it again for further files.")],
    dev: Annotated[list[Path], typer.Option(help="Labelled data that picks the best epoch; several count the same.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder, models/NAME; the next version is written below it.")],
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    token_column: TokenColumn = None,
    tag_column: TagColumn = None,
    cell: Annotated[Cell, typer.Option(help="The recurrent cell.")] = Cell.lstm,
    gru_reset: Annotated[
        Reset | None,
        typer.Option(help="A GRU's reset gate: after the recurrent product (torch, cuDNN) or before it (Cho 2014)."),
    ] = None,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read in both directions.")] = False,
    layers: Annotated[int, typer.Option(min=1, max=16, help="Recurrent layers.")] = 1,
    hidden: Annotated[int, typer.Option(min=1, max=8192, help="Units of each direction.")] = 128,
    pooling: Annotated[Pooling, typer.Option(help="How a text's states become one (sentiment).")] = Pooling.max,
    test: Annotated[list[Path] | None, typer.Option(help="Data scored once at the end, for the card.")] = None,
    vectors: Annotated[Path | None, typer.Option(help="Word vectors to start from: GloVe text, .gz or .npz.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="An encoder from `training pretrain` to start from (sentiment).")
    ] = None,
    tokenizer: Annotated[
        Style | None,
        typer.Option(help="How raw text is cut. By default as returns most of the first training file's own tokens."),
    ] = None,
    words: Annotated[int, typer.Option(min=2, help="Rows of the word table, at most.")] = 20_000,
    word_bits: Annotated[
        Bits, typer.Option(help="Bits a number of the word table in the bundle; 4: 8 for words that were learned.")
    ] = Bits.sixteen,
    characters: Annotated[CharacterReader, typer.Option(help="What reads a token's characters (ner).")] = (
        CharacterReader.none
    ),
    crf: Annotated[bool, typer.Option("--crf", help="Score whole label sequences, not tokens alone (ner).")] = False,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training data, at most. Default: 10 to 60, more for fewer examples."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after this many epochs without a better dev score, once a score is better than guessing. "
            "Default: a third of the epochs, at least 3.",
        ),
    ] = None,
    optimiser: Annotated[OptimiserName, typer.Option(help="How gradients become steps.")] = _DEFAULT.optimiser,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-9, help="The full learning rate. Default: 0.001 to 0.005, more for fewer examples."),
    ] = None,
    schedule: Annotated[ScheduleName, typer.Option(help="What becomes of the rate over all epochs.")] = (
        _DEFAULT.schedule
    ),
    warm_up: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the training in which it rises.")] = (
        _DEFAULT.warm_up
    ),
    word_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of the rate for word vectors; 0: fixed.")] = (
        _DEFAULT.word_rate
    ),
    weight_decay: Annotated[float, typer.Option(min=0, help="How fast weights shrink by themselves.")] = (
        _DEFAULT.weight_decay
    ),
    init_input: Annotated[InputStart, typer.Option(help="Where input weights begin.")] = _INITIAL.input,
    init_recurrent: Annotated[RecurrentStart, typer.Option(help="Where recurrent weights begin.")] = _INITIAL.recurrent,
    forget_bias: Annotated[float, typer.Option(help="Where the forget gate's bias begins.")] = _INITIAL.forget_bias,
    clip_value: Annotated[float, typer.Option(min=0, help="Largest number in the gradient, cut first; 0 for any.")] = (
        _DEFAULT.clip_value
    ),
    accumulate: Annotated[int, typer.Option(min=1, help="Batches whose gradients make one step.")] = (
        _DEFAULT.accumulate
    ),
    precision: Annotated[
        Precision, typer.Option(help="mixed: bfloat16 where it is safe. For CUDA, and CPUs with avx512_bf16 or AMX.")
    ] = (_DEFAULT.precision),
    clip: Annotated[float, typer.Option(min=1e-9, help="Largest norm of the gradient.")] = _DEFAULT.clip,
    batch_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of a batch, at most. Default: 8 to 32, more for more examples.")
    ] = None,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Padded tokens of a batch, at most.")] = (
        _DEFAULT.batch_tokens
    ),
    bptt: Annotated[
        int,
        typer.Option(
            min=0,
            help="Truncated BPTT: learn in windows of this many tokens; the state is carried over, the graph is cut. "
            "One direction, no CRF. 0: whole texts.",
        ),
    ] = _DEFAULT.bptt,
    bptt_loss: Annotated[
        DocumentLoss,
        typer.Option(
            help="With --bptt, the loss of a text (sentiment): one for each window, on what was read so far; or one at "
            "the end, whose gradient reaches the last window alone."
        ),
    ] = _DEFAULT.bptt_loss,
    window: Annotated[int, typer.Option(min=0, help="Learn from random runs of this many tokens (sentiment).")] = (
        _DEFAULT.window
    ),
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.95,
            help="Share of units dropped, between layers too. Default: 0.5 below 5,000 examples, else 0.3.",
        ),
    ] = None,
    embedding_dropout: Annotated[
        float | None, typer.Option(min=0, max=0.95, help="Share of the embeddings' columns; as --dropout by default.")
    ] = None,
    locked: Annotated[bool, typer.Option(help="One mask for a whole text (variational dropout).")] = True,
    weight_drop: Annotated[float, typer.Option(min=0, max=0.95, help="Share of recurrent weights dropped.")] = 0.0,
    word_dropout: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.95, help="Share of words made unknown. Default: 0.2 below 5,000 examples, else 0.02."
        ),
    ] = None,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.95, help="Share of the target spread out.")] = (
        _DEFAULT.label_smoothing
    ),
    average: Annotated[float, typer.Option(min=0, max=0.9999, help="Share kept by a running mean of weights.")] = (
        _DEFAULT.average
    ),
    seed: Annotated[int, typer.Option(help="The same seed gives the same model on one machine.")] = _DEFAULT.seed,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="CPU threads. Default: OMP_NUM_THREADS if set; else 1 up to 256 units, and up to 4 above.",
        ),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Steps between checkpoints below --out; 0: none.")] = 500,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint below --out, if any.")] = False,
    log: Annotated[Path | None, typer.Option(help="Write every step to this file, as lines of JSON.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Write every step to this folder (extra).")] = None,
    licence: Annotated[str, typer.Option(help="The licence for the card.")] = "not stated",
    recipe_file: Annotated[
        Path | None,
        typer.Option("--recipe", callback=recipes.read, is_eager=True, help="A TOML file of these options; flags win."),
    ] = None,
) -> None:
    """Train a network, export it, score it, and write it as a bundle that the service can load.

    Ctrl-C ends the training early and keeps the best model so far. A training that was killed goes on with --resume,
    and ends with the very model that it would have ended with.

    `torchrun --nproc-per-node 2 -m training -- fit …` trains in two processes, each on its share of the batches of a
    step; an interrupt ends them without a model, and --resume goes on.
    """
    options = locals()
    if start and (vectors or task != Task.sentiment):
        raise typer.BadParameter(
            "an encoder is for sentiment and brings its own words: no --vectors with it", param_hint="--start"
        )
    if task == Task.sentiment and (crf or characters != CharacterReader.none):
        raise typer.BadParameter("characters and a CRF are for --task ner", param_hint="--characters, --crf")
    if tensorboard:
        check_tensorboard()
    # What is left out depends on how many examples there are.
    recipe = Recipe(**{each.name: options[each.name] for each in fields(Recipe) if options[each.name] is not None})
    ways: tuple[Direction, ...] = ("forward", "backward") if bidirectional else ("forward",)
    design = Design(
        task.value,
        cell.value,
        ways,
        layers,
        hidden,
        "tagger" if task == Task.ner else pooling.value,
        reset=gru_reset_of(cell, gru_reset),
        characters=character_network_of(characters),
        crf=crf,
        word_bits=word_bits_of(word_bits),
    )
    job = Job(
        design=design,
        train=tuple(train),
        dev=tuple(dev),
        test=tuple(test or ()),
        vectors=vectors,
        start=start,
        style=tokenizer,
        words=words,
        dropout=dropout,
        word_dropout=word_dropout,
        embedding_dropout=embedding_dropout,
        weight_drop=weight_drop,
        locked=locked,
        initial=Initial(init_input, init_recurrent, forget_bias),
        checkpoint_every=checkpoint_every,
        resume=resume,
        log=log,
        tensorboard=tensorboard,
        layout=layout_of(text_column, label_column, token_column, tag_column),
        threads=threads or 0,
        recipe=recipe,
        device=device_of(device),
        out=out,
        licence=licence,
        command=command_line(sys.argv[1:], os.environ.get("DATA")),
    )
    if not started().first:
        run(job, lambda _: None, lambda _: None)
        return
    with bar() as shown:
        show = Display(shown)
        made, outcome = run(job, tell, show)
    assert made is not None
    best = "none" if outcome.best is None else f"{outcome.best:.4f}"
    console.print(f"{made.name} version {made.version}: best dev score {best} in {outcome.epochs} epochs")
    for figure in made.manifest.quality:
        console.print(f"  {figure.data}: {figure.metric} {figure.value:.4f}")
