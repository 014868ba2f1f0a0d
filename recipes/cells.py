"""Every cell by one short recipe: the figures of many small trainings, a line of JSON for each.

    python -m recipes.cells run $DATA --out cells.jsonl --set sst2 --set uner --seed 1 --seed 2 --minutes 30
    python -m recipes.cells table cells.jsonl        # Markdown
    python -m recipes.cells keep cells.jsonl         # into recipes/cells.json

A run is one set, one cell and one seed. A line that the file has already is not trained again, so that a killed command
goes on where it was; `--minutes` starts no further run after so long. `--models FOLDER` keeps each run's bundle there,
as SET-CELL-SEED.

The recipe of a set (`SETS`) is the same for every cell and was tuned for none, except that the LSTM's accuracy decided
on IMDb's second epoch. It is shorter than those of the models that ship. Its best epoch is picked on the dev file that
it is scored on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from service.model.bundle import Bundle
from training.nets.cells import NAMED
from training.options import MAX_SEED, FitOptions
from training.run import run
from training.scoring.evaluate import Subject
from training.studies.robustness import CHANGES, variants

FILE = Path(__file__).resolve().parent / "cells.json"
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Set:
    """A set: its files below the folder of all data, the figure that counts, and the options of its recipe."""

    train: tuple[str, ...]
    dev: str
    metric: str
    options: Mapping[str, Any]


_COMMON: Mapping[str, Any] = {"hidden": 128, "threads": 1, "patience": 100, "checkpoint_every": 0, "device": "cpu"}
_SENTIMENT = {
    **_COMMON,
    "task": "sentiment",
    "pooling": "attention",
    "batch_rows": 64,
    "batch_tokens": 6400,
    "dropout": 0.4,
    "word_dropout": 0.02,
    "average": 0.998,
    "learning_rate": 0.002,
}
_TAGS = {
    **_COMMON,
    "task": "ner",
    "characters": "cnn",
    "batch_rows": 32,
    "dropout": 0.5,
    "word_dropout": 0.05,
    "average": 0.995,
    "learning_rate": 0.002,
    "words": 64_400,
    "word_bits": 4,
}
SETS: Mapping[str, Set] = {
    "sst2": Set(
        ("sentiment/sst2/train_phrases.tsv.gz", "sentiment/sst2/train.tsv"),
        "sentiment/sst2/dev.tsv",
        "accuracy",
        {**_SENTIMENT, "epochs": 2},
    ),
    "imdb": Set(
        ("sentiment/imdb/train.tsv.gz",),
        "sentiment/imdb/dev.tsv.gz",
        "accuracy",
        {**_SENTIMENT, "epochs": 2, "window": 200},
    ),
    "uner": Set(("ner/uner-ewt/train.conll",), "ner/uner-ewt/dev.conll", "f1", {**_TAGS, "epochs": 4}),
    "conll": Set(("ner/conll2003/train.conll",), "ner/conll2003/dev.conll", "f1", {**_TAGS, "epochs": 4}),
}
VECTORS = "vectors/glove.6B.100d.npz"
CELLS = ("rnn", "lstm", "peephole", "peephole-full", "gru", "gru-before", "mingru", "minlstm")
FURTHER = ("mingru-window3", "mingru-2layers", "minlstm-window3")
"""Minimal cells whose gates see more than one word."""
_NEGATION = ("praise, negated", "blame, negated")


def options(name: str, cell: str, seed: int, data: Path, out: Path) -> FitOptions:
    """The options of one run. `cell` is a word of `CELLS` or `FURTHER`, with ``bi`` in front for two directions.

    Raises `KeyError` for another.
    """
    chosen = SETS[name]
    word, *more = cell.removeprefix("bi").split("-window")
    word, *layers = word.removesuffix("layers").rsplit("-", 1) if word.endswith("layers") else (word,)
    kind, form = NAMED[word]
    given: dict[str, Any] = {"cell": kind, "bidirectional": cell.startswith("bi")}
    if kind == "gru":
        given["gru_reset"] = form
    if kind == "peephole":
        given["peepholes"] = form
    if more:
        given["window_words"] = int(more[0])
    if layers:
        given["layers"] = int(layers[0])
    return FitOptions(
        **chosen.options,
        **given,
        train=tuple(data / each for each in chosen.train),
        dev=(data / chosen.dev,),
        vectors=data / VECTORS,
        seed=seed,
        out=out,
    )


def negation(bundle: Bundle) -> dict[str, float]:
    """The accuracy of a classifier on sentences of patterns in which a word decides: see `training robustness`."""
    manifest = bundle.manifest
    subject, found = Subject(bundle), {}
    for each in variants([], manifest.task, manifest.labels):
        if each.examples and each.name not in CHANGES:
            found[each.name] = round(subject.measure(subject.corpus(each.name, each.examples)).headline, 4)
    return found


def trained(name: str, cell: str, seed: int, data: Path, models: Path | None = None) -> Line:
    """Train, export and score one run. Returns its line. The bundle stays in `models`, if given."""
    with tempfile.TemporaryDirectory(prefix="cells-") as scratch:
        chosen, out = SETS[name], (models or Path(scratch)) / f"{name}-{cell}-{seed}"
        asked = options(name, cell, seed, data, out)
        began = time.process_time()
        bundle, outcome = run(asked, lambda _: None, lambda _: None)
        seconds = time.process_time() - began
        assert bundle is not None
        score = next(each for each in bundle.manifest.quality if each.metric == chosen.metric)
        return {
            **_key(name, cell, seed),
            "metric": score.metric,
            "value": score.value,
            "inputs": score.examples,
            "epoch": outcome.epochs,
            "cpu_seconds": round(seconds, 1),
            "negation": negation(bundle) if bundle.manifest.task == "sentiment" else {},
            "versions": bundle.manifest.origin.versions,
        }


def _key(name: str, cell: str, seed: int) -> Line:
    recipe = {key: SETS[name].options[key] for key in sorted(SETS[name].options)}
    return {"set": name, "cell": cell, "seed": seed, "recipe": recipe, "train": list(SETS[name].train)}


def read(file: Path) -> list[Line]:
    """The lines of a file; [] if it does not exist. A last line that a killed command left unfinished is left out."""
    found: list[Line] = []
    for line in file.read_text("utf-8").splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def missing(
    file: Path, sets: Sequence[str], cells: Sequence[str], seeds: Sequence[int]
) -> Iterator[tuple[str, str, int]]:
    """The runs that the file lacks, or has by another recipe: every cell with the first seed, then with the next."""
    known = [{key: line[key] for key in _key(line["set"], "", 0)} for line in read(file) if line.get("set") in SETS]
    for seed in seeds:
        for name in sets:
            for cell in cells:
                if _key(name, cell, seed) not in known:
                    yield name, cell, seed


def table(lines: Sequence[Line]) -> Iterator[str]:
    """A Markdown table for each set: by cell the figures in percent, their mean, and the negations turned rightly."""
    for name, chosen in SETS.items():
        here = [line for line in lines if line["set"] == name]
        if not here:
            continue
        seeds = sorted({line["seed"] for line in here})
        heads = [f"{chosen.metric}, seed {seed}" for seed in seeds] + ["mean"] * (len(seeds) > 1)
        heads += [f"“{each}”" for each in _NEGATION if any(line["negation"] for line in here)] + ["CPU s"]
        yield from ("", f"`{name}`, {here[0]['inputs']:,} inputs of dev:", "")
        yield from (f"| cell | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}")
        for cell in dict.fromkeys(line["cell"] for line in here):
            own = {line["seed"]: line for line in here if line["cell"] == cell}
            values = [f"{100 * own[seed]['value']:.1f}" if seed in own else "" for seed in seeds]
            values += [f"{100 * mean(line['value'] for line in own.values()):.1f}"] * (len(seeds) > 1)
            negated = [
                f"{100 * mean(line['negation'][each] for line in own.values()):.0f}"
                for each in _NEGATION
                if any(line["negation"] for line in here)
            ]
            seconds = mean(line["cpu_seconds"] for line in own.values())
            yield f"| `{cell}` | {' | '.join([*values, *negated, f'{seconds:.0f}'])} |"


def kept(file: Path = FILE) -> list[Line]:
    """The lines of this repository."""
    found: list[Line] = json.loads(file.read_text("utf-8"))
    return found


def _seed(text: str) -> int:
    """A seed that a training takes. Raises `argparse.ArgumentTypeError` for another."""
    if not text.isdecimal() or int(text) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 to {MAX_SEED}")
    return int(text)


def _cell(text: str) -> str:
    """A word that `options` takes for a cell. Raises `argparse.ArgumentTypeError` for another."""
    try:
        options("sst2", text, 1, Path("data"), Path("out"))
    except (KeyError, ValueError) as error:
        known = f"{', '.join((*CELLS, *FURTHER))}, and these with bi before them"
        raise argparse.ArgumentTypeError(f"there is no cell {text!r}; known are {known}") from error
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="Train every cell by one short recipe, and compare them.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("run", help="train the runs that the file lacks")
    train.add_argument("data", type=Path, help="the folder that holds sentiment/, ner/ and vectors/")
    train.add_argument("--out", type=Path, required=True, help="the file of lines to add to")
    train.add_argument(
        "--set", dest="sets", action="append", choices=list(SETS), required=True, help="a set; give it again for more"
    )
    train.add_argument("--cell", dest="cells", type=_cell, action="append", help=f"default: {', '.join(CELLS)}")
    train.add_argument("--seed", dest="seeds", type=_seed, action="append", help="default: 1")
    train.add_argument("--models", type=Path, help="a folder that keeps the bundles (default: none is kept)")
    train.add_argument("--minutes", type=float, default=float("inf"), help="start no further run after so long")
    for name, about in (("table", "print the figures"), ("keep", f"write them to {FILE.name}")):
        commands.add_parser(name, help=about).add_argument("file", type=Path)
    asked = parser.parse_args()
    if asked.command == "run":
        began = time.monotonic()
        todo = missing(asked.out, asked.sets, asked.cells or CELLS, asked.seeds or (1,))
        for name, cell, seed in todo:
            if time.monotonic() - began > 60 * asked.minutes:
                print("the time is up")
                return
            line = trained(name, cell, seed, asked.data, asked.models)
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(
                f"{name} {cell} seed {seed}: {line['metric']} {line['value']:.4f}, {line['cpu_seconds']} s", flush=True
            )
    elif asked.command == "table":
        print("\n".join(table(read(asked.file))))
    else:
        FILE.write_text(json.dumps(read(asked.file), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
