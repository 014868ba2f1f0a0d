"""`make bench-cuda`: what it says without a GPU, and that its comparison finds differences, tried on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import cuda
from service.model.bundle import Bundle
from service.model.engine import Engine
from tests.bundles import architecture, draft, network

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return draft(network(architecture(task="ner")), tmp_path_factory.mktemp("ner"))


def test_without_a_gpu_it_says_so() -> None:
    if cuda.without_gpu() is None:
        pytest.skip("there is a GPU here")
    result = subprocess.run([sys.executable, "-m", "benchmarks.cuda"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == cuda.NO_GPU
    assert result.stderr.startswith("no GPU to measure on: ")


def test_each_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "available_providers", lambda: ["CPUExecutionProvider"])
    assert "extra `cuda`" in str(cuda.without_gpu())
    monkeypatch.setattr(cuda, "available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch finds no GPU" in str(cuda.without_gpu())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cuda.without_gpu() is None


def test_parity_finds_a_difference_and_passes_over_padding(bundle: Bundle, tmp_path: Path) -> None:
    same, other = Engine(bundle), Engine(draft(network(architecture(task="ner"), seed=8), tmp_path))
    lines = list(cuda.parity(bundle, same, Engine(bundle), lengths=(1, 9), rows=(1, 5)))
    assert [(line["tokens"], line["rows"], line["difference"]) for line in lines] == [
        (tokens, rows, 0.0) for tokens in (1, 9) for rows in (1, 5)
    ]
    assert all(float(str(line["difference"])) > cuda.TOLERANCE for line in cuda.parity(bundle, same, other, (9,), (5,)))


def test_batches_are_as_long_as_they_should_be(bundle: Bundle) -> None:
    even, ragged = (cuda.batch_of(bundle, 40, 30, ragged=which) for which in (False, True))
    assert {len(row) for row in even} == {30}
    lengths = [len(row) for row in ragged]
    assert (lengths[0], max(lengths)) == (30, 30)
    assert min(lengths) >= 1
    assert np.std(lengths) > 1
