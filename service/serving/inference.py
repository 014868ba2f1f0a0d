"""From encoded inputs to predictions and traces, through the batcher. Every protocol uses this path.

Each model has one lane for each graph, and one for interventions. The thread that runs a trace also cuts it to the
selection: the gates of a whole batch are large and must not outlive it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidField
from service.model.bundle import Manifest
from service.model.contributions import contributions
from service.model.decoding import Prediction
from service.model.deletion import closed_form
from service.model.engine import Engine, Trace, padded
from service.model.gates import LayerGates, Selection, extract
from service.model.interventions import Applied, Setting, run, values_set, within
from service.model.joining import Logits, Traced, bounds, cut, logits_of, parts, predictions_of
from service.model.tokenizer import Encoded
from service.model.window_shares import word_shares
from service.serving.batching import Batcher, Lane
from service.serving.queueing import Reply, Submission, Times, batches
from service.serving.registry import Model

Rows = NDArray[np.int32]

Sample = Callable[[Model, Sequence[Rows]], None]
"""Called with the inputs of each prediction."""

TRACE_COST = 2.0
"""First estimate of a trace's seconds per token, relative to a prediction. Measured batches correct it."""
INTERVENED_COST = 8.0
"""The same for a run with interventions, step by step in NumPy."""
TRACE_ROW_SECONDS = 0.6e-3
"""Seconds to cut one input's gates out of a trace, to summarise and to attribute them, beside the run itself."""
DECODED_TOGETHER = 16_384
"""Tokens of tagger logits, with padding, that are decoded as one array."""


@dataclass(frozen=True, slots=True)
class TraceJob:
    """One sentence, and the wanted parts of its trace."""

    rows: Rows
    selection: Selection
    contributions: bool
    explain: int | None
    settings: tuple[Setting, ...] = ()
    """Values set by hand; only for runs with interventions."""
    deletion: bool = False
    """True for deletion effects in closed form. Requires a model with a closed form and no `settings`."""


@dataclass(frozen=True, slots=True)
class _Lanes:
    predict: Lane[Rows, Logits]
    trace: Lane[TraceJob, Traced]
    intervened: Lane[TraceJob, Traced]


class Posted(NamedTuple):
    """Rows that wait in a lane."""

    lane: Lane[Rows, Logits]
    submission: Submission


class Inference:
    """Runs models through one batcher."""

    def __init__(self, batcher: Batcher, sample: Sample | None = None) -> None:
        self._batcher = batcher
        self._sample = sample
        # An entry ends with its model. It holds the engine but never the model: that reference would keep the model for
        # ever.
        self._lanes: WeakKeyDictionary[Model, _Lanes] = WeakKeyDictionary()

    async def predict(
        self, model: Model, encoded: Sequence[Encoded], *, deadline: float, times: Times | None = None
    ) -> list[Logits]:
        """The logits of each input. `deadline` is a time of the event loop; `times` and errors are those of
        `Lane.submit`."""
        rows = _rows(encoded)
        logits = await self._of(model).predict.submit(rows, list(map(len, rows)), deadline=deadline, times=times)
        return self.predicted(model, encoded, rows, logits)

    def post(self, model: Model, encoded: Sequence[Encoded], reply: Reply, *, deadline: float) -> Posted:
        """`predict` without a wait, by `Lane.post`. `predicted` makes the logits of the inputs from the results."""
        rows, lane = _rows(encoded), self._of(model).predict
        return Posted(lane, lane.post(rows, list(map(len, rows)), reply, deadline=deadline))

    def predicted(
        self, model: Model, encoded: Sequence[Encoded], rows: Sequence[Rows], logits: list[Logits]
    ) -> list[Logits]:
        """The logits of each input, from those of each row that ran."""
        if self._sample is not None:
            self._sample(model, rows)
        return logits if _is_one_row(encoded) else logits_of(encoded, logits)

    async def trace(
        self,
        model: Model,
        applied: Sequence[Applied],
        selection: Selection,
        *,
        contributions: bool,
        deletion: bool = False,
        deadline: float,
        times: Times | None = None,
    ) -> list[Traced]:
        """The logits, the selected gates and, if wanted, the contributions of each sentence of each input. With
        `deletion`, also the closed form of its deletion effects. `joining.traces_of` joins the sentences.
        """
        lanes, jobs = self._of(model), []
        for each in applied:
            jobs += trace_jobs([each.encoded], selection, contributions, each.explain, each.settings, deletion)
        lengths = [len(job.rows) for job in jobs]
        lane = lanes.intervened if any(job.settings for job in jobs) else lanes.trace
        return await lane.submit(jobs, lengths, deadline=deadline, times=times)

    async def rerun(
        self, model: Model, jobs: Sequence[TraceJob], *, deadline: float, times: Times | None = None
    ) -> list[Logits]:
        """The logits of jobs without gates. If no values are set, their rows run as predictions do."""
        lanes, lengths = self._of(model), [len(job.rows) for job in jobs]
        if not any(job.settings for job in jobs):
            rows = [job.rows for job in jobs]
            return await lanes.predict.submit(rows, lengths, deadline=deadline, times=times)
        traced = await lanes.intervened.submit(jobs, lengths, deadline=deadline, times=times)
        return [each.logits for each in traced]

    def check_room(self, model: Model, *, trace: bool = False, intervened: bool = False) -> None:
        """Raises `Unavailable` if the model's queue is full. Saves the tokenisation."""
        lanes = self._lanes.get(model)
        if lanes is not None:
            (lanes.intervened if intervened else lanes.trace if trace else lanes.predict).check_room()

    def _of(self, model: Model) -> _Lanes:
        lanes = self._lanes.get(model)
        if lanes is None:
            engine, manifest, seconds = model.engine, model.bundle.manifest, model.seconds_per_token
            predict = partial(run_predictions, engine, manifest)
            trace = partial(run_traces, engine, manifest)
            intervene = partial(run_interventions, engine, manifest)
            of = (model.name, model.version)
            lanes = self._lanes[model] = _Lanes(
                Lane(self._batcher, predict, seconds, of=of),
                Lane(self._batcher, trace, seconds * TRACE_COST, TRACE_ROW_SECONDS, of=of),
                Lane(self._batcher, intervene, seconds * INTERVENED_COST, TRACE_ROW_SECONDS, of=of),
            )
        return lanes


