"""The page on gradients: its commands run, and its table of the adding problem says what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from docs import hooks
from tests.integration.conftest import ROOT
from tests.test_docs import DOCS, blocks, environment
from training.longrange import SOLVED

PAGE = DOCS / "gradients.md"
PICTURES = DOCS / "gradients"
SHORTER = {"--steps 3000": "--steps 2", "--steps 300": "--steps 2", "--length 200 --length 100 ": "--length 20 "}
"""What makes seconds of minutes and hours."""
LARGEST = 300_000


@pytest.mark.timeout(300)
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
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{commands}"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert {path.name for path in PICTURES.glob("*.svg")} == {path.name for path in tmp_path.glob("*.svg")}
    assert len(json.loads((tmp_path / "adding.json").read_text("utf-8"))) == 8  # four cells, two lengths


def test_the_table_says_what_was_measured() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    head = next(row for row in rows if row[0] == "Cell")
    shown = {row[0]: row[1:] for row in rows[rows.index(head) + 2 :]}
    measured: dict[str, dict[str, str]] = {}
    for curve in json.loads((PICTURES / "adding.json").read_text("utf-8")):
        solved = [point["step"] for point in curve["points"] if point["loss"] < SOLVED * curve["baseline"]]
        text = f"{solved[0]:,}" if solved else f"not solved, best {curve['best']:.4f}"
        measured.setdefault(curve["cell"], {})[f"T = {curve['settings']['length']}"] = text
    assert shown == {cell: [found[length] for length in head[1:]] for cell, found in measured.items()}


def test_every_picture_is_small_and_shown() -> None:
    text = PAGE.read_text("utf-8")
    for path in PICTURES.iterdir():
        assert f"](gradients/{path.name})" in text
        assert path.stat().st_size < LARGEST, path.name


def test_the_page_is_an_explanation() -> None:
    assert hooks.SECTIONS[PAGE.name] == "explanation"
