"""Every runtime is asked for every subject's logits: equal, wrong or refused; and how long it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from math import inf
from statistics import median
from types import MappingProxyType
from typing import Literal

import numpy as np

from benchmarks.runtimes.installed import BASELINE, NotInstalled, Runtime
from benchmarks.runtimes.subjects import Files, Graph, Subject
from benchmarks.runtimes.workers import Batch, Worker, worker
from training.export.portable import difference

Verdict = Literal["equal", "wrong", "refused"]
Row = tuple[str, str, str]
"""A row of the times: its subject, graph and batch."""
_NODE = re.compile(r' ?#\d+ "\w+"|\w+_\d+\b|(?<=\.mlir):\d+:\d+')
_ONNX = re.compile(r'%\w+(?::\d+)? = "torch\.operator"\([^)]*\) <\{name = ("onnx\.\w+")\}?.*', re.DOTALL)
_FOLDER = re.compile(r"/(?:[\w.+-]+/)+")
_REASON = 300
"""Characters of a refusal that are kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A runtime's verdict on one graph: with `wrong` the largest error of its logits, with `refused` the reason."""

    verdict: Verdict
    difference: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """Milliseconds of CPU of the cheapest run of a turn over those of ONNX Runtime for the served graph: the median of
    all turns. In a browser it is the clock's time."""

    subject: str
    graph: str
    batch: str
    ratio: float
    later: str = ""
    """With a time that was measured after the rest: when."""

    @property
    def row(self) -> Row:
        return self.subject, self.graph, self.batch


@dataclass(slots=True)
class Results:
    """One runtime: its version, or why it could not be set up, and its verdicts on the graphs."""

    runtime: str
    version: str = ""
    missing: str = ""
    apart: str = ""
    """With a runtime that was run by itself later: when."""
    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    """By subject, then by graph."""
    files: dict[str, Files] = field(default_factory=dict)
    """By model that ships: the files that were run."""
    speeds: list[Speed] = field(default_factory=list)


def compare(runtimes: Sequence[Runtime], subjects: Iterable[Subject], tell: Callable[[str], None]) -> list[Results]:
    """Ask every runtime for every graph; those that cannot be set up say why."""
    found = {runtime.name: Results(runtime.name) for runtime in runtimes}
    with ExitStack() as stack:
        workers = _workers(runtimes, found, stack, tell)
        for subject in subjects:
            for name, each in workers.items():
                tell(f"{subject.name} in {name}")
                found[name].outcomes[subject.name] = {
                    word: outcome(each, graph, subject) for word, graph in subject.graphs.items()
                }
                if subject.files is not None:
                    found[name].files[subject.name] = subject.files
    return list(found.values())


def outcome(worker: Worker, graph: Graph, subject: Subject) -> Outcome:
    """A runtime's verdict on one graph, over all batches of the subject."""
    largest = 0.0
    for batch, expected in subject.batches:
        answered = worker.ask(graph.path, batch)
        if answered.logits is None:
            return Outcome("refused", reason=plain(answered.refused))
        if answered.logits.shape != expected.shape:
            return Outcome("wrong", float("inf"), f"shape {answered.logits.shape}, expected {expected.shape}")
        # NumPy's maximum keeps NaN, which Python's would drop.
        largest = float(np.maximum(largest, difference(answered.logits, expected, batch.lengths)))
    return Outcome("equal" if largest <= graph.tolerance else "wrong", largest)


def plain(said: str) -> str:
    """The beginning of a refusal, without what differs from graph to graph: names of nodes, folders and the stack."""
    text = _FOLDER.sub("", _NODE.sub("", _ONNX.sub(r"\1", said.partition("Stack backtrace")[0]))).strip()
    return text if len(text) <= _REASON else f"{text[:_REASON]}…"


def time(
    runtimes: Sequence[Runtime],
    subjects: Iterable[Subject],
    results: Sequence[Results],
    tell: Callable[[str], None],
    *,
    rounds: int = 5,
    seconds: float = 0.2,
    known: Mapping[str, Container[Row]] = MappingProxyType({}),
    noise: float = inf,
) -> None:
    """Time every runtime on the graphs that it has right; all of them take turns, `rounds` times. Rows that are `known`
    of a runtime are left out, and those beside which ONNX Runtime's time over its own is off by more than `noise`."""
    found = {each.runtime: each for each in results}
    with ExitStack() as stack:
        workers = _workers(runtimes, found, stack, tell)
        for subject, graph in product(subjects, ("served", "portable")):
            lacking = {
                batch: [name for name in workers if (subject.name, graph, batch) not in known.get(name, ())]
                for batch in subject.timed
            }
            right = {
                name: each
                for name, each in workers.items()
                if any(name in names for names in lacking.values())
                and outcome(each, subject.graphs[graph], subject).verdict == "equal"
            }
            for batch, names in lacking.items():
                asked = {name: each for name, each in right.items() if name in names}
                if asked:
                    tell(f"{subject.name}, {graph}, {batch}")
                    ratios, own = _ratios(asked, workers[BASELINE.name], subject, graph, batch, rounds, seconds)
                    if abs(own - 1) > noise:
                        tell(f"ONNX Runtime took {own:.2f} of its own time: the machine is too busy")
                        continue
                    for name, ratio in ratios.items():
                        found[name].speeds.append(Speed(subject.name, graph, batch, ratio))


def _ratios(
    workers: dict[str, Worker],
    baseline: Worker,
    subject: Subject,
    graph: str,
    batch: str,
    rounds: int,
    seconds: float,
) -> tuple[dict[str, float], float]:
    """Times over that of ONNX Runtime for the served graph, and that time, measured last, over itself, measured
    first."""
    ratios: dict[str, list[float]] = {name: [] for name in workers}
    own = []
    for _ in range(rounds):
        base = _milliseconds(baseline, subject.graphs["served"], subject.timed[batch], seconds)
        for name, each in workers.items():
            took = _milliseconds(each, subject.graphs[graph], subject.timed[batch], seconds)
            ratios[name].append(took / base)
        own.append(_milliseconds(baseline, subject.graphs["served"], subject.timed[batch], seconds) / base)
    return {name: median(measured) for name, measured in ratios.items()}, median(own)


def _milliseconds(worker: Worker, graph: Graph, batch: Batch, seconds: float) -> float:
    return worker.ask(graph.path, batch, seconds).milliseconds


def _workers(
    runtimes: Sequence[Runtime], found: dict[str, Results], stack: ExitStack, tell: Callable[[str], None]
) -> dict[str, Worker]:
    workers = {}
    for runtime in runtimes:
        tell(f"setting up {runtime.name}")
        try:
            workers[runtime.name] = stack.enter_context(worker(runtime))
        except NotInstalled as error:
            found[runtime.name].missing = str(error)
        else:
            found[runtime.name].version = workers[runtime.name].version
    return workers
