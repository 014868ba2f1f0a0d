"""Changes of what is served that outlive whoever asked for them."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service import settings
from service.errors import ModelNotFound, Unavailable
from service.model.bundle import Bundle
from service.model.loading import Model
from service.observability.metrics import Metrics
from service.process.supervisor import Supervisor
from service.rollout import Plan
from service.serving import runtime as runtimes
from service.serving.bundle_store import RefusedVersion
from service.serving.decisions import Decisions
from service.serving.registry import Registry
from service.serving.runtime import Phase, Runtime
from service.serving.shared import Shared
from tests.patience import PATIENCE
from tests.service.serving.test_decisions import Memory
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


def _serve_nothing(asked: settings.Settings, listeners: Sequence[socket.socket], shared: Shared) -> int:
    """The work of a worker that is not started."""
    return 0


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
        shared = Shared(2, Metrics(), registry, worker=worker, decisions=memory.open())
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
    monkeypatch.setattr(Decisions, "behind", lambda *_: [])  # they follow when they change something themselves

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


async def _while_they_follow(workers: list[tuple[Runtime, Registry]], work: Callable[[], Awaitable[None]]) -> None:
    followers = [asyncio.create_task(runtime._follow()) for runtime, _ in workers]
    try:
        await work()
    finally:
        for each in followers:
            each.cancel()
        for runtime, _ in workers:
            await runtime.close()


def test_a_change_is_answered_with_an_error_while_a_worker_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "AGREE_SECONDS", 0.5)
    said = r"^The change of 'one' is made, but 1 of 2 workers have not followed it within 0\.5 s: 1\. The log says why"

    async def main() -> None:
        workers = _workers(tmp_path)
        (one, first), (_, second) = workers
        store = second._store

        async def work() -> None:
            with monkeypatch.context() as broken:  # its own copy of the version went bad
                bad = RefusedVersion("one", 1, "it is broken here")
                get = store.get
                broken.setattr(store, "get", lambda *of: bad if of[1] == 1 else get(*of))
                for change in (lambda: one.change("one", _with_canary), lambda: one.load("one", 1)):
                    with capture_logs() as logged, pytest.raises(Unavailable, match=said) as error:
                        await change()
                    assert error.value.retry_after
                    assert [each["models"] for each in logged if each["event"] == "a change was not followed"] == [
                        ["one"]
                    ]
            assert first.models["one"].version == "1"
            await one.load("one", 2)  # both can follow the next one
            assert {each.models["one"].version for each in (first, second)} == {"2"}
            await one.load("one", 1)
            await one.unload("one")
            assert "one" not in second.models

        await _while_they_follow(workers, work)

    asyncio.run(main())


def test_an_unload_sent_again_waits_for_the_workers_that_are_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "AGREE_SECONDS", 0.2)

    async def main() -> None:
        workers = _workers(tmp_path)
        (one, _), (_, second) = workers
        for _ in range(2):
            with pytest.raises(Unavailable, match="2 of 2 workers have not followed"):
                await one.unload("one")
        with pytest.raises(ModelNotFound):
            await one.unload("two")  # it never was there

        behind, first = Decisions.behind, iter([[1]])

        async def work() -> None:
            monkeypatch.setattr(runtimes, "AGREE_SECONDS", PATIENCE)
            monkeypatch.setattr(Decisions, "behind", lambda *of: next(first, None) or behind(*of))
            await one.unload("one")
            assert "one" not in second.models
            with pytest.raises(ModelNotFound):
                await one.unload("one")

        await _while_they_follow(workers, work)

    asyncio.run(main())


def test_a_decision_that_was_not_followed_is_told_beside_a_change_of_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "AGREE_SECONDS", 0.2)
    write(tmp_path, "two", content="d")

    async def main() -> None:
        workers = _workers(tmp_path)
        (one, _), (other, second) = workers
        get = second._store.get
        bad = RefusedVersion("one", 1, "it is broken here")
        monkeypatch.setattr(second._store, "get", lambda *of: bad if of[:2] == ("one", 1) else get(*of))
        with pytest.raises(Unavailable):  # nobody looks yet
            await one.load("one", 1)
        with pytest.raises(Unavailable):  # reads the decision on the other name before it changes this one
            await other.unload("two")

        with capture_logs() as logged:

            async def work() -> None:
                await _until(lambda: any(each["event"] == "a change was not followed" for each in logged))

            await _while_they_follow(workers, work)
        assert [each["models"] for each in logged if each["event"] == "a change was not followed"] == [["one"]]

    asyncio.run(main())


@pytest.mark.parametrize("together", [True, False], ids=["in one look", "one after the other"])
def test_a_change_waits_for_the_workers_that_lack_its_own_name_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    monkeypatch.setattr(runtimes, "AGREE_SECONDS", PATIENCE)
    write(tmp_path, "two", content="d")
    asked: list[Any] = []
    behind = Decisions.behind

    def asking(*of: Any) -> Any:
        asked.append(of)
        return behind(*of)

    monkeypatch.setattr(Decisions, "behind", asking)

    async def main() -> None:
        (one, _), (other, second) = _workers(tmp_path)
        decisions = one._decisions
        assert decisions is not None

        async def looked(number: int) -> None:
            await _until(lambda: decisions.number == number)
            for each in (one, other):
                await each._catch_up()

        with monkeypatch.context() as broken, capture_logs():
            get = second._store.get
            bad = RefusedVersion("one", 1, "it is broken here")
            broken.setattr(second._store, "get", lambda *of: bad if of[:2] == ("one", 1) else get(*of))
            lacked = asyncio.create_task(one.load("one", 1))
            await (_until(lambda: decisions.number == 1) if together else looked(1))
            followed = asyncio.create_task(one.unload("two"))
            await looked(2)
            await followed
            count = len(asked)
            await _until(lambda: lacked.done() or len(asked) > count)
            assert not lacked.done()
            assert second.models["one"].version == "3"
        again = asyncio.create_task(one.load("one", 1))
        await looked(3)
        await asyncio.gather(again, lacked)
        assert second.models["one"].version == "1"
        for runtime in (one, other):
            await runtime.close()

    asyncio.run(main())


@pytest.mark.parametrize("found", [True, False])
def test_a_worker_forked_from_a_supervisor_that_lacks_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    asked = settings.read({"models": str(tmp_path), "admin": True, "port": 0, "workers": 2}, _env_file=None)
    supervisor = Supervisor(asked, 2, _serve_nothing)
    for listener in supervisor._listeners:
        listener.close()
    decisions = supervisor._decisions
    registries = []
    write(tmp_path, "one", content="a")
    write(tmp_path, "one", content="b")
    for _ in range(2):
        registries.append(registry_of(tmp_path, Loader()))
        registries[-1].refresh()
    maker, supervisor._registry = registries
    maker.load("one", 1)
    decision = decisions.decide("one", maker.decision("one"), 0)
    assert decision is not None
    (tmp_path / "one" / "1").rename(tmp_path / "away")
    with capture_logs():
        supervisor._follow()
    assert supervisor._registry.models["one"].version == "2"
    if found:
        (tmp_path / "away").rename(tmp_path / "one" / "1")
    decisions.note_followed(0, decisions.read()[1].values())

    async def main() -> None:
        shared = Shared(2, Metrics(), supervisor._registry, replaces=True, worker=1, decisions=decisions)
        worker = Runtime(asked, shared)
        with capture_logs() as logged:
            await worker.start()
            missed = [each["models"] for each in logged if each["event"] == "a change was not followed"]
        assert (worker.model("one", None).version, missed) == (("1", []) if found else ("2", [["one"]]))
        assert decisions.behind(decision) == ([] if found else [1])
        await worker.close()

    asyncio.run(main())
    gc.unfreeze()


def test_a_worker_with_its_own_models_follows_before_it_answers(tmp_path: Path) -> None:
    async def main() -> None:
        (one, first), (other, _) = _workers(tmp_path)
        first.unload("one")
        assert one._decisions is not None
        one._decisions.decide("one", first.decision("one"), 0)
        other._replaces = True
        await other.start()
        with pytest.raises(Unavailable, match="No model is loaded"):
            _ = other.registry
        for runtime in (one, other):
            await runtime.close()

    asyncio.run(main())


def test_a_worker_whose_first_look_at_decisions_fails_serves_and_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "FOLLOW_AGAIN_SECONDS", 0.01)

    async def main() -> None:
        (one, first), (other, second) = _workers(tmp_path)
        follow, errors = other._change, [OSError("no thread")]

        def change(work: Callable[[Registry], Any]) -> Any:
            if errors:
                raise errors.pop()
            return follow(work)

        monkeypatch.setattr(other, "_change", change)
        first.load("one", 1)
        assert one._decisions is not None
        one._decisions.decide("one", first.decision("one"), 0)
        with capture_logs():
            await other.start()
            await _until(lambda: other.phase is Phase.READY and second.models["one"].version == "1")
        for runtime in (one, other):
            await runtime.close()

    asyncio.run(main())


def test_a_worker_that_met_an_error_follows_a_moment_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "AGREE_SECONDS", PATIENCE)
    monkeypatch.setattr(runtimes, "FOLLOW_AGAIN_SECONDS", 0.01)

    async def main() -> None:
        workers = _workers(tmp_path)
        (one, _), (other, second) = workers
        follow, errors = other._change, [OSError("no thread"), MemoryError()]

        def change(work: Callable[[Registry], Any]) -> Any:
            if errors:
                raise errors.pop()
            return follow(work)

        async def work() -> None:
            with capture_logs() as logged:
                await one.load("one", 1)
            assert [each["event"] for each in logged].count("a change was not followed") == 2
            assert second.models["one"].version == "1"

        monkeypatch.setattr(other, "_change", change)
        await _while_they_follow(workers, work)

    asyncio.run(main())
