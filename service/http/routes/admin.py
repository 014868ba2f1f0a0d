"""Loading and unloading of models over HTTP. The routes exist if the setting `admin` is true."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import Response

from service.errors import BundleRefused
from service.http.context import Here, Running
from service.http.described import described
from service.http.endpoint import BodyRoute
from service.http.render import json_response
from service.http.schemas import examples, responses
from service.http.schemas.base import Strict
from service.rollout import MAX_VERSION


class VersionRequest(Strict):
    """The version to load."""

    version: Annotated[int, Field(ge=1, le=MAX_VERSION)] | None = Field(
        None, description="Serve this version until the next change. Without it: the highest, and any higher one later."
    )


class _LoadRoute(BodyRoute):
    max_body = 1024
    bodiless = True
    timed = False  # loading continues after its caller has gone


router = APIRouter()
loading = APIRouter(route_class=_LoadRoute)


@router.get(
    "/admin/models",
    response_model=responses.Versions,
    **described("versions", "The versions in the models folder", examples={"versions": examples.VERSIONS}),
)
async def versions(runtime: Running) -> Response:
    found = [
        {"name": each.name, "version": str(each.version), "ready": each.ready, "reason": each.reason or None}
        for each in await runtime.index()
    ]
    return json_response({"versions": found})


@loading.post(
    "/admin/models/{name}/load",
    response_model=responses.ModelDescription,
    **described(
        "load",
        "Load a version from the models folder and serve it. If it cannot be served, nothing changes",
        BundleRefused,
        examples={"model": examples.MODEL},
    ),
)
async def load(
    name: str,
    context: Here,
    asked: Annotated[VersionRequest | None, examples.json_body(examples.LOAD_REQUESTS)] = None,
) -> Response:
    model = await context.runtime.load(name, asked.version if asked is not None else None)
    context.log.update(model=model.name, version=model.version)
    return json_response(model.describe())


@router.post(
    "/admin/models/{name}/unload",
    response_model=responses.Unloaded,
    **described(
        "unload",
        "Stop serving a model until it is loaded again. Its current requests finish",
        examples={"unloaded": examples.UNLOADED},
    ),
)
async def unload(name: str, context: Here) -> Response:
    await context.runtime.unload(name)
    context.log.update(model=name)
    return json_response({"name": name, "ready": False})
