"""Traces with what a request asks beside the gates: interventions, faithfulness, and the effects of deletion.

The runs of measurements go through the batcher in pieces, so that other requests are answered in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from service.errors import InvalidField, TooLarge
from service.model import faithfulness
from service.model.bundle import Manifest
from service.model.contributions import check_explain
from service.model.deletion import MAX_LIMITED_TOKENS, has_closed_form, is_limited
from service.model.faithfulness import DeletionEffects, DeletionPlan, Faithfulness, Run
from service.model.gates import NO_GATES, Selection
from service.model.interventions import Applied, Interventions, apply, check_tokens, within
from service.model.joining import Logits, Traced, logits_of, traces_of
from service.model.tokenizer import Encoded
from service.serving.inference import Inference, TraceJob
from service.serving.queueing import Times, portions
from service.serving.registry import Model

A_JOINED_NUMBER = 2e-9
"""Seconds for each number of a trace to join the traces of sentences."""
A_RERUN_TOKEN = 0.2e-6
"""Seconds for each token of a run to plan it and to read its answer."""
PIECE_TOKENS = 32_768
"""Tokens of the runs that are submitted at once."""


_Value = TypeVar("_Value")


class Offload(Protocol):
    """Runs work with an expected duration of `seconds`, in a thread if that is long."""

    def __call__(self, seconds: float, work: Callable[[], _Value]) -> Awaitable[_Value]: ...


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """The wanted measurements of each input."""

    faithfulness: bool = False
    deletion: bool = False

    def __bool__(self) -> bool:
        return self.faithfulness or self.deletion


_AS_SENT, _NOTHING = Interventions(), MeasureOptions()


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Options of a trace. `explain` and the tokens of interventions are numbers in the text as sent."""

    selection: Selection
    contributions: bool = False
    explain: int | None = None
    interventions: Interventions = _AS_SENT
    wanted: MeasureOptions = _NOTHING

    def in_closed_form(self, manifest: Manifest) -> bool:
        """True if deletion effects are wanted and one pass gives them. With values set the model runs again instead."""
        return self.wanted.deletion and not self.interventions.settings and has_closed_form(manifest)


@dataclass(frozen=True, slots=True)
class Measurements:
    """The measurements of one input; None if not wanted, or if the cell has no attribution to measure."""

    faithfulness: Faithfulness | None = None
    deletion: DeletionEffects | None = None


def check_inputs(manifest: Manifest, asked: TraceOptions, lengths: Sequence[int], most_set: int) -> None:
    """Check token numbers, and the amount of work, against the lengths of the inputs.

    `most_set` limits the values that `set` may set. Raises `InvalidField` or `TooLarge`.
    """
    check_explain(asked.explain, lengths)
    if asked.interventions:
        check_tokens(asked.interventions, lengths)
    if asked.explain is not None and asked.explain in asked.interventions.dropped:
        raise InvalidField("/explain", f"token {asked.explain} is dropped, so it has no logits.")
    values = sum(
        (len(each.units) if each.units else manifest.hidden) * (len(each.tokens) if each.tokens else length)
        for each in asked.interventions.settings
        for length in lengths
    )
    if values > most_set:
        raise TooLarge("Values that are set", values, most_set)
    lengths = [length - len(asked.interventions.dropped) for length in lengths]
    wanted = asked.wanted
    if asked.in_closed_form(manifest):
        longest = max(lengths, default=0)
        if is_limited(manifest) and longest > MAX_LIMITED_TOKENS:
            raise TooLarge("Tokens of an input with deletion", longest, MAX_LIMITED_TOKENS)
        wanted = replace(wanted, deletion=False)
    check(manifest, wanted, asked.explain, lengths)


def check(manifest: Manifest, wanted: MeasureOptions, explain: int | None, lengths: Sequence[int] = ()) -> None:
    """Reject impossible measurements before any work.

    Raises `InvalidField` for a tagger without `explain`, `TooLarge` for a long text or many runs.
    """
    for field, asked in (("faithfulness", wanted.faithfulness), ("deletion", wanted.deletion)):
        if asked and manifest.head == "tagger" and explain is None:
            raise InvalidField(
                f"/{field}", f"a tagger has a label for every token: {field} is for the one that explain names."
            )
        longest = max(lengths, default=0)
        if asked and longest > faithfulness.MAX_TOKENS:
            raise TooLarge(f"Tokens of an input with {field}", longest, faithfulness.MAX_TOKENS)
    total = sum(rerun_tokens(wanted, length) for length in lengths)
    if total > faithfulness.MAX_RERUN_TOKENS:
        raise TooLarge("Tokens of the runs that the request takes", total, faithfulness.MAX_RERUN_TOKENS)


def rerun_tokens(wanted: MeasureOptions, length: int) -> int:
    """About the tokens of all runs that an input of `length` tokens takes."""
    deleted = length * (length + 1) // 2 + length if wanted.faithfulness else 0
    return deleted + (length * length if wanted.deletion else 0)


