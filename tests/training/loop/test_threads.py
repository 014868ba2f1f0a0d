"""How many threads a training takes: by flag, environment and size; never by the machine's load."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from training.loop import threads


@pytest.fixture(autouse=True)
def _threads_are_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 3)
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("wanted", "hidden", "cpus", "expected"),
    [(0, 64, 8, 1), (0, 256, 8, 1), (0, 257, 8, 4), (0, 512, 2, 2), (0, 512, 1, 1), (2, 64, 1, 2), (1, 4096, 8, 1)],
)
def test_threads_by_flag_and_size(
    monkeypatch: pytest.MonkeyPatch, wanted: int, hidden: int, cpus: int, expected: int
) -> None:
    monkeypatch.setattr(threads, "usable_cpus", lambda: cpus)
    sentence = threads.choose(wanted, hidden)
    assert torch.get_num_threads() == expected
    assert sentence.startswith(f"torch computes with {expected} thread")
    assert f"of {cpus} CPUs" in sentence


def test_the_environment_goes_before_the_size_and_the_flag_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "as OMP_NUM_THREADS says" in threads.choose(0, 64)
    assert torch.get_num_threads() == 2
    assert "as --threads says" in threads.choose(1, 64)
    assert torch.get_num_threads() == 1


def test_the_load_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = set()
    for load in ((0.0, 0.0, 0.0), (64.0, 64.0, 64.0)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: load)
        said.add(threads.choose(0, 300))
    assert len(said) == 1


def test_a_training_takes_the_smallest_numbers_as_zero() -> None:
    torch.set_flush_denormal(False)
    half = torch.tensor([2e-38])
    assert (half * 0.25).any()
    threads.choose(1, 64)
    assert not (half * 0.25).any()
