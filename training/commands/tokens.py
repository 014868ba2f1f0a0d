"""``training tokens``: the style of rules for raw text that fits a corpus."""

from __future__ import annotations

import json as jsons
from pathlib import Path

import click
from rich.table import Table

from training.commands.console import PATH, json_option, option
from training.data.conventions import agreements
from training.data.corpora import CorpusError, read
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
def tokens(data: tuple[Path, ...], json: bool) -> None:
    """Measure how well each style of rules for raw text returns a corpus's own tokens.

    Sentences are joined as people write them, and cut again. The table shows the share of sentences and of tokens that
    come back unchanged. In a table of texts, the words between spaces count as tokens.
    """
    table = Table("data", "style", "sentences", "come back", "tokens come back")
    for path in data:
        for each in agreements(_sentences(path)):
            row = {"data": corpus_name(path), "style": each.style, "sentences": each.counted}
            if json:
                print(jsons.dumps({**row, "come_back": each.sentences, "tokens_come_back": each.tokens}))
            table.add_row(*map(str, row.values()), f"{each.sentences:.1%}", f"{each.tokens:.2%}")
    if not json:
        show(table)


def _sentences(path: Path) -> list[tuple[str, ...]]:
    """The tokens of each example of a file, for both tasks. Raises `CorpusError`."""
    try:
        examples = read(path, "ner")
    except CorpusError:
        examples = read(path, "sentiment")
    return [tuple(each.value.split()) if isinstance(each.value, str) else each.value for each in examples]
