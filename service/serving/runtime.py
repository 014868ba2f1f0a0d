"""The running service, without HTTP: settings, models, batcher, threads, and the phase of its life that it is in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from enum import Enum, auto
from functools import partial
from typing import Any, TypeVar, get_args

import structlog

from service.cpus import usable_cpus
from service.errors import BundleRefused, Refused, StartupError, Unavailable
from service.model.bundle import Score, Task
from service.observability import logs
from service.observability.metrics import Metrics
from service.rollout import Plan
from service.serving.afterwards import Afterwards
from service.serving.agreement import LOOK_SECONDS
from service.serving.batching import Batcher, Drop
from service.serving.exchange import Exchange
from service.serving.inference import Inference
from service.serving.limits import EdgeThreads, TraceNumbers
from service.serving.queueing import Ran
from service.serving.registry import Changes, Entry, Model, Registry, open_registry
from service.serving.sampling import Sampler
from service.serving.served import Served
from service.serving.shared import Shared
from service.serving.streams import Streams
from service.settings import Settings

INLINE_SECONDS = 0.0015
"""Work at the edge (parsing, tokenising, building an answer) that is expected to take longer leaves the event loop."""
EDGE_THREADS = 2
"""For that work. It holds Python's lock for the most part, so more of them would gain nothing."""
RETRY_WHILE_LOADING = 2.0
AGREE_SECONDS = 5.0
"""For which a change that one worker was asked for waits until the others have followed."""
MAIN_METRICS = ("accuracy", "f1")
"""What `/metrics` says of a model's quality; in full all that its manifest says."""
REFUSALS = (Refused.FULL, Refused.CLOSED, Refused.DEADLINE)
"""Those that the batcher counts."""
DROPS: tuple[Drop, ...] = get_args(Drop)

_Value = TypeVar("_Value")
_log = structlog.get_logger()


class Phase(Enum):
    """Where in its life the service is. Ready is said in READY alone, and requests are taken until STOPPING."""

    LOADING = auto()
    READY = auto()
    DRAINING = auto()
    STOPPING = auto()


_LEAVING = (Phase.DRAINING, Phase.STOPPING)


