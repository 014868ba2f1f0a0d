"""The pipeline of every request for predictions or gates, the same for all protocols.

body → parse → the route's function makes a `Job` → check room → encode text → note → run → `Job.answer` makes an answer

A protocol is two functions: one makes a `Job` from a checked request, the other makes an `Answer` from the job's
`Outcome`. Steps that could block the event loop run in a thread (`Runtime.offload`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar, get_args

from fastapi import Depends
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import DeadlineExceeded, InvalidHeader
from service.http import body
from service.http.coding import coding_of, unpacked, unpacking_seconds
from service.http.context import RequestContext, context_of
from service.http.render import JSON
from service.http.schemas.requests import Input, parse
from service.model.decoding import Prediction
from service.model.joining import Logits, Traced
from service.model.tokenizer import Encoded
from service.serving.exchange import Exchange
from service.serving.explaining import Explained, Measurements, TraceOptions, explain
from service.serving.inference import decode, encode
from service.serving.registry import Model
from service.serving.runtime import INLINE_SECONDS
from service.settings import Settings

# Rough seconds of work beside the model. They decide which work may run in the event loop.
A_BYTE_IN = 0.4e-6  # parsed, checked, tokenised
A_STRING_IN = 16e-6  # beside its bytes
AN_INPUT_OUT = 10e-6
A_TOKEN_OUT = 2e-6  # decoding by a tagger, or a token of a trace; twice as much if every token's label is returned
A_NUMBER_OUT = 15e-9

_TIMEOUT = re.compile(rb"\d{1,32}(\.\d{1,32})?")

Asked = TypeVar("Asked", bound=BaseModel)


class Outcome(NamedTuple):
    """The result of a job, one item for each input. `traces` is None for a prediction."""

    encoded: list[Encoded]
    logits: Sequence[Logits]
    predictions: list[Prediction]
    traces: Sequence[Traced] | None = None
    kept: Sequence[Sequence[int]] = ()
    """With interventions: for each input, the numbers of its remaining tokens in the text as sent."""
    baseline: Sequence[Prediction] = ()
    """With interventions: the predictions without them."""
    measured: Sequence[Measurements] = ()
    """The wanted measurements; empty if there are none."""


class Job(NamedTuple, Generic[Asked]):
    """The work that a request asks of a model, in any protocol."""

    request: Asked
    model: Model
    inputs: Sequence[Input]
    answer: Callable[[Job[Any], Outcome], Answer]
    """Makes the answer."""
    pointer: Callable[[int], str]
    """Maps an input's number to its JSON pointer in the request."""
    truncate: bool = False
    split: bool = True
    tokens: bool = False
    """True to decode every token's label."""
    trace: TraceOptions | None = None
    check: Callable[[Sequence[Encoded]], None] | None = None
    """Checks the encoded inputs. Raises `RequestError`."""
    seconds: float | None = None
    """The protocol's own time limit on the answer, in seconds, beside `X-Request-Timeout`."""

    @property
    def intervened(self) -> bool:
        """True if gates are set by hand or tokens dropped: the answer is then not the model's answer to the text."""
        return self.trace is not None and bool(self.trace.interventions)

    def head(self) -> dict[str, object]:
        """The answering model, its version and its task."""
        return {"model": self.model.name, "version": self.model.version, "task": self.model.task}


