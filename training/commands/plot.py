"""``training plot``: curves of the log of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import click

from training.commands.console import PATH, check_apart, console, option
from training.loop.logs import LogError, Record, read
from training.studies import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OF_A_STEP = {"loss", "gradient", "clipped"}
_POINTS = 300
"""Most points of a curve. Each point is the mean or median of several steps."""
_SHARES = 60
"""Most points of the curve of clipped steps: a share needs many steps."""


@click.command()
@click.argument("logs", type=PATH, nargs=-1, required=True, help="Logs of `training fit --log`, finished or not.")
@option("--out", type=PATH, required=True, help="File to draw: .svg, .png or .pdf (extra 'plots').")
def plot(logs: tuple[Path, ...], out: Path) -> None:
    """Draw logs of `training fit`: loss, dev score, gradient norm and the share of clipped steps, by step.

    Each curve has the name of its log file; logs in several folders that have one name have their paths.
    """
    plots.check(out)
    check_apart({"--out": out}, {"LOGS": logs})
    found = {path: read(path) for path in logs}
    if empty := next((path for path, records in found.items() if not any(map(_is_step, records))), None):
        raise LogError(f"{empty}: no step of a training is in this log")
    alike = len({path.stem for path in found}) < len(found)
    draw([(str(path.with_suffix("") if alike else path.stem), records) for path, records in found.items()], out)
    console.print(f"{out}: {len(logs)} {'log' if len(logs) == 1 else 'logs'}")


def draw(logs: Sequence[tuple[str, Sequence[Record]]], path: Path) -> None:
    """A panel for each of the four figures, a curve for each (name, records). Each has a step."""
    with plots.panels(path, 4, share_y=False) as (loss, score, gradient, clipped):
        for name, records in logs:
            steps = [record for record in records if _is_step(record)]
            _curve(loss, name, steps, "loss", fmean, _POINTS)
            _curve(score, name, [record for record in records if "score" in record], "score", fmean, _POINTS)
            _curve(gradient, name, steps, "gradient", median, _POINTS)
            _curve(clipped, name, steps, "clipped", fmean, _SHARES)
        for axes, title in (
            (loss, "loss, nats a target"),
            (score, "dev score"),
            (gradient, "gradient norm, before clipping"),
            (clipped, "share of clipped steps"),
        ):
            axes.set(title=title, xlabel="steps")
        gradient.set_yscale("log")
        clipped.set_ylim(-0.03, 1.03)
        loss.legend(fontsize=8)


def _is_step(record: Record) -> bool:
    return record.keys() >= _OF_A_STEP


def _curve(
    axes: Axes, name: str, records: Sequence[Record], figure: str, of_many: Callable[[list[float]], float], points: int
) -> None:
    """One figure by step. `of_many` combines neighbouring records if there are more than the curve has points."""
    width = -(-len(records) // points) or 1
    runs = [records[start : start + width] for start in range(0, len(records), width)]
    values = [of_many([record[figure] for record in run]) for run in runs]
    plots.line(axes, [run[-1]["step"] for run in runs], values, name)
