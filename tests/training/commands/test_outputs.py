"""No command writes over a file that it reads, or writes one file twice."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from safetensors import SafetensorError

from tests.bundles import tiny_bundle
from training.cli import app, main
from training.data.outputs import naming
from training.loop import pretrain

FIT = "fit --task sentiment --train t.tsv --dev d.tsv --out models/x"
CASES = (
    (FIT.replace("t.tsv", "both.tsv") + " --log both.tsv", "--train"),
    (FIT.replace("t.tsv", "both.tsv") + " --log link.tsv", "--train"),
    (FIT.replace("t.tsv", "both.tsv") + " --log hard.tsv", "--train"),
    (FIT.replace("d.tsv", "both.tsv") + " --log both.tsv", "--dev"),
    (FIT + " --train t2.tsv --train both.tsv --log both.tsv", "--train"),
    (FIT + " --test both.tsv --log both.tsv", "--test"),
    (FIT + " --soft both.jsonl --log both.jsonl", "--soft"),
    (FIT + " --vectors both.txt --log both.txt", "--vectors"),
    (FIT + " --start encoder --log encoder", "--start"),
    (FIT + " --start models/ours --log models/ours/1/weights.safetensors", "--start"),
    (FIT + " --recipe both.toml --log both.toml", "--recipe"),
    (FIT + " --log models/x/checkpoint.pt", "--out"),
    ("pretrain --texts both.tsv --out both.tsv", "--texts"),
    ("pretrain --texts t.tsv --dev both.tsv --out both.tsv", "--dev"),
    ("pretrain --texts t.tsv --vectors both.txt --out both.txt", "--vectors"),
    ("plot both.svg --out both.svg", "LOGS"),
    ("longrange --problem adding --json new.svg --plot new.svg", "--json"),
    ("gradients --cells rnn --json new.svg --plot new.svg", "--json"),
    ("gradients models/ours --json models/ours/1/model.json", "MODELS"),
    ("faithfulness models/ours --data both.svg --plot both.svg", "--data"),
    ("export models/ours/1 --portable models/ours/1/model.onnx", "MODEL"),
    ("distil draw --mixture mixture.toml --out both.tsv.gz", "--mixture"),
    ("distil label --teacher t --mixture mixture.toml --out held.jsonl.gz", "--mixture"),
    ("distil tag --model models/ours --mixture mixture.toml --out held.jsonl.gz", "--mixture"),
    ("distil teacher --mixture mixture.toml --base set --out set", "--base"),
    ("data from-log log.jsonl --out log.jsonl", "LOG"),
    ("data from-log log.jsonl --out log.feedback.jsonl", "LOG"),
    ("data sst2 --source set --out set", "--source"),
)
"""Command lines, and the option of the file that would be lost."""
INTO_A_FOLDER = {("export", "out"), ("retokenize", "out")}
"""Outputs that are the next version in a folder, which is added to."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("models") / "ours").path.parent


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    for name in ("both.tsv", "both.jsonl", "both.txt", "both.toml", "both.svg", "both.tsv.gz", "held.jsonl.gz"):
        Path(name).write_text("")
    Path("link.tsv").symlink_to("both.tsv")
    os.link("both.tsv", "hard.tsv")
    for name in ("encoder", "log.jsonl", "log.feedback.jsonl"):
        Path(name).write_text(json.dumps({"type": name}) + "\n")
    Path("mixture.toml").write_text('held_out = ["held.jsonl.gz"]\n[[source]]\nfile = "both.tsv.gz"\nrows = 1\n')
    Path("set").mkdir()
    Path("set/train.jsonl").write_text('{"text": "a", "label": "b"}\n')
    shutil.copytree(ours, tmp_path / "models" / "ours")
    return tmp_path


def called(line: str) -> Result:
    return CliRunner().invoke(app, line.split(), env={"COLUMNS": "300"})


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("line", "option"), CASES)
def test_a_file_that_is_read_is_not_written_over(place: Path, line: str, option: str) -> None:
    before = contents(place)
    done = called(line)
    assert done.exit_code == 2, done.output
    file = line.split()[-1]
    assert file in done.output
    assert {option, line.split()[-2]} <= {word.strip(":,;.") for word in done.output.split()}
    assert contents(place) == before


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, each in group.commands.items():
        if isinstance(each, click.Group):
            yield from commands(each, f"{above}{name} ")
        else:
            yield f"{above}{name}", each


def test_every_output_is_tried() -> None:
    outputs = {
        (name, str(option.name))
        for name, each in commands(app)
        for option in each.params
        if isinstance(option.type, click.Path) and option.name in ("out", "log", "plot", "json", "portable")
        if isinstance(option, click.Option)
    }
    tried = {
        (name, option)
        for name, option in outputs
        for line, _ in CASES
        if line.startswith(name) and f"--{option} " in line
    }
    assert outputs - tried == INTO_A_FOLDER


def test_what_is_no_file_can_be_written_again(place: Path) -> None:
    done = called("gradients --cells rnn --length 2 --hidden 2 --json /dev/null")
    assert done.exit_code == 0, done.output
    (place / "models" / "ours" / "ours.onnx").write_text("an earlier one")
    done = called("export models/ours --portable models/ours/ours.onnx")
    assert done.exit_code == 0, done.output


@pytest.fixture
def full(place: Path) -> Path:
    """A folder with files to read."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    Path("mixture.toml").write_text('[[source]]\nfile = "texts.tsv"\nrows = 2\n')
    Path("texts.tsv").write_text("text\tlabel\n" + "a fine film\tpositive\na dull film\tnegative\n" * 4)
    (place / "steps.svg").write_text('{"step": 1, "loss": 1.0, "gradient": 1.0, "clipped": 0}\n')
    return place


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (
            f"{FIT} --log full.jsonl --epochs 1 --hidden 4 --device cpu --vectors none --checkpoint-every 0",
            "full.jsonl",
        ),
        ("plot steps.svg --out full.svg", "full.svg"),
        ("gradients --cells rnn --length 2 --hidden 2 --rows 1 --json full.json", "full.json"),
        (
            "longrange --problem adding --cells rnn --length 2 --hidden 2 --rows 1 --steps 1 --json full.json",
            "full.json",
        ),
        ("distil draw --mixture mixture.toml --out full.tsv.gz", "full.tsv.gz"),
    ],
)
def test_a_full_disk_is_said_of_the_file(
    full: Path, line: str, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (full / name).symlink_to("/dev/full")
    monkeypatch.setattr(
        "sys.argv", ["training", *line.replace("t.tsv", "texts.tsv").replace("d.tsv", "texts.tsv").split()]
    )
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"error: {name}: No space left on device"


def test_an_encoder_that_cannot_be_written_is_named(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save_file(*_: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(pretrain, "save_file", save_file)
    done = called("pretrain --texts texts.tsv --out encoder.new --epochs 1 --hidden 4")
    assert isinstance(done.exception, OSError)
    assert (done.exception.filename, done.exception.strerror) == ("encoder.new", "No space left on device")
    assert not (full / "encoder.new").exists()


def test_an_error_of_the_system_gets_the_name_of_the_file_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="here") as named, naming(tmp_path / "here"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert named.value.filename == str(tmp_path / "here")
    with pytest.raises(FileNotFoundError) as named, naming(tmp_path / "here"):
        (tmp_path / "none").read_text()
    assert named.value.filename == str(tmp_path / "none")
    with pytest.raises(OSError, match="the disk is full") as named, naming(tmp_path / "here"):
        raise SafetensorError("the disk is full")
    assert named.value.filename == str(tmp_path / "here")
