"""The payload log: lines that CloudEvents' own SDK reads, files that rotate, and what cannot be written."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from structlog.testing import capture_logs

from service.errors import StartupError
from service.observability import payload_log
from service.observability.payload_log import (
    FEEDBACK,
    PREDICTION,
    Event,
    PayloadLog,
    Redact,
    check,
    event,
    feedback_path,
    path_of,
    read_redact,
)
from tests.patience import until

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def logging(path: Path, most_bytes: int = 1 << 20, kept: int = 3, redact: Redact | None = None) -> Iterator[PayloadLog]:
    """A log, whose every event is written when it ends."""
    log = PayloadLog(path, most_bytes=most_bytes, kept=kept, redact=redact)
    log.start()
    yield log
    log.close(30)


def line(number: int, size: int = 0) -> Callable[[], Event]:
    return lambda: event(PREDICTION, f"id {number}", "/models/m", 1.5, {"number": number, "text": "x" * size})


def numbers(path: Path) -> list[Any]:
    return [json.loads(each)["data"]["number"] for each in path.read_text().splitlines()]


def test_a_line_is_a_cloud_event(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    data = {"request": {"inputs": ["naïve 🎉"]}, "answer": None, "status": 200}
    with logging(path) as log:
        log.offer(PREDICTION, lambda: event(PREDICTION, "a b", "/models/m", 1700000000.25, data, modelversion="3"), 1)
    (content,) = path.read_bytes().splitlines()
    read = JSONFormat().read(CloudEvent, content)
    assert read.get_attributes()["modelversion"] == "3"
    assert (read.get_id(), read.get_source(), read.get_type()) == ("a b", "/models/m", PREDICTION)
    assert read.get_time().isoformat() == "2023-11-14T22:13:20.250000+00:00"  # type: ignore[union-attr]  # the event has a time
    assert read.get_data() == data
    assert log.written[PREDICTION] == 1


def test_a_value_that_json_has_not_is_null(tmp_path: Path) -> None:
    with logging(tmp_path / "log") as log:
        log.offer(PREDICTION, lambda: event(PREDICTION, "a", "/m", 0.0, {"number": float("nan")}), 1)
    assert numbers(tmp_path / "log") == [None]


def test_feedback_has_a_file_of_its_own_beside_it(tmp_path: Path) -> None:
    with logging(tmp_path / "log.jsonl") as log:
        log.offer(PREDICTION, line(1), 0)
        log.offer(FEEDBACK, lambda: event(FEEDBACK, "f", "/feedback", 0.0, {"number": 2}), 0)
    assert numbers(tmp_path / "log.jsonl") == [1]
    assert numbers(tmp_path / "log.feedback.jsonl") == [2]
    assert (log.written[PREDICTION], log.written[FEEDBACK]) == (1, 1)


@pytest.mark.parametrize(
    ("path", "worker", "own", "feedback"),
    [
        ("log.jsonl", None, "log.jsonl", "log.feedback.jsonl"),
        ("log.jsonl", 0, "log.0.jsonl", "log.0.feedback.jsonl"),
        ("log", 12, "log.12", "log.feedback.12"),
        ("/dev/null", 1, "/dev/null", "/dev/null"),
    ],
)
def test_names_of_files(path: str, worker: int | None, own: str, feedback: str) -> None:
    assert path_of(Path(path), worker) == Path(own)
    assert feedback_path(Path(own)) == Path(feedback)


def test_a_file_is_put_aside_before_it_would_be_too_large(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with logging(path, most_bytes=1000, kept=2) as log:
        for number in range(8):
            log.offer(PREDICTION, line(number, 300), 0)  # two fit
    assert [numbers(tmp_path / name) for name in ("log.2", "log.1", "log")] == [[2, 3], [4, 5], [6, 7]]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    with logging(path, most_bytes=1000, kept=2) as log:
        log.offer(PREDICTION, line(8, 300), 0)
    assert numbers(path) == [8], "the size of a file that was there counts"
    with logging(path, most_bytes=1000, kept=0) as log:
        log.offer(PREDICTION, line(9, 2000), 0)
        log.offer(PREDICTION, line(10), 0)
    assert numbers(path) == [10]


@pytest.mark.parametrize("how", ["deleted", "put aside", "replaced"])
def test_a_file_that_somebody_takes_away_is_begun_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "log"
    log = PayloadLog(path, most_bytes=1 << 20, kept=1)
    log.start()
    for number in range(2):
        log.offer(PREDICTION, line(number), 0)
        until(lambda: log.written[PREDICTION] == number + 1)  # noqa: B023 # called at once
        if number == 0:
            path.unlink() if how == "deleted" else path.rename(tmp_path / "older")
        if number == 0 and how == "replaced":
            path.touch()
    log.close(30)
    assert numbers(path) == [1]
    assert how == "deleted" or numbers(tmp_path / "older") == [0]


def test_a_file_that_somebody_cuts_short_counts_from_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = PayloadLog(path, most_bytes=1000, kept=1)
    log.start()
    for number in range(4):
        log.offer(PREDICTION, line(number, 500), 0)
        until(lambda: log.written[PREDICTION] == number + 1)  # noqa: B023 # called at once
        os.truncate(path, 0)
    log.close(30)
    assert list(tmp_path.iterdir()) == [path], "it was never put aside"


def test_standard_output_is_written_to_as_it_is_though_it_is_a_file(tmp_path: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        from service.observability.payload_log import FEEDBACK, PREDICTION, PayloadLog, check, feedback_path, path_of
        from tests.service.observability.test_payload_log import line
        path = Path(sys.argv[1])
        check(path)
        assert path_of(path, 3) == feedback_path(path) == path
        log = PayloadLog(path, most_bytes=300, kept=2)
        log.start()
        for number in range(4):
            log.offer(FEEDBACK if number == 2 else PREDICTION, line(number, 100), 0)
        log.close(30)
        print('{"data": {"number": "its own"}}')
    """
    (tmp_path / "link").symlink_to("/dev/stdout")
    for path in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", str(tmp_path / "link")):
        with (tmp_path / "out").open("w", encoding="utf-8") as out:
            done = subprocess.run([sys.executable, "-c", script, path], stdout=out, check=False, cwd=ROOT)
        assert done.returncode == 0
        assert numbers(tmp_path / "out") == [0, 1, 2, 3, "its own"]
    assert {each.name for each in tmp_path.iterdir()} == {"link", "out"}
    assert Path("/dev/stdout").is_symlink()


