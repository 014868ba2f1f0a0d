"""``training export``: a bundle exported again, from its own weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.model import bundle
from service.model.decoding import decoder
from service.model.engine import Engine
from service.model.tokenizer import Tokenizer
from training.commands.console import console, opened
from training.commands.layout import LabelColumn, TagColumn, TextColumn, TokenColumn, layout_of, note
from training.export.bundle import export as export_network
from training.export.restore import network
from training.scoring import raw
from training.scoring.evaluate import best_temperature, corpus, guess_score, measure
from training.scoring.gate_drift import measure as measure_gates


def export(
    model: Annotated[Path, typer.Argument(help="A bundle: models/NAME (its highest version) or models/NAME/VERSION.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder that gets the next version: if left out the bundle's own; with --int8, NAME-int8."
        ),
    ] = None,
    dev: Annotated[
        list[Path] | None,
        typer.Option(
            help="Labelled data that the scores are calibrated on, or with --int8 the loss is measured on; several "
            "count the same."
        ),
    ] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Further data to score, for the card.")] = None,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Compute an LSTM's layers in integers: faster, at a loss that --dev measures."),
    ] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    token_column: TokenColumn = None,
    tag_column: TagColumn = None,
) -> None:
    """Export a bundle again, without training: its weights, in today's graphs, certified anew, as the next version.

    With --dev its scores are calibrated and its figures measured anew. What its gates do stays as it was measured: no
    calibration touches them. With --int8 its scores stay calibrated as they are, its figures are measured before and
    after, and its gates anew.
    """
    if int8 and not dev:
        raise typer.BadParameter("int8 costs quality: name data to measure how much", param_hint="--dev")
    found = opened(model)
    manifest, own = found.manifest, found.path.parent
    tokenizer = Tokenizer.load(found.file(bundle.TOKENIZER), manifest.features)
    restored, by = network(found), 1.0
    layout = layout_of(text_column, label_column, token_column, tag_column)
    corpora = [
        corpus(path, manifest.task, manifest.labels, tokenizer, manifest.token_limit, layout, note)
        for path in (*(dev or ()), *(test or ()))
    ]
    if dev and not int8:
        by = best_temperature(restored, corpora[: len(dev)])

    def figures(of: bundle.Bundle) -> tuple[bundle.Score, ...]:
        if not corpora:
            return manifest.quality
        decode, predict = decoder(manifest.task, manifest.labels, of.manifest.crf), Engine(of).predict
        return tuple(score for each in corpora for score in measure(predict, each, decode).scores())

    def on_raw(of: bundle.Bundle) -> tuple[bundle.RawText, ...]:
        if not corpora or manifest.task != "ner":
            return manifest.raw_text
        return tuple(raw.of_bundle(of, each).kept() for each in corpora)

    def gates(of: bundle.Bundle) -> bundle.Health:
        if int8:
            rows = [source.rows for source in corpora[0].encoded]
            return measure_gates(of, Engine(of), rows, corpora[0].name)
        assert manifest.health is not None
        return manifest.health

    before = figures(found) if int8 else ()
    made = export_network(
        restored,
        tokenizer,
        manifest.origin,
        manifest.licence,
        out or (own.with_name(f"{own.name}-int8") if int8 else own),
        figures,
        gates if manifest.health else None,
        temperature=by,
        total=manifest.temperature * by,
        guess=[guess_score(each) for each in corpora] or manifest.guess,
        precision="int8" if int8 else "float32",
        quality_before=before,
        raw=on_raw,
    )
    console.print(f"{made.name} version {made.version}: {made.path}")
    for one, other in zip(before, made.manifest.quality, strict=False):
        console.print(f"{one.metric} on {one.data}: {one.value:.4f} before, {other.value:.4f} now")
