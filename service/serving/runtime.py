"""The running service without HTTP: settings, models, batcher, threads, and its current phase."""

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
from service.errors import BundleRefused, ModelNotFound, Refusal, StartupError, Unavailable
from service.model.bundle import Score, Task
from service.observability import logs
from service.rollout import Plan
from service.serving.afterwards import Afterwards
from service.serving.batching import Batcher, Drop
from service.serving.decisions import LOOK_SECONDS, Decision
from service.serving.inference import Inference
from service.serving.limits import EdgeThreads, TraceNumbers
from service.serving.opening import Opening
from service.serving.queueing import BatchRun
from service.serving.registry import Changes, IndexEntry, Model, Registry
from service.serving.sampling import Sampler
from service.serving.served import UNLOADED, Served
from service.serving.shared import Shared
from service.serving.streams import Streams
from service.settings import Settings

INLINE_SECONDS = 0.0015
"""Work at the edge (parsing, tokenising, building an answer) with a longer expected duration leaves the event loop."""
EDGE_THREADS = 2
"""Threads for that work. It holds Python's lock most of the time, so more threads would gain nothing."""
RETRY_WHILE_LOADING = 2.0
AGREE_SECONDS = 5.0
"""A change requested from one worker waits this long for all to follow."""
FOLLOW_AGAIN_SECONDS = 1.0
"""Interval between two tries of a worker to follow a decision, after an error that is no broken bundle."""
MAIN_METRICS = ("accuracy", "f1")
"""Metrics of a model's quality in `/metrics`. With full metrics, all of its manifest."""
REFUSALS = (Refusal.FULL, Refusal.CLOSED, Refusal.DEADLINE)
"""Rejections that the batcher counts."""
DROPS: tuple[Drop, ...] = get_args(Drop)

_Value = TypeVar("_Value")
_log = structlog.get_logger()


class Phase(Enum):
    """The phase of the service's life. It reports ready only in READY, and accepts requests until STOPPING."""

    LOADING = auto()
    READY = auto()
    DRAINING = auto()
    STOPPING = auto()


_LEAVING = (Phase.DRAINING, Phase.STOPPING)


