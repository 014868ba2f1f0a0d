"""What no manifest can hold is refused before the first step, in words about the data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from service.model.bundle import MAX_LABELS, MAX_NAME, Task
from service.model.engine import Engine
from tests.bundles import tiny_bundle
from tests.training.test_run import options, quiet
from training import limits
from training import run as training
from training.cli import app
from training.data.corpora import CorpusError
from training.errors import TrainingError
from training.nets.crf import CRF
from training.run import run
from training.scoring.evaluate import corpus_name


@pytest.fixture(autouse=True)
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A training that came to its first step."""
    reached: list[object] = []

    def fit(*_: object) -> None:
        reached.append(None)
        raise TrainingError("far enough")

    monkeypatch.setattr(training, "fit", fit)
    return reached


def table(path: Path, labels: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text\tlabel\n" + "".join(f"a film\t{label}\n" for label in labels), "utf-8")
    return path


def columns(path: Path, types: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"ada\tB-{kind}\nspoke\tO\n\n" for kind in types), "utf-8")
    return path


def said(task: Task, folder: Path, train: Path, dev: Path | None = None, **changed: Any) -> str:
    """What a training on these files ends with."""
    with pytest.raises((CorpusError, TrainingError)) as refused:
        run(options(folder, task, train=(train,), dev=(dev or train,), **changed), quiet, quiet)
    return str(refused.value)


def test_a_label_that_is_too_long(tmp_path: Path, untrained: list[object]) -> None:
    longest = "x" * MAX_NAME
    assert said("sentiment", tmp_path, table(tmp_path / "a" / "fits.tsv", ["good", longest])) == "far enough"
    file = table(tmp_path / "a" / "long.tsv", ["good", "bad", longest + "x", "y" * 300])
    reason = said("sentiment", tmp_path, file)
    assert reason.startswith(f"{file}:4: the label '{'x' * 60}…' has 257 characters, a model's 256 at most")
    assert "is this the column of the labels (--label-column" in reason
    file = columns(tmp_path / "a" / "long.conll", ["PER", longest])
    reason = said("ner", tmp_path, file)
    assert reason.startswith(f"{file}:4: the label 'B-")
    assert "258 characters" in reason
    assert "--tag-column" in reason
    assert len(untrained) == 1


