"""Sentences in which a negation, a contrast or an intensifier decides, for the sentiment models to learn from.

    python -m recipes.negation $DATA/sentiment

writes ``negation/train.tsv.gz``: 6,000 sentences made of the patterns and words in `training.studies.negation`. None is
in a dev file below the folder, and no word of that module's check is among its words.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from training.distil.mixture import held_out_keys, key
from training.studies.negation import training

COUNT = 6000


def write(folder: Path, count: int = COUNT) -> int:
    """Write the table. Returns the number of its rows."""
    aside = held_out_keys(sorted(folder.glob("*/dev.tsv*")))
    rows = [example for example in training(count) if key(str(example.value)) not in aside]
    path = folder / "negation" / "train.tsv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="\n") as file:
        file.write("text\tlabel\n")
        file.writelines(f"{example.value}\t{example.label}\n" for example in rows)
    return len(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recipes.negation $DATA/sentiment")
    print(f"negation: {write(Path(sys.argv[1])):,} sentences")
