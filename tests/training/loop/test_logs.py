"""The log of a training, line by line, and what becomes of it when the training is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.loop.logs import Log, LogError, Record, read, tensorboard, together


def write(file: Path, steps: range, after: int = 0) -> None:
    log = Log(file, after)
    for step in steps:
        log({"step": step, "epoch": 1, "loss": 1 / step})
    log.close()


def test_a_line_for_every_record(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "a.jsonl"
    write(file, range(1, 4))
    assert [(record["step"], record["loss"]) for record in read(file)] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    seconds = [record["seconds"] for record in read(file)]
    assert seconds == sorted(seconds)


def test_a_new_training_begins_the_file_anew_and_a_resumed_one_drops_what_was_undone(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write(file, range(1, 6))
    write(file, range(4, 8), after=3)
    assert [record["step"] for record in read(file)] == [1, 2, 3, 4, 5, 6, 7]
    write(file, range(1, 3))
    assert [record["step"] for record in read(file)] == [1, 2]


def test_a_last_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write(file, range(1, 4))
    file.write_text(file.read_text("utf-8")[:-10], "utf-8")
    assert [record["step"] for record in read(file)] == [1, 2]


@pytest.mark.parametrize(("text", "line"), [("{]\n{}\n", 1), ('{"step": 1}\n[]\n', 2), ('{"step": 1}\n{"a": 1}\n', 2)])
def test_other_files_are_refused(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(text, "utf-8")
    with pytest.raises(LogError, match=rf"a\.jsonl:{line}"):
        read(file)


def test_several_at_once() -> None:
    one: list[Record] = []
    other: list[Record] = []
    together([one.append, other.append])({"step": 1})
    assert one == other == [{"step": 1}]


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    write_, close = tensorboard(tmp_path, 0)
    write_({"step": 1, "epoch": 1, "loss": 0.5})
    write_({"step": 1, "epoch": 1, "score": 0.75})
    close()
    (events,) = tmp_path.iterdir()
    assert b"step/loss" in events.read_bytes()
    assert b"epoch/score" in events.read_bytes()