def test_only_the_user_of_the_service_reads_it(tmp_path: Path) -> None:
    with logging(tmp_path / "log") as log:
        log.offer(PREDICTION, line(1), 0)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_a_full_device_is_counted_and_told_once() -> None:
    check(Path("/dev/full"))
    with capture_logs() as logs, logging(Path("/dev/full")) as log:
        for number in range(3):
            log.offer(PREDICTION, line(number), 0)
    assert (log.lost["disk"], log.written[PREDICTION]) == (3, 0)
    assert [each["why"] for each in logs] == ["disk"]


def test_half_a_line_is_taken_back_and_writing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.write
    full = threading.Event()

    def write(file: int, content: bytes) -> int:
        if not full.is_set():
            return written(file, content)
        if len(content) < 50:
            raise OSError(errno.ENOSPC, "full")
        return written(file, content[: len(content) // 2])

    monkeypatch.setattr(os, "write", write)
    path = tmp_path / "log"
    with logging(path) as log:
        log.offer(PREDICTION, line(1), 0)
        log.offer(PREDICTION, lambda: full.set() or event(PREDICTION, "a", "/m", 0.0, {"number": 2}), 0)  # type: ignore[func-returns-value]  # set returns None, so the event follows
        log.offer(PREDICTION, lambda: full.clear() or event(PREDICTION, "a", "/m", 0.0, {"number": 3}), 0)  # type: ignore[func-returns-value]  # clear returns None, so the event follows
    assert numbers(path) == [1, 3]
    assert log.lost["disk"] == 1


def test_a_pipe_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with logging(tmp_path / "pipe") as log:
        log.offer(PREDICTION, line(1), 0)
    assert log.lost["disk"] == 1


def test_after_half_a_line_in_a_pipe_the_next_begins_anew(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    read: list[bytes] = []
    log = PayloadLog(tmp_path / "pipe", most_bytes=1 << 20, kept=0)

    def drained() -> Event:
        read.append(os.read(reader, 1 << 20))
        return line(2)()

    log.start()
    log.offer(PREDICTION, line(1, 200_000), 0)  # more than a pipe holds
    log.offer(PREDICTION, drained, 0)
    log.offer(PREDICTION, line(3), 0)
    log.close(30)
    read.append(os.read(reader, 1 << 20))
    os.close(reader)
    half, *whole = b"".join(read).splitlines()
    assert b'"number":1' in half
    assert [json.loads(each)["data"]["number"] for each in whole] == [2, 3]
    assert log.lost["disk"] == 1


def test_a_slow_disk_costs_events_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_log, "WAITING_EVENTS", 5)
    going, slow = threading.Event(), threading.Event()

    def wait() -> Event:
        going.set()
        assert slow.wait(30)
        return line(0)()

    log = PayloadLog(tmp_path / "log", most_bytes=1 << 20, kept=0)
    log.start()
    log.offer(PREDICTION, wait, 0)
    assert going.wait(30)
    for number in range(1, 10):
        log.offer(PREDICTION, line(number), 0)
    assert log.lost["full"] == 4
    log.close(0.01)  # it does not wait longer
    slow.set()
    log.close(30)
    assert numbers(tmp_path / "log") == [0, 1, 2, 3, 4, 5]


def test_long_texts_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_log, "WAITING_CHARACTERS", 100)
    log = PayloadLog(tmp_path / "log", most_bytes=1 << 20, kept=0)
    for number, characters in enumerate((1000, 1, 1)):  # the first is let in, whatever its length
        log.offer(PREDICTION, line(number), characters)
    log.start()
    log.close(30)
    assert numbers(tmp_path / "log") == [0]
    assert log.lost["full"] == 2


def test_the_hook_decides_what_is_written(tmp_path: Path) -> None:
    def redact(found: Event) -> Event | None:
        number = found["data"]["number"]
        if number == 2:
            raise ValueError("secret")
        return None if number == 1 else {**found, "data": {"number": -number}}

    with capture_logs() as logs, logging(tmp_path / "log", redact=redact) as log:
        for number in range(4):
            log.offer(PREDICTION, line(number), 0)
    assert numbers(tmp_path / "log") == [0, -3]
    assert (log.lost["redact"], log.written[PREDICTION]) == (1, 2)
    assert "secret" not in str(logs)


def test_what_the_hook_changes_is_its_own_copy_in_plain_values(tmp_path: Path) -> None:
    mine: Event = {"data": {"number": 1, "scores": np.array([0.5], np.float32), "spans": [(0, 3)]}}
    seen: list[Event] = []

    def redact(found: Event) -> Event:
        seen.append(found)
        found["data"]["number"] = 7
        found["data"].pop("scores").clear()
        return found

    with logging(tmp_path / "log", redact=redact) as log:
        log.offer(PREDICTION, lambda: mine, 0)
    assert numbers(tmp_path / "log") == [7]
    assert mine["data"]["number"] == 1
    assert mine["data"]["scores"].tolist() == [0.5]
    assert seen[0]["data"]["spans"] == [[0, 3]]


@pytest.mark.parametrize("made", ["a text", [], 1, True])
def test_what_the_hook_returns_is_an_event_or_none(tmp_path: Path, made: Any) -> None:
    with logging(tmp_path / "log", redact=lambda found: made) as log:
        log.offer(PREDICTION, line(1), 0)
    assert (log.lost["redact"], log.written[PREDICTION]) == (1, 0)


def keep(found: dict[str, Any]) -> dict[str, Any]:
    return found


def clear(found: dict[str, Any]) -> dict[str, Any]:
    """For `payload_redact`: nothing of the answer is written."""
    for each in found["data"].get("answer", {}).get("predictions", ()):
        each.clear()
    return found


def test_the_hook_is_found_by_name() -> None:
    assert read_redact("") is None
    assert read_redact(f"{__name__}:keep") is keep
    for wrong in ("keep", f"{__name__}:none", "no.module:keep", f"{__name__}:PREDICTION", ":keep"):
        with pytest.raises(StartupError, match="payload_redact"):
            read_redact(wrong)


def test_a_log_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "none" / "log", tmp_path, tmp_path / "file" / "log"):
        with pytest.raises(StartupError, match=r"payload_log: .* cannot be opened"):
            check(wrong)
    check(tmp_path / "log")
