"""Several processes, started by torchrun as users start them, give what one gives that sees the same batches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from service.model.bundle import WEIGHTS, load, versions
from tests import corpora
from tests.patience import PATIENCE, until
from tests.training.commands.test_cli import environment
from training.loop import processes
from training.loop.checkpoints import FILE
from training.loop.logs import read
from training.loop.processes import ALONE, Processes, ProcessesError

# Without the two dashes at its end torchrun takes --log for the beginning of an option of its own.
TORCHRUN: tuple[str, ...] = (
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "training",
    "--",
)
ALONE_ = ("-m", "training")
SETTINGS: tuple[str, ...] = (
    "--hidden",
    "5",
    "--epochs",
    "2",
    "--patience",
    "2",
    "--batch-rows",
    "5",
    "--learning-rate",
    "0.01",
)
SETTINGS += ("--device", "cpu", "--dropout", "0", "--word-dropout", "0", "--optimiser", "sgd")


def started(folder: Path, how: tuple[str, ...], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *how, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=3 * PATIENCE)  # three processes that import torch
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return output


def fit(folder: Path, how: tuple[str, ...], name: str, *more: str) -> subprocess.Popen[str]:
    files = ("--train", str(folder / "data" / "train.tsv"), "--dev", str(folder / "data" / "dev.tsv"))
    return started(folder, how, "fit", "--task", "sentiment", *files, *SETTINGS, "--out", f"models/{name}", *more)


def weights(folder: Path, name: str) -> dict[str, np.ndarray]:
    return load_file(load(folder / "models" / name / "1").file(WEIGHTS))


pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpora.sentiment(tmp_path / "data" / "train.tsv")
    corpora.sentiment(tmp_path / "data" / "dev.tsv", start=1, step=3)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_give_what_one_gives_that_sees_the_same_batches(folder: Path) -> None:
    """48 examples in batches of seven make seven: in an epoch's last step there is a batch for one of two alone."""
    two = ended(fit(folder, TORCHRUN, "two", "--batch-rows", "7", "--log", "two.jsonl"))
    assert ended(fit(folder, ALONE_, "one", "--batch-rows", "7", "--accumulate", "2", "--log", "one.jsonl"))
    assert versions(folder / "models" / "two") == [1], two
    ours, theirs = weights(folder, "two"), weights(folder, "one")
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name].astype(float), array.astype(float), rtol=1e-3, atol=1e-5, err_msg=name)
    logs = [read(folder / name) for name in ("two.jsonl", "one.jsonl")]
    assert [each["step"] for each in logs[0]] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8], "a line a step and an epoch, from one"
    for one, other in zip(*logs, strict=True):
        for name in set(one) - {"seconds"}:
            assert one[name] == pytest.approx(other[name], rel=1e-4), name
    assert two.count("exporting") == 1
    assert not (folder / "models" / "two" / FILE).exists()


@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_killed_and_resumed_they_give_the_undisturbed_model_bit_for_bit(folder: Path) -> None:
    more: tuple[str, ...] = ("--dropout", "0.3", "--weight-drop", "0.2", "--batch-rows", "7", "--checkpoint-every", "1")
    more = (*more, "--epochs", "30", "--patience", "30")
    assert "exporting" in ended(fit(folder, TORCHRUN, "whole", *more))
    disturbed = fit(folder, TORCHRUN, "cut", *more, "--log", "cut.jsonl")
    log = folder / "cut.jsonl"
    until(lambda: log.exists() and log.read_text().count("\n") >= 9, every=0.01)
    assert disturbed.poll() is None
    workers = Path(f"/proc/{disturbed.pid}/task/{disturbed.pid}/children").read_text().split()
    assert len(workers) == 2
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    assert "exporting" not in ended(disturbed)
    assert disturbed.returncode != 0
    assert (folder / "models" / "cut" / FILE).exists()
    alone = ended(fit(folder, ALONE_, "cut", *more, "--resume"))
    assert "processes was 2 and is 1" in " ".join(alone.split())
    assert "resuming after step" in ended(fit(folder, TORCHRUN, "cut", *more, "--resume"))
    ours, theirs = weights(folder, "cut"), weights(folder, "whole")
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_other_commands_run_in_one_process(folder: Path) -> None:
    found = ended(started(folder, TORCHRUN, "longrange", "--problem", "adding"))
    assert "longrange runs in one process: only fit can be started by torchrun" in " ".join(found.split())


def test_alone_there_is_nobody_to_talk_to() -> None:
    tensor = torch.ones(2)
    ALONE.add([tensor])
    ALONE.alike([tensor])
    assert torch.equal(tensor, torch.ones(2))
    assert ALONE.first
    assert (ALONE.from_first(3), ALONE.gathered(3), ALONE.share([1, 2])) == (3, [3], [1, 2])
    with processes.joined(torch.device("cpu")) as here:
        assert here == ALONE


def test_each_has_its_share_of_a_step_and_the_last_may_have_none() -> None:
    parts = [Processes(rank, 3).share(range(5)) for rank in range(3)]
    assert [list(part) for part in parts] == [[0, 3], [1, 4], [2]]
    assert list(Processes(2, 3).share(range(2))) == []


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert processes.device_of("cpu") == torch.device("cpu")
    with pytest.raises(ProcessesError, match="1 CUDA devices, fewer than --nproc-per-node"):
        processes.device_of("cuda")
