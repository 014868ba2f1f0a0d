"""How Python runs a process of ours: when a thread hands over Python's lock, when cycles are looked for, how memory
is given back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import cast

SWITCH_INTERVAL = 0.001
"""Seconds after which Python's lock is handed over to a thread that waits for it: neither the event loop nor a thread
that has the next batch to run must wait for the 5 milliseconds that are the default while another thread tokenises or
builds a large answer."""
GARBAGE_AFTER = 50_000
"""New objects, less those that have gone, after which cycles are looked for. Requests leave none, and with the default
of 700 the objects of those under way alone would have them looked for a hundred times a second."""


def tune(*, collect: bool = True) -> None:
    """Set both for the whole process. Garbage collection skips the objects loaded so far, because they are
    permanent.

    Without `collect` there is no garbage collection until the next call. A start makes 130,000 objects and less than
    1,000 that are garbage; collecting takes a twentieth of its time.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(GARBAGE_AFTER)
    gc.freeze()
    (gc.enable if collect else gc.disable)()


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """Make imports within the context fail for a package, unless it is imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = cast(ModuleType, None)  # as Python's import system defines it
    try:
        yield
    finally:
        del sys.modules[package]


def give_back() -> None:
    """Return freed memory to the system, if the C library can. Otherwise it keeps the memory."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
