"""How faithful explanations are: the tokens that they rank first are deleted or kept, and the model answers again.

The probability of the predicted label is measured for every input. All methods' runs of a text are made once, together.

- comprehensiveness and sufficiency at 1, 5, 10, 20 and 50 % of the tokens (ERASER: DeYoung et al. 2020): how much
  probability is lost without the first tokens, and with them alone. Higher, and lower, is better.
- deletion and insertion: the area under the probability while tokens go, or come, in order, over the share of the
  tokens (Petsiuk et al. 2018). Lower, and higher, is better.
- log-odds: the change of the label's log-probability without the first 20 % of the tokens (Chen et al. 2019). Lower is
  better.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model import faithfulness
from service.model.decoding import Tagger
from service.model.faithfulness import PERCENTS, count
from service.model.tokenizer import Encoded
from training.data.batches import plan as batches
from training.data.sources import Tell, silent
from training.scoring.evaluate import Corpus
from training.studies.attributions import Array, Case, Method, Subject

GRID = 20
"""Points of a curve, from all tokens to none, evenly spaced; fewer if a text has fewer tokens."""
LOG_ODDS_PERCENT = 20
RESAMPLES = 1_000
TIMED = 15
"""Inputs over which the costs are medians."""
_ROWS, _TOKENS = 32, 8_192
_FAINTEST = 1e-9

MEASURES = (
    *(f"comprehensiveness@{percent}" for percent in PERCENTS),
    "comprehensiveness",
    *(f"sufficiency@{percent}" for percent in PERCENTS),
    "sufficiency",
    "deletion",
    "insertion",
    "log-odds",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over inputs, and its bootstrap interval of 95 %."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Array, seed: int = 0) -> Figure:
        picks = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
        low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
        return cls(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one method: figures by measure, its deletion and insertion curves on `GRID` + 1 points, its
    cost in predictions of the same input (CPU time), and by measure its distance from the first method, input by input.
    """

    method: str
    needs: str
    figures: Mapping[str, Figure]
    deletion: Sequence[float]
    insertion: Sequence[float]
    cost: float
    against_first: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Study:
    """The results of all methods over the same inputs; `inputs` is how many there were, `tokens` their mean length."""

    inputs: int
    tokens: float
    results: Sequence[Result]


def cases(subject: Subject, corpus: Corpus, most: int, longest: int, seed: int, tell: Tell = silent) -> list[Case]:
    """At most `most` inputs of two tokens at least, drawn from all, each cut to `longest` tokens, with the explained
    label: the predicted one, or for a tagger that of the first token of its first entity. `tell` gets a line on inputs
    that were drawn and cannot be explained, and on those that were cut."""
    found: list[Case] = []
    short = bare = cut = 0
    for number in np.random.default_rng(seed).permutation(len(corpus.encoded)):
        row = corpus.encoded[number].rows[:longest]
        if len(row) < 2:
            short += 1
            continue
        logits = subject.engine.predict([row])[0]
        if isinstance(subject.decoder, Tagger):
            path = subject.decoder.path(logits)
            outside = subject.manifest.labels.index("O")
            first = next((token for token, label in enumerate(path) if label != outside), None)
            if first is None:
                bare += 1
                continue
            found.append(Case(row, path[first], first))
        else:
            found.append(Case(row, int(logits.argmax())))
        cut += len(corpus.encoded[number]) > longest
        if len(found) == most:
            break
    reasons = [
        f"{count:,} {reason}"
        for count, reason in ((short, "have one token"), (bare, "have no predicted entity"))
        if count
    ]
    if reasons:
        drawn = len(found) + short + bare
        tell(f"note: {corpus.name}: {short + bare:,} of {drawn:,} drawn inputs are set aside: {', '.join(reasons)}")
    if cut:
        tell(f"note: {corpus.name}: {cut:,} of {len(found):,} inputs are cut to {longest:,} tokens")
    return found


def measure(subject: Subject, found: Sequence[Case], methods: Mapping[str, Method]) -> Study:
    """Measure methods over cases. The others are compared with the first one."""
    values: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    curves: dict[str, list[tuple[Array, Array]]] = {name: [] for name in methods}
    for case in found:
        orders = {
            name: faithfulness.order_of(method.explain(subject, case), case.explained)
            for name, method in methods.items()
        }
        chances = _Chances(subject, case, [kept for order in orders.values() for kept in _selections(order, case)])
        for name, order in orders.items():
            one, deleted, inserted = _of_order(order, case, chances)
            values[name].append(one)
            curves[name].append((deleted, inserted))
    costs = _costs(subject, found[:TIMED], methods)
    table = {name: {each: np.array([one[each] for one in rows]) for each in MEASURES} for name, rows in values.items()}
    first = next(iter(methods))
    results = [
        Result(
            name,
            method.needs,
            {each: Figure.of(table[name][each]) for each in MEASURES},
            np.mean([deleted for deleted, _ in curves[name]], axis=0).tolist(),
            np.mean([inserted for _, inserted in curves[name]], axis=0).tolist(),
            costs[name],
            {each: Figure.of(table[name][each] - table[first][each]) for each in MEASURES},
        )
        for name, method in methods.items()
    ]
    return Study(len(found), float(np.mean([len(case.row) for case in found])), results)


