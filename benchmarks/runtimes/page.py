"""docs/reference/runtimes.md, made of the results; and the command that makes both."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace
from itertools import chain
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from benchmarks import report
from benchmarks.report import Conditions
from benchmarks.runtimes import comparison, subjects
from benchmarks.runtimes.comparison import Outcome, Results, Row
from benchmarks.runtimes.installed import BASELINE, RUNTIMES, Runtime
from training.export.portable import TOLERANCES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "runtimes.md"
_NOISE = 0.1
"""The most by which ONNX Runtime's time over its own may differ from 1. Beyond it, other programs were measured."""
RESULTS = Path(__file__).with_name("results.json")


# Logits of another shape, or NaN, are off by Infinity or NaN.
@dataclass(frozen=True, config=ConfigDict(ser_json_inf_nan="strings"))
class Found:
    """All results, and where they were measured."""

    conditions: Conditions
    cells: tuple[str, ...]
    """The names of the subjects that are small networks; the others are models that ship."""
    runtimes: tuple[Results, ...]
    later: dict[str, str] = field(default_factory=dict)
    """The subjects that were run again by themselves, and when."""


class NotAlike(Exception):
    """Results of two runs cannot stand in one table; the message says why."""


_FILE = TypeAdapter(Found)


def run(
    tell: Callable[[str], None],
    runtimes: Sequence[Runtime] = RUNTIMES,
    *,
    models: Sequence[str] = (),
    cells: Sequence[str] = (),
    quick: bool = False,
) -> Found:
    """Set up every runtime and ask it for everything. With `models` or `cells` it is asked for these shipped models and
    small networks only, and not timed; `quick` takes one cell, no shipped model and no time."""
    conditions = report.conditions()
    chosen = bool(models or cells)
    words = ("lstm",) if quick else () if chosen and not cells else None
    with tempfile.TemporaryDirectory(prefix="runtimes-") as scratch:
        folder = Path(scratch)
        small = list(subjects.cells(folder, words, chosen=cells))
        others: Iterable[subjects.Subject] = ()
        if not quick and (models or not chosen):
            others = subjects.shipped(folder, chosen=models)
        found = comparison.compare(runtimes, chain(small, others), tell)
        if not chosen:
            comparison.time(
                runtimes,
                subjects.timed(folder, words),
                found,
                tell,
                rounds=1 if quick else 3,
                seconds=0.001 if quick else 0.1,
            )
    return Found(conditions, tuple(each.name for each in small), tuple(found))


def time(tell: Callable[[str], None], old: Found, runtimes: Sequence[Runtime] = RUNTIMES) -> Found:
    """Measure the times that `old` does not have. Graphs that a runtime has wrong or refuses have none, nor have rows
    for which the machine is too busy. Browsers are left out: their clock counts what else the machine does."""
    conditions = report.conditions()
    runtimes = [each for each in runtimes if each.kind != "browser"]
    known = {each.runtime: {speed.row for speed in each.speeds} | _not_equal(each) for each in old.runtimes}
    found = [Results(each.name) for each in runtimes]
    with tempfile.TemporaryDirectory(prefix="runtimes-") as scratch:
        small = subjects.timed(Path(scratch))
        comparison.time(runtimes, small, found, tell, seconds=0.1, known=known, noise=_NOISE)
    return Found(conditions, (), tuple(found))


def _not_equal(results: Results) -> set[Row]:
    """The rows of times of those cells that a runtime has wrong or refuses, in the graph with fewer units."""
    return {
        (subjects.timed_name(name), graph, batch)
        for name, graphs in results.outcomes.items()
        for graph, outcome in graphs.items()
        for batch in subjects.TIMED
        if outcome.verdict != "equal"
    }


def joined(old: Found, new: Found) -> Found:
    """The results of `old`, with those of the runtimes that were run again, by themselves, in their places. Times of a
    kind of batch for which the machine was too busy are dropped."""
    apart = {each.runtime: each for each in new.runtimes if each.runtime != BASELINE.name}
    busy = _busy(next(each for each in new.runtimes if each.runtime == BASELINE.name))
    for each in apart.values():
        each.apart = _when(new.conditions)
        each.speeds = [speed for speed in each.speeds if speed.batch not in busy]
    known = {each.runtime: each for each in old.runtimes} | apart
    order = [each.name for each in RUNTIMES if each.name in known]
    return replace(old, cells=_cells(old, new), runtimes=tuple(known[name] for name in order))


