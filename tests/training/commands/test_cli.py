"""``python -m training``: real runs in a process of their own, the precedence of settings, and errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
import torch

from service.errors import BundleError
from service.model.bundle import CARD, Score, Task, load, versions
from service.version import VERSION
from tests import corpora
from tests.bundles import tiny_bundle
from tests.patience import PATIENCE
from training import cli
from training.commands import fit as fit_command
from training.export.card import render
from training.export.writing import replace_manifest
from training.loop.fit import Recipe
from training.nets.networks import Design
from training.options import FitOptions

ROOT = Path(__file__).resolve().parents[3]
FIT = (
    "--hidden",
    "6",
    "--epochs",
    "8",
    "--batch-rows",
    "8",
    "--learning-rate",
    "0.02",
    "--device",
    "cpu",
    "--vectors",
    "none",
)


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRAINING_")}
    return {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def started(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "training", *arguments],
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(folder: Path, *arguments: str, **more: str) -> str:
    """Standard output of a run that ends well."""
    process = started(folder, *arguments, **more)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output


def data(folder: Path, task: Task = "sentiment") -> tuple[Path, Path]:
    """Training and dev data in ``folder/mine``."""
    if task == "ner":
        return corpora.ner(folder / "mine" / "train.conll"), corpora.ner(folder / "mine" / "dev.conll", step=3)
    return corpora.sentiment(folder / "mine" / "train.tsv"), corpora.sentiment(folder / "mine" / "dev.tsv", step=3)


# Whole runs.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "cell"), [("sentiment", "lstm"), ("ner", "gru"), ("sentiment", "rnn"), ("sentiment", "peephole")]
)
def test_fit_then_evaluate(tmp_path: Path, task: Task, cell: str) -> None:
    train, dev = data(tmp_path, task)
    arguments = ["--task", task, "--cell", cell, "--bidirectional", *FIT, "--dev", str(dev), "--out", "models/tiny"]
    ran(tmp_path, "fit", "--train", str(train), *arguments, DATA=str(tmp_path))
    bundle = load(tmp_path / "models" / "tiny" / "1")
    assert bundle.manifest.directions == ("forward", "backward")
    assert bundle.manifest.origin.command.startswith("python -m training fit --train $DATA/mine/train.")
    assert bundle.manifest.origin.command in bundle.file(CARD).read_text("utf-8")

    lines = ran(tmp_path, "evaluate", "models/tiny", "--data", str(dev), "--data", str(train), "--json").splitlines()
    on_dev, on_train = map(json.loads, lines)
    assert (on_dev["model"], on_dev["version"], on_dev["truncated"]) == ("tiny", "1", 0)
    assert (on_dev["data"], on_train["data"]) == ("mine dev", "mine train")
    expected = ("accuracy", "macro_f1") if task == "sentiment" else ("precision", "recall", "f1")
    for score in bundle.manifest.quality:
        assert on_dev[score.metric] == pytest.approx(score.value, abs=1e-5)
    assert all(on_train[metric] > 0.9 for metric in expected)


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_model_so_far(tmp_path: Path) -> None:
    train, dev = data(tmp_path)
    arguments = ["--task", "sentiment", "--train", str(train), "--dev", str(dev), "--out", "models/tiny"]
    endless = ["--hidden", "6", "--vectors", "none", "--epochs", "1000000", "--patience", "1000000", "--device", "cpu"]
    process = started(tmp_path, "fit", *arguments, *endless)
    assert process.stderr
    try:
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "epoch 2:" in line:
                break
        else:
            pytest.fail("".join(seen))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert "interrupted: exporting the best model so far" in errors
    assert "Traceback" not in errors
    assert load(tmp_path / "models" / "tiny" / "1").manifest.origin.epochs >= 2


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    program = "import runpy, sys; sys.modules['torch'] = None; runpy.run_module('training', run_name='__main__')"
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("error: torch is not installed: training needs more than serving.")
    assert len(found.stderr.splitlines()) == 1


# In this process.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, an environment without settings, and global state put back at the end."""
    monkeypatch.chdir(tmp_path)
    before, deterministic = dict(os.environ), torch.are_deterministic_algorithms_enabled()
    for name in before:
        if name.startswith("TRAINING_") or name == "DATA":
            del os.environ[name]
    os.environ["COLUMNS"] = "200"
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    torch.use_deterministic_algorithms(deterministic)
    os.environ.clear()
    os.environ.update(before)


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of the program."""
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[FitOptions]:
    """The jobs that would have been run."""
    found: list[FitOptions] = []

    def run(job: FitOptions, *_: object) -> tuple[object, object]:
        found.append(job)
        made = SimpleNamespace(name="tiny", version=1, manifest=SimpleNamespace(quality=()))
        return made, SimpleNamespace(best=None, epochs=0)

    monkeypatch.setattr(fit_command, "run", run)
    return found


NEEDED = ("fit", "--task", "sentiment", "--train", "t.tsv", "--dev", "d.tsv", "--out", "models/tiny")


@pytest.mark.usefixtures("place")
def test_flags_go_before_the_environment_and_the_environment_before_the_file(
    monkeypatch: pytest.MonkeyPatch, jobs: list[FitOptions]
) -> None:
    Path(".env").write_text(
        "# settings\nTRAINING_FIT_HIDDEN=11\nTRAINING_FIT_LAYERS=2\nTRAINING_FIT_SEED=5\nTRAINING_FIT_CELL=gru\n",
        "utf-8",
    )
    os.environ["TRAINING_FIT_HIDDEN"] = "22"
    os.environ["TRAINING_FIT_LAYERS"] = "3"
    assert main(monkeypatch, *NEEDED, "--hidden", "33") == 0
    (job,) = jobs
    assert (job.design.hidden, job.design.layers, job.recipe.seed, job.design.cell) == (33, 3, 5, "gru")


@pytest.mark.usefixtures("place")
def test_required_options_come_from_the_environment_too(
    monkeypatch: pytest.MonkeyPatch, jobs: list[FitOptions]
) -> None:
    os.environ.update(TRAINING_FIT_TASK="ner", TRAINING_FIT_TRAIN="a.conll", TRAINING_FIT_OUT="models/x")
    Path(".env").write_text("TRAINING_FIT_DEV=b.conll\nTRAINING_FIT_BIDIRECTIONAL=1\n", "utf-8")
    assert main(monkeypatch, "fit") == 0
    (job,) = jobs
    assert (job.train, job.dev, job.out) == ((Path("a.conll"),), (Path("b.conll"),), Path("models/x"))
    assert (job.design.task, job.design.directions, job.design.head) == ("ner", ("forward", "backward"), "tagger")


@pytest.mark.usefixtures("place")
def test_defaults(monkeypatch: pytest.MonkeyPatch, jobs: list[FitOptions]) -> None:
    assert main(monkeypatch, *NEEDED) == 0
    (job,) = jobs
    assert job.design == Design("sentiment", "lstm", ("forward",), 1, 128, "max")
    assert (job.test, job.vectors) == ((), None)
    assert job.recipe == Recipe()


@pytest.mark.usefixtures("place")
def test_the_reset_gate_is_a_grus(monkeypatch: pytest.MonkeyPatch, jobs: list[FitOptions]) -> None:
    assert main(monkeypatch, *NEEDED, "--cell", "gru") == 0
    assert main(monkeypatch, *NEEDED, "--cell", "gru", "--gru-reset", "before") == 0
    assert [job.design.reset for job in jobs] == ["after", "before"]
    assert main(monkeypatch, *NEEDED, "--cell", "peephole", "--gru-reset", "before") == 2
    assert len(jobs) == 2


@pytest.mark.usefixtures("place")
def test_options_reach_the_job(monkeypatch: pytest.MonkeyPatch, jobs: list[FitOptions]) -> None:
    options = {"epochs": 4, "patience": 2, "learning_rate": 0.5, "clip": 2.0, "batch_rows": 3, "batch_tokens": 77}
    options |= {"window": 9, "label_smoothing": 0.25, "seed": 8}
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    several = ["--train", "u.tsv", "--dev", "e.tsv", "--test", "x.tsv", "--vectors", "v.npz", "--pooling", "mean"]
    assert main(monkeypatch, *NEEDED, *flags, *several, "--dropout", "0", "--words", "50", "--licence", "MIT") == 0
    (job,) = jobs
    assert {name: getattr(job.recipe, name) for name in options} == options
    assert job.train == (Path("t.tsv"), Path("u.tsv"))
    assert job.dev == (Path("d.tsv"), Path("e.tsv"))
    assert (job.test, job.vectors, job.design.head) == ((Path("x.tsv"),), Path("v.npz"), "mean")
    assert (job.dropout, job.words, job.licence) == (0.0, 50, "MIT")


@pytest.mark.usefixtures("place")
def test_the_command_is_kept_in_a_form_that_can_be_run_again(
    monkeypatch: pytest.MonkeyPatch, jobs: list[FitOptions]
) -> None:
    os.environ["DATA"] = "/data/sets/"
    extra = ["--dev", "/data/sets/sst2/dev.tsv", "--licence", "CC BY 4.0; it's free", "--test", "/data/setsuna.tsv"]
    assert main(monkeypatch, *NEEDED, *extra) == 0
    command = jobs[0].command
    assert command.startswith("python -m training fit --task sentiment --train t.tsv --dev d.tsv --out models/tiny ")
    assert "--dev $DATA/sst2/dev.tsv" in command
    assert "--test /data/setsuna.tsv" in command
    words = subprocess.run(
        ["sh", "-c", f"for word in {command}; do printf '%s\\n' \"$word\"; done"],
        env={"DATA": "/data/sets"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert words == ["python", "-m", "training", *NEEDED, *extra]


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The one line that is said, after ``error: ``."""
    assert main(monkeypatch, *arguments) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def fit(folder: Path, **changed: str) -> list[str]:
    """The arguments of a run that would do, but for what is changed."""
    train, dev = data(folder)
    options = {"task": "sentiment", "train": str(train), "dev": str(dev), "out": "models/tiny", **changed}
    return ["fit", *FIT, *(text for name, value in options.items() for text in (f"--{name}", value))]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("none.tsv", None, "none.tsv: it cannot be read: No such file", id="missing"),
        pytest.param("empty.tsv", b"", "empty.tsv: it holds no example", id="empty"),
        pytest.param("header.tsv", b"text\tlabel\n", "header.tsv: it holds no example", id="header-alone"),
        pytest.param("latin.tsv", b"text\tlabel\n\xe9t\xe9\tgood\n", "latin.tsv:2: the byte 0xE9", id="latin"),
        pytest.param(
            "one.tsv", b"text\tlabel\na\tgood\nb\tgood\n", "one.tsv: its only label is 'good'", id="one-label"
        ),
        pytest.param("short.tsv", b"text\tlabel\na\n", "short.tsv:2: 1 columns", id="columns"),
        pytest.param("cut.tsv.gz", b"\x1f\x8b\x08\x00", "cut.tsv.gz: it is not a whole gzip file", id="gzip"),
        pytest.param("data.xlsx", b"PK", "data.xlsx: a spreadsheet is not read: save it as CSV", id="format"),
    ],
)
def test_training_data_that_cannot_be_used(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    expected: str,
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    assert refused(capsys, monkeypatch, *fit(place, train=name)).startswith(expected)
    assert not (place / "models").exists()


def test_a_dev_label_that_train_lacks(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("dev.tsv").write_text("text\tlabel\na film\tneutral\n", "utf-8")
    reason = refused(capsys, monkeypatch, *fit(place, dev="dev.tsv"))
    assert reason == ("dev.tsv:2: the label 'neutral' is not in the training data, which has negative, positive")
    assert not (place / "models").exists()


@pytest.mark.parametrize("name", ["my model", "-x", ".hidden", "x" * 65, "é", "a:b"])
def test_names_that_no_model_can_have(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert "is no model name" in refused(capsys, monkeypatch, *fit(place, out=f"models/{name}"))


def test_debug_shows_where_an_error_comes_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no version there" in refused(capsys, monkeypatch, "evaluate", "nothing", "--data", "x.tsv")
    with pytest.raises(BundleError, match="no version there"):
        main(monkeypatch, "--debug", "evaluate", "nothing", "--data", "x.tsv")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "error",
    [ValueError("two\nlines"), KeyError("calibration_error"), RuntimeError(), RecursionError("deep"), MemoryError()],
)
def test_an_unforeseen_error_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(fit_command, "run", fails)
    reason = refused(capsys, monkeypatch, *NEEDED)
    assert reason.startswith(f"{type(error).__name__}: ")
    assert reason.endswith(" (--debug shows where)")
    with pytest.raises(type(error)):
        main(monkeypatch, "--debug", *NEEDED)


ODD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + b"\xff" * 20
"""Begins as a gzip file does, and goes on as none."""


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("name", "content", "arguments", "expected"),
    [
        ("a.jsonl", b"\xff\xfe", ["plot", "a.jsonl", "--out", "a.svg"], "a.jsonl: not a log of a training"),
        ("a.jsonl", b'{"step": "x"}\n', ["plot", "a.jsonl", "--out", "a.svg"], "a.jsonl:1: not a record"),
        (
            "a.jsonl",
            b'{"step": 1, "loss": 2}\n',
            ["plot", "a.jsonl", "--out", "a.svg"],
            "a.jsonl: no step of a training",
        ),
        ("a.txt.gz", ODD, ["pretrain", "--texts", "a.txt.gz", "--out", "e"], "a.txt.gz: it is not a whole gzip file"),
        ("a.tsv.gz", ODD, ["pretrain", "--texts", "a.tsv.gz", "--out", "e"], "a.tsv.gz: it is not a whole gzip file"),
    ],
)
def test_files_of_another_kind(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    arguments: list[str],
    expected: str,
) -> None:
    Path(name).write_bytes(content)
    assert refused(capsys, monkeypatch, *arguments).startswith(expected)


def test_the_version_is_the_service_s(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{VERSION}\n"


@pytest.mark.usefixtures("place")
def test_exit_statuses_are_those_of_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    assert main(monkeypatch, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Exit statuses: 0 done, 1 it could not be done" in shown
    assert "2 a wrong command line or setting, 130 interrupted" in shown
    assert "completion" not in shown, "it would be that of another program than `python -m training`"
    assert main(monkeypatch, "evaluate", "nothing", "--data", "x.tsv") == 1
    assert main(monkeypatch, "evaluate") == 2
    monkeypatch.setattr(fit_command, "run", interrupted)
    assert main(monkeypatch, *NEEDED) == 130


def test_vectors_that_cannot_be_used(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "none.npz: it cannot be read" in refused(capsys, monkeypatch, *fit(place, vectors="none.npz"))
    Path("short.txt").write_text("film 1 2 3\nplot 1 2\n", "utf-8")
    complaint = refused(capsys, monkeypatch, *fit(place, vectors="short.txt"))
    assert "short.txt:2: 2 numbers; the first line has 3" in complaint


def test_an_output_that_cannot_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("models").write_text("a file", "utf-8")
    main_status = main(monkeypatch, *fit(place))
    errors = capsys.readouterr().err
    assert main_status == 1
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: ")
    assert "models/tiny" in errors.splitlines()[-1]


@pytest.mark.usefixtures("place")
def test_a_settings_file_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_bytes(b"TRAINING_FIT_SEED=\xff\n")
    assert refused(capsys, monkeypatch, *NEEDED).startswith(".env cannot be read: ")


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--hidden", "0"], "hidden"),
        (["--layers", "17"], "layers"),
        (["--cell", "transformer"], "cell"),
        (["--dropout", "1"], "dropout"),
        (["--epochs", "many"], "epochs"),
        (["--learning-rate", "0"], "learning-rate"),
        (["--colour", "red"], "colour"),
    ],
)
def test_settings_out_of_range(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    named: str,
    jobs: list[FitOptions],
) -> None:
    assert main(monkeypatch, *NEEDED, *flags) == 2
    assert named in capsys.readouterr().err
    assert jobs == []


@pytest.mark.usefixtures("place", "jobs")
def test_a_setting_of_the_environment_out_of_range(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ["TRAINING_FIT_HIDDEN"] = "-3"
    assert main(monkeypatch, *NEEDED) == 2
    assert "hidden" in capsys.readouterr().err


@pytest.mark.usefixtures("place", "jobs")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, *NEEDED, "--device", "cuda") == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["evaluate", "--help"]])
def test_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(monkeypatch, *arguments) == 0
    output = capsys.readouterr().out
    expected = {"--help": ["TRAINING_FIT_HIDDEN", ".env", "fit", "evaluate"], "fit": ["--task", "--vectors", "--seed"]}
    assert all(word in output for word in expected.get(arguments[0], ["--data", "--json"]))


