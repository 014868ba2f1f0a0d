"""`/v1`: KServe's first protocol (TensorFlow Serving's), with explanations. Errors are ``{"error": "…"}``.

Answers are those of `/predict`, and the contributions of `/gates`. Unknown members of a body are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import Response

from service.errors import InvalidField, ModelNotFound
from service.http.context import Here, Running
from service.http.described import described, of_a_model
from service.http.endpoint import Answer, Job, ModelRoute, Outcome, PathModel
from service.http.protocols.kserve_schemas import (
    EXPLANATION,
    REQUESTS,
    V1Explanations,
    V1Models,
    V1Predictions,
    V1Request,
)
from service.http.protocols.responses import ModelReady
from service.http.render import dumps, finite, json_response
from service.http.schemas.examples import SENTIMENT, bodies
from service.model.contributions import check_explain, note
from service.model.equations import gate_names
from service.model.gates import select
from service.serving.explaining import TraceOptions


class _Bare(StringConvertor):
    """A part of a path without a colon, which would begin a verb."""

    regex = "[^/:]+"


register_url_convertor("bare", _Bare())
router = APIRouter()
instances = APIRouter(route_class=ModelRoute)

_Asked = Annotated[V1Request, Body(openapi_examples=bodies(REQUESTS))]


@router.get(
    "/v1/models",
    response_model=V1Models,
    **described("v1Models", "The names of all models", examples={"answer": {"models": ["ner-bilstm"]}}),
)
async def models(runtime: Running) -> Response:
    return json_response({"models": list(runtime.registry.models)})


@of_a_model(
    router.get,
    "/v1/models/{name:bare}",
    "v1Model",
    "Whether a model is ready",
    ModelNotFound,
    response_model=ModelReady,
    examples={"answer": {"name": "ner-bilstm", "ready": True}},
)
async def ready(model: PathModel, runtime: Running) -> Response:
    runtime.check_ready()
    return json_response({"name": model.name, "ready": True})


@of_a_model(
    instances.post,
    "/v1/models/{name}:predict",
    "v1Predict",
    "Predictions in KServe's first protocol",
    response_model=V1Predictions,
    examples={"sentiment": {"predictions": [SENTIMENT]}},
)
def predict(model: PathModel, asked: _Asked, context: Here) -> Job[V1Request]:
    chosen = asked.chosen
    return Job(
        asked,
        model,
        asked.instances,
        _predictions,
        asked.pointer,
        truncate=bool(chosen.truncate),
        split=chosen.split is not False,
        tokens=bool(chosen.tokens),
    )


@of_a_model(
    instances.post,
    "/v1/models/{name}:explain",
    "v1Explain",
    "The contribution of each token to the prediction, in KServe's first protocol",
    response_model=V1Explanations,
    examples={"sentiment": {"explanations": [EXPLANATION]}},
)
def explain(model: PathModel, asked: _Asked, context: Here) -> Job[V1Request]:
    manifest, chosen = model.bundle.manifest, asked.chosen
    if chosen.explain is not None and manifest.head != "tagger":
        raise InvalidField("/parameters/explain", f"{model.name} has one prediction a text; explain is for taggers.")
    # As few gates as possible. Contributions are computed before the selection.
    selection = select(manifest, gates=[gate_names(manifest.cell)[0]], layers=[0], units=[0])
    return Job(
        asked,
        model,
        asked.instances,
        _explanations,
        asked.pointer,
        truncate=bool(chosen.truncate),
        split=chosen.split is not False,
        trace=TraceOptions(selection, contributions=True, explain=chosen.explain),
        check=lambda encoded: check_explain(chosen.explain, [len(source) for source in encoded]),
    )


def _predictions(job: Job[Any], outcome: Outcome) -> Answer:
    return Answer([dumps({"predictions": outcome.predictions})])


def _explanations(job: Job[Any], outcome: Outcome) -> Answer:
    manifest = job.model.bundle.manifest
    why = note(manifest, job.request.chosen.explain)
    found = []
    for source, prediction, trace in zip(outcome.encoded, outcome.predictions, outcome.traces or (), strict=True):
        split: Any = finite(trace.contributions) if trace.contributions is not None else {}
        found.append(
            {
                "tokens": source.tokens(),
                "labels": list(manifest.labels),
                "contributions": split.get("tokens"),
                **{name: split.get(name) for name in ("bias", "logits", "of", "method")},
                "note": why if trace.contributions is None else None,
                "prediction": prediction,
            }
        )
    return Answer([dumps({"explanations": found})])
