"""How far a tagger's settled labels lie behind a text that is read as it comes: `python -m benchmarks.stream_lag`.

The sentences of a CoNLL file are joined to one text as people write it, and each model that reads forward reads it word
by word. For each token it counts the tokens that had followed when its label was settled: 0 for the last token of a
sentence. It prints the median, the 99th percentile and the most, sentence by sentence and as one sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

import click

from benchmarks.sentences import pages
from benchmarks.serving import ROOT
from service.model.bundle import discover, load
from service.model.loading import Model, loader
from service.model.streams.stepping import Stepper
from service.model.streams.stream import Stream, Wanted
from service.model.streams.tagging import Event
from service.settings import Settings

FILE = ROOT / "examples" / "ner" / "dev.conll"
SETTLE: int = Settings.model_fields["settle"].default
_LIMIT = 4096
_PATH = click.Path(path_type=Path, exists=True)


@dataclass(frozen=True, slots=True)
class Lag:
    """Tokens that had followed when a label was settled, over all tokens of a text."""

    tokens: int
    median: float
    p99: int
    most: int


def running_text(file: Path) -> str:
    """The sentences of a CoNLL file as one text. Raises `CorpusError`."""
    (page,) = pages(file, set(), 1_000_000, None)
    return page.text


def taggers(folder: Path) -> Iterator[Model]:
    """The newest version of each tagger that reads forward, by name. Raises `BundleError`."""
    for name, found in sorted(discover(folder)):
        bundle = load(folder / name / str(found[-1]))
        if bundle.manifest.task == "ner" and bundle.manifest.reads_forward:
            yield loader("cpu", 1, _LIMIT)(bundle)


def lags(model: Model, text: str, *, split: bool = True, settle: int = SETTLE) -> list[int]:
    """For each token of a text, the tokens that had followed when its label was settled."""
    stepper = Stepper(model.engine.network)
    stream = Stream(model, stepper, Wanted(), split=split, settle=settle)
    found: list[int] = []
    sent = 0

    def take(events: Sequence[Event]) -> None:
        nonlocal sent
        for event in events:
            if event["type"] == "token":
                sent += 1
            elif event["type"] == "labels":
                found.extend(sent - 1 - token for token in range(event["t"], event["t"] + len(event["labels"])))

    def step() -> None:
        while (job := stream.job()) is not None:
            take(stream.took(stepper.run([job])[0]))

    for word in re.findall(r"\S+\s*|\s+", text):
        stream.feed(word)
        step()
    stream.end()
    step()
    take(stream.finish()[0])
    return found


def lag(found: Sequence[int]) -> Lag:
    """The median, the 99th percentile (the smallest number that 99 % do not exceed), and the most."""
    ordered = sorted(found)
    return Lag(len(ordered), median(ordered), ordered[ceil(0.99 * len(ordered)) - 1], ordered[-1])


@click.command(help=__doc__.partition("\n\n")[2])
@click.option("--models", type=_PATH, default=ROOT / "models", help="the models (default: those that ship)")
@click.option("--file", type=_PATH, default=FILE, help="a CoNLL file (default: examples/ner/dev.conll)")
@click.option(
    "--settle", type=click.IntRange(1, 64), default=SETTLE, show_default=True, help="as the service's setting"
)
def main(models: Path, file: Path, settle: int) -> None:
    text = running_text(file)
    for model in taggers(models):
        for split in (True, False):
            row = lag(lags(model, text, split=split, settle=settle))
            how = "sentence by sentence" if split else "as one sequence"
            print(f"{model.name}, {how}: {row.tokens} tokens, median {row.median:g}, p99 {row.p99}, most {row.most}")


if __name__ == "__main__":
    main()
