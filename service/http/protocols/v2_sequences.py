"""Sequences of the Open Inference Protocol, in the form of tritonclient: a text in pieces, with its state in the
service.

A classifier's answer to a piece is that for the text so far, and `lengths` counts its tokens. A tagger's answer has the
tokens whose labels this piece settled, with offsets into the whole text, and `lengths` counts those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.errors import InvalidField
from service.http.protocols import v2_outputs
from service.http.protocols.v2_outputs import LENGTHS, TRUNCATED
from service.http.protocols.v2_tensors import InferRequest, Tensor
from service.http.schemas.streams import StreamOptions
from service.http.streaming.opened import Event, open_stream
from service.model.bundle import Manifest
from service.serving.rates import Rate
from service.serving.registry import Model
from service.serving.runtime import Runtime


def number_of(asked: InferRequest) -> int | str | None:
    """The sequence of a request; None for 0 and ""."""
    return (asked.parameters.sequence_id or None) if asked.parameters is not None else None


async def infer(
    runtime: Runtime,
    model: Model,
    asked: InferRequest,
    number: int | str,
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
    with runtime.streams.sequences.hold(model.name, number, start=bool(parameters.sequence_start)) as held:
        version = model.version if named or held.before is None else None
        opened = open_stream(runtime, StreamOptions(model=model.name, version=version, state=held.before), paces=paces)
        model, stream, events = opened.model, opened.stream, []
        manifest = model.bundle.manifest
        wanted = _wanted(manifest, asked)
        stream.feed(asked.texts[0])
        async for some in opened.steps():
            events += some
        if parameters.sequence_end:
            async for some in opened.finish():
                events += some
        else:
            held.after = opened.state()["state"]
        tensors = _tensors(manifest, wanted, events, stream.logits, stream.count)
    return model, tensors, {TRUNCATED: False, "sequence_id": number, "sequence_end": bool(parameters.sequence_end)}


def _wanted(manifest: Manifest, asked: InferRequest) -> dict[str, bool]:
    """The outputs of an answer, and whether each is binary. Raises `InvalidField`."""
    usual = {name: asked.binary for name in v2_outputs.usual(manifest) if _can(manifest, name)}
    wanted = usual if asked.wanted() is None else v2_outputs.resolve(manifest, asked.wanted(), asked.binary)
    for position, name in enumerate(wanted):
        if not _can(manifest, name):
            raise InvalidField(f"/outputs/{position}/name", f"A sequence has no {name!r}. It has {', '.join(usual)}.")
    return wanted


def _can(manifest: Manifest, name: str) -> bool:
    """True if a sequence's answer may have this output."""
    return name in v2_outputs.usual(manifest) and not (manifest.head == "tagger" and name == "logits")


def _tensors(
    manifest: Manifest, wanted: Mapping[str, bool], events: list[Event], logits: list[float], count: int
) -> list[Tensor]:
    kinds = v2_outputs.every(manifest)
    values: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    if manifest.head == "tagger":
        settled = [event for event in events if event["type"] == "labels"]
        labels = [label for event in settled for label in event["labels"]]
        spans = [span for event in settled for span in event["spans"]]
        values = {
            "labels": labels,
            "score": np.array([[score for event in settled for score in event["scores"]]], np.float32),
            "start": np.array([[start for start, _ in spans]], np.int64),
            "end": np.array([[end for _, end in spans]], np.int64),
            LENGTHS: np.array([len(labels)], np.int64),
        }
        shapes = {"labels": (1, len(labels))}
    else:
        powers = np.exp(np.array(logits) - max(logits, default=0.0))
        scores = powers / powers.sum() if logits else np.zeros(1)
        values = {
            "label": [manifest.labels[int(scores.argmax())] if logits else ""],
            "score": np.array([scores.max()], np.float32),
            "logits": np.array([logits or [0.0] * len(manifest.labels)], np.float32),
            LENGTHS: np.array([count], np.int64),
        }
        shapes = {"label": (1,)}
    values[TRUNCATED] = np.zeros(1, np.bool_)
    return [
        Tensor(name, kinds[name][0], shapes.get(name) or values[name].shape, values[name], binary)
        for name, binary in wanted.items()
    ]
