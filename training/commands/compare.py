"""``training compare``: several bundles scored on the same data, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service import bundle
from service.bundle import Bundle
from training.commands.console import version_folder
from training.commands.layout import LabelColumn, TagColumn, TextColumn, TokenColumn, layout_of, note
from training.evaluate import Report, of_bundle


def compare(
    models: Annotated[list[Path], typer.Argument(help="Bundles of one task: models/NAME or models/NAME/VERSION.")],
    data: Annotated[Path, typer.Option(help="Labelled data.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    token_column: TokenColumn = None,
    tag_column: TagColumn = None,
) -> None:
    """Score bundles on one file, the best first, through the very runtime that serves them."""
    found = [bundle.load(version_folder(model)) for model in models]
    if len({each.manifest.task for each in found}) > 1:
        tasks = ", ".join(f"{each.name}: {each.manifest.task}" for each in found)
        raise typer.BadParameter(f"the models are of different tasks ({tasks})", param_hint="MODELS")
    layout = layout_of(text_column, label_column, token_column, tag_column)
    told: dict[str, None] = {}  # each bundle reads the data by itself, and says the same of it
    reports = [(each, of_bundle(each, data, layout, told.setdefault)) for each in found]
    for line in told:
        note(line)
    reports.sort(key=lambda pair: -pair[1].headline)
    if json:
        for each, report in reports:
            print(report.as_json(each.name, each.version))
        return
    Console().print(_table(reports))


def _table(reports: list[tuple[Bundle, Report]]) -> Table:
    first = reports[0][1]
    metrics = list(first.metrics)
    title = f"{first.corpus.name}: {len(first.corpus.gold):,} inputs"
    table = Table("model", "network", "MB", *(metric.replace("_", " ") for metric in metrics), title=title)
    for each, report in reports:
        manifest = each.manifest
        ways = "bi" if len(manifest.directions) == 2 else ""
        network = f"{ways}{manifest.cell}, {manifest.layers} x {manifest.hidden}"
        size = sum(each.file(name).stat().st_size for name in manifest.files) / 1e6
        figures = (f"{report.metrics[metric]:.4f}" for metric in metrics)
        table.add_row(f"{each.name}/{each.version}", network, f"{size:.1f}", *figures)
    return table
