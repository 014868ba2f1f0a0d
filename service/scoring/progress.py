"""How far a run is: on a terminal a line that renews itself, else a line now and then."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from itertools import accumulate
from typing import TextIO

from service.scoring.rows import Row

ON_TERMINAL, ELSEWHERE = 0.2, 30.0
"""Seconds between two lines."""


class Progress:
    """Counts the rows and tokens of this run, and says so on standard error; `quiet` keeps it from that."""

    def __init__(self, sizes: Mapping[str, int | None], *, quiet: bool, stream: TextIO | None = None) -> None:
        """`sizes` are the files, in order, with their bytes; None for a stream."""
        self.rows = self.tokens = 0
        self._stream = stream or sys.stderr
        known = [size or 0 for size in sizes.values()]
        self._size = 0 if None in sizes.values() else sum(known)
        self._starts = dict(zip(sizes, accumulate(known, initial=0), strict=False))
        self._origin = self._reached = 0
        self._terminal = self._stream.isatty()
        self._quiet = quiet
        self._begun = self._said = time.monotonic()

    def passed(self, row: Row) -> None:
        """An earlier run came to this row at least. Time and rates count from here on."""
        self._origin = self._reached = self._starts[row.file] + row.position
        self._begun = time.monotonic()

    def add(self, rows: int, tokens: int, last: Row) -> None:
        """So many more rows are done, the last of them being `last`."""
        self.rows += rows
        self.tokens += tokens
        self._reached = self._starts[last.file] + last.position
        now = time.monotonic()
        if not self._quiet and now - self._said >= (ON_TERMINAL if self._terminal else ELSEWHERE):
            self._said = now
            self._stream.write(f"\r{self.line(now)}\x1b[K" if self._terminal else f"{self.line(now)}\n")
            self._stream.flush()

    def line(self, now: float) -> str:
        """Rows, rate, and, if the input's size is known, the share and the time left."""
        seconds = max(now - self._begun, 1e-9)
        text = f"{self.rows:,} rows, {self.rows / seconds:,.0f} rows/s, {self.tokens / seconds:,.0f} tokens/s"
        done = self._reached - self._origin
        if self._size and done > 0:
            left = timedelta(seconds=math.ceil(seconds * max(0, self._size - self._reached) / done))
            text += f", {math.floor(100 * min(1, self._reached / self._size))} %, {left} left"
        return text

    def finish(self, aside: int, before: int = 0) -> None:
        """The last line: rows, and those set aside of them; those of the run that was resumed, `before`, are apart."""
        if self._quiet:
            return
        seconds = max(time.monotonic() - self._begun, 1e-9)
        text = f"{self.rows:,} rows in {seconds:.1f} s ({self.rows / seconds:,.0f} rows/s)"
        if aside or before:
            text += f", {aside:,} set aside" + (f" ({before:,} more before it was resumed)" if before else "")
        start = "\r\x1b[K" if self._terminal else ""
        self._stream.write(f"{start}{text}\n")
