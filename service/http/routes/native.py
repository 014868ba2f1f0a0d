"""`/predict` and `/gates`: the service's own protocol.

Plain ASGI endpoints: a body goes from bytes to a checked request, and the answer to bytes, with no layer in between.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.errors import DeadlineExceeded, InvalidField, TooLarge
from service.http import body
from service.http.accept import wants_safetensors
from service.http.coding import coding_of, unpacked, unpacking_seconds
from service.http.middleware import Call, call_of
from service.http.render import (
    JSON,
    SAFETENSORS,
    TraceAnswer,
    predictions_as_json,
    traces_as_json,
    traces_as_safetensors,
)
from service.http.schemas.requests import GatesRequest, PredictRequest, parse
from service.model.contributions import check_explain, note
from service.model.equations import equations
from service.model.gates import Selection, select
from service.model.joining import Logits, Traced, traces_of
from service.model.tokenizer import Encoded
from service.serving.inference import decode, encode
from service.serving.registry import Model
from service.serving.runtime import Runtime
from service.settings import Settings

# What work at the edge costs, in seconds, roughly: enough to tell what may hold the event loop and what may not.
A_BYTE_IN = 0.4e-6  # parsed, checked, tokenised
A_STRING_IN = 16e-6  # beside its bytes
AN_INPUT_OUT = 10e-6
A_TOKEN_OUT = 2e-6  # decoded by a tagger, or named in a trace
A_NUMBER_OUT = 15e-9

_TIMEOUT = re.compile(rb"\d{1,9}(\.\d{1,9})?")

_Request = TypeVar("_Request", bound=PredictRequest)


@dataclass(frozen=True, slots=True)
class _Job(Generic[_Request]):
    """A request, the model that it means, and its inputs as that model reads them."""

    request: _Request
    model: Model
    encoded: list[Encoded]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.encoded))

    def head(self) -> dict[str, object]:
        """What every answer begins with."""
        return {"model": self.model.name, "version": self.model.version, "task": self.model.task}


class Answer:
    """A whole answer: pieces of bytes, and their media type."""

    def __init__(
        self, pieces: Sequence[bytes], media_type: str = JSON, headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self._pieces = pieces
        self._media_type = media_type
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = sum(map(len, self._pieces))
        headers = [(b"content-type", self._media_type.encode()), (b"content-length", str(length).encode())]
        headers += self._headers
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        last = len(self._pieces) - 1
        for number, piece in enumerate(self._pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number < last})


class Endpoint:
    """An ASGI endpoint around a function that makes an answer of a body: reads the body, and keeps the deadline.

    `refusal_of` says which bodies are not read, and `check_open` raises when no request is taken at all; left out, that
    is what is right for predictions.
    """

    def __init__(
        self,
        runtime: Runtime,
        answer: Callable[[Call, bytes, float], Awaitable[Answer]],
        refusal_of: body.Refusal = body.unless_json,
        check_open: Callable[[], None] | None = None,
    ) -> None:
        self._settings = runtime.settings
        self._offload = runtime.offload
        self._check_open = check_open or runtime.check_open
        self._answer = answer
        self._refusal_of = refusal_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = call_of(scope)
        call.path = scope["path_params"]
        deadline = asyncio.get_running_loop().time() + _seconds(call.headers, self._settings)
        try:
            async with asyncio.timeout_at(deadline):
                self._check_open()
                content = await body.read(call.headers, receive, self._settings.max_body, self._refusal_of)
                if coding := coding_of(call.headers.get(b"content-encoding", b"")):
                    content = await self._unpacked(content, coding)
                answer = await self._answer(call, content, deadline)
        except TimeoutError:
            raise DeadlineExceeded("The answer was not ready within the request's deadline.") from None
        await answer(scope, receive, send)

    async def _unpacked(self, content: bytes, coding: bytes) -> bytes:
        most = self._settings.max_body
        work = partial(unpacked, content, coding, most)
        return await self._offload(unpacking_seconds(len(content), most), work, begins=True)


class Native:
    """The two routes, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings

    def routes(self) -> list[Route]:
        return [
            Route("/predict", Endpoint(self._runtime, self.predict), methods=["POST"]),
            Route("/gates", Endpoint(self._runtime, self.gates), methods=["POST"]),
        ]

    async def predict(self, call: Call, content: bytes, deadline: float) -> Answer:
        """Answer a `PredictRequest`."""
        offload, inference = self._runtime.offload, self._runtime.inference
        cost = cost_in(content)
        request, model = await offload(cost, partial(self._asked, content, PredictRequest), begins=True)
        call.model = (model.name, model.version)
        inference.check_room(model)
        job = await offload(cost, partial(self._encode, call, request, model))
        note_job(call, self._settings, job.model, job.encoded)
        logits = await inference.predict(job.model, job.encoded, deadline=deadline, times=call.times())
        cost = len(job.encoded) * AN_INPUT_OUT + (job.tokens * A_TOKEN_OUT if job.model.task == "ner" else 0)
        return await offload(cost, partial(_predictions, call, job, logits))

    async def gates(self, call: Call, content: bytes, deadline: float) -> Answer:
        """Answer a `GatesRequest`."""
        offload, inference = self._runtime.offload, self._runtime.inference
        binary = wants_safetensors(call.headers.get(b"accept"))
        cost = cost_in(content)
        asked, model, selection = await offload(cost, partial(self._asked_trace, content), begins=True)
        call.model = (model.name, model.version)
        inference.check_room(model, trace=True)
        job = await offload(cost, partial(self._encode_trace, call, asked, model, selection))
        note_job(call, self._settings, job.model, job.encoded)
        numbers = selection.numbers(job.tokens, len(job.encoded))
        cost = len(job.encoded) * AN_INPUT_OUT + job.tokens * A_TOKEN_OUT + numbers * A_NUMBER_OUT
        with self._runtime.hold_trace(numbers):
            traced = await inference.trace(
                job.model,
                job.encoded,
                selection,
                contributions=asked.contributions,
                explain=asked.explain,
                deadline=deadline,
                times=call.times(),
            )
            return await offload(cost, partial(_traces, call, job, traced, binary))

    def _asked(self, content: bytes, kind: type[_Request]) -> tuple[_Request, Model]:
        request = parse(content, kind, self._settings.max_inputs)
        return request, self._runtime.model(request.model, request.task)

    def _encode(self, call: Call, request: _Request, model: Model) -> _Job[_Request]:
        with call.stage("tokenise"):
            return _Job(
                request, model, encode(model, request.items(), request.truncate, request.pointer, request.split)
            )

    def _asked_trace(self, content: bytes) -> tuple[GatesRequest, Model, Selection]:
        request, model = self._asked(content, GatesRequest)
        manifest = model.bundle.manifest
        if request.explain is not None and manifest.head != "tagger":
            raise InvalidField("/explain", f"{model.name} has one prediction a text; explain is for taggers.")
        selection = select(
            manifest,
            request.gates,
            request.layers,
            request.directions,
            request.units,
            request.reduce,
            request.statistics,
        )
        return request, model, selection

    def _encode_trace(
        self, call: Call, request: GatesRequest, model: Model, selection: Selection
    ) -> _Job[GatesRequest]:
        job = self._encode(call, request, model)
        check_explain(request.explain, [len(source) for source in job.encoded])
        numbers = selection.numbers(job.tokens, len(job.encoded))
        if numbers > self._settings.max_trace:
            raise TooLarge("Numbers in the trace", numbers, self._settings.max_trace)
        return job


