"""The page of runtimes, its results, and the command that makes them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.runtimes import comparison, page, subjects
from benchmarks.runtimes.comparison import Outcome, Results, Row, Speed
from benchmarks.runtimes.installed import BASELINE, RUNTIMES, Runtime
from benchmarks.runtimes.subjects import Files, Subject
from service.model.bundle import MODEL_GRAPH, WEIGHTS, discover, load
from tests.bundles import tiny_bundle
from tests.runtimes import CHANGING, OFF, UNSAFE, may_refuse, subject
from training.export.portable import TOLERANCES


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
    joined = page.with_chosen(old, later())
    assert (joined.conditions, joined.cells, joined.runtimes[1]) == (old.conditions, old.cells, old.runtimes[1])
    first = joined.runtimes[0]
    assert first.speeds == old.runtimes[0].speeds
    assert first.outcomes["lstm"] == old.runtimes[0].outcomes["lstm"]
    assert first.outcomes["drawn"] == {"portable": Outcome("wrong", 0.5)}
    assert page.with_chosen(joined, later()) == joined

    lines = page.render(joined).splitlines()
    assert "Run later than the rest (2026-12-01, load average 3.5 before): drawn; tagger." in lines
    shipped = lines[lines.index("## Models that ship") :]
    assert [line.split()[1] for line in shipped if "equal |" in line or "wrong**" in line or "– |" in line][:3] == [
        "drawn",
        "shape",
        "tagger",
    ]
    assert not any(line.startswith("Run later") for line in page.render(old).splitlines())


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


def test_models_of_another_version_of_a_runtime_do_not_join() -> None:
    with pytest.raises(page.NotAlike, match=r'A is 2\.0 here and 1\.2 in results\.json: .* --runtime "A"'):
        page.with_chosen(results(), later("2.0"))
    with pytest.raises(page.NotAlike, match=r"A is 1\.2 here and missing in"):
        page.with_chosen(replace(results(), runtimes=()), later())


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


def test_every_cell_and_every_model_that_ships_was_run_in_every_runtime() -> None:
    found = page.read()
    newest = [load(subjects.MODELS / name / str(versions[-1])) for name, versions in discover(subjects.MODELS)]
    files = {bundle.name: Files.of(bundle) for bundle in newest if bundle.manifest.precision == "float32"}
    assert found.cells == tuple(each.name for each in subjects.CELLS)
    for results in found.runtimes:
        assert set(results.outcomes) == {*found.cells, *files}, results.runtime
        old = [f"--model {name}" for name in files if results.files.get(name) != files[name]]
        assert not old, f"{results.runtime} ran other files: run `python -m benchmarks runtimes {' '.join(old)}`"


def test_files_are_those_that_were_run(tmp_path: Path) -> None:
    for seed in (1, 2):
        tiny_bundle(tmp_path / "models" / "reviews", seed=seed)
    (found,) = subjects.shipped(tmp_path / "graphs", tmp_path / "models")
    ran = [sha256((tmp_path / "models" / "reviews" / "2" / file).read_bytes()) for file in (WEIGHTS, MODEL_GRAPH)]
    assert found.files == Files(2, *(each.hexdigest() for each in ran))
    (run,) = comparison.compare([BASELINE], [replace(found, batches=())], lambda _: None)
    assert run.files == {"reviews": found.files}
    (small,) = subjects.cells(tmp_path / "cells", chosen=["lstm"])
    assert small.files is None


def test_files_take_their_places_beside_the_verdicts() -> None:
    old, new = results(), later()
    first, second = Files(1, "aa", "bb"), Files(2, "cc", "dd")
    old.runtimes[0].files.update(drawn=first, shape=first)
    new.runtimes[0].files.update(drawn=second)
    joined = page.with_chosen(old, new)
    assert joined.runtimes[0].files == {"drawn": second, "shape": first}
    lines = page.render(joined).splitlines()
    assert "| drawn 2 | **wrong** (0.5) |" in lines
    assert "| shape 1 | equal |" in lines
    other = Results("C", "3", outcomes={"drawn": {"portable": Outcome("equal", 1e-7)}}, files={"drawn": first})
    lines = page.render(replace(joined, runtimes=(*joined.runtimes, other))).splitlines()
    assert "| drawn 1 and 2 | **wrong** (0.5) | equal |" in lines


def test_networks_that_ran_by_themselves_join_the_cells() -> None:
    old = results()
    name = "two-layer bidirectional lstm, last"
    networks = (Results("A", "1.2", outcomes={name: {"portable": Outcome("equal", 1e-7)}}),)
    joined = page.with_chosen(old, replace(later(), cells=(name,), runtimes=networks))
    assert joined.cells == ("lstm", name)
    assert joined.later == {name: "2026-12-01, load average 3.5 before"}
    both = replace(old, runtimes=(*old.runtimes, Results("C", "3")))
    chosen = page.with_chosen(both, replace(later(), cells=(name,), runtimes=networks))
    assert chosen.later == {name: "2026-12-01, load average 3.5 before, in A"}
    assert page.with_chosen(joined, replace(later(), cells=(name,), runtimes=networks)) == joined
    text = page.render(joined)
    cells, _, models = text.partition("## Models that ship")
    assert f"Run later than the rest (2026-12-01, load average 3.5 before): {name}." in cells.splitlines()
    assert f"| {name} | equal |" in cells.splitlines()
    assert name not in models.partition("## Time")[0]


def test_chosen_networks_are_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, one = list[str](), subject(np.ones((2, 3), np.float32))

    def compare(runtimes: object, subjects: Iterable[Subject], tell: object) -> list[Results]:
        asked.extend(each.name for each in subjects)
        return []

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr(comparison, "time", lambda *_, **__: pytest.fail("nothing is timed"))
    found = page.run(lambda _: None, cells=["bidirectional mingru, tagger", "lstm"])
    assert found.cells == ("lstm", "bidirectional mingru, tagger")
    assert asked == list(found.cells)
    monkeypatch.setattr(subjects, "shipped", lambda *_, chosen: [replace(one, name=chosen[0])])
    asked.clear()
    assert page.run(lambda _: None, cells=["lstm"], models=["a"]).cells == ("lstm",)
    assert asked == ["lstm", "a"]


def test_a_cell_that_is_not_known_is_refused() -> None:
    done = CliRunner().invoke(main, ["runtimes", "--cell", "lstm", "--cell", "qrnn"])
    assert done.exit_code == 2
    assert "there is no cell qrnn: there are rnn; rnn, tagger; " in done.output
    for option in ("--quick", "--times"):
        done = CliRunner().invoke(main, ["runtimes", "--cell", "lstm", option])
        assert done.exit_code == 2
        assert f"leave out --cell or {option}" in done.output


def test_two_layers_are_among_the_cells(tmp_path: Path) -> None:
    names = [each.name for each in subjects.CELLS]
    assert len(names) == len(set(names))
    (found,) = subjects.cells(tmp_path, chosen=["two-layer bidirectional lstm, last"])
    graph = onnx.load(found.graphs["served"].path, load_external_data=False).graph
    layers = [node for node in graph.node if node.op_type == "LSTM"]
    assert [onnx.helper.get_node_attr_value(each, "direction") for each in layers] == [b"bidirectional"] * 2
    assert "Max" not in "".join(node.op_type for node in graph.node)


def test_a_runtime_that_is_not_known_is_refused() -> None:
    done = CliRunner().invoke(main, ["runtimes", "--runtime", "Caffe"])
    assert done.exit_code == 2
    assert "there is no runtime Caffe: there are ONNX Runtime," in done.output


def test_the_page_is_that_of_the_results(tmp_path: Path) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.read())
    page.write(results(), tmp_path / "results.json", tmp_path / "new" / "page.md")
    assert page.read(tmp_path / "results.json") == results()
    assert json.loads((tmp_path / "results.json").read_text())["cells"] == ["lstm"]


def test_portable_graphs_are_equal_wherever_they_were_run() -> None:
    for results in page.read().runtimes:
        if results.runtime in UNSAFE:
            continue
        for name, graphs in results.outcomes.items():
            for graph in ("portable", "portable, float16"):
                key = results.runtime, name, graph
                expected = "wrong" if key in OFF else "refused" if may_refuse(*key) else "equal"
                assert graphs[graph].verdict == expected, key
                assert graphs[graph].difference <= OFF.get(
                    key, TOLERANCES["float32" if graph == "portable" else "float16"]
                ), key


def test_unsafe_runtimes_are_as_the_how_to_says() -> None:
    """The warnings of docs/how-to/elsewhere.md: change them with the results."""
    found = {each.runtime: each for each in page.read().runtimes}

    def verdicts(runtime: str, *graphs: str) -> Counter[str]:
        return Counter(outcomes[graph].verdict for outcomes in found[runtime].outcomes.values() for graph in graphs)

    portable = subjects.GRAPHS[1:]
    for runtime in UNSAFE:
        counted = verdicts(runtime, *portable)
        assert counted["wrong"], f"{runtime} gets no portable graph wrong any more"
        assert counted["refused"] > counted["wrong"] + counted["equal"], f"{runtime} no longer refuses most"
        assert verdicts(runtime, "served")["wrong"], f"{runtime} gets no served graph wrong any more"
    for runtime in ("Apache TVM", "ncnn"):
        assert set(verdicts(runtime, *subjects.GRAPHS)) == {"refused"}
    assert set(verdicts("MNN", "served")) == {"refused"}
    advice = (page.PAGE.parents[1] / "how-to" / "elsewhere.md").read_text(encoding="utf-8")
    for runtime, graph in CHANGING:
        assert graph == "portable, float16"
        assert re.search(rf"Give {runtime} \S+ the float32 file", advice)
