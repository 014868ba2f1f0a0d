"""Boards of numbers: counted in place, read by others, carried on by whoever comes next."""

from __future__ import annotations

import pytest

from service.observability.shared_metrics import CELLS, KEY_BYTES, MEMORY_BYTES, Board, Family, total

FAMILIES = (
    Family("asked", "counter", "Asked.", ("who",)),
    Family("waiting", "gauge", "Waiting."),
    Family("info", "gauge", "Info.", ("version",), over="max"),
    Family("seconds", "histogram", "Seconds.", (), (0.1, 1.0)),
)
COMPARED = (
    Family("compared", "histogram", "Compared.", ("model", "version", "shadow"), (1.0,)),
    Family("judged", "counter", "Judged.", ("model", "version", "bin")),
    Family("requests", "counter", "Requests.", ("model", "version")),
)


def memory() -> memoryview:
    return memoryview(bytearray(MEMORY_BYTES))


def test_numbers_are_kept_by_label() -> None:
    board = Board(FAMILIES)
    board.number("asked", "a").add()
    board.number("asked", "b").add(2.5)
    board.number("asked", "a").add()
    board.number("waiting").set(7)
    assert dict(board.read()) == {("asked", "a"): [2.0], ("asked", "b"): [2.5], ("waiting",): [7.0]}


def test_what_is_about_one_version_begins_anew() -> None:
    board = Board(COMPARED)
    for version, shadow in (("1", "2"), ("2", "3"), ("3", "1")):
        board.histogram("compared", "a", version, shadow).observe(0.5)
        board.number("judged", "a", version, "2").add()
        board.number("requests", "a", version).add()
    board.number("judged", "b", "2", "1").add()
    kept = board.number("judged", "a", "2", "2")
    board.restart({"compared", "judged"}, "a", "2")
    assert [key for key, cells in board.read() if not any(cells)] == [
        ("compared", "a", "1", "2"),
        ("compared", "a", "2", "3"),
        ("judged", "a", "2", "2"),
    ]
    kept.add()
    assert dict(board.read())["judged", "a", "2", "2"] == [1.0]


def test_a_histogram_counts_each_value_once_in_the_first_bucket_that_holds_it() -> None:
    board = Board(FAMILIES)
    for value in (0.05, 0.1, 0.5, 1.0, 3.0):
        board.histogram("seconds").observe(value)
    assert dict(board.read()) == {("seconds",): [2.0, 2.0, 1.0, pytest.approx(4.65)]}


def test_another_board_of_the_same_memory_sees_what_is_counted_after_it_was_made() -> None:
    shared = memory()
    writer, reader = Board(FAMILIES, shared), Board(FAMILIES, shared)
    assert dict(reader.read()) == {}
    writer.number("asked", "a").add()
    writer.histogram("seconds").observe(0.5)
    writer.number("asked", "b").add(3)
    assert dict(reader.read()) == dict(writer.read())
    assert dict(reader.read())["asked", "b"] == [3.0]


def test_what_is_counted_while_it_is_read_does_not_disturb_the_reader() -> None:
    board = Board(FAMILIES)
    board.number("asked", "a").add()
    board.number("asked", "b").add()
    reading = board.read()
    assert next(reading) == (("asked", "a"), [1.0])
    board.number("asked", "c").add()
    assert dict(reading) == {("asked", "b"): [1.0]}
    assert dict(board.read())["asked", "c"] == [1.0]


def test_the_next_process_goes_on_with_counters_and_tracked_counters() -> None:
    shared = memory()
    for _ in range(2):
        board = Board(FAMILIES, shared)
        board.number("asked", "a").add(5)
        board.track("asked", "b", read=lambda: 3)
        board.track("waiting", read=lambda: 4)
        board.publish()
        board.publish()
    assert dict(Board(FAMILIES, shared).read()) == {("asked", "a"): [10.0], ("asked", "b"): [6.0], ("waiting",): [4.0]}


def test_gauges_of_a_dead_process_are_cleared_and_its_counters_stay() -> None:
    shared = memory()
    died = Board(FAMILIES, shared)
    died.number("asked", "a").add()
    died.number("waiting").set(9)
    died.number("info", "1").set(1)
    Board(FAMILIES, shared).clear_gauges()
    assert dict(died.read()) == {("asked", "a"): [1.0], ("waiting",): [0.0], ("info", "1"): [0.0]}
    died.number("waiting").set(9)
    died.clear_gauges("info")
    assert died.number("waiting").value == 9


def test_total_adds_up_and_takes_the_largest_where_a_family_says_so() -> None:
    first, second = Board(FAMILIES), Board(FAMILIES)
    for board, waiting in ((first, 2), (second, 5)):
        board.number("asked", "a").add()
        board.number("waiting").set(waiting)
        board.number("info", "1").set(1)
        board.histogram("seconds").observe(0.5)
    second.number("asked", "b").add()
    assert total((first, second)) == {
        ("asked", "a"): [2.0],
        ("asked", "b"): [1.0],
        ("waiting",): [7.0],
        ("info", "1"): [1.0],
        ("seconds",): [0.0, 2.0, 0.0, 1.0],
    }


def test_wrong_labels_are_refused_and_series_too_many_overwrite_nothing() -> None:
    board = Board(FAMILIES)
    board.number("waiting").set(1)
    with pytest.raises(ValueError, match="asked has the labels who"):
        board.number("asked")
    for number in range(CELLS + 1):
        board.number("asked", str(number)).add()
    board.number("asked", "x" * KEY_BYTES).add()
    assert board.number("waiting").value == 1
    assert all(cells == [1.0] for cells in dict(board.read()).values())
    assert len(dict(board.read())) > 1000


def test_series_of_models_leave_room_for_what_the_service_counts_of_itself() -> None:
    families = (Family("quality", "gauge", "", ("model", "data")), Family("asked", "counter", "", ("who",)))
    board = Board(families)
    for number in range(2000):
        board.number("quality", str(number), "x" * 1000).set(1)
    for number in range(1000):
        board.number("asked", str(number)).add()
    kept = [key for key, _ in board.read() if key[0] == "quality"]
    assert 0 < len(kept) < 2000
    assert sum(key[0] == "asked" for key, _ in board.read()) == 1000
