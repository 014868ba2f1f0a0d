"""Changes of what is served that outlive whoever asked for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service import settings
from service.errors import ModelNotFound
from service.model.bundle import Bundle
from service.model.loading import Model
from service.observability.metrics import Metrics
from service.rollout import Plan
from service.serving import runtime as runtimes
from service.serving.registry import Registry
from service.serving.runtime import Phase, Runtime
from service.serving.shared import Shared
from tests.patience import PATIENCE
from tests.service.serving.test_agreement import Memory
from tests.service.serving.test_registry import Loader, registry_of, write


class Patient(Loader):
    """Says that it has begun to load, and waits for a word to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, bundle: Bundle) -> Model:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        return super().__call__(bundle)


async def _until(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < limit
        await asyncio.sleep(0.005)


def test_a_load_whose_caller_has_gone_is_told_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        loader = Patient()
        runtime = Runtime(settings.read({"models": str(tmp_path), "admin": True}, _env_file=None))
        runtime._registry = registry_of(tmp_path, loader)
        runtime._registry.refresh()
        write(tmp_path, "late")
        caller = asyncio.create_task(runtime.load("late"))
        await _until(loader.begun.is_set)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        loader.go.set()
        await _until(lambda: runtime.phase is Phase.READY)
        board = runtime.metrics.board
        assert board.number("model_info", "late", "1", "sentiment", "lstm", "cpu").value == 1
        assert board.number("reloads_total", "loaded").value == 1
        await runtime.close()

    asyncio.run(main())


def _workers(folder: Path) -> list[tuple[Runtime, Registry]]:
    """Two that share their decisions, and look at them only when they are asked to change something themselves."""
    for content in "abc":
        write(folder, "one", content=content)
    memory, found = Memory(), []
    for worker in range(2):
        registry = registry_of(folder, Loader())
        registry.refresh()
        shared = Shared(2, Metrics(), registry, worker=worker, agreement=memory.open())
        runtime = Runtime(settings.read({"models": str(folder), "admin": True}, _env_file=None), shared)
        found.append((runtime, registry))
    return found


def _with_canary(plan: Plan) -> Plan:
    return replace(plan, canary={1: 0.25})


def _with_shadow(plan: Plan) -> Plan:
    return replace(plan, shadow=(2, 1.0))


@pytest.mark.parametrize("meanwhile", [False, True])
def test_changes_of_one_name_in_two_workers_are_both_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    monkeypatch.setattr(runtimes, "AGREE_SECONDS", 0.0)

    async def main() -> None:
        (one, first), (other, second) = _workers(tmp_path)
        asked = []

        def change(plan: Plan) -> Plan:
            asked.append(plan.shadow)
            if meanwhile and len(asked) == 1:  # another worker decides between the reading and the writing
                asyncio.run_coroutine_threadsafe(other.change("one", _with_shadow), loop).result(PATIENCE)
            return _with_canary(plan)

        loop = asyncio.get_running_loop()
        if not meanwhile:
            await other.change("one", _with_shadow)
        await one.change("one", change)
        assert asked == ([None, (2, 1.0)] if meanwhile else [(2, 1.0)])
        assert (first.plan("one").canary, first.plan("one").shadow) == ({1: 0.25}, (2, 1.0))
        await other.unload("one")
        with pytest.raises(ModelNotFound):
            await one.unload("one")
        await one.load("one", 2)
        await other.change("one", lambda plan: plan)
        assert second.plan("one") == first.plan("one"), "one decision after the other"
        assert (second.plan("one").canary, second.plan("one").shadow) == ({1: 0.25}, None), "2 is the shadow no more"
        for runtime in (one, other):
            await runtime.close()

    asyncio.run(main())