def _is_one_row(encoded: Sequence[Encoded]) -> bool:
    """True if inputs need no joining: one input that is read as a whole."""
    return len(encoded) == 1 and encoded[0].sentences is None


def _rows(encoded: Sequence[Encoded]) -> list[Rows]:
    """The rows to run for inputs."""
    return [encoded[0].rows] if _is_one_row(encoded) else [part.rows for part in parts(encoded)]


def encode(
    model: Model,
    inputs: Sequence[str | Sequence[str]],
    truncate: bool,
    where: Callable[[int], str],
    split: bool = True,
) -> list[Encoded]:
    """Encode every input. Raises `InvalidField`; `where` maps an input's number to its JSON pointer."""
    encoded = []
    for position, value in enumerate(inputs):
        try:
            encoded.append(model.encode(value, truncate=truncate, split=split))
        except InvalidField as error:
            raise error.under(where(position)) from None
    return encoded


def decode(model: Model, logits: Sequence[Logits], encoded: Sequence[Encoded], *, tokens: bool) -> list[Prediction]:
    """The prediction of each input, from its logits."""
    if model.bundle.manifest.head != "tagger":
        return model.decoder.decode(logits[0][None] if len(logits) == 1 else np.stack(logits), encoded)
    rows, sources = cut(encoded, logits), parts(encoded)
    predictions: list[Prediction] = [{}] * len(sources)
    lengths = [len(source) for source in sources]
    for group in batches(lengths, len(lengths), DECODED_TOGETHER, like=0.5):
        together = padded([rows[number] for number in group])
        alike = [sources[number] for number in group]
        for number, prediction in zip(group, model.decoder.decode(together, alike, tokens=tokens), strict=True):
            predictions[number] = prediction
    return predictions_of(encoded, predictions)


def trace_jobs(
    encoded: Sequence[Encoded],
    selection: Selection,
    contributions: bool,
    explain: int | None,
    settings: tuple[Setting, ...] = (),
    deletion: bool = False,
) -> list[TraceJob]:
    """One job for each sentence. `explain` and the tokens of `settings` count from the start of the whole text."""
    jobs = []
    for source in encoded:
        for first, end in bounds(source):
            here = within(settings, range(first, end)) if settings else ()
            inside = explain is None or first <= explain < end
            at = None if explain is None else explain - first
            rows = source.rows[first:end]
            jobs.append(TraceJob(rows, selection, contributions and inside, at, here, deletion and inside))
    return jobs


def run_predictions(engine: Engine, manifest: Manifest, rows: Sequence[Rows]) -> list[Logits]:
    """Run a batch of rows through the fused graph."""
    return _each(manifest, engine.predict(rows), rows)


def run_traces(engine: Engine, manifest: Manifest, jobs: Sequence[TraceJob]) -> list[Traced]:
    """Run a batch of jobs through the trace graph."""
    return _each_traced(engine, manifest, jobs, engine.trace([job.rows for job in jobs]))


def run_interventions(engine: Engine, manifest: Manifest, jobs: Sequence[TraceJob]) -> list[Traced]:
    """Run a batch of jobs with the values set in them."""
    trace = run(engine.network, [job.rows for job in jobs], [job.settings for job in jobs])
    return _each_traced(engine, manifest, jobs, trace)


def _each_traced(engine: Engine, manifest: Manifest, jobs: Sequence[TraceJob], trace: Trace) -> list[Traced]:
    logits = _each(manifest, trace.logits, [job.rows for job in jobs])
    return [_traced(engine, manifest, job, trace, number, logits[number]) for number, job in enumerate(jobs)]


def _traced(engine: Engine, manifest: Manifest, job: TraceJob, trace: Trace, number: int, logits: Logits) -> Traced:
    gates = trace.gates(number)
    layers = extract(manifest, gates, job.selection)
    if job.selection.reduce == "none":
        layers = [_own(layer) for layer in layers]
    weight, bias, query = engine.head_weight, engine.head_bias, engine.head_query
    found = effects = None
    if job.contributions:
        held = values_set(manifest, job.settings, len(job.rows))
        words = word_shares(engine.network, job.rows, gates, held)
        found = contributions(manifest, weight, bias, gates, job.explain, query, held, words)
    if job.deletion:
        effects = closed_form(engine.network, job.rows, gates, job.explain)
    return Traced(logits, layers, found, effects)


def _each(manifest: Manifest, logits: Logits, rows: Sequence[Rows]) -> list[Logits]:
    """The logits of each input as its own array; a tagger's are cut to the input's length."""
    if manifest.head == "tagger":
        return [logits[number, : len(row)].copy() for number, row in enumerate(rows)]
    return list(logits)


def _own(layer: LayerGates) -> LayerGates:
    """Copies of the activations. A NumPy view would keep the whole batch in memory."""
    own = {gate: array.copy() for gate, array in layer.arrays().items()}
    return LayerGates(layer.layer, layer.direction, own, layer.statistics)
