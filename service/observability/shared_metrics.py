"""Numbers that a process counts, in memory that other processes may read: counters, gauges and histograms.

A `Board` holds one process's numbers. Counting is one addition in memory; Prometheus's client, with a file for each
process, takes 2.6 to 6 times as long, which several numbers a request would make noticeable. Only one thread may count
on a board, that of the event loop; every thread may read. A board in a `memory` that outlives its process continues
from its last values.

Memory: a table of keys, one JSON list [family, label values…] for each series, in the order of their cells, and the
cells, float64. A series is one cell; a histogram's are its buckets, the last without bound, and its sum.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import orjson
import structlog

KEY_BYTES = 1024 * 1024
CELLS = 128 * 1024
OF_MODELS = 0.5
"""The share of a board that series of models may fill. Models, versions and the scores in bundles are unbounded in
number; the service's own counters must always find room."""
MEMORY_BYTES = KEY_BYTES + CELLS * 8
"""Size of one board in bytes; its pages take no memory before they are used."""

_log = structlog.get_logger()
_HEADER = 8  # bytes in use of the keys, as one number at the beginning of the memory

Kind = Literal["counter", "gauge", "histogram", "note"]
"""A note says what other numbers are about. It is no metric, and outlives its process as they do."""
Key = tuple[str, ...]
"""A family's name and the values of its labels."""


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name, told apart by labels. `over` combines a gauge's values of several processes. `full`
    families have many series for each model and are shown only if the settings ask for them."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    over: Literal["sum", "max"] = "sum"
    full: bool = False

    @property
    def width(self) -> int:
        """Cells of one series."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1

    @property
    def room(self) -> float:
        """The share of a board that its series may fill, together with all others."""
        return OF_MODELS if "model" in self.labels else 1.0


@dataclass(slots=True, eq=False)
class Number:
    """One counter or gauge."""

    _cells: memoryview[float]
    _place: int

    @property
    def value(self) -> float:
        return self._cells[self._place]

    def add(self, amount: float = 1.0) -> None:
        self._cells[self._place] += amount

    def set(self, value: float) -> None:
        self._cells[self._place] = value


class Histogram:
    """One distribution over a family's buckets."""

    __slots__ = ("_buckets", "_cells", "_place", "_sum")

    def __init__(self, cells: memoryview[float], place: int, buckets: tuple[float, ...]) -> None:
        self._cells = cells
        self._place = place
        self._buckets = buckets
        self._sum = place + len(buckets) + 1

    def observe(self, *values: float) -> None:
        cells, place = self._cells, self._place
        if len(values) == 1:
            cells[place + bisect_left(self._buckets, values[0])] += 1.0
            cells[self._sum] += values[0]
            return
        found = [bisect_left(self._buckets, value) for value in values]
        for at in set(found):
            cells[place + at] += found.count(at)
        cells[self._sum] += sum(values)

    def add(self, counts: Sequence[float], total: float) -> None:
        """Add many values at once: how many fell into each bucket, the last without bound, and their sum."""
        for at, count in enumerate(counts):
            self._cells[self._place + at] += count
        self._cells[self._sum] += total


