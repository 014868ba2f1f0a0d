"""What holds for all tests: the threads and the chance they run with, and how parallel runs share them out."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from service.cpus import usable_cpus

MOST_RUNS = 4
"""Test processes at once, with `-n auto`: each may have a service or two, and a browser, of its own."""
ALONE = ("tests/browser/", "tests/container/")
"""Folders whose tests run in one process, one after the other: they share one engine and its images, and a container
that comes or goes changes the machine's network, on which the browser drops what it is loading."""

# Networks as small as the tests' are ten times slower with threads on a busy machine. Libraries read this at import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background so, and the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes is the machine's affair; the examples are the same in every run.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives a process whole files, so that what a file's tests share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "alone" if file.startswith(ALONE) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return min(usable_cpus() + 1, MOST_RUNS)  # tests of services, browsers and containers wait half of their time


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names a value of bytes that nobody can read by its length. Test processes must agree on every name, and a packed
    value that each of them makes for itself holds the second in which it was made."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return f"{len(val)}-bytes"
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Networks with random weights are the same in every run and order, those of a module's fixtures too."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def keep_torch_as_it_was() -> Iterator[None]:
    """Training sets torch's threads and determinism for the whole process, and makes the thread take denormal numbers
    as 0. Later tests need them: hypothesis does."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(False)
        if threads is not None and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
