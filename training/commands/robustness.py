"""``training robustness``: a bundle scored on data that is changed as people write."""

from __future__ import annotations

import json as json_lines
from pathlib import Path

import click
from rich.table import Table

from training.commands.console import data_option, json_option, model_argument, note, opened, option, seed_option
from training.commands.options import takes
from training.data.checks import with_tokens
from training.data.corpora import check_labels, read
from training.options import Columns
from training.scoring.evaluate import HEADLINES, Subject, corpus_name
from training.studies.robustness import variants
from training.terminal import show


@click.command()
@model_argument
@data_option
@option("--most", type=click.IntRange(1), default=1000, help="Most inputs of each file, from its beginning.")
@seed_option(default=1, help="Seed of the typing mistakes.")
@json_option
@takes(Columns)
def robustness(columns: Columns, model: Path, data: tuple[Path, ...], most: int, seed: int, json: bool) -> None:
    """Score a bundle on changed data: lower and upper case, typing mistakes, no final stop, and more."""
    found = opened(model)
    manifest = found.manifest
    subject = Subject(found)
    for path in data:
        examples = read(path, manifest.task, columns.layout, note)
        examples = with_tokens(path, examples, subject.tokenizer, note)[:most]
        check_labels(manifest.labels, examples, path, subject.name)
        rows = []
        for variant in variants(examples, manifest.task, manifest.labels, seed):
            texts = subject.corpus(variant.name, variant.examples)
            if texts.gold:
                rows.append((variant.name, len(texts.gold), subject.measure(texts).headline))
        metric = HEADLINES[manifest.task]
        if json:
            for name, inputs, value in rows:
                line = {"model": found.name, "version": str(found.version), "data": corpus_name(path), "change": name}
                print(json_lines.dumps(line | {"inputs": inputs, metric: round(value, 4)}))
        else:
            _print(f"{subject.name} on {corpus_name(path)}", metric, rows)


def _print(title: str, metric: str, rows: list[tuple[str, int, float]]) -> None:
    table = Table("change", "inputs", metric, title=title)
    for name, inputs, value in rows:
        table.add_row(name, f"{inputs:,}", f"{value:.4f}")
    show(table)