@dataclass(frozen=True, slots=True)
class Explained:
    """Results for inputs. `traces` are joined. `baseline` holds the logits of the inputs as sent; None without
    interventions. `measured` is empty if nothing was wanted."""

    applied: list[Applied]
    traces: list[Traced]
    baseline: list[Logits] | None
    measured: list[Measurements]


async def explain(
    inference: Inference,
    offload: Offload,
    model: Model,
    encoded: Sequence[Encoded],
    asked: TraceOptions,
    *,
    deadline: float,
    times: Times | None = None,
) -> Explained:
    """Trace inputs with their interventions, if there are any once more without them, then measure what is wanted.

    Raises the errors of `Lane.submit`.
    """
    applied = [apply(source, asked.interventions, asked.explain) for source in encoded]
    traced = await inference.trace(
        model,
        applied,
        asked.selection,
        contributions=asked.contributions or asked.wanted.faithfulness,
        deletion=asked.in_closed_form(model.bundle.manifest),
        deadline=deadline,
        times=times,
    )
    sources = [each.encoded for each in applied]
    numbers = asked.selection.numbers(sum(map(len, sources)), len(sources))
    traces = await offload(numbers * A_JOINED_NUMBER, partial(traces_of, sources, traced))
    baseline = None
    if asked.interventions:
        sent = [apply(source, _AS_SENT) for source in encoded]
        plain = await inference.trace(model, sent, NO_GATES, contributions=False, deadline=deadline, times=times)
        baseline = logits_of(encoded, [each.logits for each in plain])
    measured: list[Measurements] = []
    if asked.wanted:
        measured = await measure(
            inference, offload, model, applied, traces, asked.wanted, deadline=deadline, times=times
        )
    return Explained(applied, traces, baseline, measured)


async def measure(
    inference: Inference,
    offload: Offload,
    model: Model,
    applied: Sequence[Applied],
    traced: Sequence[Traced],
    wanted: MeasureOptions,
    *,
    deadline: float,
    times: Times | None = None,
) -> list[Measurements]:
    """Measure inputs, each with its joined trace. Its contributions give the order of deletion.

    Raises the errors of `Lane.submit`.
    """
    seconds = sum(rerun_tokens(wanted, len(each.encoded)) for each in applied) * A_RERUN_TOKEN

    def works() -> list[_Work]:
        return [_Work.of(model, each, trace, wanted) for each, trace in zip(applied, traced, strict=True)]

    planned = await offload(seconds, works)
    logits: list[Logits] = []
    jobs = [job for work in planned for job in work.jobs]
    for piece in portions(jobs, lambda job: len(job.rows), PIECE_TOKENS):
        logits += await inference.rerun(model, piece, deadline=deadline, times=times)

    def measured() -> list[Measurements]:
        found, at = [], 0
        for work in planned:
            found.append(work.measured(model, logits[at : at + len(work.runs)]))
            at += len(work.runs)
        return found

    return await offload(seconds, measured)


@dataclass(frozen=True, slots=True)
class _Work:
    """The runs of one input. `places` maps each selection to its run: first the plan's, then those for the effects."""

    applied: Applied
    plan: DeletionPlan | None
    label: int
    places: Sequence[int]
    runs: Sequence[Run]
    jobs: Sequence[TraceJob]
    effects: bool
    closed: DeletionEffects | None
    """Effects that the trace gave already."""

    @classmethod
    def of(cls, model: Model, applied: Applied, trace: Traced, wanted: MeasureOptions) -> _Work:
        source, explained = applied.encoded, applied.explain
        label, plan = 0, None
        if wanted.faithfulness and trace.contributions is not None:
            label = faithfulness.label_of(model.decoder, trace.logits, source, explained)
            plan = DeletionPlan(faithfulness.order_of(trace.contributions["tokens"][:, label], explained), explained)
        effects = wanted.deletion and trace.deletion is None
        kept = plan.kept() if plan else []
        if effects:
            kept += faithfulness.without_each(len(source), explained)
        places, runs = faithfulness.rows_of(source, kept, explained)
        jobs = [TraceJob(run.row, NO_GATES, False, None, within(applied.settings, run.tokens)) for run in runs]
        return cls(applied, plan, label, places, runs, jobs, effects, trace.deletion)

    def measured(self, model: Model, logits: Sequence[Logits]) -> Measurements:
        source, explained, labels = self.applied.encoded, self.applied.explain, model.bundle.manifest.labels
        found = None
        planned = 0
        if self.plan is not None:
            chances = faithfulness.probabilities(model.decoder, self.runs, logits, self.label)
            planned = len(self.plan.kept())
            by_run = [chances[place] for place in self.places[:planned]]
            found = self.plan.summary(labels[self.label], by_run)
        if not self.effects:
            return Measurements(found, self.closed)
        picked = [
            np.asarray(logits[place] if explained is None else logits[place][self.runs[place].explained], np.float64)
            for place in self.places[planned:]
        ]
        bias = model.engine.head_bias.astype(np.float64)
        return Measurements(found, faithfulness.effects(labels, len(source), explained, bias, picked))
