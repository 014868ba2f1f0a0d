"""Decisions in memory that workers share."""

from __future__ import annotations

import multiprocessing

import pytest

from service.errors import Unavailable
from service.serving import decisions
from service.serving.decisions import Decision, Decisions

DECISION = {"pin": 2, "plan": None}


class Memory:
    """What two workers have in common."""

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(decisions.BYTES))
        self.followed = memoryview(bytearray(2 * 8 * decisions.FOLLOWED)).cast("Q")
        self.lock = multiprocessing.get_context("fork").Lock()

    def open(self) -> Decisions:
        return Decisions(self.memory, self.followed, self.lock)


def test_what_one_writes_the_other_reads() -> None:
    memory = Memory()
    one, other = memory.open(), memory.open()
    assert (other.number, other.read()) == (0, (0, {}))
    assert one.decide("a", DECISION, 0) == Decision(1, place=0)
    assert other.decide("b", {"pin": None, "plan": {"versions": "all"}}, 0) == Decision(2, place=1)
    assert one.decide("a", {"pin": 3, "plan": None}, 2) == Decision(3, place=0)
    assert one.number == other.number == 3
    expected = {
        "a": {"pin": 3, "plan": None, "number": 3, "place": 0},
        "b": {"pin": None, "plan": {"versions": "all"}, "number": 2, "place": 1},
    }
    assert one.read() == other.read() == (3, expected)
    assert (other.last("a"), other.last("c")) == (Decision(3, place=0), None)


def test_a_decision_that_was_made_without_the_last_one_on_its_name_is_not_written() -> None:
    one = Memory().open()
    assert one.decide("a", {"pin": 1, "plan": None}, 0) == (1, 0)
    assert one.decide("b", {"pin": 1, "plan": None}, 0) == (2, 1)
    assert one.decide("a", {"pin": 2, "plan": None}, 0) is None
    assert one.read()[1]["a"]["pin"] == 1
    assert one.decide("a", {"pin": 2, "plan": None}, 1) == (3, 0)


def test_who_is_behind() -> None:
    one = Memory().open()
    decided = [one.decide(name, DECISION, number) for number, name in enumerate("aba")]
    first, other, second = (each for each in decided if each is not None)
    assert ([*one.behind(first)], one.workers) == ([0, 1], 2)
    one.note_followed(1, [{"number": 2, "place": 1}])
    assert [[*one.behind(each)] for each in (first, other, second)] == [[0, 1], [0], [0, 1]], "it lacks the other name"
    one.note_followed(1, [{"number": 3, "place": 0}])
    assert [[*one.behind(each)] for each in (first, other, second)] == [[0], [0], [0]]
    one.note_gone(1)
    assert [*one.behind(other)] == [0], "no change waits for a worker that has ended"
    one.note_begun(1)
    assert [*one.behind(other)] == [0, 1], "but for the one that replaces it"


def test_a_reader_never_sees_half_a_decision() -> None:
    memory = Memory()
    one = memory.open()
    one.decide("a", DECISION, 0)
    head = memory.memory[:16].cast("Q")
    head[0] += 1  # as while it is being written
    assert one.read() == (0, {})
    head[0] += 1
    assert one.read()[0] == 2


def test_a_lock_that_a_dead_process_holds_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "LOCK_SECONDS", 0.01)
    memory = Memory()
    memory.lock.acquire()
    assert memory.open().decide("a", DECISION, 0) == (1, 0)


def test_there_is_an_end_to_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Memory().open()
    for number in range(3):
        one.decide(str(number), DECISION, 0)
    with pytest.raises(Unavailable, match="Too many models were changed"):
        one.decide("x" * decisions.BYTES, DECISION, 0)
    assert one.read()[0] == 3
    assert one.decide("y", DECISION, 0) == (4, 3)
    monkeypatch.setattr(decisions, "NAMES", 4)
    with pytest.raises(Unavailable, match="Too many models were changed"):
        one.decide("z", DECISION, 4)
    assert one.decide("y", DECISION, 4) == (5, 3)
