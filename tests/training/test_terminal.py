"""Tables and lines in a pipe: whole, whatever their length."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from benchmarks import report
from benchmarks.measure import Row
from benchmarks.report import Result
from training.commands.console import tell
from training.terminal import show

ROOT = Path(__file__).resolve().parents[2]
NAME = "models/sentiment-bilstm-" + "x" * 150
LINE = "a line of words " * 30


@pytest.mark.parametrize("columns", [None, "40", "80"])
def test_a_pipe_cuts_and_wraps_nothing(columns: str | None) -> None:
    program = (
        "from rich.table import Table; from training.terminal import console, show\n"
        f"table = Table('model', 'f1', title={LINE!r}); table.add_row({NAME!r}, '0.9'); show(table)\n"
        f"console(stderr=True).print({LINE!r})"
    )
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {"PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"} | ({"COLUMNS": columns} if columns else {})
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert NAME in found.stdout
    assert LINE.strip() in found.stdout.splitlines()[0]
    assert "…" not in found.stdout
    assert len(found.stdout.splitlines()) == 6, "the title, four lines of frame and heading, one row"
    assert found.stderr.splitlines() == [LINE.rstrip()] or found.stderr.splitlines() == [LINE]


def test_a_narrow_terminal_folds_and_cuts_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    table = Table("model", "f1")
    table.add_row(NAME, "0.9123")
    show(table)
    output = capsys.readouterr().out
    assert "…" not in output
    assert output.count("x") == NAME.count("x")
    assert "0.9123" in output


def test_a_log_line_is_one_line_without_padding(capsys: pytest.CaptureFixture[str]) -> None:
    tell("[bold]epoch[/bold] 1: " + LINE)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "[bold]epoch[/bold] 1: " in error
    assert len(error) < len(LINE) + 50


def test_a_table_of_benchmarks_has_all_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    case = "BiLSTM 128, 64 x 200–400 tokens, the longest case of all of them"
    row = Row(case, "1,000 tokens/s of a batch", 12.5, 3.25, 3.8, 3.0, 4.5, rounds=3)
    result = Result("this project's padded layer", "torch's packed sequences", report.conditions(), (row,))
    show(report.table("padding", result))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "BiLSTM" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == list(report._cells(row))
