"""An open stream of a model, the same for a WebSocket and for `POST /stream`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.errors import DeadlineExceeded, InvalidField, ModelNotFound, TooLarge
from service.http import problems
from service.http.endpoint import A_BYTE_IN
from service.http.schemas.streams import Piece, StreamOptions
from service.model.loading import Model
from service.model.streams.stream import Stream, wanted
from service.serving.rates import Rate
from service.serving.runtime import Runtime
from service.serving.streams import forward_models

SLICE = 256
"""Code points or tokens of a piece that are taken at once. A stream cannot be suspended until they are read."""
FINE_SLICE = 32
"""The same for streams with intermediate states, because a state holds the tokens that are complete but not read."""
TOKENS_FACTOR = 16
"""A piece with few events may have this many times `max_tokens` tokens."""
Event = dict[str, Any]


@dataclass(slots=True)
class Opened:
    """A stream, its model, and its rate limits."""

    runtime: Runtime
    model: Model
    stream: Stream
    split: bool
    request_id: str
    """Feedback on the prediction of the newest text refers to it."""
    paces: Sequence[Rate] = ()
    state_every: int = 0
    patient: bool = False
    """True to wait for the rate limits, and for room in the queue up to the deadline; false to be rejected."""
    deadline: float | None = None
    """The time of the event loop at which all must be read; None to give each step the setting's seconds."""

    @property
    def ready(self) -> Event:
        """The first message."""
        cell = self.model.bundle.manifest.cell
        return {"type": "ready", "model": self.model.name, "version": self.model.version, "cell": cell}

    def state(self) -> Event:
        """The state as an event; `read` is the length of the text that it covers. Raises `TooLarge`."""
        sealed = self.runtime.streams.seal(self.model, self.stream)
        return {"type": "state", "state": sealed, "t": self.stream.count, "read": self.stream.read}

    async def take(self, piece: Piece) -> AsyncIterator[int]:
        """Take a piece in slices and yield the code points or tokens taken so far. Step the stream to its end after
        each. A thread reads a slice with very long tokens. Raises `InvalidField`."""
        whole: str | list[str] = piece.text if piece.text is not None else piece.tokens or []
        size = FINE_SLICE if self.state_every else SLICE
        for start in range(0, max(1, len(whole)), size):
            part = whole[start : start + size]
            if isinstance(part, str):
                self.stream.feed(part)
            else:
                await self.runtime.offload(sum(map(len, part)) * A_BYTE_IN, partial(self.stream.feed_tokens, part))
            yield start + len(part)

    async def take_whole(self, piece: Piece) -> None:
        """Take a piece, and its end, before any step: one answer has all its events. Other work runs between slices.

        Raises `InvalidField`, and `TooLarge` for a piece with too many tokens, events or numbers.
        """
        kind = "characters" if piece.tokens is None else "tokens"
        async for taken in self.take(piece):
            self._check_size(f"the first {taken:,} {kind} of one piece")
            await asyncio.sleep(0)
        if piece.end:
            self.stream.end()
            self._check_size("one piece")

    def _check_size(self, part: str) -> None:
        """Raises `TooLarge` if the waiting tokens of a part are too many, or have too many events or numbers."""
        stream, settings = self.stream, self.runtime.settings
        tokens, most = stream.waiting, settings.max_tokens
        if self.model.task != "ner":  # a tagger's events have every token
            every = stream.wanted.every
            events = (stream.count + tokens) // every - stream.count // every
            if events > most:
                raise TooLarge(f"Events of {part} (send shorter pieces, or a larger every)", events, most)
            most *= TOKENS_FACTOR
        if tokens > most:
            raise TooLarge(f"Tokens in {part} (send shorter pieces)", tokens, most)
        numbers = stream.wanted.numbers(tokens)
        if numbers > settings.max_trace:
            raise TooLarge(f"Numbers in the gates of {part}", numbers, settings.max_trace)

    async def finish(self) -> AsyncIterator[list[Event]]:
        """End the text and yield the last events and the prediction. Then the stream begins anew.

        Raises `InvalidField` for a text without a token; the stream begins anew in that case, too.
        """
        stream = self.stream
        stream.end()
        try:
            async for events in self.steps():
                yield events
            events, prediction = stream.finish()
            done = {"type": "done", "prediction": prediction, "tokens": stream.count, "request_id": self.request_id}
            self.runtime.after.feedback.remember(self.request_id, self.model, [stream.characters], [prediction])
            yield [*events, done]
        finally:
            self.stream = self.runtime.streams.begin(self.model, stream.wanted, split=self.split)

    async def step(self) -> list[Event] | None:
        """Read the next tokens of the taken part and return their events; None if no token waits.

        Raises `Unavailable` and `DeadlineExceeded`."""
        seconds = self.runtime.settings.timeout
        if self.deadline is not None and (seconds := self.deadline - asyncio.get_running_loop().time()) <= 0:
            raise DeadlineExceeded()
        events = await self.runtime.streams.step(
            self.model,
            self.stream,
            seconds,
            paces=self.paces,
            stops=self.state_every,
            patient=self.patient,
        )
        if events is not None and self.state_every and self.stream.count % self.state_every == 0:
            events.append(self.state())
        return events

    async def steps(self) -> AsyncIterator[list[Event]]:
        """Read the taken part and yield its events. Raises `Unavailable` and `DeadlineExceeded`."""
        while (events := await self.step()) is not None:
            yield events


