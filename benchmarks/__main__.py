"""Benchmarks: each compares a part of this project with a named baseline, side by side, and gives the ratio.

The figures go into benchmarks/results.json and docs/benchmarks.md. Figures of other benchmarks stay as they are.

`builds` needs GATELIGHT_BASELINE, a checkout of an earlier build, and is left out without it.
`runtimes` installs other runtimes, each in an environment of its own (GATELIGHT_RUNTIMES names their folder), and makes
docs/reference/runtimes.md. It runs only when it is named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

import click

from benchmarks import (
    bptt,
    builds,
    cells,
    decoding,
    field,
    gates,
    many,
    minimal,
    overhead,
    padding,
    report,
    resources,
    serving,
    shadow,
    start,
    streams,
    trace,
)
from benchmarks.generator import LoadError
from benchmarks.measure import Row
from benchmarks.report import Result
from benchmarks.serving import ServingError
from service.errors import BundleError
from training.terminal import console, show


class Name(StrEnum):
    trace = "trace"
    padding = "padding"
    cells = "cells"
    minimal = "minimal"
    bptt = "bptt"
    serving = "serving"
    field = "field"
    many = "many"
    gates = "gates"
    decoding = "decoding"
    resources = "resources"
    shadow = "shadow"
    overhead = "overhead"
    streams = "streams"
    start = "start"
    builds = "builds"


RUNTIMES = "runtimes"


class Benchmark(NamedTuple):
    """Subject, baseline, and the functions that measure them: in full, or only to see that they run."""

    subject: str
    baseline: str
    full: Callable[[], Iterator[Row]]
    quick: Callable[[], Iterator[Row]]


BENCHMARKS = {
    Name.trace: Benchmark(trace.SUBJECT, trace.BASELINE, trace.measure, lambda: trace.measure(trace.QUICK)),
    Name.padding: Benchmark(padding.SUBJECT, padding.BASELINE, padding.measure, lambda: padding.measure(padding.QUICK)),
    Name.cells: Benchmark(cells.SUBJECT, cells.BASELINE, cells.measure, lambda: cells.measure(cells.QUICK)),
    Name.minimal: Benchmark(minimal.SUBJECT, minimal.BASELINE, minimal.measure, lambda: minimal.measure(minimal.QUICK)),
    Name.bptt: Benchmark(bptt.SUBJECT, bptt.BASELINE, bptt.measure, lambda: bptt.measure(bptt.QUICK)),
    Name.serving: Benchmark(serving.SUBJECT, serving.BASELINE, serving.measure, lambda: serving.measure(serving.QUICK)),
    Name.field: Benchmark(field.SUBJECT, field.BASELINE, field.measure, lambda: field.measure(field.QUICK)),
    Name.many: Benchmark(many.SUBJECT, many.BASELINE, many.measure, lambda: many.measure(many.QUICK)),
    Name.gates: Benchmark(gates.SUBJECT, gates.BASELINE, gates.measure, lambda: gates.measure(gates.QUICK)),
    Name.decoding: Benchmark(
        decoding.SUBJECT, decoding.BASELINE, decoding.measure, lambda: decoding.measure(decoding.QUICK)
    ),
    Name.resources: Benchmark(
        resources.SUBJECT, resources.BASELINE, resources.measure, lambda: resources.measure(resources.QUICK)
    ),
    Name.shadow: Benchmark(shadow.SUBJECT, shadow.BASELINE, shadow.measure, lambda: shadow.measure(shadow.QUICK)),
    Name.overhead: Benchmark(
        overhead.SUBJECT, overhead.BASELINE, overhead.measure, lambda: overhead.measure(overhead.QUICK)
    ),
    Name.streams: Benchmark(streams.SUBJECT, streams.BASELINE, streams.measure, lambda: streams.measure(streams.QUICK)),
    Name.start: Benchmark(start.SUBJECT, start.BASELINE, start.measure, lambda: start.measure(start.QUICK)),
    Name.builds: Benchmark(builds.SUBJECT, builds.BASELINE, builds.measure, lambda: builds.measure(builds.QUICK)),
}


def run(names: Sequence[Name], *, quick: bool) -> dict[str, Result]:
    """Run benchmarks, with a table of each as it is done."""
    conditions = report.conditions()
    results: dict[str, Result] = {}
    for name in names:
        benchmark, rows = BENCHMARKS[name], []
        with console(stderr=True).status(f"{name} …") as status:
            for row in benchmark.quick() if quick else benchmark.full():
                rows.append(row)
                status.update(f"{name}: {len(rows)} rows, the last {row.case} …")
        results[name.value] = Result(benchmark.subject, benchmark.baseline, conditions, tuple(rows))
        show(report.table(name, results[name.value]))
    return results


def _runtimes(chosen: Sequence[str], *, quick: bool) -> None:
    from benchmarks.runtimes import installed, page

    names = [each.name for each in installed.RUNTIMES]
    if unknown := [name for name in chosen if name not in names]:
        raise click.UsageError(f"there is no runtime {', '.join(unknown)}: there are {', '.join(names)}")
    wanted = [each for each in installed.RUNTIMES if each is installed.BASELINE or not chosen or each.name in chosen]

    def tell(line: str) -> None:
        click.echo(f"{RUNTIMES}: {line}", err=True)

    found = page.run(tell, wanted, quick=quick)
    if chosen and not quick:
        found = page.joined(page.read(), found)
    if quick:
        click.echo(page.render(found))
    else:
        page.write(found)
        click.echo(f"{page.PAGE} and {page.RESULTS}")


@click.command(help=__doc__)
@click.argument(
    "names",
    type=click.Choice([*Name, RUNTIMES]),
    nargs=-1,
    metavar="[NAME]...",
    help=f"Which to run: {', '.join(Name)}, {RUNTIMES}; without any all but {RUNTIMES}, and {Name.builds} only with "
    "GATELIGHT_BASELINE.",
)
@click.option("--quick", is_flag=True, help="Only see that they run: tiny, and nothing is written.")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    metavar="NAME",
    help="With runtimes: run only this one beside ONNX Runtime, and keep the results of the others. May be repeated.",
)
def main(names: tuple[str, ...], quick: bool, runtimes: tuple[str, ...]) -> None:
    try:
        if RUNTIMES in names:
            _runtimes(runtimes, quick=quick)
        every = [name for name in Name if name is not Name.builds or start.VARIABLE in os.environ]
        wanted = [Name(name) for name in names if name != RUNTIMES] if names else every
        results = run(wanted, quick=quick)
    except (ServingError, LoadError, BundleError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if results and not quick:
        known = {**report.read(), **results}
        together = {name.value: known[name] for name in Name if name in known}
        report.write(together)
        report.publish(together)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
