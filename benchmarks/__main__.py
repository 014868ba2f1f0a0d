"""Benchmarks: each compares a part of this project with a named baseline, side by side, and gives the ratio.

The figures go into benchmarks/results.json and docs/benchmarks.md. Figures of other benchmarks stay as they are. With
--output FOLDER, or GATELIGHT_RESULTS, they go into results.json and benchmarks.md of that folder, and this checkout
stays as it is.

`builds` needs GATELIGHT_BASELINE, a checkout of an earlier build, and is left out without it.
`runtimes` installs other runtimes, each in an environment of its own (GATELIGHT_RUNTIMES names their folder), and makes
docs/reference/runtimes.md. It runs only when it is named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    shadow,
    start,
    streams,
    trace,
)
from benchmarks.generator import LoadError
from benchmarks.report import Result
from benchmarks.serving import ServingError
from service.errors import BundleError
from service.model.bundle import discover
from training.terminal import console, show

if TYPE_CHECKING:
    from benchmarks.runtimes.installed import Runtime

MODULES: tuple[Any, ...] = (
    *(trace, padding, cells, minimal, bptt, field, many, gates),
    *(decoding, resources, shadow, overhead, streams, start, builds),
)
"""Each has a `SUBJECT`, a `BASELINE`, and `measure`, which takes a size: `FULL`, or `QUICK` to see that it runs."""
BENCHMARKS = {module.__name__.rpartition(".")[2]: module for module in MODULES}
RUNTIMES = "runtimes"


def run(names: Sequence[str], *, quick: bool) -> dict[str, Result]:
    """Run benchmarks, with a table of each as it is done."""
    conditions = report.conditions()
    results: dict[str, Result] = {}
    for name in names:
        benchmark, rows = BENCHMARKS[name], []
        with console(stderr=True).status(f"{name} …") as status:
            for row in benchmark.measure(benchmark.QUICK if quick else benchmark.FULL):
                rows.append(row)
                status.update(f"{name}: {len(rows)} rows, the last {row.case} …")
        results[name] = Result(benchmark.SUBJECT, benchmark.BASELINE, conditions, tuple(rows))
        show(report.table(name, results[name]))
    return results


def _wanted(
    chosen: Sequence[str], models: Sequence[str], networks: Sequence[str], *, quick: bool, times: bool
) -> list[Runtime]:
    """The runtimes to run. Raises `UsageError` over options that do not go together."""
    from benchmarks.runtimes import installed, subjects

    there = [name for name, _ in discover(subjects.MODELS)]
    if unknown := [name for name in models if name not in there]:
        raise click.UsageError(f"no model {', '.join(unknown)} ships: there are {', '.join(there)}")
    every = [each.name for each in subjects.CELLS]
    if unknown := [name for name in networks if name not in every]:
        raise click.UsageError(f"there is no cell {'; '.join(unknown)}: there are {'; '.join(every)}")
    if models and quick:
        raise click.UsageError("--quick runs no model that ships: leave out --model or --quick")
    if networks and quick:
        raise click.UsageError("--quick runs the cell lstm: leave out --cell or --quick")
    if times and (models or networks or quick):
        other = "--model" if models else "--cell" if networks else "--quick"
        raise click.UsageError(f"--times measures only times: leave out {other} or --times")
    names = [each.name for each in installed.RUNTIMES]
    if unknown := [name for name in chosen if name not in names]:
        raise click.UsageError(f"there is no runtime {', '.join(unknown)}: there are {', '.join(names)}")
    return [each for each in installed.RUNTIMES if each is installed.BASELINE or not chosen or each.name in chosen]


def _runtimes(
    chosen: Sequence[str],
    models: Sequence[str],
    networks: Sequence[str],
    output: Path | None,
    *,
    quick: bool,
    times: bool,
) -> None:
    from benchmarks.runtimes import page

    wanted = _wanted(chosen, models, networks, quick=quick, times=times)

    def tell(line: str) -> None:
        click.echo(f"{RUNTIMES}: {line}", err=True)

    if times:
        found = page.time(tell, page.read(), wanted)
    else:
        found = page.run(tell, wanted, models=models, cells=networks, quick=quick)
    if models or networks or times:
        try:
            found = (page.with_times if times else page.with_chosen)(page.read(), found)
        except page.NotAlike as error:
            raise click.ClickException(str(error)) from error
    elif chosen and not quick:
        found = page.joined(page.read(), found)
    if quick:
        click.echo(page.render(found))
    else:
        file, shown = page.RESULTS, page.PAGE
        if output is not None:
            file, shown = output / "runtimes.json", output / page.PAGE.name
        page.write(found, file, shown)
        click.echo(f"{shown} and {file}")


@click.command(help=__doc__)
@click.argument(
    "names",
    type=click.Choice([*BENCHMARKS, RUNTIMES]),
    nargs=-1,
    metavar="[NAME]...",
    help=f"Which to run: {', '.join(BENCHMARKS)}, {RUNTIMES}; without any all but {RUNTIMES}, and builds only with "
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
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GATELIGHT_RESULTS",
    show_envvar=True,
    metavar="FOLDER",
    help="Write the files into this folder, and leave those of this checkout as they are.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="With runtimes: run only this model that ships, and keep all other results and the times. May be repeated.",
)
@click.option(
    "--cell",
    "networks",
    multiple=True,
    metavar="NAME",
    help="With runtimes: run only this small network, by its name in the page's tables ('bidirectional lstm, tagger'), "
    "and keep all other results and the times. May be repeated, also beside --model.",
)
@click.option(
    "--times",
    is_flag=True,
    help="With runtimes: measure only the times that the results do not have, and keep all that they have.",
)
def main(
    names: tuple[str, ...],
    quick: bool,
    runtimes: tuple[str, ...],
    models: tuple[str, ...],
    networks: tuple[str, ...],
    output: Path | None,
    times: bool,
) -> None:
    try:
        if RUNTIMES in names:
            _runtimes(runtimes, models, networks, output, quick=quick, times=times)
        every = [name for name in BENCHMARKS if name != "builds" or start.VARIABLE in os.environ]
        wanted = [name for name in names if name != RUNTIMES] if names else every
        results = run(wanted, quick=quick)
    except (ServingError, LoadError, BundleError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    if results and not quick:
        report.save(results, tuple(BENCHMARKS), output)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
