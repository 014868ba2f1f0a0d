"""The last answers of all workers."""

from __future__ import annotations

import os

import pytest

from service.serving import answered
from service.serving.answered import BYTES, DETAIL_BYTES, ENTRIES, LARGEST_DETAIL, Answered, Ring, memory


def workers(count: int) -> list[Answered]:
    shared = memory(count)
    return [Answered(shared, number) for number in range(count)]


def test_what_one_worker_answered_every_other_knows() -> None:
    one, other = workers(2)
    one.note("a", {"label": "x"})
    other.note("b")
    for each in (one, other):
        assert each.knows("a")
        assert each.detail("a") == {"label": "x"}
        assert each.detail("b") is None
        assert not each.knows("c")
        with pytest.raises(KeyError):
            each.detail("c")


def test_an_id_is_known_for_so_many_answers_of_any_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10 * ENTRIES))
    monkeypatch.setattr(answered, "monotonic", lambda: float(next(ticks)))
    one, other = workers(2)
    one.note("first", 1)
    one.note("second", 2)
    for number in range(ENTRIES - 2):
        (one if number % 3 else other).note(str(number))
    assert one.knows("first")
    assert other.detail("first") == 1
    other.note("one more")
    assert not one.knows("first")
    assert not other.knows("first")
    assert one.knows("second")
    for number in range(ENTRIES):
        other.note(f"other {number}")
    assert not one.knows("second")
    assert one.knows("other 0")


def test_of_two_answers_with_one_id_the_newer_counts() -> None:
    one, other = workers(2)
    one.note("a", 1)
    other.note("a", 2)
    assert one.detail("a") == 2
    one.note("a", 3)
    assert other.detail("a") == 3


def test_details_make_room_and_ids_stay() -> None:
    (one,) = workers(1)
    half = "x" * (LARGEST_DETAIL - 2)
    one.note("too large", "x" * LARGEST_DETAIL)
    assert one.knows("too large")
    assert one.detail("too large") is None
    for number in range(DETAIL_BYTES // LARGEST_DETAIL):
        one.note(str(number), half)
    assert one.detail("0") == half
    one.note("over", half)
    assert one.knows("0")
    assert one.detail("0") is None
    assert one.detail("1") == one.detail("over") == half


def test_a_detail_that_does_not_fit_at_the_end_begins_anew() -> None:
    (one,) = workers(1)
    detail = "y" * 50_001
    for number in range(200):
        one.note(str(number), detail)
        assert one.detail(str(number)) == detail


def test_a_forked_process_reads_and_writes() -> None:
    shared = memory(2)
    one = Answered(shared, 0)
    one.note("parent", 1)
    child = os.fork()
    if not child:
        other = Answered(shared, 1)
        other.note("child", other.detail("parent"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert one.detail("child") == 1


def test_a_digest_is_found_at_its_place_alone() -> None:
    ring = Ring(memoryview(bytearray(BYTES)))
    digest = bytes(range(16))
    ring.add(digest, b"1", 1.0)
    ring.add(digest[8:] + digest[:8], b"2", 2.0)
    ring.add(digest[8:] + digest[:8], b"3", 3.0)  # across the two, `digest` stands again, at no place of its own
    found = ring.find(digest)
    assert found is not None
    assert (found.then, found.detail) == (1.0, b"1")
    assert ring.find(bytes(16)) is None, "what was never written is no answer"
