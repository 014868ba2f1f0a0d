"""`/v2`: the Open Inference Protocol over REST, with its binary tensor data and model repository extensions.

The answers are those of `/predict` and `/gates` as tensors (`service.http.protocols.v2_outputs`). Errors are
``{"error": "…"}``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import ASGIApp

from service.errors import BundleRefused
from service.http import body
from service.http.context import Here, RequestContext, Running
from service.http.described import described, of_a_model
from service.http.endpoint import Answer, BodyRoute, Job, JobRoute, Outcome, PathModel, model_of
from service.http.protocols import v2_metadata, v2_outputs, v2_schemas, v2_sequences, v2_tensors
from service.http.protocols.v2_tensors import IndexRequest, InferRequest, LoadRequest, UnloadRequest
from service.http.render import JSON, json_response
from service.http.schemas.examples import json_body
from service.serving.explaining import TraceOptions
from service.serving.registry import IndexEntry, Model
from service.version import VERSION

_SERVER = {
    "name": "gatelight",
    "version": VERSION,
    "extensions": ["binary_tensor_data", "model_repository", "model_configuration", "statistics", "sequence"],
}
_BINARY = "application/octet-stream"


class _RepositoryRoute(BodyRoute):
    @staticmethod
    def check_type(content_type: bytes) -> None:
        """The protocol's own clients send no content type, or that of binary data."""
        if content_type.strip() and not content_type.strip().lower().startswith(_BINARY.encode()):
            body.check_json(content_type)


class _InferRoute(JobRoute):
    check_type = staticmethod(_RepositoryRoute.check_type)

    def parse(self, context: RequestContext, content: bytes) -> BaseModel:
        most = context.runtime.settings.max_inputs
        return v2_tensors.read(content, context.headers.get(v2_tensors.HEADER_LENGTH), most)

    async def run(self, context: RequestContext, content: bytes, deadline: float) -> ASGIApp:
        if b"sequence_id" not in content and b"\\u00" not in content:  # JSON may write "s" as \u0073
            return await super().run(context, content, deadline)
        runtime, model = context.runtime, model_of(context)
        asked = self.parse(context, content)
        assert isinstance(asked, InferRequest)
        number = v2_sequences.number_of(asked)
        if number is None:
            return await super().run(context, content, deadline)
        context.model, context.inputs = (model.name, model.version), 1
        context.log.update(model=model.name, inputs=1)
        runtime.streams.check_room(model)
        named, paces = "version" in context.path, runtime.streams.admit(context.key)
        async with asyncio.timeout(asked.seconds):  # within the deadline, which the caller keeps
            model, tensors, parameters = await v2_sequences.infer(
                runtime, model, asked, number, context.request_id, named=named, paces=paces
            )
        context.model = model.name, model.version
        return _written(model, asked, tensors, parameters)


_EMPTY = json_body({"nothing": {}})

router = APIRouter()
inference = APIRouter(route_class=_InferRoute)
repository = APIRouter(route_class=_RepositoryRoute)
admin = APIRouter(route_class=_RepositoryRoute)


@router.get(
    "/v2",
    response_model=v2_schemas.ServerMetadata,
    **described("v2Server", "The server's name, version and extensions", examples={"answer": _SERVER}),
)
async def server() -> Response:
    return json_response(_SERVER)


@router.get(
    "/v2/health/live",
    response_model=v2_schemas.ServerLive,
    **described("v2Live", "Whether the process runs", examples={"answer": {"live": True}}),
)
async def live() -> Response:
    return json_response({"live": True})


@router.get(
    "/v2/health/ready",
    response_model=v2_schemas.ServerReady,
    **described("v2Ready", "Whether the service is ready for requests", examples={"answer": {"ready": True}}),
)
async def ready(runtime: Running) -> Response:
    runtime.check_ready()
    return json_response({"ready": True})


@router.get(
    "/v2/models/stats",
    response_model=v2_schemas.Statistics,
    **described(
        "v2Statistics", "The requests for all models since the start", examples={"answer": v2_schemas.STATISTICS}
    ),
)
async def every_statistics(runtime: Running) -> Response:
    return json_response(v2_metadata.statistics(runtime.metrics.totals(), runtime.registry.every))


@of_a_model(
    router.get,
    "/v2/models/{name}",
    "v2Model",
    "A model's tensors",
    response_model=v2_schemas.ModelMetadata,
    examples={"answer": v2_schemas.METADATA},
)
async def metadata(model: PathModel, runtime: Running) -> Response:
    return json_response(
        {
            "name": model.name,
            "versions": [str(version) for version in runtime.registry.find(model.name).versions],
            "platform": v2_metadata.PLATFORM,
            "inputs": [v2_metadata.TEXT_INPUT],
            "outputs": v2_outputs.describe(v2_outputs.every(model.bundle.manifest)),
        }
    )


@of_a_model(
    router.get,
    "/v2/models/{name}/ready",
    "v2ModelReady",
    "Whether a model is ready",
    response_model=v2_schemas.ModelReady,
    examples={"answer": {"name": "sentiment-bilstm", "ready": True}},
)
async def model_ready(model: PathModel, runtime: Running) -> Response:
    runtime.check_ready()
    return json_response({"name": model.name, "ready": True})