class Runtime:
    """Everything that requests share. Made without a running event loop, started and closed within one."""

    def __init__(self, settings: Settings, shared: Shared | None = None) -> None:
        self.settings = settings
        self.metrics = shared.metrics if shared is not None else Metrics()
        self.metrics.full = settings.full_metrics
        self._workers = shared.workers if shared is not None else 1
        self._replaces = shared is not None and shared.replaces
        self._looked = asyncio.Event()
        """Whether the models folder has been looked at."""
        self._asked = asyncio.Event()
        """Whether it is to be looked at now."""
        self._supervised = shared is not None and shared.registry is not None
        """Whether a supervisor asks, which looks itself first."""
        self.phase = Phase.LOADING
        self._loads = shared is None or shared.loads
        self.failure: StartupError | None = None
        """Why the service cannot go on, once it is known: whoever runs the process has to end it."""
        threads = settings.threads or max(1, usable_cpus() // self._workers)
        self.batcher = Batcher(
            threads=threads,
            token_budget=settings.batch_tokens,
            max_rows=settings.batch_rows,
            max_queued_tokens=settings.queue_tokens,
            inline_seconds=settings.inline_ms / 1000,
            large_tokens=settings.large_tokens,
            large_share=settings.large_share,
            lane_share=settings.model_share,
            ran=self._note_batch,
        )
        self._track()
        self._registry = shared.registry if shared is not None else None
        self.sampler = Sampler(self.metrics, settings.gate_sample, self._served)
        self.after = Afterwards(settings, shared, self.metrics, lambda: self.batcher.busy, self.sampler)
        self.inference = Inference(self.batcher, self.sampler.offer)
        self.streams = Streams(settings, self.batcher, self.metrics)
        self._edge = EdgeThreads(EDGE_THREADS, settings.edge_seconds)
        self._traces = TraceNumbers(settings.trace_numbers)
        self._agreement = shared.agreement if shared is not None else None
        self._worker = shared.worker if shared is not None else 0
        self._loader: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        """Under way, at somebody's word; the event loop itself keeps no task alive."""

    @property
    def leaving(self) -> bool:
        """True if every answer has to close its connection: the next request is another process's."""
        return not self._loads or self.phase in _LEAVING

    def _served(self) -> Iterable[Model]:
        """Every version of every model that is loaded."""
        return self._registry.every if self._registry is not None else ()

    @property
    def registry(self) -> Registry:
        """The models. Raises `Unavailable` while none is loaded."""
        registry = self._registry
        if registry is None or not registry.models:
            why = "No model is loaded." if registry is not None else "The models are loading."
            raise Unavailable(why, retry_after=RETRY_WHILE_LOADING, reason=Refused.NO_MODEL)
        return registry

    def model(self, name: str | None, task: Task | None, version: str | None = None, key: str | None = None) -> Model:
        """The model that a request means; `key` chooses between the stable version and its canaries where none is
        named. Raises `ModelNotFound`, `VersionNotFound`, `InvalidField` or `Unavailable`."""
        return self.registry.get(name, task, version, key)

    def note_answer(self, exchange: Exchange) -> None:
        """A request was answered. To be called in the event loop, once the answer is out."""
        served = self._registry.served.get(exchange.model.name) if self._registry is not None else None
        self.after.note(exchange, served)

    def plan(self, name: str) -> Plan:
        """How the versions of a model are wanted now. Raises `Unavailable` before the first load."""
        if self._registry is None:
            raise Unavailable("The models are loading.", retry_after=RETRY_WHILE_LOADING)
        return self._registry.plan(name)

    def shadow_report(self, name: str) -> dict[str, Any]:
        """How a model's shadow does: `Shadowing.report`. Raises `ModelNotFound`, `NoShadow` or `Unavailable`."""
        return self.after.shadowing.report(self.registry.find(name))

    def look(self) -> None:
        """Have the models folder looked at, after the look that is under way. Asking again before changes nothing."""
        self._asked.set()

    async def load(self, name: str, version: int | None = None) -> Model:
        """Load a version from the models folder, the highest where none is given, and serve it: `Registry.load`."""

        async def load() -> Model:
            try:
                model = await self._change(lambda registry: registry.load(name, version))
            except BundleRefused:
                self._count_reloads("refused")
                raise
            self._count_reloads("loaded")
            self._note_ready()
            await self._tell(name)
            return model

        return await self._to_its_end(load())

    async def change(self, name: str, plan: Plan) -> Served:
        """Serve a model's versions, canaries and shadow as a plan says, in every worker: `Registry.change`."""

        async def change() -> Served:
            served = await self._change(lambda registry: registry.change(name, plan))
            _log.info("versions changed", model=name, **plan.plain())
            self._note_ready()
            await self._tell(name)
            return served

        return await self._to_its_end(change())

    async def unload(self, name: str) -> None:
        """Serve a model no more; requests that have it finish: `Registry.unload`."""

        async def unload() -> None:
            await self._change(lambda registry: registry.unload(name))
            self._count_reloads("retired")
            await self._tell(name)

        await self._to_its_end(unload())

    async def _tell(self, name: str) -> None:
        """Have every worker do as was decided here, and wait for them for at most `AGREE_SECONDS`."""
        agreement, registry = self._agreement, self._registry
        if agreement is None or registry is None:
            return
        number = agreement.decide(name, registry.decision(name))
        registry.note_followed(name, number)
        loop = asyncio.get_running_loop()
        limit = loop.time() + AGREE_SECONDS
        # Nothing tells of a change in another process's memory.
        while (behind := agreement.behind(number)) and loop.time() < limit:  # noqa: ASYNC110
            await asyncio.sleep(AGREE_SECONDS / 500)
        if behind:
            _log.warning("workers have not followed a change yet", model=name, workers=list(behind))

    async def _follow(self) -> None:
        """Do as other workers decide, for as long as this one runs."""
        assert self._agreement is not None
        number = 0
        while True:
            if self._agreement.number != number:
                number, decisions = self._agreement.read()
                try:
                    await self._change(partial(Registry.follow, decisions=decisions))
                except Exception:  # whatever a folder on disk brings about, the models in memory go on
                    _log.exception("a change was not followed")
                self._note_ready()
            self._agreement.note_followed(self._worker, number)
            await asyncio.sleep(LOOK_SECONDS)

    async def _to_its_end(self, change: Coroutine[Any, Any, _Value]) -> _Value:
        """Await a change that goes on when whoever asked for it hangs up or meets a deadline: its thread does too, and
        what it has changed has to be told."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def index(self) -> list[Entry]:
        """Every version in the models folder, and whether it is served."""
        registry = self._registry
        return await asyncio.to_thread(registry.index) if registry is not None else []

    async def _change(self, change: Callable[[Registry], _Value]) -> _Value:
        """Change what is served, in a thread, one change at a time. Raises `Unavailable` before the first load."""
        registry = self._registry
        if registry is None:
            raise Unavailable("The models are loading.", retry_after=RETRY_WHILE_LOADING, reason=Refused.NO_MODEL)
        async with self._changing:
            try:
                return await asyncio.to_thread(change, registry)
            finally:
                self._show_models()

    def check_ready(self) -> None:
        """Raises `Unavailable` unless requests are welcome."""
        if self.phase in (Phase.DRAINING, Phase.STOPPING):
            raise Unavailable("The service is shutting down.")
        _ = self.registry

    def check_open(self) -> None:
        """Raises `Unavailable` where a request would be refused anyway: before its body is read."""
        _ = self.registry
        self.batcher.check_room()

    async def offload(self, seconds: float, work: Callable[[], _Value], *, begins: bool = False) -> _Value:
        """Do work here when it is expected to be short, else in a thread. With what begins a request, `Unavailable` is
        raised when too much waits for the threads: `EdgeThreads.run`."""
        if seconds < INLINE_SECONDS:
            return work()
        return await self._edge.run(seconds, work, begins=begins)

    def hold_trace(self, numbers: int) -> AbstractContextManager[None]:
        """Within it a trace of so many numbers is under way. Raises `Unavailable` where there are too many already."""
        return self._traces.hold(numbers, lambda: self.batcher.queued_seconds)

    async def start(self) -> None:
        """Begin to load models, and go on looking for new ones when asked to, or at the settings' interval.

        Returns at once, so that the service can say that it is loading; one that takes another's place waits for them.
        """
        if not self._loads:
            return
        self.after.start()
        self._loader = asyncio.create_task(self._keep_loaded())
        if self._replaces:
            await self._looked.wait()

    async def close(self) -> None:
        """Finish what was accepted, and end the threads."""
        self.phase = Phase.STOPPING
        for task in (self._follower, self._loader):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self.sampler.close()
        await self.batcher.close()
        await self.after.close()
        self._edge.close()

    def _track(self) -> None:
        """Have the numbers of `/metrics` read that are kept anyway."""
        board, counters = self.metrics.board, self.batcher.counters
        board.track("queued_tokens", read=lambda: self.batcher.queued_tokens)
        board.track("queued_edge_seconds", read=lambda: self._edge.seconds)
        board.track("trace_numbers", read=lambda: self._traces.held)
        board.track("inline_batches_total", read=lambda: counters.inline_batches)
        board.track("failed_batches_total", read=lambda: counters.failed_batches)
        for refusal in REFUSALS:
            board.track("refusals_total", refusal.value, read=partial(counters.refused.__getitem__, refusal))
        for reason in DROPS:
            board.track("dropped_inputs_total", reason, read=partial(counters.dropped.__getitem__, reason))
        board.track("log_failures_total", read=logs.lost)
        board.track("workers", read=lambda: self._loads)
        board.track("threads", read=lambda: self.batcher.threads if self._loads else 0)
        board.track("ready", read=lambda: self.phase is Phase.READY)

    def _note_batch(self, ran: Ran) -> None:
        self.metrics.batch(ran.rows, ran.tokens, ran.padded_tokens, ran.waits, ran.seconds)
        if isinstance(ran.of, tuple):
            self.metrics.model_batch(ran.of, ran.rows, sum(ran.waits), ran.seconds)

    def _note_changes(self, changes: Changes) -> None:
        for outcome, count in changes.counts.items():
            self._count_reloads(outcome, count)

    def _count_reloads(self, outcome: str, count: int = 1) -> None:
        self.metrics.board.number("reloads_total", outcome).add(count)

    def _show_models(self) -> None:
        """Say in `/metrics` which models are served."""
        board = self.metrics.board
        board.clear_gauges("model_info", "model_quality", "model_share")
        for served in self._registry.served.values() if self._registry is not None else ():
            for model in served.versions.values() if len(served.versions) > 1 else ():
                board.number("model_share", model.name, model.version).set(served.share(model))
        for model in self._served():
            manifest = model.bundle.manifest
            labels = (model.name, model.version, manifest.task, manifest.cell, model.engine.provider)
            board.number("model_info", *labels).set(1)
            for score in manifest.quality if self.metrics.full else _main_score(manifest.quality):
                board.number("model_quality", model.name, model.version, score.data, score.metric).set(score.value)

    async def _keep_loaded(self) -> None:
        try:
            await self._first_look()
        except StartupError as error:
            self.failure = error
            return
        finally:
            self._looked.set()
        self._show_models()
        if self._agreement is not None and self.settings.admin:
            _, decisions = self._agreement.read()
            if decisions:
                await self._change(partial(Registry.follow, decisions=decisions))
            self._follower = asyncio.create_task(self._follow())
        self._note_ready()
        interval = None if self._supervised else self.settings.reload or None
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), interval)
            asked = self._asked.is_set()
            self._asked.clear()
            changes = await self._reload()
            if asked and changes is not None and not self._supervised:
                _log.info("models reloaded", **changes.counts)

    async def _first_look(self) -> None:
        """Have models: those that this process was forked with and, in another's place, what came since; or its own."""
        if self._registry is None:
            self._registry, changes = await asyncio.to_thread(open_registry, self.settings)
            self._note_changes(changes)
        elif self._replaces and self.settings.reload:
            for _ in range(2):  # the second look retires what the first did not find
                await self._reload()

    async def _reload(self) -> Changes | None:
        changes = None
        try:
            changes = await self._change(lambda registry: registry.refresh())
        except Exception:  # whatever a folder on disk brings about, the models in memory go on
            self._count_reloads("failed")
            _log.exception("looking for new models failed")
        else:
            self._note_changes(changes)
        self._note_ready()
        return changes

    def _note_ready(self) -> None:
        if self.phase is Phase.LOADING and self._registry is not None and self._registry.models:
            self.phase = Phase.READY
            cpus = {"cpus": usable_cpus(), "workers": self._workers, "threads": self.batcher.threads}
            _log.info("ready", models=sorted(self._registry.models), **cpus)


def _main_score(scores: Iterable[Score]) -> list[Score]:
    """Accuracy, or F1 of entities, on the first data set of a manifest."""
    return [score for score in scores if score.metric in MAIN_METRICS][:1]
