"""The check that no training file holds a row of a dev or test file."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from recipes import overlap
from tests.bundles import tiny_bundle
from tests.integration.conftest import ROOT

LONG = "one two three four five six seven eight"


def _tsv(path: Path, *texts: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "text\tlabel\n" + "".join(f"{text}\tpositive\n" for text in texts)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return str(path)


def _conll(path: Path, *sentences: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("".join(f"{word}\tO\n" for word in each.split()) for each in sentences), "utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    _tsv(tmp_path / "sentiment" / "toys" / "dev.tsv", LONG, "great toy", "!")
    _tsv(tmp_path / "sentiment" / "films" / "test.tsv.gz", "a film that nobody among us will ever want to see")
    _conll(tmp_path / "ner" / "news" / "dev.conll", LONG)
    _conll(tmp_path / "ner" / "web" / "test.conll", "Ada left")
    return tmp_path


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        (["One, two: THREE four (five) six seven eight!"], True),  # another case and punctuation
        (["onetwo three four five six seven eight nine"], False),  # other words
        (["one two three four five six seven"], False),  # a part of it
        (["Great toy!"], False),  # short: told, not refused
        (["?", "…"], False),  # rows without letters are no text in common
        (["fine", "A film that nobody among us will ever want to see."], True),  # of a gzipped test file
    ],
)
def test_a_long_row_of_a_dev_or_test_file_is_refused(data: Path, rows: list[str], refused: bool) -> None:
    file = _tsv(data / "sentiment" / "made" / "train.tsv.gz", *rows)
    assert overlap.main([str(data), "--train", file]) == int(refused)


def test_short_rows_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _tsv(data / "sentiment" / "made" / "train.tsv", "Great toy!", "great toy", "bad")
    assert overlap.main([str(data), f"--train={file}"]) == 0
    assert capsys.readouterr().out == "sentiment/made/train.tsv: 2 of toys dev, 0 of them long\n"


def test_a_published_split_stays_as_it_is_but_a_file_made_of_it_does_not(data: Path) -> None:
    published = _conll(data / "ner" / "news" / "train.conll", LONG, "Ada left")
    assert overlap.main([str(data), "--train", published]) == 0
    made = _conll(data / "ner" / "names" / "news" / "train.conll", LONG)
    assert overlap.main([str(data), "--train", made]) == 1
    other = _conll(data / "ner" / "web" / "train.conll", LONG)
    assert overlap.main([str(data), "--train", published, "--train", other]) == 1


@pytest.mark.parametrize("name", ["labelled/train.jsonl.gz", "labelled/train.jsonl"])
def test_labelled_sentences_are_checked(data: Path, name: str) -> None:
    path = data / "ner" / name
    path.parent.mkdir()
    line = json.dumps({"tokens": LONG.upper().split(), "tags": ["O"] * 8}).encode() + b"\n"
    path.write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    assert overlap.main([str(data), "--train", str(path)]) == 1


def test_a_teachers_answers_are_checked(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "sentiment" / "transfer.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": LONG + ".", "logits": {"positive": 1.0}}).encode() + b"\n"))
    assert overlap.main([str(data), "--soft", str(path)]) == 1
    assert "REFUSED: 1 of toys dev, 1 of them long" in capsys.readouterr().out
    path.write_bytes(gzip.compress(b'{"texts": 1}\n'))
    assert overlap.main([str(data), "--soft", str(path)]) == 1
    assert "each line is" in capsys.readouterr().err


def test_dev_and_test_files_of_a_command_are_no_training_files(data: Path) -> None:
    fine = _tsv(data / "sentiment" / "made" / "train.tsv", "fine")
    dev = str(data / "sentiment" / "toys" / "dev.tsv")
    arguments = ["--task", "sentiment", "--train", fine, "--dev", dev, "--test", dev, "--out", "models/x"]
    assert overlap.trained_on(arguments, data) == [Path(fine)]
    assert overlap.main([str(data), *arguments]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ([], 2, "python -m recipes.overlap"),
        (["--help"], 2, "python -m recipes.overlap"),
        (["{data}", "--dev", "x"], 2, "no training file is named"),
        (["{data}", "--train", "{data}/sentiment/none.tsv"], 1, "none.tsv"),
        (["{data}", "--train", "/elsewhere/train.tsv"], 1, "it is not below"),
        (["{data}/ner", "--train", "{data}/ner/ner/train.conll"], 1, "no dev or test file"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, told: str
) -> None:
    assert overlap.main([each.format(data=data) for each in arguments]) == code
    assert told in capsys.readouterr().err


def test_the_files_of_models_are_found_in_their_commands(tmp_path: Path) -> None:
    made = tiny_bundle(tmp_path / "models" / "m")
    manifest = made.path / "model.json"
    content = json.loads(manifest.read_text("utf-8"))
    command = "python -m training fit --train $DATA/ner/a/train.conll --train '$DATA/ner/b c/train.conll' --dev $DATA/x"
    content["origin"]["command"] = command
    manifest.write_text(json.dumps(content), "utf-8")
    found = overlap.of_models(tmp_path / "models", Path("/data"))
    assert found == [Path("/data/ner/a/train.conll"), Path("/data/ner/b c/train.conll")]


def test_every_model_that_ships_names_its_files_below_the_folder() -> None:
    found = overlap.of_models(ROOT / "models", Path("/data"))
    assert len(found) > 10
    assert all(overlap.task_of(each, Path("/data")) for each in found)


def test_a_recipe_stops_before_training_on_held_out_rows(data: Path) -> None:
    """`recipes/fit.sh` runs the check with the files of its command, and trains only if that passes."""
    python = data / "python"
    python.write_text(f'#!/bin/sh\necho "$2" >> {data}/log\n[ "$2" != recipes.overlap ]\n', "utf-8")
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "DATA": str(data), "PYTHON": str(python)}
    done = subprocess.run(["sh", ROOT / "recipes" / "fit.sh", "ner-bilstm"], env=environment, check=False)
    assert done.returncode == 1
    assert (data / "log").read_text("utf-8") == "recipes.overlap\n"
