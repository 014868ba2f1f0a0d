"""How long a test waits for what has to come: one figure for all of them.

It says when a test has failed, never how fast the code is: a busy machine can take many times as long as an idle one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 120.0
"""Seconds. Less than pytest's own limit for a test, so that a test that waits in vain can still say for what."""


def until(done: Callable[[], object], say: Callable[[], object] = str, every: float = 0.02) -> None:
    """Call `done` every so many seconds until it is true. Fails after `PATIENCE` with what `say` returns."""
    limit = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < limit, f"not so within {PATIENCE:g} s: {say()}"
        time.sleep(every)


def next_tick(file: Path) -> None:
    """Wait until a change gives a file another time than this one has.

    The times of many file systems move in ticks of 1 to 10 ms: two changes within a tick have the same time.
    """
    before, probe = file.stat().st_ctime_ns, file.with_name(".tick")

    def is_over() -> bool:
        probe.touch()
        return probe.stat().st_ctime_ns > before

    until(is_over, every=0.001)
    probe.unlink()