class Runtime:
    """The state that requests share. Made without a running event loop, started and closed within one."""

    def __init__(self, settings: Settings, shared: Shared | None = None, opening: Opening | None = None) -> None:
        shared = shared or Shared()
        self.settings = settings
        self._opening = opening
        self.metrics = shared.metrics
        self.metrics.full = settings.full_metrics
        self._workers = shared.workers
        self._replaces = shared.replaces
        self._looked = asyncio.Event()
        """Set after the first look at the models folder and at the decisions of other workers."""
        self._asked = asyncio.Event()
        """Set to request a look now."""
        self._supervised = shared.registry is not None
        """True if a supervisor requests looks; it looks first itself."""
        self.phase = Phase.LOADING
        self._loads = shared.loads
        self.failure: StartupError | None = None
        """The reason why the service cannot go on. The process then ends."""
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
            ran=lambda ran: self.metrics.later(partial(self._count_batch, ran)),
        )
        self._track()
        self._registry = shared.registry
        self.sampler = Sampler(self.metrics, settings.gate_sample, self._served)
        self.after = Afterwards(settings, shared, lambda: self.batcher.busy, self.sampler)
        self.inference = Inference(self.batcher, self.sampler.offer)
        self.streams = Streams(settings, self.batcher, self.metrics, shared.rates)
        self._edge = EdgeThreads(EDGE_THREADS, settings.edge_seconds)
        self._traces = TraceNumbers(settings.trace_numbers)
        self._decisions = shared.decisions if settings.admin else None
        self._worker = shared.worker
        self._seen = 0
        """The number of the last decision that this worker has read."""
        self._loader: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        """Changes in progress. The event loop itself keeps no task alive."""

    @property
    def leaving(self) -> bool:
        """True if every answer must close its connection because another process takes the next request."""
        return not self._loads or self.phase in _LEAVING

    def _served(self) -> Iterable[Model]:
        """Every version of every loaded model."""
        return self._registry.every if self._registry is not None else ()

    @property
    def registry(self) -> Registry:
        """The models. Raises `Unavailable` if none is loaded."""
        registry = self._registry
        if registry is None or not registry.models:
            why = "No model is loaded." if registry is not None else "The models are loading."
            raise Unavailable(why, retry_after=RETRY_WHILE_LOADING, reason=Refusal.NO_MODEL)
        return registry

    def model(self, name: str | None, task: Task | None, version: str | None = None, key: str | None = None) -> Model:
        """The model for a request. Without a version, `key` chooses between the stable one and its canaries. Raises
        `ModelNotFound`, `VersionNotFound`, `InvalidField` or `Unavailable`."""
        return self.registry.get(name, task, version, key)

    def versions_of(self, model: Model) -> Served | None:
        """The current versions of an answered request's model; None if its name is no longer served."""
        return self._registry.served.get(model.name) if self._registry is not None else None

    def look(self) -> None:
        """Request a look at the models folder. It follows the current look; repeated requests become one."""
        self._asked.set()

    async def load(self, name: str, version: int | None = None) -> Model:
        """Load a version from the models folder, by default the highest, and serve it: `Registry.load`."""

        async def load() -> Model:
            try:
                model, decision = await self._decide(name, lambda registry: registry.load(name, version))
            except BundleRefused:
                self._count_reloads("refused")
                raise
            self._count_reloads("loaded")
            self._note_ready()
            await self._wait_for_others(name, decision)
            return model

        return await self._to_its_end(load())

    async def change(self, name: str, changed: Callable[[Plan], Plan]) -> Served:
        """Serve a model's versions, canaries and shadow by another plan, in every worker (`Registry.change`).

        `changed` takes the current plan and returns the new one. It is called again if another worker has changed the
        plan meanwhile, so it must have no side effects.
        """

        async def change() -> Served:
            served, decision = await self._decide(
                name, lambda registry: registry.change(name, changed(registry.plan(name)))
            )
            _log.info("versions changed", model=name, **self.registry.plan(name).plain())
            self._note_ready()
            await self._wait_for_others(name, decision)
            return served

        return await self._to_its_end(change())

    async def unload(self, name: str) -> None:
        """Stop serving a model; its current requests finish: `Registry.unload`."""

        async def unload() -> None:
            try:
                _, decision = await self._decide(name, lambda registry: registry.unload(name))
            except ModelNotFound:
                # Sent again: it is unloaded here, and waits for the workers that were behind.
                decisions, registry = self._decisions, self._registry
                decision = decisions.last(name) if decisions is not None else None
                if decisions is None or registry is None or decision is None:
                    raise
                if registry.decision(name)["pin"] != UNLOADED or not decisions.behind(decision):
                    raise
            else:
                self._count_reloads("retired")
            await self._wait_for_others(name, decision)

        await self._to_its_end(unload())

    async def _decide(self, name: str, change: Callable[[Registry], _Value]) -> tuple[_Value, Decision | None]:
        """Change the served versions of a name, after the decisions of other workers. Returns the result of `change`,
        and the decision if other workers have to follow it."""
        decisions = self._decisions
        if decisions is None:
            return await self._change(change), None

        def decide(registry: Registry) -> tuple[_Value, Decision]:
            while True:  # each turn after the first follows a decision that another worker has made meanwhile
                last, latest = decisions.read()
                registry.follow(latest)
                changed = change(registry)
                decision = decisions.decide(name, registry.decision(name), last)
                if decision is not None:
                    registry.note_followed(name, decision.number)
                    return changed, decision

        return await self._change(decide)

    async def _wait_for_others(self, name: str, decision: Decision | None) -> None:
        """Wait until every worker has followed a decision. Raises `Unavailable` after `AGREE_SECONDS`."""
        decisions = self._decisions
        if decisions is None or decision is None:
            return
        loop = asyncio.get_running_loop()
        limit = loop.time() + AGREE_SECONDS
        # Another process's memory has no event to wait for.
        while (behind := decisions.behind(decision)) and loop.time() < limit:  # noqa: ASYNC110  # other processes tell by shared memory only
            await asyncio.sleep(AGREE_SECONDS / 500)
        if behind:
            _log.warning("workers have not followed a change yet", model=name, workers=list(behind))
            raise Unavailable(
                f"The change of {name!r} is made, but {len(behind)} of {decisions.workers} workers have not followed "
                f"it within {AGREE_SECONDS:g} s: {', '.join(map(str, behind))}. The log says why. Send it again to try "
                "again.",
                retry_after=FOLLOW_AGAIN_SECONDS,
            )

    async def _follow(self) -> None:
        """Follow the decisions of other workers until this one ends."""
        while True:
            pause = LOOK_SECONDS if await self._catch_up() else FOLLOW_AGAIN_SECONDS
            await asyncio.sleep(pause)

    async def _catch_up(self) -> bool:
        """Follow the decisions since the last call. Returns False after an error that is no broken bundle."""
        decisions = self._decisions
        assert decisions is not None
        if decisions.number != self._seen:
            number, latest = decisions.read()
            try:
                lacking = await self._change(partial(Registry.follow, decisions=latest))
            except Exception:  # a bad folder on disk must not take down the loaded models
                _log.exception("a change was not followed")
                return False
            # Told once. The next decision on any name tries them again.
            missed = sorted(name for name in lacking if latest[name]["number"] > self._seen)
            if missed:
                _log.error("a change was not followed", models=missed)
            decisions.note_followed(self._worker, (each for name, each in latest.items() if name not in lacking))
            self._seen = number
            self._note_ready()
        return True

    async def _to_its_end(self, change: Coroutine[Any, Any, _Value]) -> _Value:
        """Await a change that continues if its requester hangs up or reaches a deadline. Its thread cannot be stopped,
        and the other workers must hear of the change."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def index(self) -> list[IndexEntry]:
        """Every version in the models folder, and whether it is served."""
        registry = self._registry
        return await asyncio.to_thread(registry.index) if registry is not None else []

    async def _change(self, change: Callable[[Registry], _Value]) -> _Value:
        """Change the served models in a thread, one change at a time. Raises `Unavailable` before the first load."""
        registry = self._registry
        if registry is None:
            raise Unavailable("The models are loading.", retry_after=RETRY_WHILE_LOADING, reason=Refusal.NO_MODEL)
        async with self._changing:
            try:
                return await asyncio.to_thread(change, registry)
            finally:
                self._show_models()

    def check_ready(self) -> None:
        """Raises `Unavailable` unless the service is ready."""
        if self.phase in _LEAVING:
            raise Unavailable("The service is shutting down.")
        _ = self.registry

    def check_open(self) -> None:
        """Raises `Unavailable` if a request would be rejected anyway. Saves reading its body."""
        _ = self.registry
        self.batcher.admission.check_room()

    async def offload(self, seconds: float, work: Callable[[], _Value], *, begins: bool = False) -> _Value:
        """Run short work here and long work in a thread. Raises `Unavailable` if the work `begins` a request and too
        much waits: `EdgeThreads.run`."""
        if seconds < INLINE_SECONDS:
            return work()
        return await self._edge.run(seconds, work, begins=begins)

    def hold_trace(self, numbers: int) -> AbstractContextManager[None]:
        """Count a trace of `numbers` numbers while the block runs. Raises `Unavailable` if there are too many."""
        return self._traces.hold(numbers, lambda: self.batcher.admission.queued_seconds)

    async def start(self) -> None:
        """Begin to load models. Afterwards look for new ones on request and at the interval of the settings.

        Returns at once, so that the service can report that it is loading. A worker that replaces another waits for its
        models.
        """
        if not self._loads:
            return
        self.after.start()
        self._loader = asyncio.create_task(self._keep_loaded())
        if self._replaces:
            await self._looked.wait()

    async def close(self) -> None:
        """Finish the accepted requests and end the threads."""
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
        """Register values that `/metrics` reads when asked."""
        board, counters = self.metrics.board, self.batcher.counters
        board.track("queued_tokens", read=lambda: self.batcher.admission.queued_tokens)
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

    def _count_batch(self, ran: BatchRun) -> None:
        self.metrics.batch(ran.rows, ran.tokens, ran.padded_tokens, ran.waits, ran.seconds)
        if isinstance(ran.of, tuple):
            self.metrics.model_batch(ran.of, ran.rows, sum(ran.waits), ran.seconds)

    def _note_changes(self, changes: Changes) -> None:
        for outcome, count in changes.counts.items():
            self._count_reloads(outcome, count)

    def _count_reloads(self, outcome: str, count: int = 1) -> None:
        self.metrics.board.number("reloads_total", outcome).add(count)

    def _show_models(self) -> None:
        """Show the served models in `/metrics`."""
        board = self.metrics.board
        board.clear_gauges("model_info", "model_quality", "model_share")
        for served in self._registry.served.values() if self._registry is not None else ():
            for model in served.versions.values() if len(served.versions) > 1 else ():
                board.number("model_share", model.name, model.version).set(served.share(model))
        for model in self._served():
            manifest = model.bundle.manifest
            self.metrics.judge((model.name, model.version), model.bundle.digest)
            labels = (model.name, model.version, manifest.task, manifest.cell, model.engine.provider)
            board.number("model_info", *labels).set(1)
            for score in manifest.quality if self.metrics.full else _main_score(manifest.quality):
                board.number("model_quality", model.name, model.version, score.data, score.metric).set(score.value)

    async def _keep_loaded(self) -> None:
        try:
            await self._first_look()
            if self._decisions is not None:
                self._decisions.note_begun(self._worker)
                await self._catch_up()
        except StartupError as error:
            self.failure = error
            return
        finally:
            self._looked.set()
        self._show_models()
        if self._decisions is not None:
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
        """Get models: those from before the fork, refreshed if this worker replaces another; otherwise load them."""
        if self._registry is None:
            self._registry, changes = await (self._opening or Opening(self.settings)).registry()
            self._opening = None  # it holds what the first look found
            self._note_changes(changes)
        elif self._replaces and self.settings.reload:
            await self._reload()

    async def _reload(self) -> Changes | None:
        changes = None
        try:
            changes = await self._change(lambda registry: registry.refresh())
        except Exception:  # a bad folder on disk must not take down the loaded models
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