def points(tokens: int) -> list[int]:
    """How many of the tokens have gone, or come, at the points of a curve; from 0 to all."""
    return sorted({math.ceil(tokens * step / GRID) for step in range(GRID + 1)})


def _selections(order: Sequence[int], case: Case) -> Iterator[list[int]]:
    """Every set of tokens that an order needs, ascending."""
    tokens = len(order)
    for gone in {*points(tokens), *(count(percent, tokens) for percent in PERCENTS)}:
        yield _without(order, gone)
        yield _alone(order, gone, case)


def _without(order: Sequence[int], gone: int) -> list[int]:
    """Without the first tokens; the last one stays."""
    return sorted(order[min(gone, len(order) - 1) :])


def _alone(order: Sequence[int], kept: int, case: Case) -> list[int]:
    """With only the first tokens, at least one, and with the explained one."""
    stays = set() if case.explained is None else {case.explained}
    return sorted({*order[: max(kept, 0 if stays else 1)], *stays})


class _Chances:
    """The label's probability for sets of tokens of one input, each run once."""

    def __init__(self, subject: Subject, case: Case, selections: Sequence[Sequence[int]]) -> None:
        source = Encoded("", [(0, 0)] * len(case.row), case.row, False)
        places, runs = faithfulness.rows_of(source, selections, case.explained)
        logits: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(runs)
        for group in batches([len(run.row) for run in runs], _ROWS, _TOKENS, None):
            answers = subject.engine.predict([runs[number].row for number in group])
            for number, answer in zip(group, answers, strict=True):
                logits[number] = answer[: len(runs[number].row)] if case.explained is not None else answer
        chances = faithfulness.probabilities(subject.decoder, runs, logits, case.label)
        self._found = {tuple(selection): chances[place] for selection, place in zip(selections, places, strict=True)}

    def of(self, selection: Sequence[int]) -> float:
        return self._found[tuple(selection)]


def _of_order(order: Sequence[int], case: Case, chances: _Chances) -> tuple[dict[str, float], Array, Array]:
    """The measures of one order of one input, and its two curves on the common grid."""
    tokens = len(order)
    full = chances.of(sorted(order))
    found: dict[str, float] = {}
    for percent in PERCENTS:
        top = count(percent, tokens)
        found[f"comprehensiveness@{percent}"] = full - chances.of(_without(order, top))
        found[f"sufficiency@{percent}"] = full - chances.of(_alone(order, top, case))
    for name in ("comprehensiveness", "sufficiency"):
        found[name] = float(np.mean([found[f"{name}@{percent}"] for percent in PERCENTS]))
    steps = points(tokens)
    shares = np.array(steps) / tokens
    deleted = np.array([chances.of(_without(order, gone)) for gone in steps])
    inserted = np.array([chances.of(_alone(order, come, case)) for come in steps])
    found["deletion"], found["insertion"] = (float(np.trapezoid(curve, shares)) for curve in (deleted, inserted))
    lost = chances.of(_without(order, count(LOG_ODDS_PERCENT, tokens)))
    found["log-odds"] = math.log(max(lost, _FAINTEST)) - math.log(max(full, _FAINTEST))
    grid = np.linspace(0, 1, GRID + 1)
    return found, np.interp(grid, shares, deleted), np.interp(grid, shares, inserted)


def _costs(subject: Subject, found: Sequence[Case], methods: Mapping[str, Method]) -> dict[str, float]:
    """By method, the median of its CPU time over that of a prediction of the same input, taken in turn."""
    ratios: dict[str, list[float]] = {name: [] for name in methods}
    for case in found:
        for name, method in methods.items():
            once = min(_seconds(lambda _, case: subject.logits(case.row), subject, case) for _ in range(3))
            ratios[name].append(_seconds(method.explain, subject, case) / once)
    return {name: float(np.median(values)) for name, values in ratios.items()}


def _seconds(work: Callable[[Subject, Case], object], subject: Subject, case: Case) -> float:
    """CPU seconds, which other programs on the machine change least."""
    started = time.process_time()
    work(subject, case)
    return time.process_time() - started