def with_chosen(old: Found, new: Found) -> Found:
    """The results of `old`, with those of the models and small networks of `new` in their places; the times stay.

    Raises `NotAlike` where a runtime has another version than in `old`, or is not there at all.
    """
    known = {each.runtime: each for each in old.runtimes}
    for each in (each for each in new.runtimes if each.version):
        before = _alike(known, each)
        outcomes, files = before.outcomes | each.outcomes, before.files | each.files
        known[each.runtime] = replace(before, outcomes=outcomes, files=files)
    names = {name for each in new.runtimes for name in each.outcomes}
    ran = [each.runtime for each in new.runtimes if each.version]
    some = any(each.version and each.runtime not in ran for each in old.runtimes)
    later = dict.fromkeys(sorted(names), _when(new.conditions) + (f", in {'; '.join(ran)}" if some else ""))
    return replace(old, cells=_cells(old, new), runtimes=tuple(known.values()), later=old.later | later)


def _cells(old: Found, new: Found) -> tuple[str, ...]:
    return tuple(dict.fromkeys(old.cells + new.cells))


def with_times(old: Found, new: Found) -> Found:
    """The results of `old` with those times of `new` that it does not have.

    Raises `NotAlike` where a runtime has another version than in `old`, or is not there at all.
    """
    when = _when(new.conditions)
    known = {each.runtime: each for each in old.runtimes}
    for each in (each for each in new.runtimes if each.version):
        before = _alike(known, each)
        there = {speed.row for speed in before.speeds}
        added = [replace(speed, later=when) for speed in each.speeds if speed.row not in there]
        known[each.runtime] = replace(before, speeds=before.speeds + added)
    return replace(old, runtimes=tuple(known.values()))


def _alike(known: dict[str, Results], new: Results) -> Results:
    """The results that are known of a runtime. Raises `NotAlike`."""
    before = known.get(new.runtime, Results(new.runtime))
    if before.version != new.version:
        raise NotAlike(
            f"{new.runtime} is {new.version} here and {before.version or 'missing'} in {RESULTS.name}: run it "
            f'for every graph first, with --runtime "{new.runtime}" and without --model, --cell and --times'
        )
    return before


def _when(conditions: Conditions) -> str:
    return f"{conditions.date}, load average {conditions.load:g} before"


def _busy(baseline: Results) -> set[str]:
    """The kinds of batches for which ONNX Runtime's time over its own is far from 1. Rows that were measured later are
    only there if it was not."""
    own = [each for each in baseline.speeds if each.graph == "served" and not each.later]
    return {each.batch for each in own if abs(each.ratio - 1) > _NOISE}


