"""Sentences in which a few words decide, such as a negation or a contrast, for the sentiment models to learn from.

    python -m recipes.negation $DATA/sentiment

writes sentences made of the patterns and words in `training.studies.negation`: ``negation/train.tsv.gz``, 6,000 of a
few patterns, for a first stage, and ``negation-more/train.tsv.gz``, 12,000 of all patterns, verdicts and ratings. None
is in a dev file below the folder, and no word of that module's check is among their words.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

from training.data.corpora import Example
from training.distil.mixture import held_out_keys, key
from training.studies.negation import beginning, training

FIRST, MORE = 6_000, 12_000
"""The sentences of the two files, before those of dev files are left out."""


def write(folder: Path, first: int = FIRST, more: int = MORE) -> dict[str, int]:
    """Write both tables. Returns the number of rows of each by the name of its folder."""
    aside = held_out_keys(sorted(folder.glob("*/dev.tsv*")))
    made = {"negation": beginning(first), "negation-more": training(more)}
    return {name: _write(folder / name, sentences, aside) for name, sentences in made.items()}


def _write(folder: Path, sentences: Sequence[Example], aside: frozenset[str]) -> int:
    rows = [each for each in sentences if key(str(each.value)) not in aside]
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "train.tsv.gz", "wt", encoding="utf-8", newline="\n") as file:
        file.write("text\tlabel\n")
        file.writelines(f"{each.value}\t{each.label}\n" for each in rows)
    return len(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recipes.negation $DATA/sentiment")
    for name, rows in write(Path(sys.argv[1])).items():
        print(f"{name}: {rows:,} sentences")
