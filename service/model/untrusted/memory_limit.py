"""Bounds for work that nobody vouches for: how much memory it may take, and how long a graph may run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxruntime import RunOptions

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]  # a module by its type

_STATUS = Path("/proc/self/status")
_lock = threading.Lock()


@contextmanager
def memory(headroom: int) -> Iterator[None]:
    """Within it this process can take `headroom` bytes of memory more than it has; more of them raise an error.

    The limit is the whole process's, so `headroom` must leave room for other threads. If the system has no such limit,
    or the process may not set it, nothing is limited.
    """
    taken = _taken()
    if resource is None or taken is None:
        yield
        return
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = taken + headroom
        bounds = [bound for bound in (soft, hard, wanted) if bound != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def patience(seconds: float) -> Iterator[RunOptions]:
    """Options for runs that are ended when that many seconds are over: at the end of the operator that runs then."""
    options = RunOptions()
    options.log_severity_level = 4

    def end() -> None:
        options.terminate = True

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()
        timer.join()  # a process with a second thread cannot be forked safely


def _taken() -> int | None:
    """Bytes of private memory of this process, as `RLIMIT_DATA` counts them; None if the system does not tell."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)