def write(found: Found, results: Path = RESULTS, page: Path = PAGE) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_bytes(_FILE.dump_json(found, indent=1) + b"\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render(found), encoding="utf-8")


def read(results: Path = RESULTS) -> Found:
    return _FILE.validate_json(results.read_bytes())


def render(found: Found) -> str:
    """The page in Markdown."""
    there = [each for each in found.runtimes if each.version]
    names = list(dict.fromkeys(name for each in there for name in each.outcomes))
    shipped = sorted(name for name in names if name not in found.cells)
    parts = [
        "# Runtimes",
        "Which runtimes give the logits that the service gives, for the served graph (`model.onnx`, which relies on "
        "`sequence_lens`) and for the portable one (`python -m training export models/NAME --portable FILE.onnx`). "
        "`python -m benchmarks runtimes` makes this page: it sets up each runtime in an environment of its own and "
        "runs every graph on ragged batches, one text and texts of one token.",
        report.sentence(found.conditions),
        _table(["runtime", "version"], [[each.runtime, _version(each)] for each in found.runtimes]),
        f"**equal**: within {TOLERANCES['float32']:.0e} of the service's logits (float16: "
        f"{TOLERANCES['float16']:.0e}). **wrong**: no error, and logits that are off by as much as is given. "
        "**refused**: the graph cannot be loaded or run; the reasons stand below.",
        "## Cells",
        f"Networks with random weights, {subjects.UNITS} units; classifiers pool by their maximum. Biases and "
        "peepholes are random too, so a runtime that drops them is wrong. Two-layer networks take the last state "
        "of each direction.",
        *_later({name: when for name, when in found.later.items() if name in found.cells}),
        *_verdicts(there, list(found.cells), subjects.GRAPHS),
        "## Models that ship",
        "The number after a name is the version that was run; `benchmarks/runtimes/results.json` has the SHA-256 of "
        "its weights and of its `model.onnx`.",
        *_later({name: when for name, when in found.later.items() if name not in found.cells}),
        *(_verdicts(there, shipped, subjects.GRAPHS) if shipped else ["None was run."]),
        "## Time",
        "CPU time of a run over that of ONNX Runtime's run of the served graph, both interleaved, with one thread; "
        f"bidirectional classifiers with {subjects.TIMED_UNITS} units, and one that reads forward. Chromium tells no "
        "CPU time: there it is the clock's, in steps of 0.1 ms, which counts other programs too. One text has 20 "
        "tokens, a batch 16 texts of 5 to 40 tokens. Graphs that a runtime has wrong or refuses are not timed. A kind "
        f"of batch is left out where ONNX Runtime's time over its own, measured beside the others, is off by more than "
        f"{_NOISE:.0%} for any cell: the machine was too busy. Times that were measured later leave out Chromium.",
        *_timed_later(there),
        _speeds(there),
        "## Why graphs were refused",
        _reasons(there),
    ]
    return "\n\n".join(parts) + "\n"


def _version(results: Results) -> str:
    told = results.version or results.missing
    return f"{told} (run by itself: {results.apart})" if results.apart else told


def _later(names: dict[str, str]) -> Iterator[str]:
    """Each time at which subjects were run after the rest, with their names."""
    for when in dict.fromkeys(names.values()):
        yield f"Run later than the rest ({when}): {'; '.join(name for name in names if names[name] == when)}."


def _timed_later(runtimes: Sequence[Results]) -> Iterator[str]:
    """Each time at which speeds were measured after the rest, with their runtimes."""
    speeds = [(each.runtime, speed) for each in runtimes for speed in each.speeds if speed.later]
    for when in dict.fromkeys(speed.later for _, speed in speeds):
        names: dict[str, list[str]] = {}
        for runtime, speed in speeds:
            if speed.later == when and speed.subject not in names.setdefault(runtime, []):
                names[runtime].append(speed.subject)
        told = "; ".join(f"{runtime} ({', '.join(subjects)})" for runtime, subjects in names.items())
        yield f"Measured later than the rest ({when}): {told}."


def _verdicts(runtimes: Sequence[Results], names: Sequence[str], graphs: Sequence[str]) -> Iterator[str]:
    for graph in graphs:
        yield f"### {graph}"
        rows = [
            [_titled(name, runtimes), *(_shown(each.outcomes.get(name, {}).get(graph)) for each in runtimes)]
            for name in names
        ]
        yield _table(["", *(each.runtime for each in runtimes)], rows)


def _titled(name: str, runtimes: Sequence[Results]) -> str:
    """A subject's name, with the version of a model that ships; with each where runtimes ran different ones."""
    versions = sorted({each.files[name].version for each in runtimes if name in each.files})
    return " ".join((name, " and ".join(map(str, versions)))).strip()


def _shown(outcome: Outcome | None) -> str:
    if outcome is None:
        return "–"
    return f"**wrong** ({outcome.difference:.2g})" if outcome.verdict == "wrong" else outcome.verdict


def _speeds(runtimes: Sequence[Results]) -> str:
    cases = list(dict.fromkeys(each.row for one in runtimes for each in one.speeds))
    busy = _busy(runtimes[0])
    cases = [case for case in cases if case[2] not in busy]
    ratios = [{each.row: each.ratio for each in one.speeds} for one in runtimes]
    rows = [[", ".join(case), *(f"{one[case]:.2f}" if case in one else "–" for one in ratios)] for case in cases]
    return _table(["", *(each.runtime for each in runtimes)], rows)


def _reasons(runtimes: Sequence[Results]) -> str:
    """Each reason once, with the graphs that were refused for it."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for each in runtimes:
        for name, graphs in each.outcomes.items():
            for graph, outcome in graphs.items():
                if outcome.verdict == "refused":
                    found.setdefault((each.runtime, graph, outcome.reason), []).append(name)
    rows = [[runtime, graph, _count(names), f"`{reason}`"] for (runtime, graph, reason), names in found.items()]
    return _table(["runtime", "graph", "subjects", "reason"], rows) if rows else "None was."


def _count(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([each.replace("|", "\\|") for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
