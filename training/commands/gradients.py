"""``training gradients``: how far the learning signal reaches, for fresh cells and for trained models."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import click
import torch
from rich.table import Table

from service.model import bundle
from service.model.tokenizer import Tokenizer
from training.commands.console import PATH, check_apart, hold, listed, opened, option, seed_option
from training.data.outputs import naming
from training.export import restore
from training.nets.cells import NAMED, make, word_of
from training.nets.networks import EMBEDDING_SIZES, Network
from training.studies import plots
from training.studies.gradients import FADED, Reach, reach
from training.terminal import show

_SHOWN = (1, 10, 50, 100, 200, 500, 1000)


@click.command()
@click.argument("models", type=PATH, nargs=-1, help="Bundles, models/NAME: shown before and after training.")
@option("--cells", help=f"Fresh cells: {', '.join(NAMED)}.")
@option("--length", type=click.IntRange(2, 10_000), default=100, help="Steps back from the loss.")
@option("--text", multiple=True, help="Text to read in place of random words, as a whole.")
@option("--hidden", type=click.IntRange(1, 8192), default=128, help="Units of fresh cells.")
@option("--rows", type=click.IntRange(1), default=8, help="Number of random texts; the median is shown.")
@seed_option(default=1, help="Seed of weights, words and directions.")
@option("--json", type=PATH, help="Write every norm to this file.")
@option("--plot", type=PATH, help="Draw the signals: .svg, .png or .pdf. Needs the extra: pip install '.[plots]'.")
def gradients(
    models: tuple[Path, ...],
    cells: str | None,
    length: int,
    text: tuple[str, ...],
    hidden: int,
    rows: int,
    seed: int,
    json: Path | None,
    plot: Path | None,
) -> None:
    """Show how far the learning signal reaches: the share of a gradient that is left some steps before the loss.

    For a model, the forward cell of the lowest layer is measured over known words, with trained and with fresh weights.
    """
    plots.check(plot)
    check_apart({"--json": json, "--plot": plot}, {"MODELS": models})
    hold(json, plot)
    if not models and not cells:
        raise click.BadParameter("name models to look at, or fresh cells with --cells", param_hint="MODELS")
    if text and not models:
        raise click.BadParameter("a text is read by a model: name one", param_hint="--text")
    found: list[Reach] = []
    for name in listed(cells, NAMED, "cell", "--cells") if cells else ():
        torch.manual_seed(seed)
        size = EMBEDDING_SIZES["word"]
        inputs = torch.randn(rows, length, size) / size**0.5  # embeddings begin with rows of about this norm
        found.append(reach(name, make(name, size, hidden), inputs, seed))
    for model in models:
        found += _of_model(opened(model), length, rows, text, seed)
    if json:
        plain = [
            {**asdict(each), "decay": each.decay, "gone_at": each.gone_at, "verdict": each.verdict} for each in found
        ]
        with naming(json):
            json.write_text(json_.dumps(plain, indent=1) + "\n", "utf-8")
    if plot:
        draw(found, plot)
    show(_table(found))


def _of_model(model: bundle.Bundle, length: int, rows: int, texts: Sequence[str], seed: int) -> Iterator[Reach]:
    """Before training and after it, over the same inputs."""
    network = restore.network(model)
    torch.manual_seed(seed)
    fresh = Network(network.architecture)
    sizes = torch.tensor([feature.size for feature in network.architecture.features])
    batches = [(torch.rand(rows, length, len(sizes)) * sizes).int()]
    if texts:
        tokenizer = Tokenizer.load(model.file(bundle.TOKENIZER), model.manifest.features)
        batches = [torch.tensor(tokenizer.encode(each, model.manifest.token_limit).rows)[None] for each in texts]
    kind = word_of(model.manifest.cell, model.manifest.form)
    for number, batch in enumerate(batches, 1):
        if batch.shape[1] < 2:
            raise click.BadParameter("a text of one token has no step to go back", param_hint="--text")
        which = f", text {number}" if len(batches) > 1 else ""
        for made, when in ((fresh, "before"), (network, "after")):
            with torch.no_grad():
                inputs = network.widen(network.embed(batch), torch.tensor([batch.shape[1]] * len(batch)))
            cell = deepcopy(made.recurrent()[0].directions()[0])
            yield reach(f"{kind} {when} training ({model.name}{which})", cell, inputs, seed)


def draw(found: Sequence[Reach], path: Path) -> None:
    """Draw all signals in one plot, on a logarithmic scale."""
    with plots.panels(path, 1, width=6.4) as (axes,):
        for each in found:
            distances = [float(distance) for distance, norm in enumerate(each.signal) if norm > 0]
            norms = [norm / each.signal[0] for norm in each.signal if norm > 0]
            plots.line(axes, distances, norms, each.name, faint=" before training" in each.name)
        axes.axhline(FADED, color="0.4", linewidth=1, linestyle=(0, (1, 2)))
        axes.set(xlabel="steps back from the loss", ylabel="share of the gradient that is left", yscale="log")
        axes.set_ylim(bottom=max(1e-12, axes.get_ylim()[0]))
        axes.legend(fontsize=8)


def _table(found: Sequence[Reach]) -> Table:
    longest = max(len(each.signal) for each in found) - 1
    shown = [distance for distance in _SHOWN if distance <= longest]
    table = Table("cell", *(f"{distance} back" for distance in shown), "the signal")
    for each in found:
        left = [each.signal[at] / each.signal[0] if at < len(each.signal) else None for at in shown]
        table.add_row(each.name, *("" if share is None else f"{share:.1e}" for share in left), each.verdict)
    return table
