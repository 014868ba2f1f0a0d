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
    """Counts rows and tokens, and says so on standard error; `quiet` keeps it from that."""

    def __init__(self, sources: Sequence[Source], *, quiet: bool, stream: TextIO | None = None) -> None:
        self.rows = self.tokens = 0
        self._stream = stream or sys.stderr
        self._sources = sources
        sizes = [source.size for source in sources]
        self._size = None if None in sizes else sum(size or 0 for size in sizes)
        self._reached: dict[str, int] = {}
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
        share = self._share()
        if share:
            left = timedelta(seconds=round(seconds * (1 - share) / share))
            text += f", {100 * share:.0f} %, {left} left"
        return text

    def finish(self, rejected: int) -> None:
        if self._quiet:
            return
        seconds = max(time.monotonic() - self._begun, 1e-9)
        aside = f", {rejected:,} set aside" if rejected else ""
        start = "\r\x1b[K" if self._terminal else ""
        self._stream.write(f"{start}{self.rows:,} rows in {seconds:.1f} s ({self.rows / seconds:,.0f} rows/s){aside}\n")

    def _share(self) -> float | None:
        if not self._size:
            return None
        for source in self._sources:
            self._reached[source.name] = max(self._reached.get(source.name, 0), source.position)
        return min(1.0, sum(self._reached.values()) / self._size)