@of_a_model(
    router.get,
    "/v2/models/{name}/config",
    "v2ModelConfig",
    "A model's configuration, in the form of Triton's tools",
    response_model=v2_schemas.ModelConfig,
    examples={"answer": v2_schemas.CONFIG},
)
async def config(model: PathModel, runtime: Running) -> Response:
    versions = runtime.registry.find(model.name).versions
    return json_response(v2_metadata.config(model, versions, runtime.batcher.threads))


@of_a_model(
    router.get,
    "/v2/models/{name}/stats",
    "v2ModelStatistics",
    "The requests for a model, for all its versions or one of them, since the start",
    response_model=v2_schemas.Statistics,
    examples={"answer": v2_schemas.STATISTICS},
)
async def statistics(model: PathModel, context: Here) -> Response:
    runtime = context.runtime
    found = [model] if "version" in context.path else runtime.registry.find(model.name).versions.values()
    return json_response(v2_metadata.statistics(runtime.metrics.totals(), found))


_Infer = Annotated[InferRequest, json_body(v2_schemas.INFER_REQUESTS)]
_JSON_BYTES = {"description": "Of a binary answer: the bytes of its JSON.", "schema": {"type": "integer"}}


@of_a_model(
    inference.post,
    "/v2/models/{name}/infer",
    "v2Infer",
    "Predictions, and gates if requested, as tensors",
    response_model=v2_schemas.InferAnswer,
    examples=v2_schemas.INFER_ANSWERS,
    content={_BINARY: {"schema": {"type": "string", "format": "binary"}}},
    headers={"Inference-Header-Content-Length": _JSON_BYTES},
)
def infer(model: PathModel, asked: _Infer, context: Here) -> Job[InferRequest]:
    """With the header Inference-Header-Content-Length the body is that many bytes of JSON, followed by the raw tensors
    for which the JSON gives binary_data_size."""
    manifest = model.bundle.manifest
    wanted = v2_outputs.resolve(manifest, asked.wanted(), asked.binary)
    selection = v2_outputs.selection(manifest, list(wanted))
    return Job(
        asked,
        model,
        asked.texts,
        partial(_answer, wanted),
        lambda number: f"/inputs/0/data/{number}",
        truncate=asked.truncate,
        tokens=True,
        trace=None if selection is None else TraceOptions(selection),
        check=partial(v2_outputs.check_size, manifest, list(wanted), context.runtime.settings.max_trace),
        seconds=asked.seconds,
    )


def _answer(wanted: dict[str, bool], job: Job[Any], outcome: Outcome) -> Answer:
    model, manifest = job.model, job.model.bundle.manifest
    lengths, truncated = zip(*((len(each), each.truncated) for each in outcome.encoded), strict=True)
    layers = [trace.layers for trace in outcome.traces or ()]
    found = v2_outputs.tensors(wanted, manifest, lengths, truncated, outcome.logits, outcome.predictions, layers)
    return _written(model, job.request, found, {v2_outputs.TRUNCATED: any(truncated)})


def _written(
    model: Model, asked: InferRequest, found: Sequence[v2_tensors.Tensor], parameters: Mapping[str, object]
) -> Answer:
    head: dict[str, object] = {"model_name": model.name, "model_version": model.version}
    if asked.id is not None:
        head["id"] = asked.id
    head["parameters"] = parameters
    pieces, json_length = v2_tensors.write(head, found)
    if json_length is None:
        return Answer(pieces)
    return Answer(pieces, _BINARY, [(v2_tensors.HEADER_LENGTH, str(json_length).encode())])


@repository.post(
    "/v2/repository/index",
    response_model=list[v2_schemas.IndexEntry],
    **described("v2Index", "The repository's versions", examples={"index": v2_schemas.INDEX}),
)
async def index(context: Here, asked: Annotated[IndexRequest | None, _EMPTY] = None) -> Response:
    """The versions in the repository; with ``{"ready": true}`` only the served ones."""
    only_ready = asked is not None and bool(asked.ready)
    entries = [entry for entry in await context.runtime.index() if entry.ready or not only_ready]
    return json_response([_entry(entry) for entry in entries])


_CHANGING: dict[str, Any] = {"response_class": Response, "response_model": None}


@admin.post(
    "/v2/repository/models/{name}/load",
    **_CHANGING,
    **described("v2Load", "Load a model", BundleRefused),
)
async def load(name: str, context: Here, asked: Annotated[LoadRequest | None, _EMPTY] = None) -> Response:
    """Load the highest version of a model, or load it again."""
    await context.runtime.load(name)
    return Response(media_type=JSON)


@admin.post(
    "/v2/repository/models/{name}/unload",
    **_CHANGING,
    **described("v2Unload", "Unload a model", BundleRefused),
)
async def unload(name: str, context: Here, asked: Annotated[UnloadRequest | None, _EMPTY] = None) -> Response:
    """Stop serving a model."""
    await context.runtime.unload(name)
    return Response(media_type=JSON)


def _entry(entry: IndexEntry) -> dict[str, str]:
    """A version in the repository's index."""
    state = "READY" if entry.ready else "UNAVAILABLE"
    return {"name": entry.name, "version": str(entry.version), "state": state, "reason": entry.reason}


ROUTERS = (router, inference, repository)
"""All routes except those of `admin`, which change the served models."""
