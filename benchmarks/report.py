"""Results of the benchmarks: a table for the terminal, ``results.json``, and a section of the page."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import TypeAdapter
from rich.table import Table

from benchmarks.measure import Row
from service.cpus import usable_cpus

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- results: written by `python -m benchmarks` -->", "<!-- end of results -->"
_PACKAGES = ("numpy", "onnxruntime", "torch", "fastapi", "starlette", "uvicorn")


@dataclass(frozen=True, slots=True)
class Conditions:
    """When and where benchmarks ran. `load` is the system's load average before they began, `threads` are torch's."""

    date: str
    cpu: str
    cores: int
    load: float
    threads: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of one benchmark, its subject and baseline, and the conditions."""

    subject: str
    baseline: str
    conditions: Conditions
    rows: tuple[Row, ...]

    @property
    def headings(self) -> tuple[str, ...]:
        return ("case", "measured in", self.subject, self.baseline, "ratio", "lowest – highest")


Results = Mapping[str, Result]
"""By the benchmark's name."""

_FILE = TypeAdapter(dict[str, Result])


def conditions() -> Conditions:
    """Those of now."""
    versions = {"python": platform.python_version()}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    return Conditions(
        date=datetime.now(UTC).date().isoformat(),
        cpu=_cpu(),
        cores=usable_cpus(),
        load=round(os.getloadavg()[0], 2),
        threads=torch.get_num_threads(),
        versions=versions,
    )


def table(name: str, result: Result) -> Table:
    """A benchmark's rows for the terminal."""
    drawn = Table(title=f"{name}: {result.subject} against {result.baseline}")
    for number, heading in enumerate(result.headings):
        drawn.add_column(heading, justify="left" if number < 2 else "right")
    for row in result.rows:
        drawn.add_row(*_cells(row))
    return drawn


def save(results: Results, order: Sequence[str], folder: Path | None = None) -> None:
    """Write results and page, beside the known figures of other benchmarks. `order` has the names of all benchmarks.

    They replace this checkout's. With `folder`, results.json and benchmarks.md there are written, and this checkout
    stays as it is; figures that the folder lacks are this checkout's.
    """
    file, page = RESULTS, PAGE
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        file, page = folder / RESULTS.name, folder / PAGE.name
        if not page.exists():
            shutil.copyfile(PAGE, page)
    known = {**read(), **read(file), **results}
    together = {name: known[name] for name in order if name in known}
    write(together, file)
    publish(together, page)


def read(path: Path = RESULTS) -> dict[str, Result]:
    """The results in a file; none where it is not there."""
    return _FILE.validate_json(path.read_bytes()) if path.exists() else {}


def write(results: Results, path: Path = RESULTS) -> None:
    """Write results to a file."""
    path.write_bytes(_FILE.dump_json(dict(results), indent=2) + b"\n")


def publish(results: Results, page: Path = PAGE) -> None:
    """Replace the text between the page's markers by results. Raises `ValueError` without markers."""
    before, _, after = cut(page)
    page.write_text(f"{before}{BEGIN}{section(results)}{END}{after}", encoding="utf-8")


def cut(page: Path = PAGE) -> tuple[str, str, str]:
    """A page's text before, between and after the markers. Raises `ValueError` where it has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    between, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} lacks the lines {BEGIN} and {END}")
    return before, between, after


def section(results: Results) -> str:
    """Results in Markdown."""
    if not results:
        return "\n\nThere are no figures yet: run `make bench`.\n\n"
    parts = []
    for name, result in results.items():
        rules = ("---", "---", *["---:"] * (len(result.headings) - 2))
        lines = [_line(cells) for cells in (result.headings, rules, *map(_cells, result.rows))]
        parts.append("\n".join([f"### {name}", "", sentence(result.conditions), "", *lines]))
    return "\n\n" + "\n\n".join(parts) + "\n\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> tuple[str, ...]:
    figures = (_number(row.subject), _number(row.baseline), f"{row.ratio:.2f}")
    return (row.case, row.measure, *figures, f"{row.lowest:.2f} – {row.highest:.2f}")


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


def sentence(where: Conditions) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    return (
        f"{where.date}; {where.cpu}, {where.cores} cores, load average {where.load:g} before; "
        f"{versions}; torch on {where.threads} {'threads' if where.threads > 1 else 'thread'}."
    )


def _cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
