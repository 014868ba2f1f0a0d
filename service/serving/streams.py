"""The streams of one process: their number, their rates, and their steps as rows of the batcher's batches.

The next tokens of every stream wait in one lane for each model, beside the lanes of predictions. So the tokens of many
streams run as one batch, a long stream takes turns with the others, and streams and predictions share the threads by
run time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args
from weakref import WeakKeyDictionary

from service.errors import InvalidField, RateLimited, Refusal, TooLarge, Unavailable
from service.model.loading import Model
from service.model.streams.sealing import Owner, Seal
from service.model.streams.stepping import StepJob, Stepped, Stepper
from service.model.streams.stream import MOST_STEPS, Stream, Wanted
from service.model.streams.tagging import Event
from service.observability.metrics import Metrics
from service.serving.batching import Batcher, Lane
from service.serving.rates import Buckets, KeyPace, Pace, Rate, waits
from service.serving.sequences import Sequences
from service.settings import Settings

STEP_COST = 20.0
"""First estimate of a step's seconds per token, relative to a padded token of a prediction."""
STEP_ROW_SECONDS = 50e-6
"""Seconds of a stream in a batch beside its steps."""
ROOM_SECONDS = 0.05
"""Interval at which a stream checks again for room in the batcher's queue."""
RETRY_SECONDS = 1.0
"""Retry-After of a client that found too many open streams."""

_TRIES = 5
"""Tries to find how many entities fit into a state that would be too large: all but one in 32 are found."""

Dropped = Literal["idle", "shutdown", "gone", "failed"]
DROPS: tuple[Dropped, ...] = get_args(Dropped)


StepOutcome = Stepped | Exception | None
"""The result of a job, its error, or None if it did not run and must wait in its lane."""
Then = Callable[[StepOutcome], None]
"""Takes the outcome of a job. Raises nothing."""


@dataclass(slots=True)
class _Steps:
    """The steps of one model's streams. `gathered` are the jobs of this turn of the event loop."""

    stepper: Stepper
    lane: Lane[StepJob, Stepped]
    gathered: list[tuple[StepJob, Then]] = field(default_factory=list)

    def run(self) -> None:
        """Run the gathered jobs now, or give each None."""
        gathered, self.gathered = self.gathered, []
        found: Sequence[StepOutcome] | None
        try:
            found = self.lane.run_here([job for job, _ in gathered], [len(job.rows) for job, _ in gathered])
        except Exception as error:
            found = [error] * len(gathered)
        for number, (_, then) in enumerate(gathered):
            then(None if found is None else found[number])