@dataclass(slots=True, eq=False)
class Answer:
    """A whole answer with status 200: pieces of bytes and their media type."""

    pieces: Sequence[bytes]
    media_type: str = JSON
    headers: Sequence[tuple[bytes, bytes]] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = sum(map(len, self.pieces))
        headers = [(b"content-type", self.media_type.encode()), (b"content-length", str(length).encode())]
        headers += self.headers
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        last = len(self.pieces) - 1
        for number, piece in enumerate(self.pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": number < last})


class BodyRoute(APIRoute):
    """A route that reads its body itself, within the service's limits and deadline, and with its errors.

    The route's function is a coroutine. It gets the checked body as `asked`, the request's `context` and the path
    parameters, and returns an ASGI application. FastAPI builds the API document from its signature. A subclass for a
    protocol overrides the attributes below and `parse`.
    """

    max_body: ClassVar[int | None] = None
    """Limit on the bytes of the body; None for the setting."""
    timed: ClassVar[bool] = True
    """True if `X-Request-Timeout` applies."""
    routed: ClassVar[bool] = False
    """True if `X-Route-Key` chooses between the versions of the model."""
    bodiless: ClassVar[bool] = False
    """True if a request may have neither body nor content type."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        Route.__init__(self, path, endpoint, methods=options.get("methods"), name=options.get("name"))
        self._options = options
        self.app = self.answer  # bypasses the framework's own reading of the body

    def __getattr__(self, name: str) -> Any:
        """FastAPI's attributes of a route, made when the first is wanted: by its first request or the API document.
        Reading signatures and building models for all routes would take a twentieth of a start."""
        own = vars(self)
        if "_options" in own and "dependant" not in own:
            made = vars(APIRoute(self.path, self.endpoint, **self._options))
            own.update({key: value for key, value in made.items() if key not in own})  # at once: threads may meet here
        if name in own:
            return own[name]
        raise AttributeError(name)

    @cached_property
    def _body(self) -> tuple[type[BaseModel], bool]:
        """The class of the body, and whether the body is optional."""
        assert self.body_field is not None  # FastAPI's view of `asked`
        asked: Any = self.body_field.field_info
        return (get_args(asked.annotation) or (asked.annotation,))[0], not asked.is_required()  # without `| None`

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The same, through the framework's layers, for a router included in another."""

        async def handler(request: Request) -> Any:
            return partial(self.answer, request.scope, request.receive)

        return handler

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application of the route."""
        context = context_of(scope)
        context.path, context.route = scope["path_params"], self.path
        if context.outcome is not None:  # it is finished, on the fast path
            if isinstance(context.outcome, Exception):
                raise context.outcome
            await context.outcome(scope, receive, send)
            return
        settings = context.runtime.settings
        if not self.timed:
            answer = await self.run(context, await self._content(context, receive), float("inf"))
        else:
            deadline = asyncio.get_running_loop().time() + _seconds(context.headers, settings)
            try:
                async with asyncio.timeout_at(deadline):
                    self.check_open(context)
                    answer = await self.run(context, await self._content(context, receive), deadline)
            except TimeoutError:
                raise DeadlineExceeded() from None
        await answer(scope, receive, send)

    @staticmethod
    def check_type(content_type: bytes) -> None:
        """Raises `UnsupportedMediaType` for a content type that is not read."""
        body.check_json(content_type)

    def check_open(self, context: RequestContext) -> None:
        """Raises `Unavailable` if a request would be rejected anyway. Saves reading its body."""

    async def run(self, context: RequestContext, content: bytes, deadline: float) -> ASGIApp:
        """The answer to a body. `deadline` is a time of the event loop."""
        answer: ASGIApp = await self.endpoint(asked=self.parse(context, content), context=context, **context.path)
        return answer

    def parse(self, context: RequestContext, content: bytes) -> BaseModel:
        """The checked request from its body. Raises `RequestError`."""
        kind, optional = self._body
        return parse(content or b"{}" if optional else content, kind, context.runtime.settings.max_inputs)

    async def _content(self, context: RequestContext, receive: Receive) -> bytes:
        headers, runtime = context.headers, context.runtime
        most = self.max_body or runtime.settings.max_body
        if self.bodiless and headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
            return b""
        content = await body.read(headers, receive, most, self.check_type)
        if coding := coding_of(headers.get(b"content-encoding", b"")):
            work = partial(unpacked, content, coding, most)
            content = await runtime.offload(unpacking_seconds(len(content), most), work, begins=True)
        return content


class JobRoute(BodyRoute):
    """A route whose function, not a coroutine, makes a `Job` from the checked body. This class runs the job.

    If the model is in the path, the function gets it as `model`, in place of the path parameters. An unknown model is
    reported before the body is checked.
    """

    routed = True

    def check_open(self, context: RequestContext) -> None:
        context.runtime.check_open()

    def prepare(self, context: RequestContext, content: bytes) -> tuple[Job[Any], list[Encoded]] | None:
        """The steps of `run` before the model, at once; None if one of them could block the event loop, or the request
        asks for more than predictions. Raises `RequestError`."""
        if cost_in(content) >= INLINE_SECONDS:
            return None
        job = self._job(context, content)
        if job.trace is not None or job.seconds is not None:
            return None
        _open(context, job)
        encoded = _encode(context, job)
        return (job, encoded) if _cost_out(job, encoded, _note(context, job, encoded)) < INLINE_SECONDS else None

    async def run(self, context: RequestContext, content: bytes, deadline: float) -> ASGIApp:
        runtime = context.runtime
        offload, inference = runtime.offload, runtime.inference
        cost = cost_in(content)
        job = await offload(cost, partial(self._job, context, content), begins=True)
        model, trace = job.model, job.trace
        _open(context, job)
        encoded = await offload(cost, partial(_encode, context, job))
        tokens = _note(context, job, encoded)
        if job.seconds is not None:
            deadline = min(deadline, asyncio.get_running_loop().time() + job.seconds)
        if trace is None:
            cost = _cost_out(job, encoded, tokens)
            logits = await inference.predict(model, encoded, deadline=deadline, times=context.times())
            return await offload(cost, partial(answer_of, context, job, encoded, logits))
        numbers = trace.selection.numbers(tokens, len(encoded))
        cost = len(encoded) * AN_INPUT_OUT + tokens * A_TOKEN_OUT + numbers * A_NUMBER_OUT
        with runtime.hold_trace(numbers):
            explained = await explain(
                inference, offload, model, encoded, trace, deadline=deadline, times=context.times()
            )
            return await offload(cost, partial(_explained, context, job, encoded, explained))

    def _job(self, context: RequestContext, content: bytes) -> Job[Any]:
        model = {"model": model_of(context)} if context.path else {}
        job: Job[Any] = self.endpoint(asked=self.parse(context, content), context=context, **model)
        return job


def model_of(context: RequestContext) -> Model:
    """The model of a path, `{name}` and perhaps `{version}`. Without a version, the request's route key chooses between
    the stable one and its canaries.

    Raises `ModelNotFound`, or `VersionNotFound` for a version that is not loaded.
    """
    return context.runtime.model(context.path["name"], None, context.path.get("version"), context.route_key)


async def _model_of_path(request: Request) -> Model:
    path = request.path_params
    return context_of(request.scope).runtime.model(path["name"], None, path.get("version"))


PathModel = Annotated[Model, Depends(_model_of_path)]
"""A route function's parameter of this type is the model of the path; without a version its stable one."""


def _open(context: RequestContext, job: Job[Any]) -> None:
    """Note the model of a job. Raises `Unavailable` if nothing more may wait for it."""
    model, trace = job.model, job.trace
    context.model, context.predicts = (model.name, model.version), trace is None
    set_by_hand = trace is not None and bool(trace.interventions.settings)
    context.runtime.inference.check_room(model, trace=trace is not None, intervened=set_by_hand)


def _cost_out(job: Job[Any], encoded: Sequence[Encoded], tokens: int) -> float:
    """Expected seconds to make the answer of predictions."""
    cost = len(encoded) * AN_INPUT_OUT
    return cost + tokens * A_TOKEN_OUT * (1 + job.tokens) if job.model.task == "ner" else cost


def _encode(context: RequestContext, job: Job[Any]) -> list[Encoded]:
    started = perf_counter()
    encoded = encode(job.model, job.inputs, job.truncate, job.pointer, job.split)
    context.took("tokenise", started)
    if job.check is not None:
        job.check(encoded)
    return encoded


def _note(context: RequestContext, job: Job[Any], encoded: Sequence[Encoded]) -> int:
    """Add the request's model and sizes to the log; its texts only if the settings allow it. Returns its tokens."""
    model, tokens = job.model, sum(map(len, encoded))
    context.inputs = len(encoded)
    context.log.update(model=model.name, version=model.version, inputs=len(encoded), tokens=tokens)
    if context.runtime.settings.log_text:
        context.log["text"] = [source.text for source in encoded]
    return tokens


def _explained(context: RequestContext, job: Job[Any], sent: list[Encoded], explained: Explained) -> ASGIApp:
    baseline: list[Prediction] = []
    if explained.baseline is not None:
        started = perf_counter()
        baseline = decode(job.model, explained.baseline, sent, tokens=job.tokens)
        context.took("decode", started)
    encoded = [each.encoded for each in explained.applied]
    logits = [trace.logits for trace in explained.traces]
    kept = [each.kept for each in explained.applied] if baseline else []
    more = {"kept": kept, "baseline": baseline, "measured": explained.measured}
    return answer_of(context, job, encoded, logits, explained.traces, **more)


def answer_of(
    context: RequestContext,
    job: Job[Any],
    encoded: list[Encoded],
    logits: Sequence[Logits],
    traces: Sequence[Traced] | None = None,
    **more: Any,
) -> Followed:
    """The answer of a job, from its logits and traces."""
    started = perf_counter()
    predictions = decode(job.model, logits, encoded, tokens=job.tokens)
    context.took("decode", started)
    outcome = Outcome(encoded, logits, predictions, traces, **more)
    started = perf_counter()
    answer = job.answer(job, outcome)
    context.took("serialise", started)
    return Followed(answer, context, job, outcome)


@dataclass(slots=True, eq=False)
class Followed:
    """Remembers an answer for feedback, sends it, then passes it to shadows and the payload log."""

    answer: Answer
    _context: RequestContext
    _job: Job[Any]
    _outcome: Outcome

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.remember()
        await self.answer(scope, receive, send)
        self.tell()

    def remember(self) -> None:
        """Call it before the answer is sent: feedback may reach another worker at once."""
        job, outcome, context = self._job, self._outcome, self._context
        if not job.intervened:
            lengths = [len(source.text) for source in outcome.encoded]
            context.runtime.after.feedback.remember(context.request_id, job.model, lengths, outcome.predictions)

    def tell(self) -> None:
        """Call it after the answer is sent. A job with interventions is left out, because its answer is not the
        model's answer to the text."""
        job, outcome, context = self._job, self._outcome, self._context
        after, served = context.runtime.after, context.runtime.versions_of(job.model)
        if job.intervened or not after.follows(served):
            return
        after.note(
            Exchange(
                context.request_id,
                context.route,
                job.model,
                outcome.encoded,
                outcome.predictions,
                [not isinstance(each, str) for each in job.inputs],
                job.truncate,
                job.split,
            ),
            served,
        )


def cost_in(content: bytes) -> float:
    """Upper bound on the seconds to parse, check and tokenise a body."""
    return len(content) * A_BYTE_IN + content.count(b'"') / 2 * A_STRING_IN


def _seconds(headers: Mapping[bytes, bytes], settings: Settings) -> float:
    """The time limit of a request, in seconds."""
    sent = headers.get(b"x-request-timeout")
    if sent is None:
        return settings.timeout
    seconds = float(sent) if _TIMEOUT.fullmatch(sent.strip()) else 0.0
    if not seconds:
        raise InvalidHeader("The header X-Request-Timeout holds seconds, over 0, such as 2.5.")
    return min(seconds, settings.max_timeout)