# evaluate


def test_evaluate_takes_the_highest_version_or_the_one_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, dev = data(place)
    folder = place / "models" / "tiny"
    tiny_bundle(folder)
    tiny_bundle(folder, seed=8)
    assert versions(folder) == [1, 2]
    for named, version in (("models/tiny", "2"), ("models/tiny/", "2"), ("models/tiny/1", "1"), (str(folder), "2")):
        assert main(monkeypatch, "evaluate", named, "--data", str(dev), "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["model"], found["version"], found["data"]) == ("tiny", version, "mine dev")


def test_evaluate_prints_a_table(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, dev = data(place, "ner")
    tiny_bundle(place / "models" / "tiny", task="ner")
    assert main(monkeypatch, "evaluate", "models/tiny", "--data", str(dev)) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert all(word in output for word in ("tiny version 1 on mine dev", "precision", "recall", "f1 of PER", "0 cut"))


def test_evaluate_says_how_many_it_cut(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_bundle(place / "models" / "tiny")
    long = "good " * 5000
    Path("long.tsv").write_text(f"text\tlabel\n{long}\tpositive\ngood\tnegative\n", "utf-8")
    assert main(monkeypatch, "evaluate", "models/tiny", "--data", "long.tsv", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["inputs"], found["truncated"]) == (2, 1)


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_evaluate_records_its_figures_in_manifest_and_card(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: Task
) -> None:
    _, dev = data(place, task)
    made = tiny_bundle(place / "models" / "tiny", task=task)
    metric: Literal["accuracy", "f1"] = "accuracy" if task == "sentiment" else "f1"
    earlier = [Score(data=name, metric=metric, value=0.9, examples=1) for name in ("mine dev", "other dev")]
    replace_manifest(made, made.manifest.model_copy(update={"quality": tuple(earlier)}))
    arguments = ("evaluate", "models/tiny", "--data", str(dev), "--raw", "--json")
    assert main(monkeypatch, *arguments) == 0
    assert load(made.path).manifest.quality == tuple(earlier), "nothing is written without --record"
    capsys.readouterr()
    assert main(monkeypatch, *arguments, "--record") == 0
    line = json.loads(capsys.readouterr().out)
    kept = load(made.path).manifest
    found = {each.metric: each.value for each in kept.quality if each.data == "mine dev"}
    assert found == {name: pytest.approx(line[name], abs=1e-5) for name in found}
    assert len(found) == 4
    assert [each.data for each in kept.quality] == [*["mine dev"] * 4, "other dev"]
    on_raw = {each.data: each.f1 for each in kept.raw_text}
    assert on_raw == pytest.approx({"mine dev": line["raw"]["f1"]} if task == "ner" else {}, abs=1e-5)
    assert [each.data for each in kept.guess] == ["mine dev"]
    assert load(made.path).file(CARD).read_text("utf-8") == render("tiny", kept)


def test_evaluate_scores_data_whose_name_no_manifest_can_hold(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, dev = data(place, "sentiment")
    tiny_bundle(place / "models" / "tiny", task="sentiment")
    long = place / ("f" * 200) / ("d" * 70 + dev.suffix)
    long.parent.mkdir()
    long.write_bytes(dev.read_bytes())
    assert main(monkeypatch, "evaluate", "models/tiny", "--data", str(long), "--json") == 0
    assert "accuracy" in json.loads(capsys.readouterr().out)


def test_evaluate_counts_the_types_that_were_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("some").mkdir()
    Path("some/dev.conll").write_text("Ada\tB-PER\nin\tO\nParis\tB-LOC\n\nLatin\tB-MISC\n", "utf-8")
    made = tiny_bundle(place / "models" / "tiny", task="ner")
    arguments = ("evaluate", "models/tiny", "--data", "some/dev.conll", "--json", "--record")
    assert "'B-MISC' is not in tiny" in refused(capsys, monkeypatch, *arguments)
    assert main(monkeypatch, *arguments, "--types", "PER,LOC") == 0
    assert json.loads(capsys.readouterr().out)["data"] == "some dev (LOC PER)"
    assert {each.data for each in load(made.path).manifest.quality} >= {"some dev (LOC PER)"}
    assert main(monkeypatch, *arguments, "--types", "PER,MISC") == 2
    assert "there is no entity type 'MISC'; known are LOC, PER" in " ".join(capsys.readouterr().err.split())
    tiny_bundle(place / "models" / "other")
    assert main(monkeypatch, "evaluate", "models/other", "--data", "x.tsv", "--types", "PER") == 2
    assert "a classifier has no entities" in " ".join(capsys.readouterr().err.split())


def test_bundles_that_cannot_be_evaluated(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, dev = data(place)
    _, tagged = data(place, "ner")
    assert "no version there" in refused(capsys, monkeypatch, "evaluate", "models/none", "--data", str(dev))
    bundle = tiny_bundle(place / "models" / "tiny")
    reason = refused(capsys, monkeypatch, "evaluate", "models/tiny", "--data", str(tagged))
    assert ".conll is an ending of files for --task ner" in reason
    assert "model.json" in refused(capsys, monkeypatch, "evaluate", "models/tiny/7", "--data", str(dev))
    bundle.file(CARD).write_text("altered", "utf-8")
    reason = refused(capsys, monkeypatch, "evaluate", "models/tiny", "--data", str(dev))
    assert reason.startswith("models/tiny/1: README.md does not match the manifest")
