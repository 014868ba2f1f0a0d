"""The table of cells: its recipes, the runs that a file lacks, and the page that shows it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from recipes import cells
from service.model.bundle import load
from service.model.equations import MINIMAL
from training.nets.cells import NAMED
from training.options import MAX_SEED

ROOT = Path(__file__).resolve().parents[2]


def line(cell: str, seed: int, value: float, name: str = "sst2", **more: Any) -> cells.Line:
    negation = {"praise, negated": value / 2, "blame, negated": 0.0}
    figures = {"metric": "accuracy", "value": value, "inputs": 872, "cpu_seconds": 40.4, "negation": negation}
    return {**cells._key(name, cell, seed), **figures, **more}


def written(file: Path, *lines: cells.Line) -> Path:
    file.write_text("".join(json.dumps(each) + "\n" for each in lines), "utf-8")
    return file


@pytest.mark.parametrize("name", cells.SETS)
def test_every_cell_has_the_same_recipe(name: str) -> None:
    made = {cell: cells.options(name, cell, 3, Path("/data"), Path("/out/x")) for cell in cells.CELLS + cells.FURTHER}
    assert {NAMED[each] for each in cells.CELLS} == set(NAMED.values())
    assert len({each.recipe for each in made.values()}) == 1
    assert len({each.dropouts for each in made.values()}) == 1
    assert all(each.seed == 3 and each.vectors == Path("/data") / cells.VECTORS for each in made.values())
    shapes = {cell: (each.cell, each.design.form, each.design.layers, each.window_words) for cell, each in made.items()}
    assert shapes["gru"] == ("gru", "after", 1, 1)
    assert shapes["gru-before"] == ("gru", "before", 1, 1)
    assert shapes["peephole"] == ("peephole", "diagonal", 1, 1)
    assert shapes["peephole-full"] == ("peephole", "full", 1, 1)
    assert shapes["mingru-window3"] == ("mingru", None, 1, 3)
    assert shapes["mingru-2layers"] == ("mingru", None, 2, 1)
    assert {shapes[each][0] for each in cells.FURTHER} == MINIMAL
    both = cells.options(name, "biminlstm-window3", 1, Path("/data"), Path("/out/x"))
    assert (both.cell, both.bidirectional, both.window_words) == ("minlstm", True, 3)
    with pytest.raises(KeyError):
        cells.options(name, "transformer", 1, Path("/data"), Path("/out/x"))


def test_a_run_that_the_file_has_by_the_same_recipe_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "cells.jsonl", line("lstm", 1, 0.8), line("gru", 2, 0.8))
    with file.open("a") as open_file:
        open_file.write('{"set": "sst2", "cell": "gru", "se')  # a killed command
    wanted = (["sst2"], ["lstm", "gru"], [1, 2])
    assert list(cells.missing(file, *wanted)) == [("sst2", "gru", 1), ("sst2", "lstm", 2)]
    changed = {**cells.SETS["sst2"].options, "epochs": 3}
    monkeypatch.setitem(cells.SETS, "sst2", replace(cells.SETS["sst2"], options=changed))
    assert len(list(cells.missing(file, *wanted))) == 4
    assert len(list(cells.missing(tmp_path / "none", *wanted))) == 4


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, str, int]] = []

    def trained(name: str, cell: str, seed: int, data: Path, models: Path | None) -> cells.Line:
        done.append((name, cell, seed))
        if len(done) == 2:
            raise KeyboardInterrupt
        return line(cell, seed, 0.8, name)

    monkeypatch.setattr(cells, "trained", trained)
    file = tmp_path / "cells.jsonl"
    command = ["cells", "run", str(tmp_path), "--out", str(file), "--set", "sst2", "--cell", "rnn", "--cell", "gru"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(KeyboardInterrupt):
        cells.main()
    cells.main()
    cells.main()
    assert done == [("sst2", "rnn", 1), ("sst2", "gru", 1), ("sst2", "gru", 1)]
    monkeypatch.setattr(sys, "argv", [*command, "--seed", "2", "--minutes", "-1"])
    cells.main()
    assert len(cells.read(file)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--seed -1", f"argument --seed: -1 is no whole number from 0 to {MAX_SEED}"),
        (f"--seed {MAX_SEED + 1}", f"argument --seed: {MAX_SEED + 1} is no whole number from 0"),
        ("--seed 1.5", "argument --seed: 1.5 is no whole number"),
        ("--cell gru --cell lstn", "argument --cell: there is no cell 'lstn'; known are rnn, lstm,"),
        ("--cell lstm-window3", "argument --cell: there is no cell 'lstm-window3'; known are"),
    ],
)
def test_a_run_that_no_training_takes_is_refused_before_the_first(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cells, "trained", lambda *_: pytest.fail("it trained"))
    command = f"cells run {tmp_path} --out {tmp_path}/cells.jsonl --set sst2 {arguments}"
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit) as ended:
        cells.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("cell", [*cells.CELLS, *cells.FURTHER, "bilstm", "bimingru-window3"])
def test_every_cell_and_the_ends_of_the_range_are_taken(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def trained(name: str, cell: str, seed: int, data: Path, models: Path | None) -> cells.Line:
        asked.append((cell, seed))
        return line(cell, seed, 0.8, name)

    monkeypatch.setattr(cells, "trained", trained)
    command = f"cells run {tmp_path} --out {tmp_path}/cells.jsonl --set sst2 --cell {cell} --seed 0 --seed {MAX_SEED}"
    monkeypatch.setattr(sys, "argv", command.split())
    cells.main()
    assert asked == [(cell, 0), (cell, MAX_SEED)]


def test_the_table_has_every_seed_and_their_mean() -> None:
    lines = [line("lstm", 1, 0.8), line("mingru", 1, 0.7), line("lstm", 2, 0.9)]
    assert list(cells.table(lines))[1:] == [
        "`sst2`, 872 inputs of dev:",
        "",
        "| cell | accuracy, seed 1 | accuracy, seed 2 | mean | “praise, negated” | “blame, negated” | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| `lstm` | 80.0 | 90.0 | 85.0 | 43 | 0 | 40 |",
        "| `mingru` | 70.0 |  | 70.0 | 35 | 0 | 40 |",
    ]
    tagged = line("lstm", 1, 0.5, "uner", metric="f1", negation={}, inputs=2001)
    assert list(cells.table([tagged]))[-1] == "| `lstm` | 50.0 | 40 |"


def test_a_run_is_trained_exported_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**cells.SETS["sst2"].options, "epochs": 1, "hidden": 4}
    monkeypatch.setitem(
        cells.SETS,
        "sst2",
        replace(cells.SETS["sst2"], train=("sentiment/train.tsv",), dev="sentiment/dev.tsv", options=small),
    )
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("good 0.1 0.2\nbad 0.3 -0.2\n", "utf-8")
    monkeypatch.setattr(cells, "VECTORS", str(vectors))
    found = cells.trained("sst2", "mingru-window3", 1, ROOT / "examples", tmp_path / "models")
    manifest = load(tmp_path / "models" / "sst2-mingru-window3-1" / "1").manifest
    assert (manifest.cell, manifest.window_words, manifest.hidden) == ("mingru", 3, 4)
    assert found["recipe"]["hidden"] == 4
    assert 0 <= found["value"] <= 1
    assert {"praise, negated", "blame, negated"} <= found["negation"].keys()
    assert not {"typos", "as it is"} & found["negation"].keys()


def test_the_page_shows_the_kept_figures() -> None:
    page = (ROOT / "docs" / "explanation" / "minimal-cells.md").read_text("utf-8")
    shown = page.partition("<!-- cells -->\n")[2].partition("<!-- /cells -->")[0]
    assert shown.strip().splitlines() == "\n".join(cells.table(cells.kept())).strip().splitlines()


def test_the_page_of_peepholes_has_the_same_figures() -> None:
    page = (ROOT / "docs" / "explanation" / "peepholes.md").read_text("utf-8")
    for cell, name in (("peephole", "diagonal"), ("peephole-full", "full"), ("lstm", "no peepholes (LSTM)")):
        own = [each for each in cells.kept() if (each["set"], each["cell"]) == ("sst2", cell)]
        values = " | ".join(f"{100 * each['value']:.1f}" for each in own)
        turned = mean(each["negation"]["praise, negated"] for each in own)
        seconds = mean(each["cpu_seconds"] for each in own)
        assert f"| {name} | {values} | {100 * turned:.0f} % | {seconds:.0f} |" in page
