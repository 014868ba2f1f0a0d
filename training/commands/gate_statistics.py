"""``training gate-statistics``: gate statistics of a bundle over a corpus, written into its manifest."""

from __future__ import annotations

from pathlib import Path

import click

from service.model.gate_drift import figures, restored
from training.commands.console import PATH, console, model_argument, note, opened, option
from training.commands.options import takes
from training.export.writing import replace_manifest
from training.options import Columns
from training.scoring.evaluate import Subject
from training.scoring.gate_drift import measure


@click.command("gate-statistics")
@model_argument
@option("--data", type=PATH, required=True, help="File of labelled data like the service's traffic: a dev set.")
@takes(Columns)
def gate_statistics(columns: Columns, model: Path, data: Path) -> None:
    """Measure the gates of a bundle over a corpus, and write their statistics into the manifest.

    The service compares its live traffic with these statistics.
    """
    found = opened(model, to_write=True)
    subject = Subject(found)
    texts = subject.read(data, columns.layout, note)
    measured = measure(found, subject.engine, [source.rows for source in texts.encoded], texts.name)
    replace_manifest(found, found.manifest.model_copy(update={"gate_statistics": measured}))
    console.print(f"{found.name} version {found.version}: {measured.texts:,} texts of {measured.data}")
    for gate in figures(restored(measured))["gates"]:
        console.print("  " + ", ".join(f"{name} {value}" for name, value in gate.items()))
