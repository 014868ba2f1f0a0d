"""`python -m benchmarks runtimes`: the verdicts, the page, and the runtimes that are set up here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from benchmarks.__main__ import main
from benchmarks.runtimes import comparison, installed, page, subjects, worker, workers
from benchmarks.runtimes.comparison import Outcome, Results, Row, Speed
from benchmarks.runtimes.installed import BASELINE, RUNTIMES, NotInstalled, Runtime
from benchmarks.runtimes.subjects import Graph, Subject
from benchmarks.runtimes.workers import Answered, Batch
from service.model.bundle import WEIGHTS, discover
from tests.integration.conftest import ROOT


class Answers:
    """A worker that gives the same logits to everything."""

    version = "1"

    def __init__(self, answered: Answered) -> None:
        self._answered = answered

    def ask(self, graph: Path, batch: Batch, seconds: float = 0.0) -> Answered:
        return self._answered


def subject(expected: NDArray[np.float32], lengths: tuple[int, ...] = (2, 1)) -> Subject:
    batch = Batch(np.zeros((len(lengths), 2, 1), np.int32), np.array(lengths, np.int32))
    return Subject("one", {"served": Graph(Path("g"), 1e-4)}, ((batch, expected),), {})


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


def results() -> page.Found:
    outcomes = {
        "lstm": {"served": Outcome("wrong", 0.166), "portable": Outcome("equal", 1e-7)},
        "drawn": {"served": Outcome("refused", reason="no a|b"), "portable": Outcome("equal", 1e-7)},
        "shape": {"served": Outcome("wrong", float("inf"), "shape (1, 1)"), "portable": Outcome("equal", 1e-7)},
    }
    speeds = [
        *(Speed("lstm", "served", "one text", 1.05), Speed("lstm", "portable", "one text", 1.234)),
        *(Speed("lstm", "served", "a batch", 4.62), Speed("lstm", "portable", "a batch", 9.876)),
    ]
    there = Results("A", "1.2", outcomes=outcomes, speeds=speeds)
    conditions = page.read().conditions
    return page.Found(conditions, ("lstm",), (there, Results("B", missing="no wheels")))


def test_the_page_shows_every_verdict() -> None:
    text = page.render(results())
    for line in (
        "| A | 1.2 |",
        "| B | no wheels |",
        "| lstm | **wrong** (0.17) |",
        "| drawn | refused |",
        "| lstm, portable, one text | 1.23 |",
        "| A | served | drawn | `no a\\|b` |",
    ):
        assert line in text.splitlines()


def test_times_of_a_busy_machine_are_left_out() -> None:
    text = page.render(results())
    assert "| lstm, portable, one text | 1.23 |" in text
    assert "a batch |" not in text


def test_a_runtime_that_ran_by_itself_takes_its_place_among_the_others() -> None:
    old = results()
    quiet = [Speed("lstm", "served", "one text", 1.0), Speed("lstm", "served", "a batch", 3.0)]
    times = [Speed("lstm", "portable", "one text", 2.5), Speed("lstm", "portable", "a batch", 7.5)]
    equal = {"lstm": {"portable": Outcome("equal", 1e-7)}}
    base = Results(BASELINE.name, "1", speeds=quiet)
    conditions = replace(old.conditions, date="2026-12-01", load=3.5)
    new = page.Found(conditions, ("lstm",), (base, Results("tract", "9", outcomes=equal, speeds=times)))
    known = replace(old, runtimes=(Results(BASELINE.name, "1.2"), Results("OpenVINO", "2"), Results("tract", "8")))

    joined = page.joined(known, new)
    assert [(each.runtime, each.version) for each in joined.runtimes] == [
        (BASELINE.name, "1.2"),
        ("OpenVINO", "2"),
        ("tract", "9"),
    ]
    assert joined.conditions == old.conditions
    assert joined.runtimes[2].speeds == times[:1]  # ONNX Runtime's time over its own was 3 for a batch
    row = "| tract | 9 (run by itself: 2026-12-01, load average 3.5 before) |"
    assert row in page.render(joined).splitlines()


def later(version: str = "1.2") -> page.Found:
    outcomes = {"tagger": {"portable": Outcome("equal", 2e-7)}, "drawn": {"portable": Outcome("wrong", 0.5)}}
    old = results()
    conditions = replace(old.conditions, date="2026-12-01", load=3.5)
    return page.Found(conditions, (), (Results("A", version, outcomes=outcomes), Results("B", missing="no wheels")))


def test_models_that_ran_by_themselves_take_their_places_and_keep_the_rest() -> None:
    old = results()
    joined = page.with_models(old, later())
    assert (joined.conditions, joined.cells, joined.runtimes[1]) == (old.conditions, old.cells, old.runtimes[1])
    first = joined.runtimes[0]
    assert first.speeds == old.runtimes[0].speeds
    assert first.outcomes["lstm"] == old.runtimes[0].outcomes["lstm"]
    assert first.outcomes["drawn"] == {"portable": Outcome("wrong", 0.5)}
    assert page.with_models(joined, later()) == joined

    lines = page.render(joined).splitlines()
    assert "Run later than the rest (2026-12-01, load average 3.5 before): drawn, tagger." in lines
    shipped = lines[lines.index("## Models that ship") :]
    assert [line.split()[1] for line in shipped if "equal |" in line or "wrong**" in line or "– |" in line][:3] == [
        "drawn",
        "shape",
        "tagger",
    ]
    assert not any(line.startswith("Run later") for line in page.render(old).splitlines())


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


def test_times_of_cells_that_a_runtime_has_wrong_are_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, set[Row]] = {}

    def time(*_: object, known: dict[str, set[Row]], **__: object) -> None:
        asked.update(known)

    monkeypatch.setattr(comparison, "time", time)
    outcomes = {
        "lstm": {"served": Outcome("wrong", 0.1), "portable": Outcome("equal", 1e-7)},
        "bidirectional lstm": {"served": Outcome("equal", 1e-7), "portable": Outcome("refused", reason="no")},
    }
    speeds = [Speed("lstm", "served", "one text", 1.5)]
    old = replace(results(), runtimes=(Results("A", "1", outcomes=outcomes, speeds=speeds),))
    assert [each.runtime for each in page.time(lambda _: None, old, RUNTIMES[-2:]).runtimes] == [RUNTIMES[-2].name]
    assert asked["A"] == {
        ("lstm", "served", "one text"),
        *(("forward lstm", "served", batch) for batch in subjects.TIMED),
        *(("lstm", "portable", batch) for batch in subjects.TIMED),
    }


def test_times_that_were_measured_later_fill_gaps_only() -> None:
    old = results()
    conditions = replace(old.conditions, date="2026-12-01", load=3.5)
    speeds = [
        Speed("lstm", "portable", "one text", 9.0),  # known
        Speed("forward lstm", "served", "one text", 1.25),
        Speed("forward lstm", "portable", "one text", 1.75),
    ]
    new = page.Found(conditions, (), (Results("A", "1.2", speeds=speeds), Results("B", missing="no wheels")))
    joined = page.with_times(old, new)
    first = joined.runtimes[0]
    assert replace(first, speeds=old.runtimes[0].speeds) == old.runtimes[0]
    when = "2026-12-01, load average 3.5 before"
    assert first.speeds == [*old.runtimes[0].speeds, *(replace(each, later=when) for each in speeds[1:])]
    assert page.with_times(joined, new) == joined
    lines = page.render(joined).splitlines()
    assert "| lstm, portable, one text | 1.23 |" in lines
    assert "| forward lstm, served, one text | 1.25 |" in lines
    assert f"Measured later than the rest ({when}): A (forward lstm)." in lines
    with pytest.raises(page.NotAlike, match=r"A is 2\.0 here and 1\.2 in results\.json"):
        page.with_times(old, replace(new, runtimes=(Results("A", "2.0", speeds=speeds),)))


@pytest.mark.parametrize("option", [["--model", "ner-bilstm"], ["--quick"]], ids=" ".join)
def test_times_go_with_all_models_only(option: list[str]) -> None:
    done = CliRunner().invoke(main, ["runtimes", "--times", *option])
    assert done.exit_code == 2
    assert f"leave out {option[0]} or --times" in done.output


def test_the_command_measures_times_and_keeps_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = page.read()
    speed = Speed("forward lstm", "served", "one text", 123.25)

    def time(tell: object, known: page.Found, runtimes: Sequence[Runtime]) -> page.Found:
        assert repr(known) == repr(old)  # NaN differs from itself
        assert [each.name for each in runtimes] == [BASELINE.name, "MNN"]
        version = next(each.version for each in old.runtimes if each.runtime == "MNN")
        return page.Found(old.conditions, (), (Results("MNN", version, speeds=[replace(speed, subject="one")]),))

    monkeypatch.setattr(page, "time", time)
    done = CliRunner().invoke(main, ["runtimes", "--times", "--runtime", "MNN", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    new = page.read(tmp_path / "runtimes.json")
    for before, after in zip(old.runtimes, new.runtimes, strict=True):
        if before.runtime == "MNN":
            assert after.speeds[-1].ratio == 123.25
            after = replace(after, speeds=after.speeds[:-1])
        assert repr(before) == repr(after)


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

    classifier = lambda graph, *shape: lambda tokens, lengths: np.array([[tokens.sum(), lengths[0]]])  # noqa: E731
    monkeypatch.setattr(worker, "_ncnn", classifier)
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


def test_models_of_another_version_of_a_runtime_do_not_join() -> None:
    with pytest.raises(page.NotAlike, match=r'A is 2\.0 here and 1\.2 in results\.json: .* --runtime "A"'):
        page.with_models(results(), later("2.0"))
    with pytest.raises(page.NotAlike, match=r"A is 1\.2 here and missing in"):
        page.with_models(replace(results(), runtimes=()), later())


def test_chosen_models_run_without_the_cells_and_without_times(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def shipped(folder: Path, chosen: Sequence[str]) -> Iterator[Subject]:
        yield from (replace(subject(np.ones((2, 3), np.float32)), name=name) for name in chosen)

    def compare(runtimes: object, subjects: Iterable[Subject], tell: object) -> list[Results]:
        asked.extend(each.name for each in subjects)
        return [Results(BASELINE.name, "1")]

    monkeypatch.setattr(subjects, "shipped", shipped)
    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(comparison, "time", lambda *_, **__: pytest.fail("nothing is timed"))
    assert page.run(lambda _: None, models=["a", "b"]).cells == ()
    assert asked == ["a", "b"]


def test_a_model_that_does_not_ship_is_refused() -> None:
    done = CliRunner().invoke(main, ["runtimes", "--model", "ner-bilstm", "--model", "ner-crf"])
    assert done.exit_code == 2
    assert "no model ner-crf ships: there are ner-bigru," in done.output
    done = CliRunner().invoke(main, ["runtimes", "--model", "ner-bilstm", "--quick"])
    assert done.exit_code == 2
    assert "leave out --model or --quick" in done.output


def test_every_model_that_ships_was_run_in_every_runtime() -> None:
    found = page.read()
    for results in found.runtimes:
        assert set(results.outcomes) - set(found.cells) == {name for name, _ in discover(subjects.MODELS)}


def test_a_runtime_that_is_not_known_is_refused() -> None:
    done = CliRunner().invoke(main, ["runtimes", "--runtime", "Caffe"])
    assert done.exit_code == 2
    assert "there is no runtime Caffe: there are ONNX Runtime," in done.output


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


def test_the_page_is_that_of_the_results(tmp_path: Path) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.read())
    page.write(results(), tmp_path / "results.json", tmp_path / "new" / "page.md")
    assert page.read(tmp_path / "results.json") == results()
    assert json.loads((tmp_path / "results.json").read_text())["cells"] == ["lstm"]


CELLS_OF_PLAIN_OPERATORS = ("peephole", "min")
"""Their portable graphs have a Scan."""


def may_refuse(runtime: str, subject: str, graph: str) -> bool:
    """True where a portable graph needs what a runtime has not."""
    scan = any(cell in subject for cell in CELLS_OF_PLAIN_OPERATORS)
    # ONNX Runtime 1.6 infers the types of a Scan in float16 wrongly where the body has no product.
    old = runtime.endswith("oldest for opset 13") and "min" in subject and graph.endswith("float16")
    return old or (runtime == "MNN" and scan) or runtime in ("Apache TVM", "ncnn")


UNSAFE = {"IREE"}
"""Runtimes that take portable graphs and get some of them wrong; the page says which."""


def test_portable_graphs_are_equal_wherever_they_were_run() -> None:
    for results in page.read().runtimes:
        if results.runtime in UNSAFE:
            continue
        for name, graphs in results.outcomes.items():
            for graph in ("portable", "portable, float16"):
                expected = "refused" if may_refuse(results.runtime, name, graph) else "equal"
                assert graphs[graph].verdict == expected, (results.runtime, name, graph)


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
                outcome = comparison.outcome(asked, each.graphs[graph], each)
                expected = "refused" if may_refuse(runtime.name, each.name, graph) else "equal"
                assert outcome.verdict == expected, (each.name, graph, outcome)


def test_the_command_names_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "runtimes" in done.stdout
