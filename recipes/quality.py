"""The quality of the models that ship, beside published figures: ``make quality``. Nothing is trained or run.

What was measured stands in the bundles' manifests, which the export wrote; what was published in ``published.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from service.bundle import discover, load

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED: dict[str, dict[str, str]] = json.loads((ROOT / "recipes" / "published.json").read_text("utf-8"))
_METRICS = ("accuracy", "macro_recall", "f1", "calibration_error")


def rows(models: Path) -> Iterator[tuple[str, ...]]:
    """Model, data and split, metric, seeds, value, and the target or published figure, for each model that ships."""
    for name, versions in discover(models):
        if name.startswith("my-"):
            continue
        manifest = load(models / name / str(versions[-1])).manifest
        for score in manifest.quality:
            if score.metric in _METRICS:
                beside = PUBLISHED.get(name, {}).get(f"{score.data} {score.metric}", "")
                yield name, score.data, score.metric, f"1 (seed {manifest.origin.seed})", f"{score.value:.4f}", beside


def table(models: Path) -> str:
    """The rows as a Markdown table."""
    lines = ["| model | data | metric | seeds | value | target, published |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(models))])


if __name__ == "__main__":
    print(table(ROOT / "models"))
