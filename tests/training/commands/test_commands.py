"""`training predict`, `compare`, `data`, and recipes for `fit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import corpora
from tests.bundles import tiny_bundle
from training.cli import app
from training.commands import fit as fitting
from training.data.corpora import CorpusError, read
from training.data.datasets import KNOWN, Wanted, load, write
from training.options import FitOptions
from training.scoring.evaluate import of_bundle

datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line]


def test_predict_shows_every_row(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m")
    data = corpora.sentiment(tmp_path / "set" / "dev.tsv")
    every = CliRunner().invoke(app, ["predict", str(bundle.path.parent), "--data", str(data)])
    wrong = CliRunner().invoke(app, ["predict", str(bundle.path), "--data", str(data), "--wrong"])
    found = lines(every.stdout)
    accuracy = of_bundle(bundle, data).metrics["accuracy"]
    assert sum(each["right"] for each in found) / len(found) == pytest.approx(accuracy)
    assert lines(wrong.stdout) == [each for each in found if not each["right"]]
    assert {"text", "gold", "predicted", "score", "data", "right"} == set(found[0])


def test_predict_with_a_tagger(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m", task="ner")
    data = corpora.ner(tmp_path / "set" / "dev.conll")
    found = lines(CliRunner().invoke(app, ["predict", str(bundle.path), "--data", str(data)]).stdout)
    assert len(found) == len(read(data, "ner"))
    for each in found:
        assert len(each["gold"]) == len(each["predicted"]) == len(each["text"].split(" "))


def test_compare_puts_the_best_first(tmp_path: Path) -> None:
    bundles = [tiny_bundle(tmp_path / f"m{seed}", seed=seed) for seed in (1, 2, 3)]
    data = corpora.sentiment(tmp_path / "set" / "dev.tsv")
    arguments = ["compare", *(str(each.path) for each in bundles), "--data", str(data)]
    found = lines(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    scores = {each.name: of_bundle(each, data).metrics["accuracy"] for each in bundles}
    assert {each["model"]: each["accuracy"] for each in found} == scores
    assert [each["accuracy"] for each in found] == sorted(scores.values(), reverse=True)
    table = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"}).stdout
    assert all(name in table for name in scores)
    other = tiny_bundle(tmp_path / "ner", task="ner")
    refused = CliRunner().invoke(app, [*arguments, str(other.path)])
    assert refused.exit_code == 2


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> list[FitOptions]:
    """What `fit` would do, without doing it."""
    jobs: list[FitOptions] = []

    def run(job: FitOptions, *_: object) -> None:
        jobs.append(job)
        raise CorpusError("here", "far enough")

    monkeypatch.setattr(fitting, "run", run)
    return jobs


RECIPE = """
task = "sentiment"
cell = "gru"
bidirectional = true
train = ["$DATA/train.tsv", "more.tsv"]
dev = "${DATA}/dev.tsv"
out = "models/mine"
hidden = 33
learning-rate = 0.5
"""


def test_a_recipe_stands_for_flags_and_flags_win(
    tmp_path: Path, job: list[FitOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    monkeypatch.setenv("DATA", "/data")
    CliRunner().invoke(app, ["fit", "--recipe", str(recipe), "--hidden", "44"])
    (found,) = job
    assert (found.design.task, found.design.cell, found.design.hidden) == ("sentiment", "gru", 44)
    assert found.design.directions == ("forward", "backward")
    assert found.train == (Path("/data/train.tsv"), Path("more.tsv"))
    assert found.dev == (Path("/data/dev.tsv"),)
    assert found.recipe.learning_rate == 0.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hiden = 3", "there is no option 'hiden'"),
        ("hidden = ", "Invalid value"),
        ("[hidden]\nx = 1", "hidden is a text"),
        ('out = "$NOWHERE_AT_ALL"', "NOWHERE_AT_ALL"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, words: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    result = CliRunner().invoke(app, ["fit", "--recipe", str(recipe)], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert words in result.output
    missing = CliRunner().invoke(app, ["fit", "--recipe", str(tmp_path / "no.toml")])
    assert missing.exit_code == 2


def sentiment_set(folder: Path, names: list[str]) -> Path:
    """A dataset in the layout of the hub: a file for each split, whose labels are numbers with names."""
    features = datasets.Features({"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    for split, rows in (("train", 6), ("validation", 4)):
        table = {"sentence": [f"text {n}\tof\nlines\0" for n in range(rows)], "label": [n % 2 for n in range(rows)]}
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(table, features=features).to_parquet(str(path))
    return folder


def tagged_set(folder: Path) -> Path:
    tags = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(tags)})
    for split in ("train", "validation", "test"):
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = {"tokens": [["Ada", "Lovelace", "lived"], ["a b", "."]], "ner_tags": [[1, 2, 0], [0, 0]]}
        datasets.Dataset.from_dict(table, features=features).to_parquet(str(path))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library keeps what it made of files: here, in the test's own folder, and asks nobody for more."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def test_data_of_texts(tmp_path: Path) -> None:
    source = sentiment_set(tmp_path / "sst2", ["neg", "pos"])
    out = tmp_path / "out"
    files = dict(write(Wanted(str(source), "sentiment", text="sentence", labels={"neg": "negative"}), out))
    assert files == {out / "train.jsonl": 6, out / "dev.jsonl": 4}
    examples = read(out / "train.jsonl", "sentiment")
    assert [each.label for each in examples] == ["negative", "pos"] * 3
    assert examples[1].value == "text 1\tof\nlines\ufffd"  # readers refuse NUL


def test_rows_of_a_dataset_that_are_left_out_are_counted(tmp_path: Path) -> None:
    def said(source: Path, wanted: Wanted, split: str, **columns: list[object]) -> list[str]:
        told: list[str] = []
        path = source / "data" / f"{split}-00000-of-00001.parquet"
        features = datasets.load_dataset("parquet", data_files=str(path), split="train").features
        datasets.Dataset.from_dict(columns, features=features).to_parquet(str(path))
        made = {file.name for file, _ in write(wanted, tmp_path / "out", told.append)}
        assert any(name.startswith(split) for name in made) == (len(told) == 1)
        return told

    texts = sentiment_set(tmp_path / "texts", ["neg", "pos"])
    wanted = Wanted(str(texts), "sentiment", text="sentence")
    one = said(texts, wanted, "train", sentence=["a", "b", "c"], label=[0, -1, 1])
    assert one == ["note: train: 1 of 3 rows are left out: without a label or a token"]
    tags = tagged_set(tmp_path / "tags")
    wanted = Wanted(str(tags), "ner", text="tokens", label="ner_tags")
    all_ = said(tags, wanted, "test", tokens=[[], []], ner_tags=[[], []])
    assert all_ == [
        "note: test: 2 of 2 rows are left out: without a label or a token",
        "note: test: no row is left, and no file is written",
    ]


TWO_CONFIGURATIONS = """---
configs:
- config_name: cola
  data_files:
  - {split: train, path: data/validation-*}
