"""``training export``: a bundle exported again, from its own weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from service import bundle
from service.engine import Engine
from service.tasks import decoder
from service.text import Tokenizer
from training.commands.console import console, version_folder
from training.evaluate import best_temperature, corpus, measure
from training.export import export as export_network
from training.restore import network


def export(
    model: Annotated[Path, typer.Argument(help="A bundle: models/NAME (its highest version) or models/NAME/VERSION.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder models/NAME that gets the new version; the bundle's own if left out."),
    ] = None,
    dev: Annotated[
        list[Path] | None, typer.Option(help="Labelled data that the scores are calibrated on; several count the same.")
    ] = None,
    test: Annotated[list[Path] | None, typer.Option(help="Further data to score, for the card.")] = None,
) -> None:
    """Export a bundle again, without training: its weights, in today's graphs, certified anew, as the next version.

    With --dev its scores are calibrated and its figures measured anew. What its gates do stays as it was measured: no
    calibration touches them.
    """
    found = bundle.load(version_folder(model))
    manifest = found.manifest
    tokenizer = Tokenizer.load(found.file(bundle.TOKENIZER), manifest.features)
    folder = out or found.path.parent
    restored, by = network(found), 1.0
    corpora = [
        corpus(path, manifest.task, manifest.labels, tokenizer, manifest.token_limit)
        for path in (*(dev or ()), *(test or ()))
    ]
    if dev:
        by = best_temperature(restored, corpora[: len(dev)])

    def figures(draft: bundle.Bundle) -> Sequence[bundle.Score]:
        if not corpora:
            return manifest.quality
        decode, predict = decoder(manifest.task, manifest.labels, draft.manifest.crf), Engine(draft).predict
        return [score for each in corpora for score in measure(predict, each, decode).scores()]

    made = export_network(
        restored,
        tokenizer,
        manifest.origin,
        manifest.licence,
        folder,
        figures,
        (lambda _: kept) if (kept := manifest.health) else None,
        temperature=by,
        total=manifest.temperature * by,
    )
    console.print(f"{made.name} version {made.version}: {made.path}", markup=False, highlight=False)
