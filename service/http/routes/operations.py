"""What runs here and how it is: `/` and its page, `/models`, `/metrics`, `/health/*` and the API document."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.http.accept import wants_index
from service.http.middleware import call_of
from service.http.render import JSON, dumps
from service.http.routes.explorer import Page
from service.observability.metrics import CONTENT_TYPE
from service.serving.registry import Model
from service.serving.runtime import Runtime
from service.version import TITLE, VERSION

_OK = {"status": "ok"}


class Operations:
    """The routes, over one runtime. `document` is the API document, finished."""

    def __init__(self, runtime: Runtime, document: dict[str, object]) -> None:
        self._runtime = runtime
        self._document = dumps(document)
        self._page = Page()
        paths = document["paths"]
        self._index = {
            "service": TITLE,
            "version": VERSION,
            "openapi": "/openapi.json",
            "routes": sorted(paths) if isinstance(paths, dict) else [],
        }

    def routes(self) -> list[Route]:
        return [
            Route("/", self.index),
            Route("/models", self.models),
            Route("/models/{name}", self.model),
            Route("/metrics", self.metrics),
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/openapi.json", self.openapi),
            *self._page.routes(),
        ]

    async def index(self, request: Request) -> Response:
        """The gate explorer; for whoever asks for JSON rather than HTML, where to go from here."""
        if wants_index(call_of(request.scope).headers.get(b"accept")):
            return Response(dumps(self._index), media_type=JSON, headers={"Vary": "Accept"})
        return self._page.index(request)

    async def models(self, request: Request) -> Response:
        registry = self._runtime.registry
        return _json(
            {
                "default": {str(task): name for task, name in registry.defaults.items()},
                "models": [self._described(model) for model in registry.models.values()],
                "refused": [
                    {"name": bundle.name, "version": str(bundle.version), "reason": bundle.reason}
                    for bundle in registry.refused
                ],
            }
        )

    async def model(self, request: Request) -> Response:
        return _json(self._described(self._runtime.model(request.path_params["name"], None)))

    def _described(self, model: Model) -> dict[str, object]:
        return {**model.describe(), "health": self._runtime.sampler.describe(model)}

    async def metrics(self, request: Request) -> Response:
        metrics = self._runtime.metrics
        metrics.board.publish()  # here: only the event loop counts
        return Response(await asyncio.to_thread(metrics.text), headers={"Content-Type": CONTENT_TYPE})

    async def live(self, request: Request) -> Response:
        return _json(_OK)

    async def ready(self, request: Request) -> Response:
        self._runtime.check_ready()
        return _json(_OK)

    async def openapi(self, request: Request) -> Response:
        return Response(self._document, media_type=JSON)


def _json(value: object) -> Response:
    return Response(dumps(value), media_type=JSON)
