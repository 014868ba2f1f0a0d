"""A piece that one answer reads: its slices, and its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.errors import TooLarge
from service.http.schemas.streams import Piece
from service.http.streaming.opened import SLICE, TOKENS_FACTOR, Opened
from service.model.streams.stream import Wanted
from service.serving.runtime import INLINE_SECONDS

LIMIT = 1000


class Reader:
    """A stream in which each code point and each token is one token."""

    def __init__(self, every: int = 1) -> None:
        self.wanted = Wanted(every)
        self.slices: list[int] = []
        self.count = self.ends = 0
        self.long = 0
        """Slices that a thread reads."""

    @property
    def waiting(self) -> int:
        return sum(self.slices)

    def feed(self, part: Any) -> None:
        self.slices.append(len(part))

    feed_tokens = feed

    def end(self) -> None:
        self.ends += 1


async def offload(reader: Reader, seconds: float, work: Callable[[], Any]) -> Any:
    reader.long += seconds >= INLINE_SECONDS
    return work()


def opened(reader: Reader, task: str = "sentiment") -> Opened:
    settings = SimpleNamespace(max_tokens=LIMIT, max_trace=LIMIT)
    runtime = SimpleNamespace(settings=settings, offload=partial(offload, reader))
    return Opened(cast(Any, runtime), cast(Any, SimpleNamespace(task=task)), cast(Any, reader), True, "id")


@pytest.mark.parametrize("piece", [Piece(text="a" * 900, end=True), Piece(tokens=["a"] * 900, end=True)])
def test_other_work_runs_between_the_slices_of_a_long_piece(piece: Piece) -> None:
    reader = Reader()
    seen: list[int] = []  # the slices so far, at each turn of other work

    async def other() -> None:
        while not reader.ends:
            seen.append(len(reader.slices))
            await asyncio.sleep(0)

    async def run() -> None:
        await asyncio.gather(opened(reader).take_whole(piece), other())

    asyncio.run(run())
    assert reader.slices == [SLICE, SLICE, SLICE, 900 - 3 * SLICE]
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("task", "every", "most", "named"),
    [
        ("sentiment", 1, LIMIT, "Events of"),
        ("sentiment", 3, 3 * LIMIT + 2, "Events of"),
        ("sentiment", 100, TOKENS_FACTOR * LIMIT, "Tokens in"),
        ("ner", 1, LIMIT, "Tokens in"),
        ("ner", 100, LIMIT, "Tokens in"),
    ],
)
def test_a_piece_over_the_limit_is_read_no_further(task: str, every: int, most: int, named: str) -> None:
    reader = Reader(every)
    asyncio.run(opened(reader, task).take_whole(Piece(text="a" * most)))
    assert reader.waiting == most
    reader = Reader(every)
    with pytest.raises(
        TooLarge, match=rf"{named} the first [\d,]+ characters of one piece .*the limit is \d+\."
    ) as found:
        asyncio.run(opened(reader, task).take_whole(Piece(text="a" * (most + 10 * SLICE))))
    assert most < reader.waiting <= most + SLICE
    assert f"{reader.waiting:,} characters" in str(found.value)


def test_a_thread_reads_very_long_tokens() -> None:
    reader = Reader()
    asyncio.run(opened(reader).take_whole(Piece(tokens=["film"] * 300)))
    assert reader.long == 0
    asyncio.run(opened(reader).take_whole(Piece(tokens=["&amp;" * 1000, *["film"] * 300])))
    assert reader.long == 1
