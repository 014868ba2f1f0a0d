"""``training compare``: several bundles scored on the same data, side by side."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table

from service.errors import BundleError
from service.model.bundle import Bundle
from training.commands.console import PATH, console, json_option, note, opened, option
from training.commands.options import takes
from training.data.corpora import UnknownLabel
from training.errors import TrainingError
from training.options import Columns
from training.scoring.evaluate import Report, of_bundle
from training.terminal import show


@click.command()
@click.argument(
    "models", type=PATH, nargs=-1, required=True, help="Bundles of one task: models/NAME or models/NAME/VERSION."
)
@option("--data", type=PATH, required=True, help="File of labelled data.")
@json_option
@takes(Columns)
def compare(columns: Columns, models: tuple[Path, ...], data: Path, json: bool) -> None:
    """Score bundles on one file, the best first, through the very runtime that serves them.

    A bundle that cannot be loaded, or lacks a label of the data, is named on standard error and left out. The exit
    status is 1 when none is left.
    """
    found: list[Bundle] = []
    for model in models:
        try:
            found.append(opened(model))
        except BundleError as error:
            console.print(f"left out: {error}")
    if len({each.manifest.task for each in found}) > 1:
        tasks = ", ".join(f"{each.name}: {each.manifest.task}" for each in found)
        raise click.BadParameter(f"the models are of different tasks ({tasks})", param_hint="MODELS")
    told: dict[str, None] = {}  # each bundle reads the data by itself, and says the same of it
    reports: list[tuple[Bundle, Report]] = []
    for each in found:
        try:
            reports.append((each, of_bundle(each, data, columns.layout, told.setdefault)))
        except (BundleError, UnknownLabel) as error:
            console.print(f"left out: {each.name} version {each.version}: {error}")
    for line in told:
        note(line)
    if not reports:
        raise TrainingError(f"none of the {len(models)} models can be scored on {data}")
    reports.sort(key=lambda pair: -pair[1].headline)
    if json:
        for each, report in reports:
            print(report.as_json(each.name, each.version))
    else:
        show(_table(reports))


def _table(reports: list[tuple[Bundle, Report]]) -> Table:
    first = reports[0][1]
    # A tagger that finds no entity has no calibration error.
    metrics = list(dict.fromkeys(metric for _, report in reports for metric in report.metrics))
    title = f"{first.corpus.name}: {len(first.corpus.gold):,} inputs"
    table = Table("model", "network", "MB", *(metric.replace("_", " ") for metric in metrics), title=title)
    for each, report in reports:
        manifest = each.manifest
        ways = "bi" if len(manifest.directions) == 2 else ""
        network = f"{ways}{manifest.cell}, {manifest.layers} x {manifest.hidden}"
        size = sum(each.file(name).stat().st_size for name in manifest.files) / 1e6
        figures = (f"{report.metrics[metric]:.4f}" if metric in report.metrics else "–" for metric in metrics)
        table.add_row(f"{each.name}/{each.version}", network, f"{size:.1f}", *figures)
    return table
