"""Loading and unloading models over HTTP. These routes are there where the setting `admin` is true."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.http import body
from service.http.coding import coding_of, unpacked
from service.http.middleware import call_of
from service.http.render import JSON, dumps
from service.http.schemas.requests import checked, read_object
from service.serving.runtime import Runtime

MAX_BODY = 1024
"""Bytes in the body of a request to load."""
MAX_VERSION = 10**9


class VersionRequest(BaseModel):
    """Which version to load."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Annotated[int, Field(ge=1, le=MAX_VERSION)] | None = Field(
        None, description="Keep to this version; left out: the highest, and those that come after it."
    )


class Admin:
    """The routes, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> list[Route]:
        return [
            Route("/admin/models", self.index),
            Route("/admin/models/{name}/load", self.load, methods=["POST"]),
            Route("/admin/models/{name}/unload", self.unload, methods=["POST"]),
        ]

    async def index(self, request: Request) -> Response:
        entries = await self._runtime.index()
        versions = [
            {"name": each.name, "version": str(each.version), "ready": each.ready, "reason": each.reason or None}
            for each in entries
        ]
        return _json({"versions": versions})

    async def load(self, request: Request) -> Response:
        asked = await _load_request(request)
        model = await self._runtime.load(request.path_params["name"], asked.version)
        call_of(request.scope).log.update(model=model.name, version=model.version)
        return _json(model.describe())

    async def unload(self, request: Request) -> Response:
        name = request.path_params["name"]
        await self._runtime.unload(name)
        call_of(request.scope).log.update(model=name)
        return _json({"name": name, "ready": False})


async def _load_request(request: Request) -> VersionRequest:
    """What the body asks for; none at all is an empty object."""
    headers = call_of(request.scope).headers
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return VersionRequest(version=None)
    content = await body.read(headers, request.receive, MAX_BODY)
    if coding := coding_of(headers.get(b"content-encoding", b"")):
        content = unpacked(content, coding, MAX_BODY)
    return checked(read_object(content), VersionRequest)


def _json(value: object) -> Response:
    return Response(dumps(value), media_type=JSON)
