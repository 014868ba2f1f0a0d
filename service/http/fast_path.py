"""The fast path: plain requests for predictions, answered without a task and without the layers of ASGI.

A connection offers a request here if its head is known: an earlier request with the same bytes had a 200, and they ask
for nothing special. The steps are those of `JobRoute`. Only a short answer with status 200 leaves from here. In every
other case the request takes the ordinary path, with its id and its time of arrival: from its beginning if something
comes up before it is run, and with its error or its answer if it is finished.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import structlog

from service.http.context import REQUEST_ID, RequestContext, request_id
from service.http.endpoint import Followed, Job, JobRoute, answer_of
from service.http.middleware import CLIENT_GONE, Edge
from service.model.joining import Logits
from service.model.tokenizer import Encoded
from service.serving.inference import Posted
from service.serving.runtime import Runtime

SPECIAL = frozenset(
    (
        *(b"authorization", b"cookie", b"proxy-authorization"),  # nothing secret is kept
        *(b"connection", b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"),
        *(REQUEST_ID, b"x-request-timeout"),
    )
)
"""Headers of requests that take the ordinary path."""
OK = 200  # a plain number: reading a member of HTTPStatus takes a call
METHOD = "POST"
"""The method of the requests for predictions."""


_log = structlog.get_logger()


class Known(NamedTuple):
    """The head of a request that may take the fast path."""

    path: FastPath
    route: JobRoute
    parameters: Mapping[str, str]
    """The path parameters."""
    headers: dict[bytes, bytes]
    length: int
    """Bytes of the body."""


class Connection(Protocol):
    """The connection of a request on the fast path."""

    def answer(self, request_id: str, body: bytes, media_type: str, lines: bytes) -> None:
        """Send an answer. `lines` are header lines beside its type, its length and the request's id."""

    def resume(self) -> None:
        """Let the request take the ordinary path."""


class FastPath:
    """Runs plain requests. They pass neither `edge` nor the layers within it, so that this class stands for them."""

    def __init__(self, edge: Edge, runtime: Runtime) -> None:
        self.edge = edge
        self.runtime = runtime
        least = runtime.settings.compress_bytes
        self._below = least or float("inf")
        """An answer of so many bytes may have to be compressed."""
        self._timeout = runtime.settings.timeout
        self._waiting: deque[Pending] = deque()
        """Requests by deadline. Finished ones may be among them."""
        self._timer: asyncio.TimerHandle | None = None
        self._finished: list[tuple[RequestContext, float, Followed | None]] = []
        """Requests to count and log, with their seconds."""

    def known(self, route: object, parameters: Mapping[str, str], context: RequestContext) -> Known | None:
        """The head of an answered request, for requests like it; None if they take the ordinary path."""
        headers = context.headers
        length = headers.get(b"content-length", b"")
        plain = context.status == OK and context.predicts and SPECIAL.isdisjoint(headers) and length.isdigit()
        return Known(self, route, parameters, headers, int(length)) if plain and isinstance(route, JobRoute) else None

    def begin(self, known: Known, content: bytes, connection: Connection) -> Pending | RequestContext | None:
        """Begin a request. Returns it, or its context if it has to take the ordinary path, or None if that begins
        anew."""
        runtime, route = self.runtime, known.route
        if runtime.leaving:
            return None
        context = RequestContext(request_id(None), known.headers, perf_counter())
        context.runtime, context.path, context.route = runtime, known.parameters, route.path
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            prepared = route.prepare(context, content)
            if prepared is None:
                return context
            job, encoded = prepared
            pending = Pending(self, context, job, encoded, connection)
            pending.posted = runtime.inference.post(job.model, encoded, pending, deadline=deadline)
        except Exception as error:
            context.outcome = error
            return context
        self._waiting.append(pending)
        if self._timer is None:
            self._set_timer(deadline)
        return pending

    def answer(self, pending: Pending, rows: Sequence[Any], logits: list[Logits]) -> None:
        """Send the answer of a request whose rows have run, or let it leave on the ordinary path."""
        context, job = pending.context, pending.job
        try:
            joined = self.runtime.inference.predicted(job.model, pending.encoded, rows, logits)
            followed = answer_of(context, job, pending.encoded, joined)
            body, *others = followed.answer.pieces
            special = others or followed.answer.headers or self.runtime.leaving
            if special or len(body) >= self._below:
                context.outcome = followed
                pending.connection.resume()
                return
            followed.remember()
        except Exception as error:
            context.outcome = error
            pending.connection.resume()
            return
        context.status = OK
        pending.connection.answer(context.request_id, body, followed.answer.media_type, self.edge.lines)
        self.finish(context, followed)

    def finish(self, context: RequestContext, followed: Followed | None) -> None:
        """Count and log a request in the next turn of the event loop, when its answer is on its way."""
        if not self._finished:
            asyncio.get_running_loop().call_soon(self._settle)
        self._finished.append((context, perf_counter() - context.begun, followed))

    def _settle(self) -> None:
        finished, self._finished = self._finished, []
        note = self.edge.note
        for context, seconds, followed in finished:
            note(context, METHOD, context.route, seconds)
            if followed is not None:
                try:
                    followed.tell()
                except Exception:  # it must not keep the others from the log
                    _log.exception("unexpected error", request_id=context.request_id)
        waiting = self._waiting
        while waiting and waiting[0].done():
            waiting.popleft()

    def _set_timer(self, deadline: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        """End the requests whose deadline has come. All have the same time limit, so that one timer is enough."""
        self._timer = None
        waiting, now = self._waiting, asyncio.get_running_loop().time()
        while waiting and (waiting[0].done() or waiting[0].posted.submission.deadline <= now):
            pending = waiting.popleft()
            if not pending.done():
                pending.posted.lane.expire(pending.posted.submission)
        if waiting:
            self._set_timer(waiting[0].posted.submission.deadline)


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits for its batch. The batcher gives it the results, as it would give them to a future."""

    _path: FastPath
    context: RequestContext
    job: Job[Any]
    encoded: list[Encoded]
    connection: Connection
    posted: Posted = field(init=False)
    _done: bool = False

    def done(self) -> bool:
        """True once it has its results or an error, or takes the ordinary path."""
        return self._done

    def set_result(self, results: list[Logits], /) -> None:
        """Answer the request."""
        rows = self.posted.submission.rows
        self.withdraw()
        self._path.answer(self, rows, results)

    def set_exception(self, error: BaseException, /) -> None:
        """Answer the request with an error, on the ordinary path."""
        self.withdraw()
        self.context.outcome = error if isinstance(error, Exception) else RuntimeError(str(error))
        self.connection.resume()

    def withdraw(self) -> None:
        """Take its rows out of the queue, if they wait there."""
        self._done = True
        lane, submission = self.posted
        del self.posted  # which refers to this object: a cycle for each request is work for the garbage collector
        lane.leave(submission)

    def abandon(self) -> None:
        """The client has hung up."""
        self.withdraw()
        self.context.status = CLIENT_GONE
        self._path.finish(self.context, None)
