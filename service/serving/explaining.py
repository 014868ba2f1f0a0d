"""What a split of an answer is worth, measured by running the model again: faithfulness, and the effects of deletion.

The runs go through the batcher as any others do, in pieces, so that other requests are answered in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import InvalidField, TooLarge
from service.model import faithfulness
from service.model.bundle import Manifest
from service.model.faithfulness import DeletionEffects, Faithfulness, Plan, Run
from service.model.interventions import Applied, within
from service.model.joining import Logits, Traced
from service.serving.inference import Inference, RunJob
from service.serving.queueing import Times
from service.serving.registry import Model

PIECE_TOKENS = 32_768
"""Tokens of the runs that are handed to the batcher at once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be measured of each input."""

    faithfulness: bool = False
    deletion: bool = False

    def __bool__(self) -> bool:
        return self.faithfulness or self.deletion


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one input; None where it was not wanted, or the cell has no split to measure."""

    faithfulness: Faithfulness | None = None
    deletion: DeletionEffects | None = None


def check(manifest: Manifest, wanted: Wanted, explain: int | None, lengths: Sequence[int] = ()) -> None:
    """Refuse what cannot be measured, before any work is done.

    Raises `InvalidField` for a tagger without `explain`, `TooLarge` for a long text or many runs.
    """
    for field, asked in (("faithfulness", wanted.faithfulness), ("deletion", wanted.deletion)):
        if asked and manifest.head == "tagger" and explain is None:
            raise InvalidField(
                f"/{field}", f"a tagger has a label for every token: {field} is for the one that explain names."
            )
        longest = max(lengths, default=0)
        if asked and longest > faithfulness.MAX_TOKENS:
            raise TooLarge(f"Tokens of an input, with {field},", longest, faithfulness.MAX_TOKENS)
    total = sum(rerun_tokens(wanted, length) for length in lengths)
    if total > faithfulness.MAX_RERUN_TOKENS:
        raise TooLarge("Tokens of the runs that the request takes", total, faithfulness.MAX_RERUN_TOKENS)


def rerun_tokens(wanted: Wanted, length: int) -> int:
    """Tokens of all runs that an input of so many tokens takes, about."""
    deleted = length * (length + 1) // 2 + length if wanted.faithfulness else 0
    return deleted + (length * length if wanted.deletion else 0)


async def measure(
    inference: Inference,
    model: Model,
    applied: Sequence[Applied],
    traced: Sequence[Traced],
    wanted: Wanted,
    *,
    deadline: float,
    times: Times | None = None,
) -> list[Measured]:
    """Measure inputs, each with its joined trace, whose contributions say in which order its tokens go.

    Raises what `Inference.rerun` does.
    """
    works = [_Work.of(model, each, trace, wanted) for each, trace in zip(applied, traced, strict=True)]
    jobs = [job for work in works for job in work.jobs()]
    logits: list[Logits] = []
    for piece in _pieces(jobs):
        logits += await inference.rerun(model, piece, deadline=deadline, times=times)
    found, at = [], 0
    for work in works:
        found.append(work.measured(model, logits[at : at + len(work.runs)]))
        at += len(work.runs)
    return found


def _pieces(jobs: Sequence[RunJob]) -> Iterator[list[RunJob]]:
    """Jobs in pieces of `PIECE_TOKENS` tokens or a little more."""
    piece: list[RunJob] = []
    tokens = 0
    for job in jobs:
        piece.append(job)
        tokens += len(job.rows)
        if tokens >= PIECE_TOKENS:
            yield piece
            piece, tokens = [], 0
    if piece:
        yield piece


@dataclass(frozen=True, slots=True)
class _Work:
    """One input's runs: `places` has the run of each selection, first the plan's, then those for the effects."""

    applied: Applied
    plan: Plan | None
    label: int
    places: Sequence[int]
    runs: Sequence[Run]
    effects: bool

    @classmethod
    def of(cls, model: Model, applied: Applied, trace: Traced, wanted: Wanted) -> _Work:
        source, explained = applied.encoded, applied.explain
        label, plan = 0, None
        if wanted.faithfulness and trace.contributions is not None:
            label = faithfulness.label_of(model.decoder, trace.logits, source, explained)
            plan = Plan(faithfulness.order_of(trace.contributions["tokens"][:, label], explained), explained)
        effects = wanted.deletion and trace.deletion is None
        kept = plan.kept() if plan else []
        if effects:
            kept += faithfulness.without_each(len(source), explained)
        places, runs = faithfulness.rows_of(source, kept, explained)
        return cls(applied, plan, label, places, runs, effects)

    def jobs(self) -> list[RunJob]:
        return [RunJob(run.row, within(self.applied.settings, run.tokens)) for run in self.runs]

    def measured(self, model: Model, logits: Sequence[Logits]) -> Measured:
        source, explained, labels = self.applied.encoded, self.applied.explain, model.bundle.manifest.labels
        found = None
        planned = 0
        if self.plan is not None:
            chances = faithfulness.probabilities(model.decoder, self.runs, logits, self.label)
            planned = len(self.plan.kept())
            by_run = [chances[place] for place in self.places[:planned]]
            found = self.plan.summary(labels[self.label], by_run)
        if not self.effects:
            return Measured(found)
        picked = [
            np.asarray(logits[place] if explained is None else logits[place][self.runs[place].explained], np.float64)
            for place in self.places[planned:]
        ]
        bias = model.engine.head_bias.astype(np.float64)
        return Measured(found, faithfulness.effects(labels, len(source), explained, bias, picked))
