"""``training longrange``: the adding and the copy problem, for chosen cells and lengths."""

from __future__ import annotations

import json as json_
from collections.abc import Sequence
from dataclasses import asdict, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from training.commands.console import Device, cells_of, device_of, tell
from training.studies import plots
from training.studies.longrange import Curve, Point, Settings, baseline, learn
from training.terminal import show

_DEFAULT = Settings()
_UNITS = {"adding": "mean squared error", "copy": "cross-entropy, nats a step"}


class Problem(StrEnum):
    adding = "adding"
    copy = "copy"


def longrange(
    problem: Annotated[Problem, typer.Option(help="Add up two marked numbers, or repeat ten symbols.")],
    cells: Annotated[str, typer.Option(help="Cells, with commas: rnn, lstm, peephole, gru, gru-before.")] = (
        "rnn,lstm,peephole,gru"
    ),
    length: Annotated[
        list[int] | None,
        typer.Option(min=2, help="T, how far back to remember. Give it again for more. [default: 100]"),
    ] = None,
    hidden: Annotated[int, typer.Option(min=1, max=8192, help="Units.")] = _DEFAULT.hidden,
    rows: Annotated[int, typer.Option(min=1, help="Sequences of a batch.")] = _DEFAULT.rows,
    steps: Annotated[int, typer.Option(min=1, help="Batches to learn from, at most.")] = _DEFAULT.steps,
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Adam's, constant.")] = _DEFAULT.learning_rate,
    clip: Annotated[float, typer.Option(min=1e-9, help="Largest norm of the gradient.")] = _DEFAULT.clip,
    every: Annotated[int, typer.Option(min=1, help="Steps from one measurement to the next.")] = _DEFAULT.every,
    stop: Annotated[float, typer.Option(min=0, help="Share of the baseline's loss at which to stop: solved.")] = (
        _DEFAULT.stop
    ),
    seed: Annotated[int, typer.Option(help="The same seed gives the same curves on one machine.")] = _DEFAULT.seed,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    json: Annotated[Path | None, typer.Option(help="Write every measurement to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves: .svg, .png or .pdf (extra 'plots').")] = None,
) -> None:
    """Put cells to the classic tests of long memory, and hold them against who has no idea.

    The file of measurements and the picture are written anew after each cell, so that an interrupted run has its share.
    """
    options = locals()
    plots.check(plot)
    names, where = cells_of(cells), torch.device(device_of(device))
    options |= {"problem": problem.value}
    common = {field.name: options[field.name] for field in fields(Settings) if field.name in options}
    curves: list[Curve] = []
    for distance in length or [_DEFAULT.length]:
        settings = Settings(**common | {"length": distance})
        for name in names:

            def report(point: Point, title: str = f"{name}, length {distance}") -> None:
                tell(f"{title}, step {point.step:,}: loss {point.loss:.4f}, gradient {point.gradient:.2g}")

            curves.append(learn(name, settings, report, where))
            tell(f"{name}, length {distance}: {curves[-1].verdict}, {curves[-1].seconds:.0f} s")
            if json:
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
