"""The options that name the columns of labelled data, alike in all commands that read some."""

from __future__ import annotations

from typing import Annotated

import typer

from training.commands.console import console
from training.data.sources import Layout

TextColumn = Annotated[
    str | None,
    typer.Option(help="The column of texts in a table, by name or number (1: first, -1: last). Without it: text."),
]
LabelColumn = Annotated[
    str | None, typer.Option(help="The column of labels in a table, by name or number. Without it: label.")
]
TokenColumn = Annotated[
    str | None,
    typer.Option(help="The column of tokens in tagged data, by name or number. Without it: the first with words."),
]
TagColumn = Annotated[
    str | None, typer.Option(help="The column of tags in tagged data, by name or number. Without it: the last.")
]


def note(line: str) -> None:
    """Print what a reader decided, or what is odd about its data, on standard error."""
    console.print(line)


def layout_of(text: str | None, label: str | None, token: str | None = None, tag: str | None = None) -> Layout:
    """The options as readers take them. Raises `typer.BadParameter` for column 0."""
    named = {"--text-column": text, "--label-column": label, "--token-column": token, "--tag-column": tag}
    for option, name in named.items():
        if name == "0":
            raise typer.BadParameter("columns are counted from 1, or from the end: -1", param_hint=option)
    return Layout(text, label, token, tag)
