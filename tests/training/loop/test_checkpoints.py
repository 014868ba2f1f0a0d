"""Killed at any moment, a training goes on to exactly the model that it would have given undisturbed."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.bundles import architecture
from tests.training.loop.test_fit import CPU, FAST, same, texts, weights
from training.loop import checkpoints
from training.loop.checkpoints import CheckpointError, Checkpoints
from training.loop.fit import Outcome, Progress, Recipe, fit, seed_everything
from training.nets.networks import Dropouts, Network

RECIPE = replace(FAST, epochs=3, window=6, optimiser="nadam", accumulate=2, patience=2, average=0.9)
SETTINGS = {"seed": 1}


@pytest.fixture(autouse=True)
def _nothing_global_is_left() -> Iterator[None]:
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)


def score(net: Network) -> float:
    """Something that depends on every weight."""
    return float(sum(parameter.detach().double().sum() for parameter in net.parameters()))


def train(
    folder: Path | None, report: Callable[[Progress], None] = lambda _: None, recipe: Recipe = RECIPE
) -> tuple[Network, Outcome]:
    """Train from the beginning, or from the checkpoint on where there is one, with every kind of dropout."""
    seed_everything(recipe.seed)
    shape = architecture(cell="peephole", bidirectional=not recipe.bptt, hidden=5)
    net = Network(shape, Dropouts(0.2, 0.3, 0.1, locked=bool(recipe.bptt), words=0.05))
    kept = Checkpoints(folder, SETTINGS, every=1) if folder else None
    state = kept.load() if kept else None
    return net, fit(net, texts(40), recipe, score, report, CPU, kept, state)


def killed(folder: Path, arrange: Callable[[], Callable[[Progress], None]], recipe: Recipe = RECIPE) -> None:
    """Train in a process of its own that kills itself: nothing of it can be tidied up."""
    child = os.fork()
    if not child:
        try:
            train(folder, arrange(), recipe)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended before it was to be killed"
    assert os.WTERMSIG(status) == signal.SIGKILL


def die(*_: object, **__: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def at(epoch: int, batch: int) -> Callable[[], Callable[[Progress], None]]:
    """Die when this is reported; batch 0 is the end of an epoch."""

    def report(progress: Progress) -> None:
        if (progress.epoch, progress.batch) == (epoch, batch):
            die()

    return lambda: report


def within(name: str, call: int) -> Callable[[], Callable[[Progress], None]]:
    """Die in the middle of a checkpoint's writing, at the so-manieth call of a function."""

    def arrange() -> Callable[[Progress], None]:
        owner: Any = {"save": torch, "fsync": os, "replace": Path}[name]
        real, calls = getattr(owner, name), iter(range(1, 10_000))

        def dying(*arguments: Any, **options: Any) -> Any:
            if next(calls) == call:
                if name == "save":
                    arguments[1].write_bytes(b"half a checkpoint")
                die()
            return real(*arguments, **options)

        setattr(owner, name, dying)
        return lambda _: None

    return arrange


MOMENTS = {
    "in the first step": at(1, 1),
    "within an epoch": at(2, 2),
    "at the end of an epoch": at(1, 0),
    "while it writes": within("save", 3),
    "before the file is on the disk": within("fsync", 5),
    "before the file is in its place": within("replace", 4),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_it_gives_the_undisturbed_model_bit_for_bit(tmp_path: Path, moment: str) -> None:
    undisturbed, expected = train(None)
    killed(tmp_path, MOMENTS[moment])
    found, outcome = train(tmp_path)
    assert same(weights(found), weights(undisturbed))
    assert outcome == expected


@pytest.mark.parametrize("moment", ["in the first step", "within an epoch"])
def test_so_does_one_that_reads_in_windows(tmp_path: Path, moment: str) -> None:
    recipe = replace(RECIPE, window=0, bptt=4, bptt_loss="end")
    undisturbed, expected = train(None, recipe=recipe)
    killed(tmp_path, MOMENTS[moment], recipe)
    found, outcome = train(tmp_path, recipe=recipe)
    assert same(weights(found), weights(undisturbed))
    assert outcome == expected


def test_killed_again_and_again(tmp_path: Path) -> None:
    undisturbed, _ = train(None)
    for moment in (at(1, 2), at(2, 1), within("replace", 1), at(3, 1)):
        killed(tmp_path, moment)
    assert same(weights(train(tmp_path)[0]), weights(undisturbed))


def test_a_finished_training_is_not_trained_on(tmp_path: Path) -> None:
    first, _ = train(tmp_path)
    again, _ = train(tmp_path, lambda _: pytest.fail("it trained"))
    assert same(weights(again), weights(first))


def test_a_half_written_checkpoint_is_never_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.save({"step": 1})

    def half(content: object, file: Any) -> None:
        file.write_bytes(pickle.dumps("half"))
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="the disk is full"):
        kept.save({"step": 2})
    assert kept.load() == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.FILE], "nothing is left lying about"


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.save({"step": 1, "weights": torch.ones(1000)})
    whole = kept.file.read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], b"text", pickle.dumps({"format": 2})):
        kept.file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
            kept.load()


def test_a_checkpoint_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"format": 1, "settings": "{}", "state": Trap()}, tmp_path / checkpoints.FILE)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoints(tmp_path, SETTINGS).load()
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_of_another_training_is_refused_with_the_difference(tmp_path: Path) -> None:
    Checkpoints(tmp_path, {"recipe.seed": 1, "device": "cpu"}).save({"step": 1})
    with pytest.raises(CheckpointError, match=r"recipe\.seed was 1 and is 2"):
        Checkpoints(tmp_path, {"recipe.seed": 2, "device": "cpu"}).load()


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, SETTINGS)
    state = {"best": 0.1 + 0.2, "none": None, "drawn": str(np.random.default_rng(1).bit_generator.state)}
    kept.save(state)
    assert kept.load() == state


@contextmanager
def _files_of(most: int) -> Iterator[None]:
    """Inside the block this process writes no file of more bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_the_disk_does_not_take_leaves_the_one_before(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.save({"step": 1})
    with (
        _files_of(20_000),
        pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be written: is the disk full\?"),
    ):
        kept.save({"step": 2, "network": {"weight": torch.ones(10_000)}})
    assert kept.load() == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def _save_on_and_on(kept: Checkpoints) -> None:
    for _ in range(100):
        kept.save({"step": 2, "network": {"weight": torch.ones(2_000_000)}})


def test_an_interrupt_while_a_checkpoint_is_written_is_one(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, SETTINGS)
    kept.save({"step": 1})
    done = threading.Event()

    def interrupt() -> None:
        while not done.is_set():
            if any(path.name != "checkpoint.pt" for path in tmp_path.iterdir()):
                signal.raise_signal(signal.SIGINT)
                return

    # Handled by Python's default handler, which raises KeyboardInterrupt in this thread.
    watching = threading.Thread(target=interrupt)
    watching.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            _save_on_and_on(kept)
    finally:
        done.set()
        watching.join()
    assert kept.load() is not None
