"""`python -m benchmarks runtimes`: the verdicts, the times, and the runtimes that are set up here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from benchmarks.runtimes import comparison, installed, subjects, worker, workers
from benchmarks.runtimes.comparison import Outcome, Results, Speed
from benchmarks.runtimes.installed import BASELINE, RUNTIMES, NotInstalled, Runtime
from benchmarks.runtimes.subjects import Graph, Subject
from benchmarks.runtimes.workers import Answered, Batch
from service.model.bundle import WEIGHTS
from tests.integration.conftest import ROOT
from tests.runtimes import CHANGING, UNSAFE, Answers, may_refuse, subject


def outcome(logits: NDArray[np.float32] | None, expected: NDArray[np.float32], refused: str = "") -> Outcome:
    return comparison.outcome(Answers(Answered(logits, refused)), Graph(Path("g"), 1e-4), subject(expected))


def test_equal_wrong_and_refused() -> None:
    expected = np.ones((2, 3), np.float32)
    assert outcome(expected + np.float32(5e-5), expected).verdict == "equal"
    wrong = outcome(expected + np.float32(0.17), expected)
    assert wrong.verdict == "wrong"
    assert wrong.difference == pytest.approx(0.17, abs=1e-6)
    assert outcome(None, expected, "no such operator") == Outcome("refused", reason="no such operator")


def test_nan_and_another_shape_are_wrong() -> None:
    expected = np.ones((2, 3), np.float32)
    assert outcome(np.full_like(expected, np.nan), expected).verdict == "wrong"
    assert "shape (1, 3), expected (2, 3)" in outcome(expected[:1], expected).reason


def test_the_padding_of_a_tagger_means_nothing() -> None:
    expected = np.zeros((2, 2, 3), np.float32)
    padding = expected.copy()
    padding[1, 1] = 9
    assert outcome(padding, expected).verdict == "equal"
    padding[0, 1] = 9
    assert outcome(padding, expected).verdict == "wrong"


def test_a_reason_has_no_names_of_nodes_no_paths_and_no_stack() -> None:
    said = 'Translating node #21 "lstm_5" LSTM of /tmp/x-1/model.onnx Caused by: no Stack backtrace: 0: anyhow'
    assert comparison.plain(said) == "Translating node LSTM of model.onnx Caused by: no"
    assert len(comparison.plain("a" * 999)) < 400
    said = 'model.mlir:22:11: error: illegal: %68:2 = "torch.operator"(%67, %5) <{name = "onnx.GRU"}> {}'
    assert comparison.plain(said) == 'model.mlir: error: illegal: "onnx.GRU"'


def test_a_worker_answers_and_refuses(tmp_path: Path) -> None:
    found = next(subjects.cells(tmp_path, ["lstm"]))
    with workers.worker(BASELINE) as asked:
        assert asked.version
        assert comparison.outcome(asked, found.graphs["portable"], found).verdict == "equal"
        (tmp_path / "broken.onnx").write_bytes(b"no graph")
        answered = asked.ask(tmp_path / "broken.onnx", found.batches[0][0])
        assert answered.logits is None
        assert "broken.onnx" in answered.refused
        assert asked.ask(found.graphs["served"].path, found.timed["one text"], 0.01).milliseconds > 0


def test_a_worker_that_dies_has_refused_and_is_started_again(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys\n"
        "print(json.dumps({'version': '7'}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    if 'deadly' in asked['graph']:\n"
        "        print('RuntimeError: it panicked', file=sys.stderr, flush=True)\n"
        "        os.abort()\n"
        "    print(json.dumps({'shape': [1, 2], 'logits': [0.5, None]}), flush=True)\n"
    )
    program = workers.Program([sys.executable, str(script)])
    batch = Batch(np.zeros((1, 1, 1), np.int32), np.ones(1, np.int32))
    try:
        refused = program.ask(tmp_path / "deadly", batch)
        assert refused.logits is None
        assert refused.refused == "the process ended with SIGABRT: RuntimeError: it panicked"
        answered = program.ask(tmp_path / "well", batch)
        assert answered.logits is not None
        np.testing.assert_array_equal(answered.logits, [[0.5, np.nan]])
        assert program.version == "7"
    finally:
        program.close()


def test_a_runtime_that_cannot_be_set_up_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATELIGHT_RUNTIMES", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    old = Runtime("old", "python", "onnxruntime", ("onnxruntime==0.1",), ("python3.4",))
    found = comparison.compare([old, RUNTIMES[-2], RUNTIMES[-1]], [], lambda _: None)
    assert [each.missing for each in found] == [
        "its wheels are for python3.4, which is not here",
        "node and npm is not here",
        "there is no chromium on the path",
    ]
    with pytest.raises(NotInstalled, match="failed"):
        installed._run([sys.executable, "-c", "raise SystemExit(3)"])


def test_environments_lie_outside_and_are_named_by_what_is_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATELIGHT_RUNTIMES", "/somewhere")
    places = {str(installed.environment(each)) for each in RUNTIMES if each.kind == "python"}
    assert len(places) == sum(each.kind == "python" for each in RUNTIMES)
    assert all(place.startswith("/somewhere/") for place in places)
    monkeypatch.delenv("GATELIGHT_RUNTIMES")
    assert ROOT not in installed.environment(RUNTIMES[1]).parents


def test_times_are_measured_where_there_are_none_and_beside_a_quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timed(Answers):
        def __init__(self, milliseconds: tuple[float, ...]) -> None:
            super().__init__(Answered(np.ones((2, 3), np.float32)))
            self.milliseconds = list(milliseconds)

        def ask(self, graph: Path, batch: Batch, seconds: float = 0.0) -> Answered:
            return replace(self._answered, milliseconds=self.milliseconds.pop(0) if seconds else 0.0)

    one = subject(np.ones((2, 3), np.float32))
    one = replace(one, graphs={"served": one.graphs["served"], "portable": one.graphs["served"]})
    one = replace(one, timed={"one text": one.batches[0][0], "a batch": one.batches[0][0]})

    # By row: served, one text; portable, one text (busy); portable, a batch.
    base, other = Timed((2.0, 2.0, 2.0, 4.0, 2.0, 2.1)), Timed((3.0, 3.0, 5.0))
    monkeypatch.setattr(comparison, "_workers", lambda *_: {BASELINE.name: base, "A": other})
    found, said = [Results(BASELINE.name), Results("A")], list[str]()
    rows = {(one.name, graph, batch) for graph in ("served", "portable") for batch in one.timed}
    known = {BASELINE.name: rows, "A": {(one.name, "served", "a batch")}}
    comparison.time((), [one], found, said.append, rounds=1, seconds=1, known=known, noise=0.1)
    assert found[0].speeds == []
    assert found[1].speeds == [
        Speed(one.name, "served", "one text", 1.5),
        Speed(one.name, "portable", "a batch", 2.5),
    ]
    assert "ONNX Runtime took 2.00 of its own time: the machine is too busy" in said
    assert base.milliseconds == other.milliseconds == []


def test_one_cell_is_timed_in_one_direction_too(tmp_path: Path) -> None:
    both, forward = subjects.timed(tmp_path, ["lstm"])
    assert (both.name, forward.name) == ("lstm", "forward lstm")
    weights = [load_file(each.graphs["served"].path.with_name(WEIGHTS)) for each in (both, forward)]
    assert [arrays["recurrent.0.W"].shape[0] for arrays in weights] == [2, 1]
    assert [each.name for each in subjects.timed(tmp_path / "gru", ["gru"])] == ["gru"]


def test_a_loader_runs_ncnn_text_by_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[tuple[int, ...]] = []

    def network(graph: str, *shape: int) -> worker.Run:
        converted.append(shape)
        return lambda tokens, lengths: np.concatenate([tokens, tokens + lengths], axis=-1)

    monkeypatch.setattr(worker, "_ncnn", network)
    tokens = np.array([[[1], [5], [3]], [[2], [0], [0]], [[7], [8], [9]]], np.int32)
    run = worker.ncnn(str(graph_without_cells(tmp_path / "tagger.onnx")))
    logits = run(tokens, np.array([3, 1, 3], np.int32))
    np.testing.assert_array_equal(
        logits, [[[1, 4], [5, 8], [3, 6]], [[2, 3], [0, 0], [0, 0]], [[7, 10], [8, 11], [9, 12]]]
    )
    assert converted == [(1, 3, 1), (1, 1, 1)]

    monkeypatch.setattr(
        worker, "_ncnn", lambda graph, *shape: lambda tokens, lengths: np.array([[tokens.sum(), lengths[0]]])
    )
    run = worker.ncnn(str(graph_without_cells(tmp_path / "classifier.onnx", tagger=False)))
    np.testing.assert_array_equal(run(tokens, np.array([3, 1, 2], np.int32)), [[9, 3], [2, 1], [15, 2]])


def graph_without_cells(path: Path, *, tagger: bool = True) -> Path:
    """An embedding and a product, as ncnn has them: it takes one text at a time."""
    table, weights = np.arange(36, dtype=np.float32).reshape(9, 4) / 36, np.eye(4, 3, dtype=np.float32)
    nodes = [
        helper.make_node("Squeeze", ["tokens", "axes"], ["ids"]),
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "weights"], ["products"]),
        helper.make_node("Unsqueeze", ["products", "zero"], ["logits"]),
    ]
    arrays = {"table": table, "weights": weights, "axes": np.array([0, 2]), "zero": np.array([0])}
    graph = helper.make_graph(
        nodes,
        "ids",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT32, ["batch", "time", "features"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", 3] if tagger else ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    return path


def test_ncnn_answers_what_it_has_layers_for(tmp_path: Path) -> None:
    runtime = next(each for each in RUNTIMES if each.name == "ncnn")
    if not installed.is_installed(runtime):
        pytest.skip("ncnn is not installed (python -m benchmarks runtimes sets it up)")
    batch = Batch(np.array([[[1], [5], [3]], [[2], [0], [0]]], np.int32), np.array([3, 1], np.int32))
    expected = np.zeros((2, 3, 3), np.float32)
    table = np.arange(36, dtype=np.float32).reshape(9, 4)[:, :3] / 36
    expected[0], expected[1, 0] = table[[1, 5, 3]], table[2]
    with workers.worker(runtime) as asked:
        answered = asked.ask(graph_without_cells(tmp_path / "model.onnx"), batch)
        assert answered.logits is not None, answered.refused
        np.testing.assert_allclose(answered.logits, expected, atol=1e-6)


def test_some_packages_are_installed_without_what_they_require(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(arguments: Sequence[str]) -> None:
        installed.environment(runtime).mkdir(parents=True, exist_ok=True)
        asked.append(list(arguments))

    monkeypatch.setenv("GATELIGHT_RUNTIMES", str(tmp_path))
    monkeypatch.setattr(installed, "_run", run)
    runtime = Runtime("one", "python", "onnxruntime", ("a==1",), alone=("b==2",))
    installed.install(runtime)
    assert [each[-1] for each in asked[1:]] == ["a==1", "b==2"]
    assert ["--no-deps" in each for each in asked[1:]] == [False, True]
    assert installed.environment(runtime).name == "a__1-b__2"
    assert installed.is_installed(runtime)


def test_programs_of_a_runtime_say_why_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "convert"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for ends, says, reason in (
        (3, "a\nmodel:1: error: no Scan\nb", "error: no Scan"),
        (1, "a\nb", "b"),
        (1, "", "nothing"),
    ):
        program.write_text(f"#!/bin/sh\nprintf '{says}'\nexit {ends}\n")
        program.chmod(0o700)
        with pytest.raises(RuntimeError, match=f"convert ended with {ends}: .*{reason}"):
            worker._program("convert", [], str(tmp_path))
    program.write_text('#!/bin/sh\necho "$0 $1 $PLACE in $PWD"\n')
    assert worker._program("convert", ["x"], str(tmp_path), PLACE="here") == [f"{program} x here in {tmp_path}"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    folder = tmp_path_factory.mktemp("runtimes")
    return list(subjects.cells(folder, ["lstm", "gru-before", "peephole", "mingru"]))


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda each: each.name)
def test_runtimes_that_are_here_answer_portable_graphs_alike(runtime: Runtime, found: list[Subject]) -> None:
    if runtime.name in UNSAFE:
        pytest.skip(f"{runtime.name} gets portable graphs wrong, and compiles each for seconds")
    if not installed.is_installed(runtime) or (runtime.kind == "browser" and not installed.chromium()):
        pytest.skip(f"{runtime.name} is not installed (python -m benchmarks runtimes sets it up)")
    if runtime.kind == "node" and not shutil.which("node"):
        pytest.skip("node is not installed")
    with workers.worker(runtime) as asked:
        for each in found:
            for graph in ("portable", "portable, float16"):
                if (runtime.name, graph) in CHANGING:
                    continue
                outcome = comparison.outcome(asked, each.graphs[graph], each)
                expected = "refused" if may_refuse(runtime.name, each.name, graph) else "equal"
                assert outcome.verdict == expected, (each.name, graph, outcome)


def test_the_command_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "runtimes" in done.stdout
