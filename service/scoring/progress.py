"""How far a run is: on a terminal a line that renews itself, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TextIO

from service.scoring.rows import Source

ON_TERMINAL, ELSEWHERE = 0.2, 30.0
"""Seconds between two lines."""


class Progress:
    """Counts the rows and tokens of this run, and says so on standard error; `quiet` keeps it from that."""

    def __init__(
        self, sources: Sequence[Source], *, passed: int = 0, quiet: bool, stream: TextIO | None = None
    ) -> None:
        """Time and rates count from here on, so that what a resumed run has passed over counts as done, not as work of
        no time: the first `passed` sources, and of the others what is read by now."""
        self.rows = self.tokens = 0
        self._stream = stream or sys.stderr
        sizes = [source.size or 0 for source in sources]
        self._size = 0 if any(source.size is None for source in sources) else sum(sizes)
        self._passed, self._sources = sum(sizes[:passed]), sources[passed:]
        self._origin = self._reached()
        self._terminal = self._stream.isatty()
        self._quiet = quiet
        self._begun = self._said = time.monotonic()

    def add(self, rows: int, tokens: int) -> None:
        self.rows += rows
        self.tokens += tokens
        now = time.monotonic()
        if not self._quiet and now - self._said >= (ON_TERMINAL if self._terminal else ELSEWHERE):
            self._said = now
            self._stream.write(f"\r{self.line(now)}\x1b[K" if self._terminal else f"{self.line(now)}\n")
            self._stream.flush()

    def line(self, now: float) -> str:
        """Rows, rate, and where the size of the input is known the share and the time left."""
        seconds = max(now - self._begun, 1e-9)
        text = f"{self.rows:,} rows, {self.rows / seconds:,.0f} rows/s, {self.tokens / seconds:,.0f} tokens/s"
        reached = self._reached()
        if self._size and reached > self._origin:
            left = timedelta(seconds=round(seconds * max(0, self._size - reached) / (reached - self._origin)))
            text += f", {100 * min(1, reached / self._size):.0f} %, {left} left"
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

    def _reached(self) -> int:
        """Bytes of the input that are behind."""
        return self._passed + sum(source.position for source in self._sources)
