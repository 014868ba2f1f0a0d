"""Sentences in which a negation, a contrast or a rating decides, for the sentiment models to learn from.

    python -m recipes.negation $DATA/sentiment

writes ``negation/train.tsv.gz``: 6,000 sentences of a few patterns, and ratings, made of the patterns and words in
`training.studies.negation`. None is in a dev file below the folder, and no word of that module's check is among their
words.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from training.distil.mixture import held_out_keys, key
from training.studies.negation import training

FIRST, AMONG = 6_000, 12_000
"""Sentences of a few patterns; and those of all patterns, of which the ratings are taken."""


def write(folder: Path, first: int = FIRST, among: int = AMONG) -> int:
    """Write the table. Returns the number of its rows."""
    aside = held_out_keys(sorted(folder.glob("*/dev.tsv*")))
    rows = [each for each in training(first, among) if key(str(each.value)) not in aside]
    (folder / "negation").mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "negation" / "train.tsv.gz", "wt", encoding="utf-8", newline="\n") as file:
        file.write("text\tlabel\n")
        file.writelines(f"{each.value}\t{each.label}\n" for each in rows)
    return len(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recipes.negation $DATA/sentiment")
    print(f"negation: {write(Path(sys.argv[1])):,} sentences")
