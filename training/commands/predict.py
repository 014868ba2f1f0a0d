"""``training predict``: what a bundle says of labelled data, row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from training.commands.console import opened
from training.commands.layout import LabelColumn, TagColumn, TextColumn, TokenColumn, layout_of, note
from training.scoring.evaluate import answers_of_bundle, tags_of


def predict(
    model: Annotated[Path, typer.Argument(help="A bundle: models/NAME (its highest version) or models/NAME/VERSION.")],
    data: Annotated[list[Path], typer.Option(help="Labelled data. Give it again for further files.")],
    wrong: Annotated[bool, typer.Option("--wrong", help="Only the inputs that the model gets wrong.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    token_column: TokenColumn = None,
    tag_column: TagColumn = None,
) -> None:
    """Print each labelled input with its label and the model's: JSON lines, for a look at the errors.

    `python -m service predict` scores text that has no labels, and is made for large files.
    """
    found = opened(model)
    layout = layout_of(text_column, label_column, token_column, tag_column)
    for path in data:
        corpus, answers = answers_of_bundle(found, path, layout, note)
        for encoded, gold, answer in zip(corpus.encoded, corpus.gold, answers, strict=True):
            if corpus.task == "sentiment":
                right, said = answer["label"] == gold, {"predicted": answer["label"], "score": answer["score"]}
            else:
                tags = tags_of(answer, len(gold))
                right, said = tags == list(gold), {"predicted": tags, "entities": answer["entities"]}
            if not (wrong and right):
                line = {"data": corpus.name, "right": right, "text": encoded.text, "gold": gold, **said}
                print(json.dumps(line, ensure_ascii=False))
