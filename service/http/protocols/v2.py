"""`/v2`: the Open Inference Protocol over REST, with its binary tensor data and model repository extensions.

The answers are those of `/predict` and `/gates` as tensors (`service.http.protocols.v2_outputs`). Errors are
``{"error": "…"}``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.errors import VersionNotFound
from service.http import body
from service.http.middleware import Call
from service.http.protocols import v2_metadata, v2_outputs, v2_tensors
from service.http.render import JSON, dumps
from service.http.routes.native import A_NUMBER_OUT, A_TOKEN_OUT, AN_INPUT_OUT, Answer, Endpoint, cost_in, note_job
from service.http.schemas.requests import checked, read_object
from service.model.gates import Selection
from service.model.joining import Logits, Traced, traces_of
from service.model.tokenizer import Encoded
from service.observability.metrics import Totals
from service.serving.inference import decode, encode
from service.serving.registry import Entry, Model
from service.serving.runtime import Runtime
from service.version import VERSION

NAME = "gatelight"
EXTENSIONS = ("binary_tensor_data", "model_repository", "model_configuration", "statistics")
_BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class _Asked:
    request: v2_tensors.InferRequest
    texts: list[str]
    model: Model
    wanted: dict[str, bool]
    selection: Selection | None


@dataclass(frozen=True, slots=True)
class _Job:
    request: v2_tensors.InferRequest
    model: Model
    encoded: list[Encoded]
    wanted: dict[str, bool]
    selection: Selection | None


def _unless_readable(content_type: bytes) -> str | None:
    """The refusal of bodies that no client of the protocol sends. Its own clients name no content type at all."""
    if not content_type.strip() or content_type.strip().lower().startswith(_BINARY.encode()):
        return None
    return body.unless_json(content_type)


class OpenInference:
    """The routes, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings

    def routes(self) -> list[Route]:
        model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
        infer = [
            Route(f"{path}/infer", Endpoint(self._runtime, self.infer, _unless_readable), methods=["POST"])
            for path in (model, version)
        ]
        return [
            Route("/v2", self.server),
            Route("/v2/models/stats", self.every_statistics),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            *self._repository(),
            *infer,
            Route(f"{model}/ready", self.model_ready),
            Route(f"{version}/ready", self.version_ready),
            Route(f"{model}/config", self.config),
            Route(f"{version}/config", self.version_config),
            Route(f"{model}/stats", self.statistics),
            Route(f"{version}/stats", self.version_statistics),
            Route(model, self.model),
            Route(version, self.version),
        ]

    def _repository(self) -> list[Route]:
        """Of the model repository: its index, and changes to it where the settings let models be changed over HTTP."""
        answers = {"index": self.index}
        if self._settings.admin:
            answers |= {"models/{name}/load": self.load, "models/{name}/unload": self.unload}
        return [
            Route(
                f"/v2/repository/{path}",
                Endpoint(self._runtime, answer, _unless_readable, check_open=lambda: None),
                methods=["POST"],
            )
            for path, answer in answers.items()
        ]

    async def server(self, request: Request) -> Response:
        return _json({"name": NAME, "version": VERSION, "extensions": EXTENSIONS})

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        self._runtime.check_ready()
        return _json({"ready": True})

    async def model(self, request: Request) -> Response:
        model = self._model(request.path_params)
        return _json(
            {
                "name": model.name,
                "versions": [model.version],
                "platform": v2_metadata.PLATFORM,
                "inputs": [v2_metadata.TEXT_INPUT],
                "outputs": v2_outputs.describe(v2_outputs.every(model.bundle.manifest)),
            }
        )

    async def version(self, request: Request) -> Response:
        return await self.model(request)

    async def model_ready(self, request: Request) -> Response:
        self._runtime.check_ready()
        return _json({"name": self._model(request.path_params).name, "ready": True})

    async def version_ready(self, request: Request) -> Response:
        return await self.model_ready(request)

    async def config(self, request: Request) -> Response:
        """A model's configuration, as tools of Triton expect it."""
        return _json(v2_metadata.config(self._model(request.path_params), self._runtime.batcher.threads))

    async def version_config(self, request: Request) -> Response:
        return await self.config(request)

    async def statistics(self, request: Request) -> Response:
        """What a model was asked since the start, over all workers."""
        return _json(v2_metadata.statistics(self._totals(), [self._model(request.path_params)]))

    async def version_statistics(self, request: Request) -> Response:
        return await self.statistics(request)

    async def every_statistics(self, request: Request) -> Response:
        """The same of all models."""
        return _json(v2_metadata.statistics(self._totals(), self._runtime.registry.models.values()))

    def _totals(self) -> Totals:
        return self._runtime.metrics.totals()

    async def index(self, call: Call, content: bytes, deadline: float) -> Answer:
        """The versions in the repository, with ``{"ready": true}`` only those that are served."""
        asked = checked(read_object(content or b"{}"), v2_tensors.IndexRequest)
        entries = [entry for entry in await self._runtime.index() if entry.ready or not asked.ready]
        return Answer([dumps([_entry(entry) for entry in entries])])

    async def load(self, call: Call, content: bytes, deadline: float) -> Answer:
        """Load the highest version of a model, or load it anew."""
        checked(read_object(content or b"{}"), v2_tensors.LoadRequest)
        await self._runtime.load(call.path["name"])
        return Answer([b""])

    async def unload(self, call: Call, content: bytes, deadline: float) -> Answer:
        """Serve a model no more."""
        checked(read_object(content or b"{}"), v2_tensors.UnloadRequest)
        await self._runtime.unload(call.path["name"])
        return Answer([b""])

    async def infer(self, call: Call, content: bytes, deadline: float) -> Answer:
        """Answer a `tensors.InferRequest`."""
        offload, inference = self._runtime.offload, self._runtime.inference
        cost = cost_in(content)
        asked = await offload(cost, partial(self._asked, call, content), begins=True)
        call.model = (asked.model.name, asked.model.version)
        inference.check_room(asked.model, trace=asked.selection is not None)
        job = await offload(cost, partial(self._encode, call, asked))
        note_job(call, self._settings, job.model, job.encoded)
        if (seconds := job.request.seconds) is not None:
            deadline = min(deadline, asyncio.get_running_loop().time() + seconds)
        tokens = sum(map(len, job.encoded))
        cost = len(job.encoded) * AN_INPUT_OUT + tokens * A_TOKEN_OUT
        if job.selection is None:
            logits = await inference.predict(job.model, job.encoded, deadline=deadline, times=call.times())
            return await offload(cost, partial(_answer, call, job, logits, None))
        numbers = job.selection.numbers(tokens)
        with self._runtime.hold_trace(numbers):
            traced = await inference.trace(
                job.model,
                job.encoded,
                job.selection,
                contributions=False,
                explain=None,
                deadline=deadline,
                times=call.times(),
            )
            return await offload(cost + numbers * A_NUMBER_OUT, partial(_traced, call, job, traced))

    def _asked(self, call: Call, content: bytes) -> _Asked:
        settings = self._settings
        model = self._model(call.path)
        request, texts = v2_tensors.read(content, call.headers.get(v2_tensors.HEADER_LENGTH), settings.max_inputs)
        manifest = model.bundle.manifest
        wanted = v2_outputs.resolve(manifest, request.wanted(), request.binary)
        return _Asked(request, texts, model, wanted, v2_outputs.selection(manifest, list(wanted)))

    def _encode(self, call: Call, asked: _Asked) -> _Job:
        request, model, wanted = asked.request, asked.model, asked.wanted
        with call.stage("tokenise"):
            encoded = encode(model, asked.texts, request.truncate, lambda number: f"/inputs/0/data/{number}")
        lengths = [len(source) for source in encoded]
        v2_outputs.check_size(model.bundle.manifest, list(wanted), lengths, self._settings.max_trace)
        return _Job(request, model, encoded, wanted, asked.selection)

    def _model(self, path: object) -> Model:
        """The model that a path names. Raises `ModelNotFound`, or `VersionNotFound` for one not served."""
        assert isinstance(path, dict)
        model = self._runtime.model(path["name"], None)
        version = path.get("version", model.version)
        if version != model.version:
            raise VersionNotFound(model.name, version, [model.version])
        return model


