"""Public datasets, through the library ``datasets``, as the files that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.model.bundle import Task
from training.data import tags, writers
from training.data.corpora import CorpusError
from training.data.outputs import naming
from training.data.sources import Example, Tell, few, silent

if TYPE_CHECKING:
    from datasets import DatasetDict

SPLITS = ("train", "dev", "test")
CONVERTED = "refs/convert/parquet"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A dataset and its parts: `dev` and `test` name splits, `labels` gives its labels other names.

    Rows without a label are left out, such as those of hidden test sets, and sentences without a token.
    """

    source: str
    task: Task
    configuration: str | None = None
    text: str = "text"
    label: str = "label"
    dev: str = "validation"
    labels: Mapping[str, str] = field(default_factory=dict)

    def but(self, **changes: str | None) -> Wanted:
        """The same with those changes that are not None."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]  # the names are fields


_SHORT = {"neg": "negative", "pos": "positive"}
KNOWN = {
    "sst2": Wanted("nyu-mll/glue", "sentiment", configuration="sst2", text="sentence"),
    "imdb": Wanted("stanfordnlp/imdb", "sentiment", dev="test", labels=_SHORT),
    "rotten-tomatoes": Wanted("cornell-movie-review-data/rotten_tomatoes", "sentiment", labels=_SHORT),
    "yelp-polarity": Wanted(
        "fancyzhx/yelp_polarity", "sentiment", dev="test", labels={"1": "negative", "2": "positive"}
    ),
    "wnut17": Wanted("leondz/wnut_17", "ner", text="tokens", label="ner_tags"),
    "conll2003": Wanted("lhoestq/conll2003", "ner", text="tokens", label="ner_tags"),
}


def write(wanted: Wanted, out: Path, tell: Tell = silent) -> Iterator[tuple[Path, int]]:
    """Fetch a dataset and write each of its splits; the files and how many rows each has. `tell` gets a line on rows
    without a label or without a token, which are left out.

    Raises `CorpusError` when it cannot be loaded, or has no such split or column.
    """
    loaded = load(wanted)
    splits = {"train": "train", "dev": wanted.dev, "test": "test"}
    for split in SPLITS[:2]:
        if splits[split] not in loaded:
            raise CorpusError(wanted.source, f"has no split {splits[split]!r}; it has {few(loaded)}")
    out.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        if split not in loaded or (name == "test" and split == wanted.dev):
            continue
        lines = list(_lines(wanted, loaded[split]))
        if left_out := len(loaded[split]) - len(lines):
            tell(f"note: {split}: {left_out:,} of {len(loaded[split]):,} rows are left out: without a label or a token")
        if not lines:
            tell(f"note: {split}: no row is left, and no file is written")
        else:
            path = file_of(out, name, wanted.task)
            with naming(path):
                path.write_text("".join(lines), encoding="utf-8")
            yield path, len(lines)


def file_of(out: Path, split: str, task: Task) -> Path:
    """The file that a split is written to."""
    return out / f"{split}{'.conll' if task == 'ner' else '.jsonl'}"


def load(wanted: Wanted) -> DatasetDict:
    """A dataset, from the network or from a folder. Raises `CorpusError`."""
    try:
        import datasets
    except ImportError as error:
        raise CorpusError(wanted.source, "needs the library datasets: install the extra 'data'") from error
    try:
        try:
            loaded = datasets.load_dataset(wanted.source, _configuration(wanted))
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            # The Hub keeps the script's output as Parquet, in a branch of the same dataset.
            loaded = datasets.load_dataset(wanted.source, wanted.configuration, revision=CONVERTED)
    except Exception as error:  # its loaders raise the errors of the libraries of their formats
        raise CorpusError(wanted.source, f"cannot be loaded: {error}") from error
    assert isinstance(loaded, datasets.DatasetDict)
    return loaded


def _configuration(wanted: Wanted) -> str | None:
    """The configuration, but of a folder without it: that holds one dataset and no more."""
    import datasets

    if wanted.configuration is None or not Path(wanted.source).is_dir():
        return wanted.configuration
    return wanted.configuration if wanted.configuration in datasets.get_dataset_config_names(wanted.source) else None


def _lines(wanted: Wanted, split: Any) -> Iterator[str]:
    """Rows as text: a JSON object each, or a sentence of columns with a blank line."""
    for column in (wanted.text, wanted.label):
        if column not in split.column_names:
            raise CorpusError(wanted.source, f"has no column {column!r}; it has {few(split.column_names)}")
    names = _names(split.features[wanted.label])
    for number, row in enumerate(split, 1):
        text, label = row[wanted.text], row[wanted.label]
        if wanted.task == "ner":
            if text and label is not None:
                found = tuple(_name(wanted, names, tag) for tag in label)
                has = f"row {number:,} of {split.split}: {wanted.label!r} has "
                if len(found) != len(text):
                    raise CorpusError(wanted.source, f"{has}{len(found):,} tags for {len(text):,} tokens")
                if wrong := next((tag for tag in found if not tags.is_tag(tag)), None):
                    raise CorpusError(wanted.source, f"{has}{wrong!r}, which is no tag; {tags.remedy(wrong)}")
                yield writers.columns([Example(tuple(text), found)])
        elif label is not None and label != -1:
            yield writers.record(text, _name(wanted, names, label))


def _names(feature: Any) -> list[str] | None:
    """The names of a column's numbers, if it has numbers with names."""
    inner = getattr(feature, "feature", feature)
    names: list[str] | None = getattr(inner, "names", None)
    return names


def _name(wanted: Wanted, names: list[str] | None, label: int | str) -> str:
    name = names[label] if names and isinstance(label, int) and 0 <= label < len(names) else str(label)
    return wanted.labels.get(name, name)
