"""Information about the service: `/` and its page, `/models` and the units of a model, `/metrics`, `/health/*` and the
API document."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from service.errors import UnitNotFound
from service.http.accept import wants_index
from service.http.context import Here, Running
from service.http.described import described, of_a_model
from service.http.endpoint import PathModel
from service.http.render import JSON, dumps, json_response
from service.http.routes.explorer import EXAMPLE, INDEX, file
from service.http.schemas import examples, responses
from service.model.unit_cards import keys
from service.observability.metrics import CONTENT_TYPE
from service.serving.registry import Model, Snapshot
from service.serving.runtime import Runtime
from service.version import TITLE, VERSION

router = APIRouter()

_OK = {"status": "ok"}
_Layer = Annotated[str, Path(openapi_examples={"the first": {"value": "0"}})]
_Way = Annotated[str, Path(openapi_examples={"left to right": {"value": "forward"}})]
_Unit = Annotated[str, Path(openapi_examples={"a unit": {"value": "7"}})]


@router.get(
    "/",
    response_model=responses.Index,
    **described(
        "index",
        "The gate explorer; a list of routes for Accept: application/json",
        examples={"index": examples.INDEX},
        content={"text/html": EXAMPLE},
        not_modified=True,
    ),
)
async def index(request: Request, context: Here) -> Response:
    if not wants_index(context.headers.get(b"accept")):
        return file(INDEX, request, {"Vary": "Accept"})
    paths = sorted({route.path_format for route in request.app.routes})
    found = {"service": TITLE, "version": VERSION, "openapi": "/openapi.json", "routes": paths}
    return Response(dumps(found), media_type=JSON, headers={"Vary": "Accept"})


@router.get(
    "/models",
    response_model=responses.Models,
    **described("models", "The loaded models", examples={"models": examples.MODELS}),
)
async def models(runtime: Running) -> Response:
    now = runtime.registry.snapshot
    return json_response(
        {
            "default": {str(task): name for task, name in now.defaults.items()},
            "models": [_described(runtime, model, now) for model in now.models.values()],
            "refused": [
                {"name": each.name, "version": str(each.version or ""), "reason": each.reason} for each in now.refused
            ],
        }
    )


@of_a_model(
    router.get,
    "/models/{name}",
    "model",
    "One model",
    response_model=responses.ModelDescription,
    examples={"model": examples.MODEL},
)
async def model(model: PathModel, runtime: Running) -> Response:
    return json_response(_described(runtime, model))


@of_a_model(
    router.get,
    "/models/{name}/units/{layer}/{direction}/{unit}",
    "unit",
    "The card of one unit: its direction in the logits, where it is most active, what is lost without it",
    UnitNotFound,
    response_model=responses.UnitCard,
    examples={"card": examples.UNIT_CARD},
)
async def card(model: PathModel, layer: _Layer, direction: _Way, unit: _Unit) -> Response:
    manifest = model.bundle.manifest
    known = {f"{number}/{way}": (number, way) for number, way in keys(manifest)}
    place = known.get(f"{layer}/{direction}")
    if place is None or unit not in map(str, range(manifest.hidden)):
        layers = "layer 0" if manifest.layers == 1 else f"layers 0 to {manifest.layers - 1}"
        there = f"{layers}, {' and '.join(manifest.directions)}, units 0 to {manifest.hidden - 1}"
        asked = f"{layer}/{direction}/{unit}"
        shown = asked if len(asked) <= 64 else f"{asked[:64]}…"
        raise UnitNotFound(f"{model.name} has no unit {shown}; it has {there}.")
    found = await asyncio.to_thread(model.card, *place, int(unit))
    return json_response({"model": model.name, "version": model.version, **found})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    **described(
        "metrics",
        "Metrics for Prometheus, over all workers",
        content={"text/plain": {"examples": {"metrics": {"value": examples.METRICS}}}},
    ),
)
async def metrics(runtime: Running) -> Response:
    runtime.metrics.board.publish()  # in the event loop, because only the event loop counts
    return Response(await asyncio.to_thread(runtime.metrics.text), headers={"Content-Type": CONTENT_TYPE})


@router.get(
    "/health/live",
    response_model=responses.Status,
    **described("live", "Whether the process runs", examples={"ok": examples.STATUS}),
)
async def live() -> Response:
    return json_response(_OK)


@router.get(
    "/health/ready",
    response_model=responses.Status,
    **described("ready", "Whether the service is ready for requests", examples={"ok": examples.STATUS}),
)
async def ready(runtime: Running) -> Response:
    runtime.check_ready()
    return json_response(_OK)


@router.get(
    "/openapi.json",
    **described("openapi", "This document", content={JSON: {"schema": {"type": "object"}, "example": {}}}),
)
async def openapi(request: Request) -> Response:
    return json_response(await asyncio.to_thread(request.app.openapi))


def _described(runtime: Runtime, model: Model, now: Snapshot | None = None) -> dict[str, object]:
    versions = (now or runtime.registry.snapshot).states(model.name)
    return {**model.describe(), "versions": versions, "health": runtime.sampler.describe(model)}