def test_more_labels_than_a_model_can_have(tmp_path: Path, untrained: list[object]) -> None:
    file = table(tmp_path / "a" / "many.tsv", [f"l{number}" for number in range(MAX_LABELS + 3)])
    reason = said("sentiment", tmp_path, file)
    assert reason == (
        f"{file}:4098: with the label 'l4096' there are more than the 4,096 that a model can have, and 4,099 in all: "
        "is this the column of the labels (--label-column names another)?"
    )
    file = columns(tmp_path / "a" / "many.conll", [f"T{number}" for number in range(MAX_LABELS // 2)])
    reason = said("ner", tmp_path, file, crf=False)
    assert reason.startswith(f"{file}:6142: with the label 'B-T2047'")
    assert "4,097 in all (O, and B- and I- of each type)" in reason
    assert untrained == []


def test_more_files_than_a_model_keeps_figures_of(tmp_path: Path, untrained: list[object]) -> None:
    files = tuple(table(tmp_path / str(number) / "test.tsv", ["good", "bad"]) for number in range(64))
    assert said("sentiment", tmp_path, files[0], test=files[1:]) == "far enough"
    reason = said("sentiment", tmp_path, files[0], test=files)
    assert reason.startswith("--dev, --test: 65 files have 260 scores, a model keeps 256 at most: give 64 files")
    assert len(untrained) == 1


@pytest.mark.parametrize("option", ["train", "dev", "test"])
def test_a_file_whose_name_no_figure_can_have(tmp_path: Path, untrained: list[object], option: str) -> None:
    short = table(tmp_path / "a" / "short.tsv", ["good", "bad"])
    long = table(tmp_path / ("f" * 200) / f"{'d' * 70}.tsv", ["good", "bad"])
    changed: dict[str, Any] = {"train": (short,), "dev": (short,), option: (long,)}
    with pytest.raises(CorpusError, match=r"by its folder and file, which have 271 characters .*; 256 are the most"):
        run(options(tmp_path, **changed), quiet, quiet)
    assert untrained == []


@pytest.mark.parametrize(
    "line",
    [
        "evaluate MODEL --record --data SHORT --data DATA",
        "evaluate MODEL --record --types TYPES --data SHORT",
        "faithfulness MODEL --record --data SHORT --data DATA",
        "units MODEL --data DATA",
        "export MODEL --dev SHORT --test DATA",
        "export MODEL --dev DATA --test SHORT",
        "retokenize MODEL --tokenizer web --test SHORT --test DATA",
    ],
)
def test_every_command_that_keeps_figures_refuses_such_a_name_before_its_work(
    tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(*_: object) -> None:
        pytest.fail("it has begun its work")

    types = [f"{'x' * 90}{number}" for number in range(3)]
    labels = ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))
    place = tmp_path / "ours"
    model = (tiny_bundle(place, task="ner", labels=labels) if "TYPES" in line else tiny_bundle(place)).path
    words: dict[str, object] = {"MODEL": model, "TYPES": ",".join(types)}
    words["SHORT"] = table(tmp_path / "a" / "short.tsv", ["positive", "negative"])
    words["DATA"] = table(tmp_path / ("f" * 200) / f"{'d' * 70}.tsv", ["positive", "negative"])
    before = {each.name: each.read_bytes() for each in model.iterdir()}
    monkeypatch.setattr(Engine, "predict", predict)
    done = CliRunner().invoke(app, [str(words.get(word, word)) for word in line.split()])
    assert isinstance(done.exception, CorpusError)
    said = r"figures name it by its folder and file.*, which have 2\d\d characters together; 256 are the most"
    assert re.search(said, str(done.exception))
    assert {each.name: each.read_bytes() for each in model.iterdir()} == before


@pytest.mark.parametrize(
    "line",
    [
        "evaluate MODEL --record --data ONE --data OTHER",
        "export MODEL --dev ONE --test OTHER",
        "retokenize MODEL --tokenizer web --test ONE --test OTHER",
    ],
)
def test_files_that_figures_cannot_tell_apart_are_refused(tmp_path: Path, line: str) -> None:
    model = tiny_bundle(tmp_path / "ours").path
    one = table(tmp_path / "a" / "set" / "dev.tsv", ["positive", "negative"])
    other = table(tmp_path / "b" / "set" / "dev.csv", ["positive", "negative"])
    words = {"MODEL": model, "ONE": one, "OTHER": other}
    done = CliRunner().invoke(app, [str(words.get(word, word)) for word in line.split()])
    assert isinstance(done.exception, CorpusError)
    said = f"{other}: figures name it 'set dev', as they do {one}: give it, or its folder, another name"
    assert str(done.exception) == said
    assert [each.name for each in model.parent.iterdir()] == ["1"]


def test_parts_of_one_file_and_one_file_twice_are_told_apart(tmp_path: Path, untrained: list[object]) -> None:
    parts = tuple(table(tmp_path / "set" / f"dev.{part}.tsv", ["good", "bad"]) for part in (1, 2))
    assert said("sentiment", tmp_path, parts[0], test=parts) == "far enough"
    assert [corpus_name(each) for each in parts] == ["set dev.1", "set dev.2"]
    same = table(tmp_path / "other" / "set" / "dev.1.tsv", ["good", "bad"])
    assert "figures name it 'set dev.1', as they do" in said("sentiment", tmp_path, parts[0], test=(same,))
    assert len(untrained) == 1


def test_a_crf_that_no_manifest_has_room_for(tmp_path: Path, untrained: list[object]) -> None:
    fits = columns(tmp_path / "a" / "fits.conll", [f"T{number}" for number in range(90)])
    assert said("ner", tmp_path, fits, characters="none") == "far enough"
    file = columns(tmp_path / "a" / "many.conll", [f"T{number}" for number in range(140)])
    reason = said("ner", tmp_path, file, characters="none")
    assert re.match(r"--crf: .* of 281 labels \(140 entity types\) make a model\.json of about 1,7\d\d,\d{3} ", reason)
    assert "the limit is 1,048,576: --no-crf leaves them out" in reason
    assert said("ner", tmp_path, file, characters="none", crf=False) == "far enough"
    assert len(untrained) == 2


def test_labels_that_no_manifest_has_room_for(tmp_path: Path, untrained: list[object]) -> None:
    file = table(tmp_path / "a" / "many.tsv", [f"{number:0250}" for number in range(2000)])
    reason = said("sentiment", tmp_path, file)
    assert reason.startswith("2,000 labels, with their counts in 2 files, make a model.json of about 1,6")
    assert untrained == []


def test_the_size_of_a_crf_is_that_of_its_json() -> None:
    crf = CRF(("O", *(f"{way}-T{number}" for number in range(40) for way in "BI")))
    torch.manual_seed(1)
    for scores in crf.parameters():
        torch.nn.init.normal_(scores)
    written = json.dumps({"crf": crf.as_manifest().model_dump()}, indent=2)
    assert 0.95 < len(written) / limits.crf_bytes(crf) <= 1
