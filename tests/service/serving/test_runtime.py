"""Changes of what is served that outlive whoever asked for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service import settings
from service.model.bundle import Bundle
from service.model.loading import Model
from service.serving.runtime import Phase, Runtime
from tests.patience import PATIENCE
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
