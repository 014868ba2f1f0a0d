"""The page on gradients: its commands run, and its table of the adding problem says what was measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from docs import hooks
from service.model.bundle import versions
from tests.integration.conftest import ROOT
from tests.test_docs import DOCS, blocks, run
from training.cli import app
from training.studies.longrange import SOLVED, baseline

PAGE = DOCS / "gradients.md"
PICTURES = DOCS / "gradients"
SHORTER = {"--steps 3000": "--steps 2", "--steps 300": "--steps 2", "--length 200 --length 100 ": "--length 20 "}
"""What makes seconds of minutes and hours."""
LARGEST = 300_000


@pytest.mark.timeout(600)
def test_every_command_runs_in_a_short_form(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    commands = "".join(code for _, code in blocks(PAGE))
    for long, short in SHORTER.items():
        assert long in commands
        commands = commands.replace(long, short)
    run(commands, tmp_path)
    assert {path.name for path in PICTURES.glob("*.svg")} == {path.name for path in tmp_path.glob("*.svg")}
    for problem in ("adding", "copy"):  # four cells, two lengths
        assert len(json.loads((tmp_path / f"{problem}.json").read_text("utf-8"))) == 8


def table(name: str) -> dict[str, dict[str, str]]:
    """A table of the page by the name in its corner: row → column → text."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {name} |"))
    rows = [line.strip("| ").split(" | ") for line in takewhile(lambda line: line.startswith("|"), lines[start:])]
    names = [name + " " * rows[0][1:at].count(name) for at, name in enumerate(rows[0][1:], 1)]  # a second one: "name "
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows[2:]}


def measured(problem: str, text: Callable[[dict[str, Any]], str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for curve in json.loads((PICTURES / f"{problem}.json").read_text("utf-8")):
        assert curve["settings"]["problem"] == problem
        found.setdefault(curve["cell"], {})[f"T = {curve['settings']['length']}"] = text(curve)
    return found


def test_the_table_of_the_adding_problem_says_what_was_measured() -> None:
    def text(curve: dict[str, Any]) -> str:
        solved = [point["step"] for point in curve["points"] if point["loss"] < SOLVED * curve["baseline"]]
        return f"{solved[0]:,}" if solved else f"not solved, best {curve['best']:.4f}"

    assert table("Adding") == measured("adding", text)


def test_the_table_of_the_copy_problem_says_what_was_measured() -> None:
    shown = table("Copy")
    no_idea = {f"T = {length}": f"{baseline('copy', length):.4f}" for length in (10, 50)}
    assert shown.pop("baseline") == no_idea
    assert shown == measured("copy", lambda curve: f"{curve['best']:.4f}")


def test_the_table_of_shipped_models_and_the_tour_say_what_is_measured(tmp_path: Path) -> None:
    names = ("sentiment-rnn", "sentiment-lstm", "sentiment-gru")
    out = tmp_path / "reach.json"
    models = [str(bundle(name)) for name in names]
    done = CliRunner().invoke(app, ["gradients", *models, "--length", "100", "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = {each["name"]: each for each in json.loads(out.read_text("utf-8"))}
    shown = table("Model")
    assert set(shown) == set(names)
    for name in names:
        before, after = (
            next(each for key, each in found.items() if f"{when} training ({name})" in key)
            for when in ("before", "after")
        )
        assert shown[name] == {
            "decay per step before": f"{before['decay']:.3f}",
            "after training": f"{after['decay']:.3f}",
            "under a thousandth before": f"{before['gone_at']} steps back",
            "after training ": f"{after['gone_at']} steps back",
        }
    tour = (ROOT / "service" / "explorer" / "tour.js").read_text("utf-8")
    rnn, lstm = (shown[name]["after training "].split()[0] for name in names[:2])
    assert f"{rnn} steps back less than a thousandth is left; in the LSTM of the next step it takes {lstm}." in tour


def bundle(name: str) -> Path:
    """The newest version of a model that ships."""
    folder = ROOT / "models" / name
    return folder / str(max(versions(folder)))


def test_every_picture_is_small_and_shown() -> None:
    text = PAGE.read_text("utf-8")
    for path in PICTURES.iterdir():
        assert f"](gradients/{path.name})" in text
        assert path.stat().st_size < LARGEST, path.name


def test_the_page_is_an_explanation() -> None:
    assert hooks.SECTIONS[PAGE.name] == "explanation"