def open_stream(
    runtime: Runtime,
    asked: StreamOptions,
    request_id: str,
    *,
    paces: Sequence[Rate] = (),
    state_every: int = 0,
    key: str | None = None,
) -> Opened:
    """A new stream, or one that continues from a state. `key` chooses between versions of a model.

    Raises `ModelNotFound`; `InvalidField` for a model that also reads backward, and for a state that does not fit.
    """
    streams, split = runtime.streams, asked.split
    owner, content = streams.unseal(asked.state) if asked.state is not None else (None, b"")
    if owner is None:
        model = runtime.model(asked.model, asked.task, asked.version, key)
        if asked.model is None and not model.bundle.manifest.reads_forward:
            # If the task's default also reads backward: its forward variant of the same cell, else any forward model.
            readers = forward_models([each for each in runtime.registry.models.values() if each.task == model.task])
            wished = f"{model.task}-{model.bundle.manifest.cell}"
            if readers:
                model = runtime.model(wished if wished in readers else readers[0], None, asked.version, key)
    else:
        if asked.model not in (None, owner.name) or asked.version not in (None, owner.version):
            named = " ".join(part for part in (asked.model, asked.version and f"version {asked.version}") if part)
            raise InvalidField("/state", f"The state is of {owner.name!r}, version {owner.version}, not of {named}.")
        try:
            model = runtime.model(owner.name, None, owner.version)
        except ModelNotFound as error:
            raise InvalidField(
                "/state",
                f"The state is of {owner.name!r}, version {owner.version}, which is not served any more. Send the text "
                "again from its beginning.",
            ) from error
        if asked.task not in (None, model.task):
            raise InvalidField("/state", f"The state is of {owner.name!r}, of the task {model.task}, not {asked.task}.")
    if not model.bundle.manifest.reads_forward:
        able = ", ".join(forward_models(list(runtime.registry.models.values()))) or "none that is loaded"
        raise InvalidField(
            "/model", f"{model.name} reads backward too, and needs the whole text first. These read forward: {able}."
        )
    what = wanted(model.bundle.manifest, asked.gates or (), asked.layers, asked.units, asked.every, asked.decimals)
    if owner is None:
        stream = streams.begin(model, what, split=split)
    else:
        stream = streams.resume(model, what, owner, content)
        split = stream.split
    return Opened(runtime, model, stream, split, request_id, paces, state_every)


def error_event(error: Exception) -> Event:
    """An error as a message."""
    problem = problems.body(problems.of(error), "")
    return {"type": "error", **{name: problem[name] for name in ("status", "detail", "errors") if name in problem}}
