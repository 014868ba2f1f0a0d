"""Where batches run: short ones in the event loop, all others in a thread. With a model that ships."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from service.inference import encode
from service.model import Model
from service.runtime import Phase, Runtime
from service.settings import Settings

MODELS = Path(__file__).resolve().parents[2] / "models"


def with_model(work: Callable[[Runtime, Model], Awaitable[None]]) -> None:
    """Run something against a started runtime."""

    async def main() -> None:
        runtime = Runtime(Settings(models=MODELS, threads=2))
        await runtime.start()
        while runtime.phase is Phase.LOADING:
            assert runtime.failure is None
            await asyncio.sleep(0.01)
        try:
            await work(runtime, runtime.model("sentiment-bilstm", None))
        finally:
            await runtime.close()

    asyncio.run(main())


async def predict(runtime: Runtime, model: Model, *texts: str) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    await runtime.inference.predict(model, encode(model, texts, False, str), deadline=deadline)


def test_a_short_batch_runs_in_the_event_loop() -> None:
    async def work(runtime: Runtime, model: Model) -> None:
        await predict(runtime, model, "A good film .")
        assert (runtime.batcher.counters.inline_batches, runtime.batcher.counters.batches) == (1, 1)

    with_model(work)


def test_no_long_batch_runs_in_the_event_loop() -> None:
    async def work(runtime: Runtime, model: Model) -> None:
        await predict(runtime, model, *["Ada lived in London . " * 100] * 32)
        assert runtime.batcher.counters.batches >= 4
        assert runtime.batcher.counters.inline_batches == 0

    with_model(work)
