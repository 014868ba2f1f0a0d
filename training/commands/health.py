"""``training health``: what a bundle's gates do over a corpus, written into its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.model.bundle import TOKENIZER, replace_manifest
from service.model.engine import Engine
from service.model.gate_drift import figures, restored
from service.model.tokenizer import Tokenizer
from training.commands.console import console, opened
from training.commands.layout import LabelColumn, TagColumn, TextColumn, TokenColumn, layout_of, note
from training.scoring.evaluate import corpus
from training.scoring.gate_drift import measure


def health(
    model: Annotated[Path, typer.Argument(help="A bundle: models/NAME (its highest version) or models/NAME/VERSION.")],
    data: Annotated[Path, typer.Option(help="Labelled data like that which the service will see: a dev set.")],
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    token_column: TokenColumn = None,
    tag_column: TagColumn = None,
) -> None:
    """Measure a bundle's gate health, by which the service judges its live traffic, and put it into the manifest."""
    found = opened(model)
    manifest = found.manifest
    tokenizer = Tokenizer.load(found.file(TOKENIZER), manifest.features)
    layout = layout_of(text_column, label_column, token_column, tag_column)
    texts = corpus(data, manifest.task, manifest.labels, tokenizer, manifest.token_limit, layout, note)
    measured = measure(found, Engine(found), [source.rows for source in texts.encoded], texts.name)
    replace_manifest(found, manifest.model_copy(update={"health": measured}))
    console.print(f"{found.name} version {found.version}: {measured.texts:,} texts of {measured.data}")
    for gate in figures(restored(measured))["gates"]:
        console.print("  " + ", ".join(f"{name} {value}" for name, value in gate.items()))
