"""The start of the service: seconds and CPU seconds until it is ready, and the memory that it has then.

The baseline is an earlier checkout of this repository, in the folder that GATELIGHT_BASELINE names, run with the same
Python and packages and its own models. Without it the baseline is the naive application with one model. Starts
alternate, and the first of each writes the compiled modules and is not counted.

Seconds end with the first 200 of `/health/ready`. CPU seconds are those of all processes, up to then. Memory is the
proportional set (PSS) of all processes: shared pages count once. Beside it is the largest resident set of a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row, in_turns, row
from benchmarks.serving import ROOT, Ready, answers, is_ready, megabytes, server
from service.model.bundle import versions

SUBJECT, BASELINE = "the service", "compared with"
VARIABLE = "GATELIGHT_BASELINE"
ONE = "sentiment-bilstm"
"""The model of the starts with one model."""


@dataclass(frozen=True, slots=True)
class Size:
    """Starts of each contestant for a case; `warm` for one more, which is not counted."""

    starts: int = 7
    warm: bool = True


FULL = Size()
QUICK = Size(starts=1, warm=False)


@dataclass(frozen=True, slots=True)
class Started:
    """One start: seconds and CPU seconds until ready, then megabytes."""

    seconds: float
    cpu: float
    pss: float
    rss: float


Begin = Callable[[], Started]


def measure(size: Size = FULL, models: Path | None = None) -> Iterator[Row]:
    """Rows of each case: start, CPU, memory. Raises `ServingError`."""
    baseline = os.environ.get(VARIABLE)
    roots = [ROOT] if baseline is None else [ROOT, Path(baseline).resolve()]
    all_of = {root: models or root / "models" for root in roots}
    with TemporaryDirectory(prefix="benchmark-") as folder:
        one_of = {root: Path(folder) / str(number) for number, root in enumerate(roots)}
        for root, one in one_of.items():
            one.mkdir()
            (one / ONE).symlink_to((all_of[root] / ONE).resolve())
        if baseline is None:
            newest = all_of[ROOT] / ONE / str(versions(all_of[ROOT] / ONE)[-1])
            naive = partial(_start, ROOT, "benchmarks.naive", str(newest), ready=partial(answers, path="/docs"))
            ours = partial(serve, ROOT, one_of[ROOT], 1)
            yield from _rows("one model, against the naive application", ours, naive, size)
            return
        for case, models_of, workers in (
            ("one model, 1 worker", one_of, 1),
            ("all models, 1 worker", all_of, 1),
            ("all models, 2 workers", all_of, 2),
        ):
            ours, theirs = (partial(serve, root, models_of[root], workers) for root in roots)
            yield from _rows(f"{case}, against an earlier build", ours, theirs, size)


def _rows(case: str, subject: Begin, baseline: Begin, size: Size) -> Iterator[Row]:
    if size.warm:
        subject(), baseline()
    rounds = in_turns(size.starts, subject, baseline)
    yield row(f"start to ready, {case}", "s", [(a.seconds, b.seconds) for a, b in rounds])
    yield row(f"the same, {case}", "CPU-s", [(a.cpu, b.cpu) for a, b in rounds])
    yield row(f"memory of all processes then, {case}", "MB (PSS)", [(a.pss, b.pss) for a, b in rounds])
    yield row(f"largest process then, {case}", "MB (RSS)", [(a.rss, b.rss) for a, b in rounds])


def serve(root: Path, models: Path, workers: int) -> Started:
    """Start the service of a checkout."""
    flags = ["--models", str(models), "--provider", "cpu", "--threads", "1", "--log-level", "warning"]
    return _start(root, "service", "serve", *flags, "--workers", str(workers))


def _start(root: Path, *program: str, ready: Ready = is_ready) -> Started:
    """Start a server of a checkout, look at it once it is ready, and end it. Raises `ServingError`."""
    with server(*program, root=root, ready=ready, pause=0.01) as running:
        cpu = running.cpu_seconds()
        pids = (running.process.pid, *running.children)
        pss, rss = sum(megabytes(pid, "Pss") for pid in pids), max(map(megabytes, pids))
        return Started(running.seconds, cpu, pss, rss)
