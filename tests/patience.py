"""How long a test waits for what has to come: one figure for all of them.

It says when a test has failed, never how fast the code is: a busy machine can take many times as long as an idle one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds. Less than pytest's own limit for a test, so that a test that waits in vain can still say for what."""


def until(done: Callable[[], object], say: Callable[[], object] = str, every: float = 0.02) -> None:
    """Call `done` every so many seconds until it is true. Fails after `PATIENCE` with what `say` returns."""
    limit = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < limit, f"not so within {PATIENCE:g} s: {say()}"
        time.sleep(every)