def note_job(call: Call, settings: Settings, model: Model, encoded: Sequence[Encoded]) -> None:
    """Say in the log what the request is about; its texts only where the settings ask for it."""
    call.inputs = len(encoded)
    call.log.update(model=model.name, inputs=len(encoded), tokens=sum(map(len, encoded)))
    if settings.log_text:
        call.log["text"] = [source.text for source in encoded]


def _predictions(call: Call, job: _Job[PredictRequest], logits: Sequence[Logits]) -> Answer:
    with call.stage("decode"):
        predictions = decode(job.model, logits, job.encoded, tokens=job.request.tokens)
    with call.stage("serialise"):
        return Answer(predictions_as_json(job.head(), predictions))


def _traces(call: Call, job: _Job[GatesRequest], traced: Sequence[Traced], binary: bool) -> Answer:
    request, manifest = job.request, job.model.bundle.manifest
    whole = traces_of(job.encoded, traced)
    head = {**job.head(), "cell": manifest.cell, "equations": equations(manifest.cell, manifest.gru_reset)}
    with call.stage("decode"):
        predictions = decode(job.model, [trace.logits for trace in whole], job.encoded, tokens=request.tokens)
    why = note(manifest, request.explain) if request.contributions else None
    traces = [
        TraceAnswer(source.tokens(), prediction, trace.layers, trace.contributions, why, source.sentences)
        for source, prediction, trace in zip(job.encoded, predictions, whole, strict=True)
    ]
    with call.stage("serialise"):
        if binary:
            return Answer(traces_as_safetensors(head, traces), SAFETENSORS)
        return Answer(traces_as_json(head, traces, request.decimals))


def cost_in(content: bytes) -> float:
    """The seconds that parsing, checking and tokenising a body may take."""
    return len(content) * A_BYTE_IN + content.count(b'"') / 2 * A_STRING_IN


def _seconds(headers: dict[bytes, bytes], settings: Settings) -> float:
    """The seconds in which a request wants its answer."""
    sent = headers.get(b"x-request-timeout")
    if sent is None:
        return settings.timeout
    seconds = float(sent) if _TIMEOUT.fullmatch(sent.strip()) else 0.0
    if not seconds:
        raise HTTPException(422, "The header X-Request-Timeout holds seconds, over 0, such as 2.5.")
    return min(seconds, settings.max_timeout)
