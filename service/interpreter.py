"""How Python runs a process of ours: when a thread hands over Python's lock, when cycles are looked for, how memory
is given back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
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


def begin() -> None:
    """Prepare the process of a command before anything else is imported."""
    serves = next((word for word in sys.argv[1:] if not word.startswith("-")), None) == "serve"
    tune(collect=not serves)
    if serves:
        # A signal to stop that comes while the modules are imported is heeded like any other: nothing has begun. Other
        # commands end with the signal's status, so that callers see that the work is not done.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        # A signal to reload waits until there is something to reload.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # One batch takes one thread, in NumPy too; and workers have to be forked before there is a second thread.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Pydantic would look into every installed package for plug-ins of its own: a twentieth of the imports.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # structlog would import rich, for stack traces in colour that this service has none of: another twentieth.
    with without("rich"):
        import_module("structlog")


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
