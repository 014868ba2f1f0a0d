"""``training distil``: mixtures drawn as tables; what needs a teacher says what is missing."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import pytest

from training.cli import app
from training.commands.distil import distil
from training.data.corpora import read
from training.errors import TrainingError


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    rows = [("fine", "positive"), ("drab", "negative"), ("so so", "neutral"), ("held out", "positive")]
    table = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    (tmp_path / "train.tsv").write_text(table, "utf-8")
    (tmp_path / "dev.tsv").write_text("text\tlabel\nHeld out!\tpositive\n", "utf-8")
    path = tmp_path / "mixture.toml"
    path.write_text(
        f'held_out = ["{tmp_path}/dev.tsv"]\n[[source]]\nfile = "{tmp_path}/train.tsv"\nrows = 3\n', "utf-8"
    )
    return path


@pytest.mark.parametrize(("options", "kept"), [([], {"fine", "drab"}), (["--neutral"], {"fine", "drab", "so so"})])
def test_a_mixture_is_drawn_as_a_table(tmp_path: Path, mixture: Path, options: list[str], kept: set[str]) -> None:
    out = tmp_path / "drawn" / "train.tsv.gz"
    arguments = ["draw", "--mixture", str(mixture), "--out", str(out), *options]
    distil.main(arguments, standalone_mode=False)
    assert {example.value for example in read(out, "sentiment")} == kept
    first = out.read_bytes()
    distil.main(arguments, standalone_mode=False)
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(first)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="the extra distil is installed")
@pytest.mark.parametrize("command", ["teacher", "label"])
def test_without_the_extra_it_says_what_to_install(tmp_path: Path, mixture: Path, command: str) -> None:
    start = "--base" if command == "teacher" else "--teacher"
    arguments = [command, start, str(tmp_path), "--mixture", str(mixture), "--out", str(tmp_path / "out")]
    with pytest.raises(TrainingError, match="extra distil"):
        distil.main(arguments, standalone_mode=False)


def test_it_is_among_the_commands() -> None:
    assert set(distil.commands) == {"teacher", "label", "draw"}
    assert app.commands["distil"] is distil
