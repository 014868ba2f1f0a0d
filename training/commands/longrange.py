"""``training longrange``: the adding and the copy problem, for chosen cells and lengths."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
import torch
from rich.table import Table

from training.commands.console import PATH, check_apart, hold, listed, option, seed_option, tell
from training.data.outputs import naming
from training.nets.cells import NAMED
from training.options import Device, chosen_device
from training.studies import plots
from training.studies.longrange import Curve, Point, Problem, Settings, baseline, learn
from training.terminal import show

_DEFAULT = Settings()
_UNITS = {"adding": "mean squared error", "copy": "cross-entropy, nats a step"}


@click.command()
@option(
    "--problem",
    type=click.Choice(get_args(Problem)),
    required=True,
    help="Problem: adding adds up two marked numbers, copy repeats ten symbols.",
)
@option(
    "--cells",
    default="rnn,lstm,peephole,gru",
    help=f"Cells, with commas: {', '.join(NAMED)}.",
)
@option(
    "--length",
    type=click.IntRange(2),
    multiple=True,
    default=[_DEFAULT.length],
    help="Steps T to remember. Give the option again for more.",
)
@option("--hidden", type=click.IntRange(1, 8192), default=_DEFAULT.hidden, help="Units of each cell.")
@option("--rows", type=click.IntRange(1), default=_DEFAULT.rows, help="Sequences of a batch.")
@option("--steps", type=click.IntRange(1), default=_DEFAULT.steps, help="Most training batches.")
@option(
    "--learning-rate",
    type=click.FloatRange(1e-9),
    default=_DEFAULT.learning_rate,
    help="Constant learning rate of Adam.",
)
@option(
    "--clip", type=click.FloatRange(1e-9), default=_DEFAULT.clip, help="Scale a gradient down if its norm is larger."
)
@option("--every", type=click.IntRange(1), default=_DEFAULT.every, help="Steps from one measurement to the next.")
@option(
    "--stop",
    type=click.FloatRange(0),
    default=_DEFAULT.stop,
    help="Share of the baseline's loss that counts as solved and ends the training.",
)
@seed_option(default=_DEFAULT.seed, help="The same seed gives the same curves on one machine.")
@option("--device", type=click.Choice(get_args(Device)), default="auto", help="Device to train on.")
@option("--json", type=PATH, help="Write every measurement to this file.")
@option("--plot", type=PATH, help="Draw the curves: .svg, .png or .pdf (extra 'plots').")
def longrange(
    problem: Problem,
    cells: str,
    length: tuple[int, ...],
    device: Device,
    json: Path | None,
    plot: Path | None,
    **settings: Any,
) -> None:
    """Test cells on the classic problems of long memory, and compare them with a baseline that guesses.

    The file of measurements and the plot are written again after each cell, so an interrupted run keeps its results.
    """
    plots.check(plot)
    check_apart({"--json": json, "--plot": plot}, {})
    hold(json, plot)
    names = listed(cells, NAMED, "cell", "--cells")
    try:
        where = torch.device(chosen_device(device))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--device") from error
    curves: list[Curve] = []
    for distance in length:
        wanted = Settings(problem, distance, **settings)
        for name in names:

            def report(point: Point, title: str = f"{name}, length {distance}") -> None:
                tell(f"{title}, step {point.step:,}: loss {point.loss:.4f}, gradient {point.gradient:.2g}")

            curves.append(learn(name, wanted, report, where))
            tell(f"{name}, length {distance}: {curves[-1].verdict}, {curves[-1].seconds:.0f} s")
            if json:
                with naming(json):
                    json.write_text(as_json(curves), "utf-8")
            if plot:
                draw(curves, plot)
    show(_table(curves))


def as_json(curves: Sequence[Curve]) -> str:
    """Every measurement, a list of curves."""
    found = [
        {**asdict(curve), "seconds": round(curve.seconds, 1), "best": curve.best, "verdict": curve.verdict}
        for curve in curves
    ]
    return json_.dumps(found, indent=1) + "\n"


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Learning curves, a panel for each length, with the baseline."""
    lengths = sorted({curve.settings.length for curve in curves})
    problem = curves[0].settings.problem
    with plots.panels(path, len(lengths)) as panels:
        for axes, length in zip(panels, lengths, strict=True):
            level = baseline(problem, length)
            axes.axhline(level, color="0.4", linewidth=1, linestyle=(0, (1, 2)), label=f"no idea: {level:.3f}")
            for curve in curves:
                if curve.settings.length == length:
                    steps, losses = zip(*((point.step, point.loss) for point in curve.points), strict=True)
                    plots.line(axes, steps, losses, curve.cell)
            axes.set(title=f"{problem}, T = {length}", xlabel="steps", yscale="log")
            axes.legend(fontsize=8)
        panels[0].set_ylabel(_UNITS[problem])


def _table(curves: Sequence[Curve]) -> Table:
    problem = curves[0].settings.problem
    table = Table("cell", "length", "weights", "best loss", "no idea", "verdict", title=f"{problem}: {_UNITS[problem]}")
    for curve in curves:
        size = (f"{curve.settings.length:,}", f"{curve.parameters:,}")
        table.add_row(curve.cell, *size, f"{curve.best:.4f}", f"{curve.baseline:.4f}", curve.verdict)
    return table
