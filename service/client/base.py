"""The common part of both clients: the requests, and what becomes of their answers.

Everything that waits is a coroutine. The synchronous client runs the same coroutines over calls that block
(`blocking`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial, wraps
from secrets import token_hex
from typing import Any, Concatenate, Generic, Literal, NotRequired, ParamSpec, TypedDict, TypeVar, get_type_hints
from urllib.parse import quote

import httpx
from httpx_retries import Retry, RetryTransport

from service.client import answers
from service.client.answers import Entity, Predictions, Traces
from service.client.cutting import Answer, Inputs, Piece, cut, joined
from service.client.problems import InvalidAnswer, Problem, TooLarge, check, of_transport
from service.client.whole import SAFETENSORS, is_ready
from service.version import VERSION

_RETRIED = (429, 502, 503)
_RETRIED_ERRORS = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.DecodingError)
GRACE = 2.0
"""Seconds that the client waits on for an answer that the service has promised by its deadline: that says more."""
POLL_SECONDS = 0.1

_Http = TypeVar("_Http", httpx.Client, httpx.AsyncClient)
_Kind = TypeVar("_Kind")
_Arguments = ParamSpec("_Arguments")


class ModelFields(TypedDict, total=False):
    """Members of every request. The service decides those that are left out."""

    model: str | None
    task: str | None
    version: str | None
    """A version that is served; left out, the stable one or a canary answers."""
    split: bool
    """Taggers read raw text sentence by sentence; False reads it as one sequence."""


class Choice(ModelFields, total=False):
    route_key: str | None
    """The same key, the same version, in every call; left out, one is drawn for each call."""
    truncate: bool
    """Keep the head of a text over the token limit, in place of refusing it."""


class PredictFields(Choice, total=False):
    tokens: bool
    """Also a tagger's labels, token by token."""


class Setting(TypedDict):
    """One gate held at a value. `units` and `tokens` that are left out mean all."""

    layer: int
    direction: Literal["forward", "backward"]
    gate: str
    value: float
    units: NotRequired[Sequence[int] | None]
    tokens: NotRequired[Sequence[int] | None]


class GateFields(Choice, total=False):
    gates: Sequence[str] | None
    layers: Sequence[int] | None
    directions: Sequence[str] | None
    units: Sequence[int] | None
    """All by default."""
    reduce: Literal["none", "summary"] | None
    statistics: bool
    """Return statistics of each unit over the text, as `LayerGates.statistics`."""
    contributions: bool
    explain: int | None
    """Taggers: the number of the token to explain."""
    set: Sequence[Setting] | None
    """Gates, states or units that are held at a value. Each trace then has a `baseline`."""
    drop: Sequence[int] | None
    """Numbers of tokens that are left out of the text."""
    faithfulness: bool
    """Measure whether deleting the tokens with the largest shares changes the answer."""
    deletion: bool
    """Return how each logit changes when a token is gone."""


