"""Two contestants, measured side by side: interleaved rounds, and the ratio of each round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

Result = TypeVar("Result")
Pair = tuple[float, float]
"""One round's figures: the subject's and the baseline's."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one case over its rounds. All but the case itself are medians.

    `ratio` is the median of the rounds' ratios, subject over baseline, and `lowest` and `highest` are the extremes of
    those; the `measure` determines if more is better.
    """

    case: str
    measure: str
    subject: float
    baseline: float
    ratio: float
    lowest: float
    highest: float
    rounds: int


def row(case: str, measure: str, pairs: Sequence[Pair]) -> Row:
    """A case from its rounds."""
    ratios = [subject / baseline for subject, baseline in pairs]
    subject, baseline = (median(side) for side in zip(*pairs, strict=True))
    return Row(
        case=case,
        measure=measure,
        subject=_rounded(subject),
        baseline=_rounded(baseline),
        ratio=_rounded(median(ratios)),
        lowest=_rounded(min(ratios)),
        highest=_rounded(max(ratios)),
        rounds=len(pairs),
    )


def interleaved(
    subject: Callable[[], object], baseline: Callable[[], object], rounds: int, seconds: float
) -> list[Pair]:
    """Seconds of one call, round by round. A contestant's turn lasts about `seconds`, or one call. The order changes
    from round to round, so that neither always finds a warm cache.
    """
    sides = [partial(_time, call, _calls(call, seconds)) for call in (subject, baseline)]
    return [(one, other) for one, other in in_turns(rounds, *sides)]


def in_turns(rounds: int, *acts: Callable[[], Result]) -> list[tuple[Result, ...]]:
    """The results of each, round by round; every second round in the other order."""
    found = []
    for number in range(rounds):
        order = range(len(acts))[:: -1 if number % 2 else 1]
        results = {place: acts[place]() for place in order}
        found.append(tuple(results[place] for place in range(len(acts))))
    return found


def _rounded(figure: float) -> float:
    return float(f"{figure:.4g}")


def _calls(call: Callable[[], object], seconds: float) -> int:
    """How many calls fill a turn. The first call is a warm-up."""
    call()
    return max(1, round(seconds / _time(call, 1)))


def _time(call: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times
