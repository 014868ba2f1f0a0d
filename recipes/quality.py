"""The quality of the models that ship, beside published figures: ``make quality``. Nothing is trained or run.

The export wrote what was measured into the manifests. ``seeds.json`` holds what other seeds gave, ``published.json``
what was published, ``domains.json`` the figures of this version and earlier ones on each domain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median

from recipes import domains, seeds
from service.model.bundle import discover, load

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


def of_seeds(file: Path = seeds.FILE) -> Iterator[tuple[str, ...]]:
    """The same columns for models that were trained with several seeds: median, and range."""
    for name, every in seeds.known(file).items():
        by_seed = {number: figures | _mean(figures) for number, figures in every.items()}
        numbers = sorted(by_seed, key=int)
        for figure in by_seed[numbers[0]]:
            data, _, metric = figure.rpartition(" ")
            values = [by_seed[number][figure] for number in numbers]
            if metric in _METRICS:
                counted = f"{len(values)} ({', '.join(numbers)})"
                beside = PUBLISHED.get(name, {}).get(figure, "")
                yield name, data, metric, counted, f"{median(values):.4f} ({min(values):.4f}–{max(values):.4f})", beside


def _mean(figures: dict[str, float]) -> dict[str, float]:
    """The unweighted mean of one seed's figures: accuracy over all sets, or F1 over `domains.AVERAGED`.

    Empty unless there are several sets.
    """
    found: dict[str, list[float]] = {}
    for figure, value in figures.items():
        data, _, metric = figure.rpartition(" ")
        if metric == "accuracy" or (metric == "f1" and data in domains.AVERAGED):
            found.setdefault(metric, []).append(value)
    return {f"mean of {len(all_)} sets {metric}": fmean(all_) for metric, all_ in found.items() if len(all_) > 1}


def table(models: Path) -> str:
    """The rows as a Markdown table."""
    heads = ("model", "data", "metric", "seeds", "value", "target, published")
    shipped = [f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows(models))]
    heads = (*heads[:4], "median (range)", heads[5])
    several = [f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *of_seeds())]
    parts = ["As shipped:", "", *shipped, "", "The same recipe with several seeds:", "", *several]
    everything = domains.known()
    return "\n".join([*parts, *domains.table(everything), *domains.calibration(everything)])


if __name__ == "__main__":
    print(table(ROOT / "models"))
