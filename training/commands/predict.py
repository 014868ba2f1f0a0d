"""``training predict``: the answers of a bundle to labelled data, row by row."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training.commands.console import data_option, model_argument, note, opened, option
from training.commands.options import takes
from training.options import Columns
from training.scoring.evaluate import Subject, tags_of


@click.command()
@model_argument
@data_option
@option("--wrong", is_flag=True, help="Print only inputs with a wrong answer.")
@takes(Columns)
def predict(columns: Columns, model: Path, data: tuple[Path, ...], wrong: bool) -> None:
    """Print each labelled input with its label and the model's answer, as JSON lines.

    `python -m service predict` scores text without labels, and large files.
    """
    subject = Subject(opened(model))
    for path in data:
        corpus = subject.read(path, columns.layout, note)
        for encoded, gold, answer in zip(corpus.encoded, corpus.gold, subject.answers(corpus), strict=True):
            if corpus.task == "sentiment":
                right, said = answer["label"] == gold, {"predicted": answer["label"], "score": answer["score"]}
            else:
                tags = tags_of(answer, len(gold))
                right, said = tags == list(gold), {"predicted": tags, "entities": answer["entities"]}
            if not (wrong and right):
                line = {"data": corpus.name, "right": right, "text": encoded.text, "gold": gold, **said}
                print(json.dumps(line, ensure_ascii=False))
