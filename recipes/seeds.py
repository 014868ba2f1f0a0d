"""The figures of other seeds: those of bundles that one recipe made with several, gathered in ``seeds.json``.

    SEED=2 OUT=/tmp/seeds/2 recipes/fit.sh ner-bilstm        # and 1, and 3
    python -m recipes.seeds /tmp/seeds/*/ner-bilstm

Weights are not kept, figures are: `make quality` prints their median and range.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from training.export.restore import opened

FILE = Path(__file__).resolve().parent / "seeds.json"
Figures = dict[str, dict[str, float]]
"""Seed → figure, such as ``uner-ewt test f1`` → value."""


def gathered(folders: list[Path]) -> dict[str, Figures]:
    """By model, what the highest version in each folder ``…/NAME`` measured."""
    found: dict[str, Figures] = {}
    for folder in folders:
        manifest = opened(folder).manifest
        figures = {f"{score.data} {score.metric}": score.value for score in manifest.quality}
        found.setdefault(folder.name, {})[str(manifest.origin.seed)] = figures
    return found


def known(file: Path = FILE) -> dict[str, Figures]:
    """The figures that were gathered before."""
    read: dict[str, Figures] = json.loads(file.read_text("utf-8"))
    return read


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m recipes.seeds FOLDER/NAME…")
    everything = known() | gathered([Path(each) for each in sys.argv[1:]])
    FILE.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", "utf-8")
    for name, seeds in everything.items():
        print(f"{name}: seeds {', '.join(sorted(seeds))}")
