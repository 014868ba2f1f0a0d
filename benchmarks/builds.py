"""This build of the service beside an earlier one: requests a second, and latency.

GATELIGHT_BASELINE names a checkout of the earlier build. It serves the models of its own checkout, because an earlier
build may refuse today's manifests; both are seen to give the same labels. Both have two workers and the same Python and
packages, and the load generator asks them in turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.field import Case, Contestant, Size, asked, started
from benchmarks.measure import Row, row
from benchmarks.serving import ROOT, ServingError
from benchmarks.start import ONE, VARIABLE

SUBJECT, BASELINE = "this build", "an earlier build"
FULL = Size(
    (
        Case("short, 1 connection", 19, 1),
        Case("short, 64 connections", 19, 64),
        Case("review, 16 connections", 230, 16),
        Case("all gates of 20 tokens, 1 connection", 20, 1, "/gates"),
    ),
    rounds=7,
    seconds=5.0,
)
QUICK = Size((Case("short, 2 connections", 5, 2), Case("gates", 5, 2, "/gates")), rounds=1, seconds=0.5)


def measure(size: Size = FULL, models: Path | None = None) -> Iterator[Row]:
    """Rows of each case: requests a second, median and 99th percentile of the latency.

    `models` replaces the models of both checkouts. Raises `ServingError`, also if no earlier build is named.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        raise ServingError(f"builds: {VARIABLE} must name the checkout of an earlier build")
    roots = {BASELINE: Path(named).resolve(), SUBJECT: ROOT}
    with TemporaryDirectory(prefix="benchmark-") as scratch:
        contestants = []
        for number, (name, root) in enumerate(roots.items()):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            (folder / ONE).symlink_to(((models or root / "models") / ONE).resolve())
            program = ("service", "serve", "--provider", "cpu", "--workers", "2", "--models", str(folder))
            contestants.append(Contestant(name, program, root=root))
        with started(contestants, Path(scratch)) as field:
            for case in size.cases:
                loads = asked(field, case, size)
                pairs = list(zip(loads[SUBJECT], loads[BASELINE], strict=True))
                yield row(case.name, "requests/s", [(one.rate, other.rate) for one, other in pairs])
                yield row(case.name, "ms, median", [(one.median_ms, other.median_ms) for one, other in pairs])
                yield row(case.name, "ms, 99 %", [(one.p99_ms, other.p99_ms) for one, other in pairs])
