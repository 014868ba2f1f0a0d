"""``training tokens``: the style of rules for raw text that fits a corpus."""

from __future__ import annotations

import json as jsons
from pathlib import Path

import click
from rich.table import Table

from service.model.tokenizer import UNKNOWN, build
from training.commands.console import PATH, json_option, note, option
from training.commands.options import takes
from training.data.checks import with_tokens
from training.data.conventions import agreements
from training.data.corpora import CorpusError, Example, Layout, read, tasks_of
from training.options import Columns
from training.scoring.evaluate import corpus_name
from training.terminal import show


@click.command()
@option(
    "--data",
    type=PATH,
    multiple=True,
    required=True,
    help="File of tagged sentences, or of tokenised texts. Give the option again for more files.",
)
@json_option
@takes(Columns)
def tokens(columns: Columns, data: tuple[Path, ...], json: bool) -> None:
    """Measure how well each style of rules for raw text returns a corpus's own tokens.

    Sentences are joined as people write them, and cut again. The table shows the share of sentences and of tokens that
    come back unchanged. In a table of texts, the words between spaces count as tokens; texts without a token are set
    aside, and counted on standard error.
    """
    table = Table("data", "style", "sentences", "come back", "tokens come back")
    for path in data:
        for each in agreements(_sentences(path, columns.layout)):
            row = {"data": corpus_name(path), "style": each.style, "sentences": each.counted}
            if json:
                print(jsons.dumps({**row, "come_back": each.sentences, "tokens_come_back": each.tokens}))
            table.add_row(*map(str, row.values()), f"{each.sentences:.1%}", f"{each.tokens:.2%}")
    if not json:
        show(table)


def _sentences(path: Path, layout: Layout) -> list[tuple[str, ...]]:
    """The tokens of each example of a file, for both tasks. Raises `CorpusError`."""
    examples = with_tokens(path, _examples(path, layout), build([UNKNOWN], []), note)
    return [tuple(each.value.split()) if isinstance(each.value, str) else each.value for each in examples]


def _examples(path: Path, layout: Layout) -> list[Example]:
    """The examples of a file of either task: the columns that are named, or else its content, decide which."""
    if layout.token or layout.tag:
        return read(path, "ner", layout, note)
    if layout.text or layout.label:
        return read(path, "sentiment", layout, note)
    refused: list[CorpusError] = []
    for task in tasks_of(path):
        told: list[str] = []  # by a reader that may fail yet
        try:
            examples = read(path, task, layout, told.append)
        except CorpusError as error:
            refused.append(error)
            continue
        for line in told:
            note(line)
        return examples
    if len(refused) == 1:
        raise refused[0]
    first, other = refused
    raise CorpusError(
        path, f"it can be read neither as tagged sentences ({first}) nor as texts with labels ({other})"
    ) from first
