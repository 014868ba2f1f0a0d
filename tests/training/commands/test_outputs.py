"""No command writes over a file that it reads, or writes one file twice, or what another process writes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from safetensors import SafetensorError

from tests.bundles import tiny_bundle
from training.cli import app, main
from training.data.outputs import held, naming
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
HELD = (
    (f"{FIT}", "models/x"),
    (f"{FIT} --resume", "models/x"),
    (f"{FIT} --log log.jsonl", "log.jsonl"),
    ("pretrain --texts t.tsv --out encoder", "encoder"),
    ("distil teacher --mixture m.toml --base set --out models/x", "models/x"),
    ("distil label --teacher none --mixture mixture.toml --out new.jsonl.gz", "new.jsonl.gz"),
    ("distil tag --model none --mixture mixture.toml --out new.jsonl.gz", "new.jsonl.gz"),
    ("evaluate models/ours --data t.tsv --record", "models/ours/1"),
    ("faithfulness models/ours --data t.tsv --record", "models/ours/1"),
    ("longrange --problem adding --cells none --json curves.json", "curves.json"),
    ("longrange --problem adding --cells none --plot curves.svg", "curves.svg"),
    ("gradients none --json reach.json", "reach.json"),
    ("gate-statistics models/ours --data t.tsv", "models/ours/1"),
    ("units models/ours/1 --data t.tsv", "models/ours/1"),
)
"""Command lines, and the output that they write for long. Their inputs are missing: they come after the lock."""
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


@pytest.mark.parametrize(("line", "name"), HELD)
def test_what_another_process_writes_is_refused_before_any_work(place: Path, line: str, name: str) -> None:
    folders = {each for each in place.rglob("*") if each.is_dir()}
    with held(place / name, folder=name.startswith("models")):
        before = contents(place)
        done = called(line)
        assert isinstance(done.exception, BlockingIOError)
        assert (done.exception.filename, done.exception.strerror) == (
            name,
            "another process is writing it: wait until that ends, or stop it",
        )
        assert contents(place) == before
    done = called(line)
    assert done.exit_code
    assert not isinstance(done.exception, BlockingIOError), "its end gives it free"
    assert contents(place) == {each: content for each, content in before.items() if each.suffix != ".lock"}
    assert {each for each in place.rglob("*") if each.is_dir()} == folders


@pytest.mark.parametrize("folder", [True, False])
def test_a_killed_process_holds_nothing(tmp_path: Path, folder: bool) -> None:
    out = tmp_path / "out"
    child = os.fork()
    if not child:
        with held(out, folder):
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with held(out, folder), pytest.raises(BlockingIOError), held(out, folder):
        pass
    assert [each.name for each in tmp_path.iterdir()] == (["out"] if folder else [])


@pytest.mark.parametrize("folder", [True, False])
def test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    flock, ends = fcntl.flock, [shutil.rmtree if folder else os.unlink]

    def late(descriptor: int, how: int) -> None:
        if ends:
            ends.pop()(tmp_path / ("out" if folder else ".out.lock"))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with held(tmp_path / "out", folder), pytest.raises(BlockingIOError), held(tmp_path / "out", folder):
        pass
    assert not ends


def test_a_folder_that_was_there_or_is_filled_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    new = tmp_path / "models" / "new"
    with held(tmp_path / "there", folder=True), held(new, folder=True), held(new / "deep" / "file"):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["there"]
    with held(new, folder=True):
        (new / "1").mkdir()
    assert (new / "1").is_dir()


def test_a_file_system_without_locks_is_written_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with held(tmp_path / "out"), held(tmp_path / "out"):
        (tmp_path / "out").write_text("written")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


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
