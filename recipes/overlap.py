"""A check that no training file holds a row of a dev or test file.

    python -m recipes.overlap $DATA                       the files of every model below models/
    python -m recipes.overlap $DATA --train FILE …        these files, or all those in a command of `training fit`

Two rows are the same if their letters and digits are, in any case. A training file is compared with every dev and test
file of its task, ``$DATA/{sentiment,ner}/*/{dev,test}.*``.

* A training file that a recipe wrote may hold short rows alone (`SHORT`): different people write "great food".
* A published one may also hold rows of its own corpus's dev and test files: the split is as published.

`recipes/fit.sh` runs the check before it trains a model.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from service.model.bundle import Task
from training.data.corpora import CorpusError, read
from training.data.sources import text_of
from training.distil.mixture import key
from training.scoring.evaluate import corpus_name

SHORT = 8
"""Rows with fewer words may stand in two corpora by themselves."""
_TASKS: tuple[Task, ...] = ("ner", "sentiment")
_OPTIONS = ("--train", "--soft")
_SPLIT = re.compile(r"(dev|test)\.")

Row = tuple[str, int]
"""The letters and digits of a row, and its number of words."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Rows of a training file that a dev or test file holds too."""

    held_out: str
    rows: int
    long: int
    """Those of `SHORT` words or more."""
    own: bool
    """True for a published training file and a dev or test file of the same corpus."""

    @property
    def refused(self) -> bool:
        return self.long > 0 and not self.own


def rows(path: Path, task: Task) -> list[Row]:
    """The rows of a file of labelled data, or of a transfer set. Raises `CorpusError`."""
    if task == "sentiment" and {".jsonl", ".ndjson"} & set(path.suffixes):
        try:
            texts = [str(json.loads(line)["text"]) for line in text_of(path).split("\n") if line.strip()]
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(path, f'each line is {{"text": "…", …}}: {error!r}') from error
        return [(key(text), len(text.split())) for text in texts]
    found = []
    for example in read(path, task):
        words = example.value.split() if isinstance(example.value, str) else example.value
        found.append((key("".join(words)), len(words)))
    return found


def held_out(data: Path, task: Task) -> dict[Path, frozenset[str]]:
    """The keys of every dev and test file of a task, by file. Raises `CorpusError` if there is none."""
    files = [path for path in sorted((data / task).glob("*/*")) if _SPLIT.match(path.name)]
    if not files:
        raise CorpusError(data / task, "it has no dev or test file such as CORPUS/dev.tsv: name the folder of all data")
    return {path: frozenset(each for each, _ in rows(path, task)) - {""} for path in files}


def overlaps(path: Path, task: Task, aside: Mapping[Path, frozenset[str]]) -> list[Overlap]:
    """The dev and test files that hold rows of a training file. Raises `CorpusError`."""
    found, mine = [], rows(path, task)
    for each, keys in aside.items():
        shared = [words for row, words in mine if row in keys]
        if shared:
            long = sum(words >= SHORT for words in shared)
            found.append(Overlap(corpus_name(each), len(shared), long, each.parent == path.parent))
    return found


def trained_on(arguments: Iterable[str], data: Path) -> list[Path]:
    """The training files among the arguments of `training fit`, each once; ``$DATA`` stands for the folder."""
    given = [part for each in arguments for part in (each.split("=", 1) if each.startswith(_OPTIONS) else [each])]
    values = [value for option, value in pairwise(given) if option in _OPTIONS]
    return [Path(each) for each in dict.fromkeys(value.replace("$DATA", str(data)) for value in values)]


def of_models(models: Path, data: Path) -> list[Path]:
    """The training files that the manifests below a folder name."""
    found: list[Path] = []
    for manifest in sorted(models.glob("*/*/model.json")):
        found += trained_on(shlex.split(json.loads(manifest.read_text("utf-8"))["origin"]["command"]), data)
    return list(dict.fromkeys(found))


def task_of(path: Path, data: Path) -> Task:
    """The task whose folder holds a file. Raises `CorpusError` for one outside both."""
    for task in _TASKS:
        if path.is_relative_to(data / task):
            return task
    raise CorpusError(path, f"it is not below {data / 'ner'} or {data / 'sentiment'}")


def check(files: Sequence[Path], data: Path) -> Iterator[tuple[str, bool]]:
    """A line on each file, and whether it is refused. Raises `CorpusError`."""
    known: dict[Task, dict[Path, frozenset[str]]] = {}
    for path in files:
        task = task_of(path, data)
        aside = known.get(task) or known.setdefault(task, held_out(data, task))
        found = overlaps(path, task, aside)
        wrong = [each for each in found if each.refused]
        told = [
            f"{each.rows:,} of {each.held_out}{' (its own split)' if each.own else ''}, {each.long:,} of them long"
            for each in (wrong or found)
        ]
        yield f"{path.relative_to(data)}: {'REFUSED: ' if wrong else ''}{'; '.join(told) or 'none'}", bool(wrong)


def main(arguments: Sequence[str]) -> int:
    """Print a line on each file. Returns 1 if a file is refused, 2 for wrong arguments, else 0."""
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    data, given = Path(arguments[0]), arguments[1:]
    files = trained_on(given, data) if given else of_models(Path("models"), data)
    if not files:
        print("overlap: no training file is named: --train FILE, or models below models/", file=sys.stderr)
        return 2
    try:
        results = []
        for line, refused in check(files, data):
            print(line, flush=True)
            results.append(refused)
    except CorpusError as error:
        print(f"overlap: {error}", file=sys.stderr)
        return 1
    if any(results):
        print("overlap: a training file holds rows of dev or test files: hold these out of it", file=sys.stderr)
    return int(any(results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
