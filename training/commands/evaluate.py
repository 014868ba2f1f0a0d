"""``training evaluate``: a bundle scored on labelled data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from rich.table import Table

from service.commands.options import takes
from service.model.bundle import Bundle
from training.commands.console import data_option, json_option, model_argument, note, opened, option
from training.options import Columns
from training.scoring.evaluate import Corpus, Report, Subject
from training.scoring.raw import of_bundle, texts_of_bundle
from training.terminal import show


@click.command()
@model_argument
@data_option
@json_option
@option("--raw", is_flag=True, help="Also score on raw text: the file's tokens, joined as people write them.")
@takes(Columns)
def evaluate(columns: Columns, model: Path, data: tuple[Path, ...], json: bool, raw: bool) -> None:
    """Score a bundle with the runtime that serves it."""
    found = opened(model)
    subject = Subject(found)
    for path in data:
        report = subject.measure(subject.read(path, columns.layout, note))
        if report.remark:
            note(f"warning: {report.remark}")
        on_raw = _on_raw(found, report.corpus) if raw else None
        if json:
            print(report.as_json(found.name, found.version, on_raw))
        else:
            _print_report(found, report, on_raw)


def _on_raw(found: Bundle, corpus: Corpus) -> dict[str, float]:
    """The figures on raw text, by name."""
    if found.manifest.task == "ner":
        return of_bundle(found, corpus).as_json()
    return texts_of_bundle(found, corpus)


def _print_report(found: Bundle, report: Report, raw: Mapping[str, float] | None) -> None:
    corpus = report.corpus
    counts = f"{len(corpus.gold):,} inputs, {corpus.truncated} cut, {corpus.set_aside} without a token set aside"
    table = Table("metric", "value", title=f"{found.name} version {found.version} on {corpus.name}: {counts}")
    for metric, value in report.metrics.items():
        table.add_row(metric.replace("_", " "), f"{value:.4f}")
    if report.by_chance is not None:
        table.add_row("calibration error of perfect scores", f"{report.by_chance:.4f}")
    for kind, of_type in sorted(report.entities.types.items()) if report.entities else ():
        table.add_row(f"f1 of {kind}", f"{of_type.f1:.4f}")
    for name, figure in raw.items() if raw else ():
        shown = f"{figure:.4f}" if isinstance(figure, float) else f"{figure:,}"
        table.add_row(f"raw text: {name.replace('_', ' ')}", shown)
    show(table)
