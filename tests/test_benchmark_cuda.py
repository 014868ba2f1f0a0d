"""`make bench-cuda`: what it says without a GPU, and all of its parts, rehearsed on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import cuda, cuda_parts, cuda_share
from service.model.bundle import Bundle
from service.model.engine import Engine
from tests.bundles import architecture, draft, network, tiny_bundle

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
    lines = list(cuda_parts.parity(bundle, same, Engine(bundle), lengths=(1, 9), rows=(1, 5)))
    assert [(line["tokens"], line["rows"], line["difference"]) for line in lines] == [
        (tokens, rows, 0.0) for tokens in (1, 9) for rows in (1, 5)
    ]
    assert all(
        float(str(line["difference"])) > cuda.TOLERANCE for line in cuda_parts.parity(bundle, same, other, (9,), (5,))
    )


def test_batches_are_as_long_as_they_should_be(bundle: Bundle) -> None:
    even, ragged = (cuda_share.batch_of(bundle, 40, 30, ragged=which) for which in (False, True))
    assert {len(row) for row in even} == {30}
    lengths = [len(row) for row in ragged]
    assert (lengths[0], max(lengths)) == (30, 30)
    assert min(lengths) >= 1
    assert np.std(lengths) > 1


def test_inputs_fill_every_column_of_a_model_with_characters(tmp_path: Path) -> None:
    shape = architecture(task="ner", characters="cnn")
    spelling = draft(network(shape), tmp_path)
    columns = sum(feature.columns for feature in spelling.manifest.features)
    assert columns > len(spelling.manifest.features)
    rows = cuda_share.batch_of(spelling, 3, 5, ragged=True)
    assert {row.shape[1] for row in rows} == {columns}
    assert Engine(spelling).predict(rows).shape[:2] == (3, 5)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """The figures of a rehearsal with a model of each kind of placement."""
    models, output = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("figures") / "cuda.json"
    tiny_bundle(models / "tagger", task="ner")
    tiny_bundle(models / "before", cell="gru-before")
    tiny_bundle(models / "minimal", cell="mingru")
    command = [sys.executable, "-m", "benchmarks.cuda", "--rehearse", "--models", str(models), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "measured on the CPU, a rehearsal: no figure of it counts" in done.stdout
    found: dict[str, list[dict[str, object]]] = json.loads(output.read_text(encoding="utf-8"))
    return found


def test_a_rehearsal_runs_every_part(rehearsed: dict[str, list[dict[str, object]]]) -> None:
    assert rehearsed["unfinished"] == []
    assert {line["model"] for line in rehearsed["placement"]} == {"tagger", "before", "minimal"}
    assert all(line["recurrent"] for line in rehearsed["placement"])
    assert {(line["rows"], line["tokens"]) for line in rehearsed["parity"]} == {(1, 1), (5, 1), (1, 9), (5, 9)}
    assert {line["difference"] for line in rehearsed["parity"]} == {0.0}
    (speed,) = rehearsed["speed"]
    assert speed["model"] == "tagger", "torch has no layer of the others"
    assert all(speed[f"{name}_texts_a_second"] for name in ("model", "torch", "cpu"))
    assert [line["precision"] for line in rehearsed["training"]] == ["full", "mixed"]
    assert rehearsed["training"][0]["tokens_a_second"]
    assert rehearsed["training"][1].keys() & {"tokens_a_second", "left_out"}
    (together,) = rehearsed["together"]
    assert together["1_processes_texts_a_second"]
    assert together["2_processes_texts_a_second"]


def test_on_a_cpu_only_cells_without_an_operator_of_cuda_are_where_the_page_says(
    rehearsed: dict[str, list[dict[str, object]]],
) -> None:
    told = {line["model"]: line["as_documented"] for line in rehearsed["placement"]}
    assert told == {"tagger": False, "before": True, "minimal": True}


def test_a_part_ends_with_its_time_and_says_so() -> None:
    seen: list[cuda_parts.Line] = []

    def lines() -> Iterator[cuda_parts.Line]:
        yield {"number": 1}
        yield {"number": 2}

    assert cuda.within(lines(), time.monotonic() + 60, seen.append) == ([{"number": 1}, {"number": 2}], True)
    assert cuda.within(lines(), time.monotonic() - 1, seen.append) == ([], False)
    assert [line["number"] for line in seen] == [1, 2]


def test_parts_without_time_are_named(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    engines = [(bundle, Engine(bundle), Engine(bundle))]
    parts = cuda.run_parts(engines, torch.device("cpu"), "cpu", time.monotonic(), cuda_parts.REHEARSAL)
    assert parts.unfinished == ["parity", "speed", "training", "together"]
    assert all(lines == [] for lines in parts.lines.values())
    assert "speed: the time is over" in capsys.readouterr().out


def test_a_process_that_cannot_start_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        list(cuda_parts.together(bundle, "cpu", cuda_parts.REHEARSAL))
