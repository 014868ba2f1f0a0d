"""Plots of training's measurements, drawn with matplotlib (extra `plots`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from training.data.outputs import naming
from training.errors import TrainingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = {
    "rnn": ("#c4453c", "-"),
    "lstm": ("#1f6fb4", "-"),
    "peephole": ("#7a4fa3", "--"),
    "peephole-full": ("#4b2f6b", "-."),
    "gru": ("#2d8a4e", "-."),
    "gru-before": ("#b07b14", ":"),
    "mingru": ("#0f7f8c", "--"),
    "minlstm": ("#b0417a", ":"),
}
"""Colour and dashes of each cell, the same in every plot."""
ENDINGS = (".svg", ".png", ".pdf")


class PlotError(TrainingError):
    """A plot cannot be drawn."""


def check(path: Path | None) -> None:
    """Raise `PlotError` if a plot could not be written, before any work is done."""
    if path is None:
        return
    if path.suffix not in ENDINGS:
        raise PlotError(f"{path}: a picture ends in {', '.join(ENDINGS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotError("pictures need matplotlib: install the extra 'plots' (pip install 'gatelight[plots]')")


@contextmanager
def panels(path: Path, count: int, *, share_y: bool = True, width: float = 3.2) -> Iterator[Sequence[Axes]]:
    """Axes side by side, saved as a file that is identical from run to run."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with mpl.rc_context(
        {"svg.hashsalt": "training", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    ):
        figure, axes = pyplot.subplots(
            1, count, figsize=(1.2 + width * count, 3.6), sharey=share_y, squeeze=False, layout="constrained"
        )
        try:
            yield list(axes[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            stamp = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
            with naming(path):
                figure.savefig(path, metadata=stamp, dpi=144)
        finally:
            pyplot.close(figure)


def line(axes: Axes, xs: Sequence[float], ys: Sequence[float], label: str, *, faint: bool = False) -> None:
    """One curve; a label that begins with a cell's name gets that cell's colour."""
    colour, dashes = LINES.get(label.split()[0], (None, "-"))
    width, alpha = (1.0, 0.45) if faint else (1.6, 1.0)
    axes.plot(xs, ys, dashes, color=colour, label=label, linewidth=width, alpha=alpha)
