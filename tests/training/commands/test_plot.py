"""Pictures of trainings: from their logs, with every figure where it belongs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from training.cli import app
from training.commands import plot as plotting
from training.loop.logs import LogError, Record
from training.studies import plots

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def records(steps: int, epochs: int = 2) -> list[Record]:
    """Losses 1, 1/2, 1/3, …; each second step clipped; a score after each epoch."""
    found: list[Record] = []
    for step in range(1, steps + 1):
        found.append({"step": step, "loss": 1 / step, "gradient": float(step), "clipped": step % 2})
        if step % (steps // epochs) == 0:
            found.append({"step": step, "score": step / steps, "best": step / steps, "clipped": 0.5})
    return found


def written(path: Path, lines: list[Record]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def drawn(monkeypatch: pytest.MonkeyPatch, path: Path, steps: int) -> dict[str, list[tuple[float, float]]]:
    """The points of each panel's only curve, by the panel's title."""
    found: dict[str, list[tuple[float, float]]] = {}
    titles = iter(("loss", "score", "gradient", "clipped"))
    monkeypatch.setattr(
        plots, "line", lambda axes, xs, ys, label: found.update({next(titles): list(zip(xs, ys, strict=True))})
    )
    with pytest.warns(UserWarning, match="No artists with labels"):
        plotting.draw([("run", records(steps))], path)
    return found


def test_a_point_a_step_where_there_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn(monkeypatch, tmp_path / "a.svg", 40)
    assert found["loss"] == [(step, 1 / step) for step in range(1, 41)]
    assert found["gradient"] == [(step, step) for step in range(1, 41)]
    assert found["score"] == [(20, 0.5), (40, 1.0)]
    assert found["clipped"] == [(step, step % 2) for step in range(1, 41)]


def test_where_there_are_many_a_point_stands_for_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = drawn(monkeypatch, tmp_path / "a.svg", 1200)
    assert [step for step, _ in found["gradient"]] == list(range(4, 1201, 4))
    assert found["gradient"][:2] == [(4, 2.5), (8, 6.5)]
    assert found["loss"][0][0] == 4
    assert found["loss"][0][1] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found["clipped"] == [(step, 0.5) for step in range(20, 1201, 20)]


def test_the_command_draws_several_logs_the_same_from_run_to_run(tmp_path: Path) -> None:
    logs = [written(tmp_path / name, records(30)) for name in ("lstm.jsonl", "other run.jsonl")]
    pictures = [tmp_path / name for name in ("a.svg", "b.svg")]
    for picture in pictures:
        done = CliRunner().invoke(app, ["plot", *map(str, logs), "--out", str(picture)])
        assert done.exit_code == 0, done.output
    text = pictures[0].read_text("utf-8")
    for shown in ("lstm", "other run", "dev score", "share of clipped steps", "gradient norm", "loss, nats"):
        assert shown in text
    assert text == pictures[1].read_text("utf-8")


def test_logs_of_one_name_have_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: list[str] = []
    monkeypatch.setattr(plotting, "draw", lambda logs, _: names.extend(name for name, _ in logs))
    for name in ("a/log.jsonl", "b/log.jsonl", "b/other.jsonl"):
        Path(name).parent.mkdir(exist_ok=True)
        written(Path(name), records(4))
    for logs in (["a/log.jsonl", "b/other.jsonl"], ["a/log.jsonl", "b/log.jsonl"]):
        assert CliRunner().invoke(app, ["plot", *logs, "--out", "a.svg"]).exit_code == 0
    assert names == ["log", "other", "a/log", "b/log"]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    empty = written(tmp_path / "empty.jsonl", [])
    good = written(tmp_path / "good.jsonl", records(4))
    with pytest.raises(LogError, match=r"empty\.jsonl: no step"):
        CliRunner().invoke(app, ["plot", str(empty), "--out", str(tmp_path / "a.svg")], catch_exceptions=False)
    with pytest.raises(plots.PlotError, match=r"ends in \.svg"):
        CliRunner().invoke(app, ["plot", str(good), "--out", str(tmp_path / "a.txt")], catch_exceptions=False)
    assert not (tmp_path / "a.svg").exists()


def test_a_training_that_is_in_its_first_epoch_is_drawn(tmp_path: Path) -> None:
    log = written(tmp_path / "log.jsonl", [record for record in records(9, 1) if "loss" in record])
    done = CliRunner().invoke(app, ["plot", str(log), "--out", str(tmp_path / "a.svg")])
    assert done.exit_code == 0, done.output
