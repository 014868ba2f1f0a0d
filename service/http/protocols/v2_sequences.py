"""Sequences of the Open Inference Protocol, in the form of tritonclient: a text in pieces, with its state in the
service.

A classifier's answer to a piece is that for the text so far, and `lengths` counts its tokens. A tagger's answer has the
tokens whose labels this piece settled, with offsets into the whole text, and `lengths` counts those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from service.errors import InvalidField
from service.http.protocols import v2_outputs
from service.http.protocols.v2_outputs import TRUNCATED
from service.http.protocols.v2_tensors import InferRequest, Tensor
from service.http.schemas.streams import Piece, StreamOptions
from service.http.streaming.opened import Event, open_stream
from service.model.bundle import Manifest
from service.model.decoding import Prediction, softmax
from service.serving.rates import Rate
from service.serving.registry import Model
from service.serving.runtime import Runtime

_SELDOM = 1_000_000
"""`every` of a sequence: its answers use no token events, so none are made."""
_PLACES = {"/text": "/inputs/0/data/0", "/state": "/parameters/sequence_id", "/model": ""}
"""By the pointers of a stream's errors, those into a request of `/v2`, whose path has the model."""


def number_of(asked: InferRequest) -> int | str | None:
    """The sequence of a request; None for 0 and ""."""
    return (asked.parameters.sequence_id or None) if asked.parameters is not None else None


async def infer(
    runtime: Runtime,
    model: Model,
    asked: InferRequest,
    number: int | str,
    request_id: str,
    *,
    named: bool,
    paces: Sequence[Rate] = (),
) -> tuple[Model, list[Tensor], Mapping[str, object]]:
    """Read one piece of a sequence. Returns the model that read it, the outputs, and the parameters of the answer.

    A new sequence is read by `model`. A later piece is read by the version of the first, even if other requests get
    another version by then. If the request is `named` (it names a version), that must be the same. The tokens count for
    the rate limits `paces`. Raises `RequestError`.
    """
    parameters = asked.parameters
    assert parameters is not None
    if len(asked.texts) != 1:
        raise InvalidField("/inputs/0", f"A request of a sequence has one text, not {len(asked.texts)}.")
    _wanted(model.bundle.manifest, asked)
    sequences, start = runtime.streams.sequences, bool(parameters.sequence_start)
    with _pointed(), sequences.hold(model.name, number, start=start) as held:
        version = model.version if named or held.before is None else None
        options = StreamOptions(model=model.name, version=version, state=held.before, every=_SELDOM)
        opened = open_stream(runtime, options, request_id, paces=paces)
        model, stream, events = opened.model, opened.stream, []
        manifest = model.bundle.manifest
        wanted = _wanted(manifest, asked)
        await opened.take_whole(Piece(text=asked.texts[0]))
        async for some in opened.steps():
            events += some
        if parameters.sequence_end:
            try:
                async for some in opened.finish():
                    events += some
            except InvalidField:  # the text has no token, and a second end would not change that
                held.over = True
                raise
        else:
            held.after = opened.state()["state"]
        prediction = _prediction(manifest, events, stream.logits)
        tokens: Any = prediction.get("tokens")
        lengths = [stream.count if tokens is None else len(tokens)]
        logits = np.array(stream.logits or [0.0] * len(manifest.labels), np.float32)
        tensors = v2_outputs.tensors(wanted, manifest, lengths, [False], [logits], [prediction])
    return model, tensors, {TRUNCATED: False, "sequence_id": number, "sequence_end": bool(parameters.sequence_end)}


@contextmanager
def _pointed() -> Iterator[None]:
    """Let the errors of a stream point into a request of `/v2`."""
    try:
        yield
    except InvalidField as error:
        problem = error.problems[0]
        raise InvalidField(_PLACES.get(problem.pointer, problem.pointer), problem.detail) from None


def _wanted(manifest: Manifest, asked: InferRequest) -> dict[str, bool]:
    """The outputs of an answer, and whether each is binary. Raises `InvalidField`."""
    able = [name for name in v2_outputs.usual(manifest) if name != "logits" or manifest.head != "tagger"]
    if (named := asked.wanted()) is None:
        return dict.fromkeys(able, asked.binary)
    wanted = v2_outputs.resolve(manifest, named, asked.binary)
    for position, name in enumerate(wanted):
        if name not in able:
            raise InvalidField(f"/outputs/{position}/name", f"A sequence has no {name!r}. It has {', '.join(able)}.")
    return wanted


def _prediction(manifest: Manifest, events: list[Event], logits: list[float]) -> Prediction:
    """The answer to a piece: a tagger's settled tokens, a classifier's label for the text so far."""
    if manifest.head != "tagger":
        scores = softmax(logits) if logits else [0.0]
        return {"label": manifest.labels[scores.index(max(scores))] if logits else "", "score": max(scores)}
    tokens = [
        {"label": label, "score": score, "start": start, "end": end}
        for event in events
        if event["type"] == "labels"
        for label, score, (start, end) in zip(event["labels"], event["scores"], event["spans"], strict=True)
    ]
    return {"tokens": tokens}
