"""The gain of reading pages sentence by sentence: `python -m benchmarks.sentences models/NAME FILE.conll`.

Sentences of a corpus are joined to pages as people write them, `--page` at a time: a space stands behind a sentence
that ends with a stop, a line break behind any other, such as a headline. `--width` wraps the lines. It prints precision
(P), recall (R) and F1 of the sentence boundaries, and the F1 of entities (exact span of characters, and type) of the
pages as one sequence, of the pages split, and of the corpus' own sentences alone. All of it is raw text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from service.model.joining import bounds, logits_of, parts
from service.model.loading import Model, loader
from service.model.tokenizer import Encoded
from service.serving.inference import decode, run_predictions
from training.data.batches import plan
from training.data.corpora import read
from training.data.detokenize import hyphens_apart, join
from training.export.restore import opened
from training.scoring.metrics import spans

LIMIT = 4096
PATH = click.Path(path_type=Path)
ROWS = 16
_STOPS = ".!?…\"'”’)"

Place = tuple[int, int, str]
"""Start, end and kind of an entity, in characters."""


@dataclass(frozen=True, slots=True)
class Page:
    """A text, where its sentences begin, and its entities."""

    text: str
    starts: list[int]
    sentences: list[str]
    entities: set[Place]


def pages(file: Path, kinds: set[str], size: int, width: int | None) -> Iterator[Page]:
    """A labelled file's sentences, `size` a page, with the entities of the kinds that a model knows."""
    examples = read(file, "ner")
    apart = hyphens_apart(example.value for example in examples)
    for first in range(0, len(examples), size):
        text, starts, sentences, entities = "", list[int](), list[str](), set[Place]()
        for example in examples[first : first + size]:
            joined = join(example.value, apart=apart)
            if text:
                text += " " if text[-1] in _STOPS else "\n"
            start = len(text)
            starts.append(start)
            sentences.append(joined.text)
            text += joined.text
            entities |= {
                (start + joined.spans[begin][0], start + joined.spans[end - 1][1], kind)
                for kind, begin, end in spans(example.label)
                if kind in kinds
            }
        yield Page(wrapped(text, width) if width else text, starts, sentences, entities)


def wrapped(text: str, width: int) -> str:
    """The same characters with line breaks in place of spaces, so that no line is over `width` where words allow it."""
    characters, start, space = list(text), 0, 0
    for place, character in enumerate(f"{text} "):
        if character.isspace():
            if place - start > width and space > start:
                characters[space] = "\n"
                start = space + 1
            space = place
            if character == "\n":
                start = place + 1
    return "".join(characters)


def found(model: Model, texts: Sequence[str], *, split: bool) -> tuple[list[Encoded], list[set[Place]]]:
    """Texts as a model reads them, and the entities that it finds."""
    encoded = [model.encode(text, truncate=True, split=split) for text in texts]
    rows = [part.rows for part in parts(encoded)]
    run = partial(run_predictions, model.engine, model.bundle.manifest)
    logits: list[Any] = [None] * len(rows)
    for batch in plan([len(each) for each in rows], ROWS, ROWS * LIMIT, None):
        for number, answer in zip(batch, run([rows[number] for number in batch]), strict=True):
            logits[number] = answer
    predictions: list[Any] = decode(model, logits_of(encoded, logits), encoded, tokens=False)
    return encoded, [{(each["start"], each["end"], each["label"]) for each in one["entities"]} for one in predictions]


def scores(found: Sequence[set[Any]], expected: Sequence[set[Any]]) -> tuple[float, float, float]:
    """Precision, recall and F1, in percent."""
    right = sum(len(one & other) for one, other in zip(found, expected, strict=True))
    guessed, there = sum(map(len, found)), sum(map(len, expected))
    return 100 * right / max(1, guessed), 100 * right / max(1, there), 200 * right / max(1, guessed + there)


def measure(model: Model, given: Sequence[Page]) -> dict[str, float]:
    """The figures of the module's first lines."""
    texts, entities = [page.text for page in given], [page.entities for page in given]
    encoded, split = found(model, texts, split=True)
    begins = [{source.spans[first][0] for first, _ in bounds(source)} - {0} for source in encoded]
    precision, recall, f1 = scores(begins, [set(page.starts) - {0} for page in given])
    _, whole = found(model, texts, split=False)
    _, each = found(model, [sentence for page in given for sentence in page.sentences], split=False)
    alone, answers = list[set[Place]](), iter(each)
    for page in given:
        alone.append({(start + a, start + b, kind) for start in page.starts for a, b, kind in next(answers)})
    return {
        "P": precision,
        "R": recall,
        "F1": f1,
        "one sequence": scores(whole, entities)[2],
        "split": scores(split, entities)[2],
        "alone": scores(alone, entities)[2],
    }


@click.command()
@click.argument("model", type=PATH, help="A tagger's folder, as models/NAME; its highest version.")
@click.argument("files", type=PATH, nargs=-1, required=True, help="Labelled sentences in columns.")
@click.option("--page", type=click.IntRange(1), default=10, help="Sentences of a page.")
@click.option("--width", type=click.IntRange(20), multiple=True, help="Also wrap the lines at so many columns.")
def main(model: Path, files: tuple[Path, ...], page: int, width: tuple[int, ...]) -> None:
    tagger = loader("cpu", 1, LIMIT)(opened(model))
    kinds = {label[2:] for label in tagger.bundle.manifest.labels if label != "O"}
    rows = {
        f"{file.resolve().parent.name} {file.stem}" + (f", {columns} columns" if columns else ""): measure(
            tagger, list(pages(file, kinds, page, columns))
        )
        for file in files
        for columns in (None, *width)
    }
    table = Table("pages of", *next(iter(rows.values())))
    for name, figures in rows.items():
        table.add_row(name, *(f"{figure:.1f}" for figure in figures.values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