class Board:
    """One process's numbers. `memory`, `MEMORY_BYTES` of zeros at first, may be shared; left out, it is its own."""

    def __init__(self, families: Iterable[Family], memory: memoryview | None = None) -> None:
        self.families = {family.name: family for family in families}
        view = memoryview(bytearray(MEMORY_BYTES)) if memory is None else memory.cast("B")
        self._used: memoryview[int] = view[:_HEADER].cast("Q")
        self._keys = view[_HEADER:KEY_BYTES]
        self._cells: memoryview[float] = view[KEY_BYTES:MEMORY_BYTES].cast("d")
        self._places: dict[Key, int] = {}
        self._free = 0
        self._complained: set[str] = set()
        for key in self._written():
            self._place(key)
        self._tracked: list[tuple[Number, float, Callable[[], float]]] = []
        # Kept by their labels: cheap enough for every request.
        self.number, self.histogram = cache(self._number), cache(self._histogram)

    def _number(self, name: str, *labels: str) -> Number:
        """The counter or gauge of a family with these values of its labels."""
        return Number(*self._find((name, *labels)))

    def _histogram(self, name: str, *labels: str) -> Histogram:
        """The histogram of a family with these values of its labels."""
        return Histogram(*self._find((name, *labels)), self.families[name].buckets)

    def track(self, name: str, *labels: str, read: Callable[[], float]) -> None:
        """Read a number from its existing counter at each call of `publish`. Counters continue from earlier values."""
        number = self.number(name, *labels)
        before = number.value if self.families[name].kind == "counter" else 0.0
        self._tracked.append((number, before, read))

    def publish(self) -> None:
        """Bring the tracked numbers up to date."""
        for number, before, read in self._tracked:
            number.set(before + read())

    def clear_gauges(self, *names: str) -> None:
        """Set gauges to 0: those of these families, or all, as when the board's process has died."""
        for key, place in self._places_now().items():
            if self.families[key[0]].kind == "gauge" and (not names or key[0] in names):
                self._cells[place] = 0.0

    def restart(self, names: Container[str], model: str, version: str) -> None:
        """Set to 0 all series of these families that are about a version of a model, also as a shadow."""
        for key, place in self._places_now().items():
            family = self.families[key[0]]
            labels = dict(zip(family.labels, key[1:], strict=True))
            of_version = version in (labels.get("version"), labels.get("shadow"))
            if family.name in names and labels.get("model") == model and of_version:
                for cell in range(place, place + family.width):
                    self._cells[cell] = 0.0

    def read(self) -> Iterator[tuple[Key, list[float]]]:
        """Every series and its cells, as of now; by any process, and in any thread of the one that counts."""
        for key, place in list(self._places_now().items()):
            yield key, list(self._cells[place : place + self.families[key[0]].width])

    def _find(self, key: Key) -> tuple[memoryview[float], int]:
        """The place of a series, which is made if need be; without room for it, a place that nobody reads."""
        family = self.families[key[0]]
        if len(key) != len(family.labels) + 1:
            raise ValueError(f"{family.name} has the labels {', '.join(family.labels) or 'none'}, not {key[1:]}")
        place = self._places.get(key)
        if place is None:
            line = orjson.dumps(key) + b"\n"
            used = self._used[0]
            keys, cells = family.room * len(self._keys), family.room * len(self._cells)
            if used + len(line) > keys or self._free + family.width > cells:
                if family.name not in self._complained:
                    self._complained.add(family.name)
                    _log.error("no room for another series: its labels have too many values", metric=family.name)
                return memoryview(bytearray(8 * family.width)).cast("d"), 0  # a full board must not fail a request
            self._keys[used : used + len(line)] = line
            place = self._place(key)
            self._used[0] = used + len(line)  # last: a reader, or the next process after a crash, sees whole lines
        return self._cells, place

    def _place(self, key: Key) -> int:
        self._places[key] = place = self._free
        self._free += self.families[key[0]].width
        return place

    def _places_now(self) -> Mapping[Key, int]:
        """The places of all series, including those that another process has made since."""
        for key in list(self._written())[len(self._places) :]:
            self._place(key)
        return self._places

    def _written(self) -> Iterator[Key]:
        for line in bytes(self._keys[: self._used[0]]).splitlines():
            yield tuple(orjson.loads(line))


def total(boards: Iterable[Board]) -> dict[Key, list[float]]:
    """Every series over several boards: counters and histograms added up, gauges as their family says."""
    sums: dict[Key, list[float]] = {}
    for board in boards:
        for key, cells in board.read():
            family = board.families[key[0]]
            merge: Callable[[Sequence[Any]], float] = max if family.over == "max" else sum
            sums[key] = [merge(pair) for pair in zip(sums[key], cells, strict=True)] if key in sums else cells
    return sums
