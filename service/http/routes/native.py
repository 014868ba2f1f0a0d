"""`/predict` and `/gates`: the service's own protocol."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body

from service.errors import InvalidField, TooLarge
from service.http.accept import wants_safetensors
from service.http.context import Here
from service.http.described import OF_A_JOB, described
from service.http.endpoint import Answer, Job, JobRoute, Outcome, TraceOptions
from service.http.render import (
    SAFETENSORS,
    TraceAnswer,
    predictions_as_json,
    traces_as_json,
    traces_as_safetensors,
)
from service.http.schemas import examples
from service.http.schemas.requests import GatesRequest, PredictRequest
from service.http.schemas.responses import Predictions, Traces
from service.model.contributions import check_explain, note
from service.model.equations import equations
from service.model.gates import Selection, select
from service.model.tokenizer import Encoded

router = APIRouter(route_class=JobRoute)

_TENSORS = (
    "Tensors `{input}/{layer}/{direction}/{gate}`, float32 [tokens, units]; the rest of the answer, as JSON, under "
    "`response` of `__metadata__`."
)


@router.post(
    "/predict",
    response_model=Predictions,
    **described("predict", "Predictions for one or many inputs", *OF_A_JOB, examples=examples.PREDICTIONS, timed=True),
)
def predict(
    asked: Annotated[PredictRequest, Body(openapi_examples=examples.bodies(examples.PREDICT_REQUESTS))], context: Here
) -> Job[PredictRequest]:
    return Job(
        asked,
        context.runtime.model(asked.model, asked.task),
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
        *OF_A_JOB,
        examples=examples.TRACES,
        content={SAFETENSORS: {"schema": {"type": "string", "format": "binary", "description": _TENSORS}}},
        timed=True,
    ),
)
def gates(
    asked: Annotated[GatesRequest, Body(openapi_examples=examples.bodies(examples.GATES_REQUESTS))], context: Here
) -> Job[GatesRequest]:
    model = context.runtime.model(asked.model, asked.task)
    manifest = model.bundle.manifest
    if asked.explain is not None and manifest.head != "tagger":
        raise InvalidField("/explain", f"{model.name} has one prediction a text; explain is for taggers.")
    selection = select(
        manifest, asked.gates, asked.layers, asked.directions, asked.units, asked.reduce, asked.statistics
    )
    return Job(
        asked,
        model,
        asked.items(),
        _safetensors if wants_safetensors(context.headers.get(b"accept")) else _traces,
        asked.pointer,
        truncate=asked.truncate,
        split=asked.split,
        tokens=asked.tokens,
        trace=TraceOptions(selection, asked.contributions, asked.explain),
        check=partial(_check_trace, asked.explain, selection, context.runtime.settings.max_trace),
    )


def _check_trace(explain: int | None, selection: Selection, most: int, encoded: Sequence[Encoded]) -> None:
    lengths = [len(source) for source in encoded]
    check_explain(explain, lengths)
    numbers = selection.numbers(sum(lengths), len(lengths))
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
    return {**job.head(), "cell": manifest.cell, "equations": equations(manifest.cell, manifest.gru_reset)}


def _trace_answers(job: Job[Any], outcome: Outcome) -> list[TraceAnswer]:
    request, manifest = job.request, job.model.bundle.manifest
    why = note(manifest, request.explain) if request.contributions else None
    return [
        TraceAnswer(source.tokens(), prediction, trace.layers, trace.contributions, why, source.sentences)
        for source, prediction, trace in zip(outcome.encoded, outcome.predictions, outcome.traces or (), strict=True)
    ]