class Streams:
    """The state that the streams of a process share."""

    def __init__(self, settings: Settings, batcher: Batcher, metrics: Metrics, buckets: Buckets | None = None) -> None:
        """`buckets` count the tokens of API keys, for all processes that have the same."""
        self.settings = settings
        key = settings.state_key.get_secret_value()
        secret = key.encode() if key else secrets.token_bytes()
        self._seal = Seal(secret, settings.state_seconds)
        self.sequences = Sequences(secret, settings.max_sequences, settings.sequence_seconds)
        self._batcher, self._buckets = batcher, buckets or Buckets()
        # An entry ends with its model. It holds the engine's network but never the model.
        self._steps: WeakKeyDictionary[Model, _Steps] = WeakKeyDictionary()
        self.open = 0
        """Open streams over connections."""
        self.waiting = 0
        """Bytes received from streams and not read yet."""
        self.closing = False
        """True if the streams must end because the service does."""
        self._listeners: set[Callable[[], None]] = set()
        board = metrics.board
        self._tokens = board.number("stream_tokens_total")
        self._dropped = {reason: board.number("dropped_streams_total", reason) for reason in DROPS}
        board.track("streams", read=lambda: self.open)
        board.track("sequences", read=lambda: self.sequences.count)
        board.track("stream_waiting_bytes", read=lambda: self.waiting)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Count one more open stream. Raises `Unavailable` if too many are open."""
        if self.open >= self.settings.max_streams:
            raise Unavailable(
                f"{self.open} streams are open, the limit is {self.settings.max_streams} (setting max_streams).",
                retry_after=RETRY_SECONDS,
                reason=Refusal.STREAMS,
            )
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    @contextmanager
    def listening(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call `tell` when the streams must end."""
        self._listeners.add(tell)
        try:
            yield
        finally:
            self._listeners.discard(tell)

    def close(self) -> None:
        """End every stream, and remove the folder of sequences if none is open."""
        self.sequences.drop_old()
        self.sequences.close()
        self.closing = True
        for tell in self._listeners:
            tell()

    def drop(self, reason: Dropped) -> None:
        """Count a stream that the service ends."""
        self._dropped[reason].add(1)

    def begin(self, model: Model, wanted: Wanted, *, split: bool) -> Stream:
        """A new stream of a model that reads forward only."""
        return Stream(model, self._of(model).stepper, wanted, split=split, settle=self.settings.settle)

    def unseal(self, state: str) -> tuple[Owner, bytes]:
        """The owner and the content of a state. Raises `InvalidField`."""
        return self._seal.open(state)

    def resume(self, model: Model, wanted: Wanted, owner: Owner, content: bytes) -> Stream:
        """A stream that continues from a state. Raises `InvalidField` for a state of another model, version or
        files."""
        owner.check(owner_of(model))
        try:
            return Stream.resume(model, self._of(model).stepper, wanted, content, settle=self.settings.settle)
        except (ValueError, TypeError, IndexError, KeyError) as error:  # sealed by another release
            raise InvalidField("/state", "The state was made by another release of the service.") from error

    def seal(self, model: Model, stream: Stream) -> str:
        """The sealed state of a stream. If it would be too large, it has fewer entities. Raises `TooLarge` if nothing
        helps."""
        close = partial(self._seal.close, owner_of(model))
        with suppress(TooLarge):
            return close(stream.keep(), stream.model_bytes)
        sealed = close(stream.keep(0), stream.model_bytes)
        few, many = 0, stream.entities
        for _ in range(_TRIES):
            middle = (few + many) // 2
            try:
                sealed, few = close(stream.keep(middle), stream.model_bytes), middle
            except TooLarge:
                many = middle
        return sealed

    def check_room(self, model: Model) -> None:
        """Raises `Unavailable` if too many tokens of the model wait."""
        if (found := self._steps.get(model)) is not None:
            found.lane.check_room()

    async def step(
        self,
        model: Model,
        stream: Stream,
        seconds: float,
        *,
        paces: Sequence[Rate] = (),
        stops: int = 0,
        patient: bool = False,
    ) -> list[Event] | None:
        """Step a stream over its next tokens, a few at a time, and return their events; None if no token waits.

        The tokens never cross a multiple of `stops`, counted from 1, and count for the rate limits `paces`. Raises
        `DeadlineExceeded` after `seconds`, and `Unavailable` if too much waits. A `patient` caller waits until the rate
        limits allow the tokens, and up to `seconds` for room.
        """
        job = stream.job(stops - stream.count % stops if stops else MOST_STEPS)
        if job is None:
            return None
        loop, count = asyncio.get_running_loop(), len(job.rows)
        if paces and (pause := waits(paces, count, loop.time())) and patient:
            await asyncio.sleep(pause)
        stepped: Stepped | None = None
        if not self.busy:
            future: asyncio.Future[Stepped | None] = loop.create_future()
            self.step_now(model, job, partial(_settle, future))
            stepped = await future
        deadline = loop.time() + seconds
        while stepped is None:
            try:
                (stepped,) = await self._of(model).lane.submit([job], [count], deadline=deadline)
            except Unavailable:
                if not patient or self.closing or loop.time() >= deadline:
                    raise
                await asyncio.sleep(ROOM_SECONDS)
        return self.took(stream, stepped)

    @property
    def busy(self) -> bool:
        """True if the batcher has other work."""
        return self._batcher.busy

    def step_now(self, model: Model, job: StepJob, then: Then) -> None:
        """Run a job in the event loop, together with all other jobs of its model that come in this turn of the loop.
        If they take too long for the loop, or the batcher has got other work, none of them runs.

        A lane's queue and its deadlines cost as much as a step. While nothing else is to be done, they are saved.
        """
        steps = self._of(model)
        if not steps.gathered:
            asyncio.get_running_loop().call_soon(steps.run)
        steps.gathered.append((job, then))

    def took(self, stream: Stream, stepped: Stepped) -> list[Event]:
        """The events of a job, whose tokens are counted."""
        self._tokens.add(len(stepped.logits))
        return stream.took(stepped)

    def paces(self, key: str | None) -> Sequence[Rate]:
        """The rate limits of a new stream over a connection. `key` names the API key in the counts."""
        now = asyncio.get_running_loop().time()
        own = [Pace(self.settings.stream_rate, now)] if self.settings.stream_rate else []
        return [*own, *self._of_key(key)]

    def admit(self, key: str | None) -> Sequence[Rate]:
        """The rate limits that a piece without a connection counts for.

        Raises `RateLimited` until the tokens of earlier pieces are paid off, because a request does not wait its turn.
        """
        found = self._of_key(key)
        for rate in found:
            if owed := rate.owed:
                raise RateLimited(
                    f"The streams of this key may have {rate.rate:g} tokens a second (setting stream_key_rate).",
                    retry_after=owed,
                )
        return found

    def _of_key(self, key: str | None) -> list[KeyPace]:
        rate = self.settings.stream_key_rate
        return [KeyPace(key, rate, self._buckets)] if rate and key is not None else []

    def _of(self, model: Model) -> _Steps:
        steps = self._steps.get(model)
        if steps is None:
            stepper = Stepper(model.engine.network)
            seconds, of = model.seconds_per_token * STEP_COST, (model.name, model.version)
            lane = Lane(self._batcher, stepper.run, seconds, STEP_ROW_SECONDS, of)
            steps = self._steps[model] = _Steps(stepper, lane)
        return steps


def _settle(future: asyncio.Future[Stepped | None], outcome: StepOutcome) -> None:
    if future.done():  # its stream was given up
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def owner_of(model: Model) -> Owner:
    """The owner of the states of a model's streams."""
    return Owner(model.name, model.version, model.bundle.digest)


def forward_models(models: Sequence[Model]) -> list[str]:
    """The names of the models that can read a text as it comes, sorted."""
    return sorted({model.name for model in models if model.bundle.manifest.reads_forward})