def _traced(call: Call, job: _Job, traced: Sequence[Traced]) -> Answer:
    whole = traces_of(job.encoded, traced)
    return _answer(call, job, [trace.logits for trace in whole], whole)


def _answer(call: Call, job: _Job, logits: Sequence[Logits], traced: Sequence[Traced] | None) -> Answer:
    model, manifest = job.model, job.model.bundle.manifest
    with call.stage("decode"):
        predictions = decode(model, logits, job.encoded, tokens=True)
    with call.stage("serialise"):
        layers = [trace.layers for trace in traced] if traced is not None else None
        of, kinds = v2_outputs.arrays(job.encoded, logits, predictions, layers, manifest), v2_outputs.every(manifest)
        found = []
        for name, binary in job.wanted.items():
            shape, values = of(name)
            found.append(v2_tensors.Tensor(name, kinds[name][0], shape, values, binary))
        head: dict[str, object] = {"model_name": model.name, "model_version": model.version}
        if job.request.id is not None:
            head["id"] = job.request.id
        head["parameters"] = {v2_outputs.TRUNCATED: any(source.truncated for source in job.encoded)}
        pieces, json_length = v2_tensors.write(head, found)
    if json_length is None:
        return Answer(pieces)
    return Answer(pieces, _BINARY, [(v2_tensors.HEADER_LENGTH, str(json_length).encode())])


def _entry(entry: Entry) -> dict[str, str]:
    """A version as the repository's index lists it."""
    state = "READY" if entry.ready else "UNAVAILABLE"
    return {"name": entry.name, "version": str(entry.version), "state": state, "reason": entry.reason}


def _json(value: object) -> Response:
    return Response(dumps(value), media_type=JSON)
