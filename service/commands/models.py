"""``models``: the verified list of a repository."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING

import click

from service.commands.console import EXIT_INCOMPLETE, EXIT_OK, foreseen, models_option

if TYPE_CHECKING:
    from service.scoring.repository import FoundVersion


@click.command()
@models_option
@click.option("--json", is_flag=True, help="Print one JSON object on each line.")
@foreseen
def models(models: Path, json: bool) -> int:
    """List the models of a folder, and compare the files of each with the digests in its manifest.

    The exit status is 3 if a bundle fails; the list says why. `check` verifies one bundle in full.
    """
    from service.model.bundle import NO_BUNDLE
    from service.scoring.repository import every

    found = list(every(models))
    for each in found:
        click.echo(json_.dumps(_facts(each)) if json else _line(each))
    if not found and not json:
        click.echo(f"{models} {NO_BUNDLE}", err=True)
    return EXIT_INCOMPLETE if any(each.bundle is None for each in found) else EXIT_OK


def _facts(found: FoundVersion) -> dict[str, object]:
    facts: dict[str, object] = {"name": found.name, "version": str(found.version or ""), "ok": found.bundle is not None}
    if found.bundle is None:
        return {**facts, "reason": found.reason}
    manifest = found.bundle.manifest
    plain = manifest.model_dump(mode="json", include={"task", "cell", "directions", "layers", "hidden", "quality"})
    return {**facts, **plain, "labels": list(manifest.labels)}


def _line(found: FoundVersion) -> str:
    name = found.name if found.version is None else f"{found.name}/{found.version}"
    if found.bundle is None:
        return f"{name:<28} REFUSED  {found.reason}"
    manifest = found.bundle.manifest
    ways = "two directions" if len(manifest.directions) == 2 else "one direction"
    layers = f"{manifest.layers} x {manifest.hidden} units"
    wanted = "f1" if manifest.task == "ner" else "accuracy"
    figures = ", ".join(f"{s.data} {s.metric} {s.value:.3f}" for s in manifest.quality if s.metric == wanted)
    return f"{name:<28} ok  {manifest.task:<10} {manifest.cell:<9} {ways}, {layers}  {figures}"
