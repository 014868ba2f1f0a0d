"""``training export``: a bundle exported again, from its own weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import bundle
from service.text import Tokenizer
from training.commands.console import console, version_folder
from training.export import export as export_network
from training.restore import network


def export(
    model: Annotated[Path, typer.Argument(help="A bundle: models/NAME (its highest version) or models/NAME/VERSION.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder models/NAME that gets the new version; the bundle's own if left out."),
    ] = None,
) -> None:
    """Export a bundle again, without training: its weights, in today's graphs, certified anew, as the next version."""
    found = bundle.load(version_folder(model))
    manifest = found.manifest
    tokenizer = Tokenizer.load(found.file(bundle.TOKENIZER), manifest.features)
    folder = out or found.path.parent
    made = export_network(
        network(found), tokenizer, manifest.origin, manifest.licence, folder, lambda _: manifest.quality
    )
    console.print(f"{made.name} version {made.version}: {made.path}", markup=False, highlight=False)
