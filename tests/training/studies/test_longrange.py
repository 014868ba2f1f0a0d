"""The problems are the literature's, who has no idea errs by the baseline, and the command says what happened."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.nn import functional

from training.cli import app
from training.nets.cells import NAMED
from training.studies import plots
from training.studies.longrange import BELL, BLANK, Curve, Point, Reader, Settings, adding, baseline, copy, learn

QUICK = Settings(length=5, hidden=12, rows=16, steps=40, every=20, held_out=64, learning_rate=0.02)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_the_adding_problem_marks_two_numbers_and_asks_for_their_sum() -> None:
    inputs, sums = adding(9, 200, generator())
    assert inputs.shape == (200, 9, 2)
    numbers, marks = inputs.unbind(2)
    assert bool(((numbers >= 0) & (numbers < 1)).all())
    assert torch.equal(marks.sum(1), torch.full((200,), 2.0))
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose((numbers * marks).sum(1), sums)
    assert bool((marks.sum(0) > 0).all()), "any place can be marked"


def test_who_has_no_idea_of_the_sum_errs_by_the_baseline() -> None:
    _, sums = adding(50, 20_000, generator())
    assert float(functional.mse_loss(torch.ones_like(sums), sums)) == pytest.approx(baseline("adding", 50), rel=0.03)
    assert baseline("adding", 50) == pytest.approx(0.167, abs=5e-4)


def test_the_copy_problem_wants_ten_symbols_back_after_the_pause() -> None:
    read, wanted = copy(30, 100, generator())
    assert read.shape == wanted.shape == (100, 50)
    assert bool(((read[:, :10] >= 1) & (read[:, :10] <= 8)).all())
    assert torch.equal(wanted[:, 40:], read[:, :10])
    assert not wanted[:, :40].any()
    rest = read[:, 10:].clone()
    assert torch.equal(rest[:, 29], torch.full((100,), BELL))
    rest[:, 29] = BLANK
    assert not rest.any()


def test_who_remembers_nothing_of_the_symbols_errs_by_the_baseline() -> None:
    _, wanted = copy(30, 500, generator())
    answers = torch.full((500, 50, 10), -1e9)
    answers[:, :40, BLANK] = 0.0
    answers[:, 40:, 1:9] = 0.0
    found = functional.cross_entropy(answers.flatten(0, 1), wanted.flatten())
    assert float(found) == pytest.approx(baseline("copy", 30), rel=1e-4)
    assert baseline("copy", 30) == pytest.approx(10 * math.log(8) / 50)


@pytest.mark.parametrize("cell", NAMED)
def test_every_cell_learns_to_add_over_a_few_steps(cell: str) -> None:
    curve = learn(cell, replace(QUICK, length=3, steps=120), lambda _: None)
    assert curve.best < 0.8 * curve.baseline
    assert curve.parameters == sum(each.numel() for each in Reader("adding", cell, 12).parameters())


def test_a_curve_is_measured_as_asked_and_repeats_itself() -> None:
    seen: list[Point] = []
    one, two = (learn("gru", replace(QUICK, problem="copy", steps=50), seen.append) for _ in range(2))
    assert [point.step for point in one.points] == [20, 40, 50]
    assert one.points == two.points == tuple(seen[:3])
    assert all(point.gradient > 0 for point in one.points)


def test_a_solved_problem_ends_the_training() -> None:
    curve = learn("gru", replace(QUICK, length=2, steps=2000, stop=0.4), lambda _: None)
    assert curve.points[-1].loss < 0.4 * curve.baseline
    assert curve.points[-1].step < 2000
    assert all(point.loss >= 0.4 * curve.baseline for point in curve.points[:-1])


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ((0.17, 0.165), "no idea after 20 steps"),
        ((0.17, 0.1), "learning, not solved in 20 steps"),
        ((0.01, 0.2), "solved after 10 steps"),
        ((math.nan,), "no idea after 10 steps"),
    ],
)
def test_verdicts(losses: tuple[float, ...], verdict: str) -> None:
    points = tuple(Point(10 * number, loss, 1.0) for number, loss in enumerate(losses, 1))
    assert Curve("rnn", QUICK, 1 / 6, points, 1.0, 9).verdict == verdict


def test_the_command_prints_a_table_and_writes_figures_and_picture(tmp_path: Path) -> None:
    arguments = ["longrange", "--problem", "adding", "--cells", "rnn,gru-before", "--length", "4", "--length", "3"]
    arguments += ["--steps", "6", "--every", "3", "--rows", "4", "--hidden", "3", "--device", "cpu"]
    files = [tmp_path / name for name in ("a.json", "a.svg", "b.json", "b.svg")]
    for figures, picture in (files[:2], files[2:]):
        done = CliRunner().invoke(app, [*arguments, "--json", str(figures), "--plot", str(picture)])
        assert done.exit_code == 0, done.output
        assert "gru-before" in done.output
    curves = json.loads(files[0].read_text("utf-8"))
    assert [(curve["cell"], curve["settings"]["length"]) for curve in curves] == [
        (cell, length) for length in (4, 3) for cell in ("rnn", "gru-before")
    ]
    assert [point["step"] for point in curves[0]["points"]] == [3, 6]
    assert curves[0]["verdict"]
    assert b"<svg" in files[1].read_bytes()
    assert files[1].read_bytes() == files[3].read_bytes(), "the same picture from run to run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cells", "rnn,elman"), "there is no cell 'elman'"),
        (("--plot", "picture.bmp"), "a picture ends in .svg, .png, .pdf"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_training(arguments: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(app, ["longrange", "--problem", "copy", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code != 0
    assert message in (done.output if not isinstance(done.exception, plots.PlotError) else str(done.exception))
