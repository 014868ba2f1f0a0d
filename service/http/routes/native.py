"""`/predict` and `/gates`: the service's own protocol. `endpoint.py` parses the body before a function here runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter

from service.errors import InvalidField, TooLarge
from service.http.accept import prefers
from service.http.context import Here
from service.http.described import described
from service.http.endpoint import Answer, Job, JobRoute, Outcome
from service.http.render import (
    SAFETENSORS,
    TraceAnswer,
    finite,
    predictions_as_json,
    traces_as_json,
    traces_as_safetensors,
)
from service.http.schemas import examples
from service.http.schemas.requests import GatesRequest, PredictRequest
from service.http.schemas.responses import Predictions, Traces
from service.model.contributions import note
from service.model.gates import select
from service.model.interventions import MAX_SETTINGS, check_settings
from service.model.tokenizer import Encoded
from service.serving.explaining import TraceOptions, check_inputs
from service.serving.explaining import check as check_wanted
from service.serving.registry import Model

router = APIRouter(route_class=JobRoute)

_TENSORS = (
    "Tensors `{input}/{layer}/{direction}/{gate}`, float32 [tokens, units]; the rest of the answer, as JSON, under "
    "`response` of `__metadata__`."
)


@router.post(
    "/predict",
    response_model=Predictions,
    **described(
        "predict",
        "Predictions for one or many inputs",
        examples=examples.PREDICTIONS,
    ),
)
def predict(
    asked: Annotated[PredictRequest, examples.json_body(examples.PREDICT_REQUESTS)], context: Here
) -> Job[PredictRequest]:
    return Job(
        asked,
        context.runtime.model(asked.model, asked.task, asked.version, context.route_key),
        asked.items(),
        _predictions,
        asked.pointer,
        truncate=asked.truncate,
        split=asked.split,
        tokens=asked.tokens,
    )


@router.post(
    "/gates",
    response_model=Traces,
    **described(
        "gates",
        "Predictions, gate activations for every token, and what each token contributed",
        examples=examples.TRACES,
        content={SAFETENSORS: {"schema": {"type": "string", "format": "binary", "description": _TENSORS}}},
    ),
)
def gates(
    asked: Annotated[GatesRequest, examples.json_body(examples.GATES_REQUESTS)], context: Here
) -> Job[GatesRequest]:
    model = context.runtime.model(asked.model, asked.task, asked.version, context.route_key)
    manifest = model.bundle.manifest
    if asked.explain is not None and manifest.head != "tagger":
        raise InvalidField("/explain", f"{model.name} has one prediction a text; explain is for taggers.")
    selection = select(
        manifest, asked.gates, asked.layers, asked.directions, asked.units, asked.reduce, asked.statistics
    )
    if asked.set and len(asked.set) > MAX_SETTINGS:
        raise TooLarge("Entries of set", len(asked.set), MAX_SETTINGS)
    interventions = asked.interventions
    check_settings(manifest, interventions.settings)
    check_wanted(manifest, asked.wanted, asked.explain)
    trace = TraceOptions(selection, asked.contributions, asked.explain, interventions, asked.wanted)
    return Job(
        asked,
        model,
        asked.items(),
        _safetensors if prefers(SAFETENSORS, context.headers.get(b"accept")) else _traces,
        asked.pointer,
        truncate=asked.truncate,
        split=asked.split,
        tokens=asked.tokens,
        trace=trace,
        check=partial(_check_trace, model, trace, context.runtime.settings.max_trace),
    )


def _check_trace(model: Model, trace: TraceOptions, most: int, encoded: Sequence[Encoded]) -> None:
    lengths = [len(source) for source in encoded]
    check_inputs(model.bundle.manifest, trace, lengths, most)
    numbers = trace.selection.numbers(sum(lengths), len(lengths))
    if numbers > most:
        raise TooLarge("Numbers in the trace", numbers, most)


def _predictions(job: Job[Any], outcome: Outcome) -> Answer:
    return Answer(predictions_as_json(job.head(), outcome.predictions))


def _traces(job: Job[Any], outcome: Outcome) -> Answer:
    return Answer(traces_as_json(_head(job), _trace_answers(job, outcome), job.request.decimals))


def _safetensors(job: Job[Any], outcome: Outcome) -> Answer:
    return Answer(traces_as_safetensors(_head(job), _trace_answers(job, outcome)), SAFETENSORS)


def _head(job: Job[Any]) -> dict[str, object]:
    manifest = job.model.bundle.manifest
    return {**job.head(), "cell": manifest.cell, "equations": manifest.equations}


def _trace_answers(job: Job[Any], outcome: Outcome) -> list[TraceAnswer]:
    request, manifest = job.request, job.model.bundle.manifest
    why = note(manifest, request.explain) if request.contributions else None
    found = []
    for number, trace in enumerate(outcome.traces or ()):
        source, split = outcome.encoded[number], trace.contributions if request.contributions else None
        sentences = {} if source.sentences is None else {"sentences": source.sentences}
        before = {"tokens": source.tokens(), **sentences, "prediction": outcome.predictions[number]}
        after = {"contributions": None if split is None else finite(split)}
        notes = {} if why is None else {"contributions_note": why}
        found.append(TraceAnswer(before, trace.layers, {**after, **notes, **_more(request, outcome, number)}))
    return found


def _more(request: GatesRequest, outcome: Outcome, number: int) -> dict[str, object]:
    """The fields that interventions and measurements add to one input's trace."""
    more: dict[str, object] = {}
    if request.drop:
        more["kept"] = list(outcome.kept[number])
    if outcome.baseline:
        more["baseline"] = outcome.baseline[number]
    if request.faithfulness:
        more["faithfulness"] = outcome.measured[number].faithfulness
    if request.deletion:
        more["deletion_effects"] = outcome.measured[number].deletion
    return more
