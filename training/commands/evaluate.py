"""``training evaluate``: a bundle scored on labelled data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import click
from rich.table import Table

from service.model.bundle import CARD, Bundle, Manifest, RawText, Score
from training.commands.console import data_option, json_option, listed, model_argument, note, opened, option
from training.commands.options import takes
from training.export import card
from training.export.writing import replace_manifest
from training.limits import names_fit
from training.options import Columns
from training.scoring.evaluate import Report, Subject, guess_score
from training.scoring.raw import RawReport, of_bundle, texts_of_bundle
from training.terminal import show

_Figure = TypeVar("_Figure", bound=Score | RawText)


@click.command()
@model_argument
@data_option
@json_option
@option("--raw", is_flag=True, help="Also score on raw text: the file's tokens, joined as people write them.")
@option(
    "--types",
    help="Entity types that count, such as LOC,ORG,PER, for data that lacks the others: these are left out of data and "
    "answers. Default: all.",
)
@option("--record", is_flag=True, help="Write the figures into the bundle: its manifest and its card.")
@takes(Columns)
def evaluate(
    columns: Columns, model: Path, data: tuple[Path, ...], json: bool, raw: bool, types: str | None, record: bool
) -> None:
    """Score a bundle with the runtime that serves it."""
    found = opened(model, to_write=record)
    subject = Subject(found)
    counted = _types(found.manifest, types)
    if record:
        names_fit(data, counted)
    written = found.manifest
    for path in data:
        report = subject.measure(subject.read(path, columns.layout, note, counted))
        if report.remark:
            note(f"warning: {report.remark}")
        tagged = of_bundle(found, report.corpus) if raw and found.manifest.task == "ner" else None
        on_raw = _on_raw(found, report, tagged) if raw else None
        if json:
            print(report.as_json(found.name, found.version, on_raw))
        else:
            _print_report(found, report, on_raw)
        if record:
            written = recorded(written, report, tagged.kept() if tagged else None)
    if record:
        replace_manifest(found, written, {CARD: card.render(found.name, written).encode()})


def _types(manifest: Manifest, types: str | None) -> list[str]:
    """``LOC,PER`` → types that the model has; none if all count. Raises `click.BadParameter`."""
    if types is None:
        return []
    if manifest.task != "ner":
        raise click.BadParameter("a classifier has no entities; it is for taggers", param_hint="--types")
    known = sorted({label.partition("-")[2] for label in manifest.labels if "-" in label})
    return sorted(listed(types, known, "entity type", "--types"))


def recorded(manifest: Manifest, report: Report, raw: RawText | None = None) -> Manifest:
    """A manifest with these figures in the place of earlier ones on the same data, or behind those on other data."""
    figures: dict[str, object] = {
        "quality": _merged(manifest.quality, report.scores()),
        "guess": _merged(manifest.guess, [guess_score(report.corpus)]),
    }
    if raw:
        figures["raw_text"] = _merged(manifest.raw_text, [raw])
    return manifest.model_copy(update=figures)


def _merged(kept: Sequence[_Figure], anew: Sequence[_Figure]) -> tuple[_Figure, ...]:
    """New figures on one set of data, where the earlier ones on it were."""
    name = anew[0].data
    at = next((place for place, each in enumerate(kept) if each.data == name), len(kept))
    return (*kept[:at], *anew, *(each for each in kept[at:] if each.data != name))


def _on_raw(found: Bundle, report: Report, tagged: RawReport | None) -> dict[str, float]:
    """The figures on raw text, by name."""
    return tagged.as_json() if tagged else texts_of_bundle(found, report.corpus)


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