class Base(Generic[_Http]):
    """The base of both clients: an httpx client with retries, and the bodies of requests.

    `timeout` is in seconds for each request. The service gets it too, and drops a request after it. A service that is
    full (503), over a rate (429) or not there is asked again up to `retries` times, after its `Retry-After` or a random
    wait of up to `backoff` times 2, 4, 8, … seconds, at most `max_wait`. A list is cut into requests of `batch` inputs;
    `concurrency` of them are sent at once. Other `options` go to httpx's transport: `verify`, `cert`, `proxy`, …
    """

    _client: Callable[..., _Http]
    _transport: Callable[..., Any]
    _read_whole: Callable[[httpx.Response], Any]

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
        backoff: float = 0.2,
        max_wait: float = 30.0,
        batch: int = 64,
        concurrency: int = 4,
        **options: Any,
    ) -> None:
        if batch < 1 or concurrency < 1 or timeout <= 0:
            raise ValueError("batch and concurrency are 1 or more, timeout is over 0")
        self._batch, self._concurrency, self._timeout = batch, concurrency, timeout
        retry = Retry(
            total=retries,
            backoff_factor=backoff,
            max_backoff_wait=max_wait,
            allowed_methods=("GET", "POST"),  # a prediction changes nothing: asking twice does no harm
            status_forcelist=_RETRIED,
            retry_on_exceptions=_RETRIED_ERRORS,
            validate_response=type(self)._read_whole,
        )
        headers = {"User-Agent": f"gatelight-client/{VERSION}", "X-Request-Timeout": f"{timeout:.3f}"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        self._http: _Http = type(self)._client(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(timeout + GRACE, connect=min(timeout, 5.0), pool=None),
            transport=RetryTransport(transport=type(self)._transport(limits=limits, **options), retry=retry),
        )

    async def _each(
        self, work: Callable[[Piece], Coroutine[Any, Any, list[Answer]]], pieces: Sequence[Piece]
    ) -> list[list[Answer]]:
        """The results of `work` for all pieces, in order. At most `concurrency` run at once."""
        raise NotImplementedError  # each client waits in its own way

    async def _all(self, request: Request[Answer], inputs: Inputs) -> Answer:
        found = await self._each(partial(self._piece, request), cut(inputs, self._batch))
        return joined([answer for each in found for answer in each])

    async def _piece(self, request: Request[Answer], piece: Piece) -> list[Answer]:
        """The answers to a piece: one, or those of its halves if it is over a limit of the service."""
        path, body, headers, read = request
        try:
            response = await self._send("POST", path, json={**body, "inputs": piece.body()}, headers=headers)
        except TooLarge as error:
            if len(piece.inputs) == 1:
                raise error.shifted(piece.first) from None
            return [answer for half in piece.halves() for answer in await self._piece(request, half)]
        except Problem as error:
            raise error.shifted(piece.first) from None
        return [with_sources(read(response.content), piece, response)]

    async def _is_ready(self) -> bool:
        try:
            return is_ready(await self._request("GET", "/health/ready", extensions={"retry": Retry(total=0)}))
        except httpx.RequestError:
            return False

    async def _get(self, kind: type[_Kind], path: str) -> _Kind:
        return answers.read(kind, (await self._send("GET", path)).content)

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self._send("POST", path, json=body)

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._request(method, path, **options)
        except httpx.RequestError as error:
            raise of_transport(error, self._timeout) from error
        check(response)
        return response

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self._http.request(method, path, **options)
        return response if isinstance(response, httpx.Response) else await response


def run(coroutine: Coroutine[Any, Any, _Kind]) -> _Kind:
    """The result of a coroutine all of whose waits block, so that it never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: _Kind = done.value
        return value
    raise RuntimeError("the coroutine has suspended")


def blocking(
    method: Callable[Concatenate[Any, _Arguments], Coroutine[Any, Any, _Kind]],
) -> Callable[Concatenate[Any, _Arguments], _Kind]:
    """A method of an asynchronous class as one of its synchronous counterpart.

    The counterpart has the same private methods, as coroutines that never suspend. The method must call no others.
    """

    @wraps(method)
    def call(self: Any, /, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Kind:
        return run(method(self, *arguments, **named))

    return call


Request = tuple[str, dict[str, Any], dict[str, str], Callable[[bytes], Answer]]
"""Path, body without its inputs, headers, and a function from the bytes of the answer to the answer."""


def predicting(fields: PredictFields) -> Request[Predictions]:
    body = members(PredictFields, fields)
    return "/predict", body, _route(body), partial(answers.read, Predictions)


def tracing(fields: GateFields) -> Request[Traces]:
    body = members(GateFields, fields)
    return "/gates", body, {"Accept": SAFETENSORS, **_route(body)}, answers.traces


def _route(body: dict[str, Any]) -> dict[str, str]:
    """The header that makes one version answer all requests of a call, also with a canary."""
    return {"X-Route-Key": body.pop("route_key", None) or token_hex(8)}


def unit_path(name: str, unit: int, layer: int, direction: str, version: str | None) -> str:
    model = quote(name, safe="") if version is None else f"{quote(name, safe='')}/versions/{quote(version, safe='')}"
    return f"/models/{model}/units/{layer}/{quote(direction, safe='')}/{unit}"


def feedback_body(
    request_id: str, number: int, label: str | None, entities: Sequence[Entity | Mapping[str, Any]] | None
) -> dict[str, Any]:
    """Raises `ValueError` unless there is either a label or a list of entities."""
    if (label is None) == (entities is None):
        raise ValueError("feedback is a label, or the entities of a tagger's input, and not both")
    if entities is None:
        return {"request_id": request_id, "input": number, "label": label}
    plain = [each if isinstance(each, Mapping) else asdict(each) for each in entities]
    found = [{name: each[name] for name in ("label", "start", "end")} for each in plain]
    return {"request_id": request_id, "input": number, "entities": found}


def with_sources(answer: Answer, piece: Piece, response: httpx.Response) -> Answer:
    """The answer to a piece, with the id of its request for each input. Raises `InvalidAnswer` unless there is one
    result an input."""
    found = len(answer.predictions if isinstance(answer, Predictions) else answer.traces)
    if found != len(piece.inputs):
        raise InvalidAnswer(f"The answer has {found} results for {len(piece.inputs)} inputs.")
    request_id = response.headers.get("X-Request-ID", "")
    return replace(answer, sources=[(request_id, number) for number in range(found)])


def members(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set. Raises `TypeError` for one that there is not."""
    if unknown := fields.keys() - get_type_hints(kind).keys():
        raise TypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(get_type_hints(kind))}")
    return {name: value for name, value in fields.items() if value is not None}
