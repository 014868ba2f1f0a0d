"""`/models/{name}/units/…`: the card of one unit, of the stable version or of another one that is served."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from service.errors import ModelNotFound, UnitNotFound
from service.http.described import of_a_model
from service.http.endpoint import PathModel
from service.http.render import json_response
from service.http.schemas import examples, responses
from service.model.unit_cards import keys

router = APIRouter()

_Layer = Annotated[str, Path(openapi_examples={"the first": {"value": "0"}})]
_Way = Annotated[str, Path(openapi_examples={"left to right": {"value": "forward"}})]
_Unit = Annotated[str, Path(openapi_examples={"a unit": {"value": "7"}})]


@of_a_model(
    router.get,
    "/models/{name}/units/{layer}/{direction}/{unit}",
    "unit",
    "The card of one unit: its direction in the logits, where it is most active, what is lost without it",
    ModelNotFound,
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
