"""Curves over time as one SVG, each in a panel of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT, MARGIN, LABEL = 860, 110, 60, 24


@dataclass(frozen=True, slots=True)
class Curve:
    """One panel: its title and its points."""

    title: str
    x: Sequence[float]
    y: Sequence[float]


def draw(path: Path, x_label: str, curves: Sequence[Curve]) -> None:
    """Write the panels, one below the other, over one axis."""
    panel = HEIGHT + 2 * LABEL
    height = panel * len(curves) + LABEL
    body = "".join(_panel(curve, number * panel + LABEL) for number, curve in enumerate(curves))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * MARGIN} {height}" '
        f'font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>{body}'
        f'<text x="{MARGIN + WIDTH}" y="{height - 6}" text-anchor="end">{escape(x_label)}</text></svg>\n',
        encoding="utf-8",
    )


def _panel(curve: Curve, top: float) -> str:
    most, last = max(curve.y, default=0.0) or 1.0, max(curve.x, default=0.0) or 1.0
    bottom = top + HEIGHT
    points = " ".join(
        f"{MARGIN + WIDTH * x / last:.1f},{bottom - HEIGHT * y / most:.1f}"
        for x, y in zip(curve.x, curve.y, strict=True)
    )
    return (
        f'<text x="{MARGIN}" y="{top - 6}" font-weight="bold">{escape(curve.title)}</text>'
        f'<path d="M{MARGIN},{top} V{bottom} H{MARGIN + WIDTH}" fill="none" stroke="#888"/>'
        f'<text x="{MARGIN - 6}" y="{top + 10}" text-anchor="end">{_label(most)}</text>'
        f'<text x="{MARGIN - 6}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{MARGIN + WIDTH}" y="{bottom + 16}" text-anchor="end">{last:.3g}</text>'
        f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>'
    )


def _label(most: float) -> str:
    """An axis' end, short enough for the margin."""
    return f"{most:.4g}" if most < 10_000 else f"{most:.0f}"
