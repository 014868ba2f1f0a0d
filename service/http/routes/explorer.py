"""The gate explorer and the page of the API document: static files, and headers that isolate the pages.

The files are read when this module is imported, so that all workers serve the same ones, also those that start after a
change on disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import fastapi_offline
from fastapi import APIRouter
from fastapi import Path as PathParameter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.errors import RouteNotFound
from service.http.described import described

router = APIRouter()

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The served files of the folder. It also holds the sources of the vendored code, for developers."""
INDEX = "index.html"
DOCS = "docs.html"
SWAGGER_UI = ("swagger-ui-bundle.js", "swagger-ui.css")
"""Swagger UI's files from the package fastapi-offline, for pages that load nothing from other sites."""
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",  # exported images are made in the page
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # the browser checks the ETag each time, so that a new version shows at once
}


EXAMPLE = {"schema": {"type": "string", "description": "A web page."}, "example": "<!doctype html>…"}
"""A page in the API document."""
_AssetPath = Annotated[str, PathParameter(openapi_examples={"a script": {"value": "main.js"}})]


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def _asset(name: str, summary: str) -> dict[str, Any]:
    content = {media_type.partition(";")[0]: {"schema": {"type": "string"}} for media_type in MEDIA_TYPES.values()}
    return described(name, summary, RouteNotFound, content=content, not_modified=True)


@router.get(
    "/docs",
    response_class=HTMLResponse,
    **described(
        "docs", "A page of all routes, with examples to try", content={"text/html": EXAMPLE}, not_modified=True
    ),
)
async def docs(request: Request) -> Response:
    return file(DOCS, request)


@router.get(
    "/docs/page/{path:path}", response_class=Response, **_asset("docs-page", "The same, for a browser at `/docs/`")
)
@router.get("/page/{path:path}", response_class=Response, **_asset("page", "A script or a style sheet of the pages"))
async def asset(path: _AssetPath, request: Request) -> Response:
    if path not in _FILES or path in (INDEX, DOCS):
        raise HTTPException(404)
    return file(path, request)


def file(path: str, request: Request, more: dict[str, str] | None = None) -> Response:
    """A file of the folder; a 304 without content if the browser's copy is current."""
    found = _FILES[path]
    headers = {**_HEADERS, **(more or {}), "ETag": found.etag}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


_FOLDER = Path(__file__).parents[2] / "explorer"
_STATIC = Path(fastapi_offline.__file__).parent / "static"
_FILES: Final = {
    **{path.relative_to(_FOLDER).as_posix(): _read(path) for path in _FOLDER.rglob("*") if path.suffix in MEDIA_TYPES},
    **{f"vendor/swagger-ui/{name}": _read(_STATIC / name) for name in SWAGGER_UI},
}