- config_name: sst2
  data_files:
  - {split: train, path: data/train-*}
  - {split: validation, path: data/validation-*}
---
"""


@pytest.mark.parametrize("card", ["", TWO_CONFIGURATIONS], ids=["one dataset", "several configurations"])
def test_data_of_texts_through_the_command(tmp_path: Path, card: str) -> None:
    source, out = sentiment_set(tmp_path / "sst2", ["negative", "positive"]), tmp_path / "out"
    (source / "README.md").write_text(card, encoding="utf-8")
    result = CliRunner().invoke(app, ["data", "sst2", "--source", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.exception
    assert [len(read(out / f"{name}.jsonl", "sentiment")) for name in ("train", "dev")] == [6, 4]


def test_data_says_whose_test_split_becomes_dev() -> None:
    shown = CliRunner().invoke(app, ["data", "--help"], env={"COLUMNS": "400"}).stdout
    for name, wanted in KNOWN.items():
        assert (f"`{name}`" in shown) == (wanted.dev == "test"), name


def test_data_of_tags_through_the_command(tmp_path: Path) -> None:
    source, out = tagged_set(tmp_path / "set"), tmp_path / "out"
    result = CliRunner().invoke(app, ["data", "wnut17", "--source", str(source), "--out", str(out)])
    assert result.exit_code == 0, result.output
    for name in ("train", "dev", "test"):
        examples = read(out / f"{name}.conll", "ner")
        assert [each.value for each in examples] == [("Ada", "Lovelace", "lived"), ("a_b", ".")]
        assert examples[0].label == ("B-PER", "I-PER", "O")


def test_data_of_a_script_comes_from_what_the_hub_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, fetched, asked = tagged_set(tmp_path / "set"), datasets.load_dataset, []

    def hub(name: str, configuration: str | None, revision: str | None = None) -> Any:
        asked.append(revision)
        if revision is None:
            raise RuntimeError(f"Dataset scripts are no longer supported, but found {name}.py")
        return fetched(str(source))

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert len(dict(write(KNOWN["wnut17"], tmp_path / "out"))) == 3
    assert asked == [None, "refs/convert/parquet"]


@pytest.mark.parametrize(
    ("tags", "kind", "said"),
    [
        (
            [[0, 3]],
            "int64",
            "row 1 of train: 'ner_tags' has '0', which is no tag; it is a class number: write",
        ),
        ([[0, 2], [-1, 0]], None, "row 2 of train: 'ner_tags' has '-1', which is no tag; it is a class number"),
        ([["O", "PER"]], "string", "row 1 of train: 'ner_tags' has 'PER', which is no tag; a tag is O, B-TYPE"),
        ([["O"]], "string", "row 1 of train: 'ner_tags' has 1 tags for 2 tokens"),
    ],
)
def test_tags_that_no_training_reads_are_not_written(tmp_path: Path, tags: list[Any], kind: str, said: str) -> None:
    value = datasets.Value(kind) if kind else datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(value)})
    source = tmp_path / "set"
    for split in ("train", "validation"):
        path = source / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = {"tokens": [["Ada", "lived"]] * len(tags), "ner_tags": tags}
        datasets.Dataset.from_dict(table, features=features).to_parquet(str(path))
    with pytest.raises(CorpusError) as refused:
        list(write(Wanted(str(source), "ner", text="tokens", label="ner_tags"), tmp_path / "out"))
    assert str(refused.value).startswith(f"{source}: {said}")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("from-log log.jsonl --out x.tsv --source set", "--source is for a dataset"),
        ("from-log log.jsonl --out x.tsv --text review", "--text is for a dataset"),
        ("sst2 --out x --model sentiment", "--model is for from-log"),
    ],
)
def test_options_of_data_that_would_do_nothing_are_refused(arguments: str, said: str) -> None:
    done = CliRunner().invoke(app, ["data", *arguments.split()])
    assert (done.exit_code, said in done.output) == (2, True)


def test_data_that_is_not_as_expected(tmp_path: Path) -> None:
    source = sentiment_set(tmp_path / "set", ["a", "b"])
    wanted = Wanted(str(source), "sentiment")
    with pytest.raises(CorpusError, match="no column 'text'; it has sentence, label"):
        list(write(wanted, tmp_path / "out"))
    with pytest.raises(CorpusError, match="no split 'test'; it has train, validation"):
        list(write(wanted.but(dev="test"), tmp_path / "out"))
    with pytest.raises(CorpusError, match="cannot be loaded"):
        load(Wanted(str(tmp_path / "nowhere"), "sentiment"))
    unknown = CliRunner().invoke(app, ["data", "nothing", "--out", str(tmp_path)], env={"COLUMNS": "400"})
    assert unknown.exit_code == 2
    assert "rotten-tomatoes" in unknown.output
