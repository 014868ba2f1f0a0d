"""The last disagreements of all workers."""

from __future__ import annotations

from service.serving.recent import SLOT_BYTES, SLOTS, Recent, memory


def test_entries_of_all_workers_and_of_each_the_last() -> None:
    shared = memory(2)
    one, other = Recent(shared, 0), Recent(shared, 1)
    other.add({"n": -1})
    for number in range(SLOTS + 3):
        one.add({"n": number})
    assert sorted(each["n"] for each in other.read()) == [-1, *range(3, SLOTS + 3)]
    assert one.read() == other.read()


def test_an_entry_that_is_too_large_loses_its_text() -> None:
    one = Recent(memory(1), 0)
    one.add({"n": 1, "text": "x" * SLOT_BYTES})
    one.add({"n": 2, "more": "x" * SLOT_BYTES})
    one.add({"n": 3, "text": "short"})
    assert one.read() == [{"n": 1}, {"n": 3, "text": "short"}]


def test_half_an_entry_is_passed_over() -> None:
    shared = memory(1)
    one = Recent(shared, 0)
    one.add({"n": 1})
    shared[8:16] = (5).to_bytes(8, "little")
    assert one.read() == []
