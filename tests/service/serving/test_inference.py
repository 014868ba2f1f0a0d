"""What happens in the event loop and what in threads. With models that ship."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.http.app import create_app
from service.model.loading import Model
from service.serving.inference import Inference, encode
from service.serving.queueing import BatchRun
from service.serving.runtime import Phase, Runtime
from service.settings import Settings

MODELS = Path(__file__).resolve().parents[3] / "models"


async def loaded(runtime: Runtime) -> None:
    while runtime.phase is Phase.LOADING:
        assert runtime.failure is None
        await asyncio.sleep(0.01)


def with_model(work: Callable[[Runtime, Model], Awaitable[None]], **settings: Any) -> None:
    """Run something against a started runtime."""

    async def main() -> None:
        runtime = Runtime(Settings(models=MODELS, threads=2, **settings))
        await runtime.start()
        await loaded(runtime)
        try:
            await work(runtime, runtime.model("sentiment-bilstm", None))
        finally:
            await runtime.close()

    asyncio.run(main())


async def predict(runtime: Runtime, model: Model, *texts: str) -> None:
    deadline = asyncio.get_running_loop().time() + 60
    await runtime.inference.predict(model, encode(model, texts, False, str), deadline=deadline)


def reported(runtime: Runtime) -> list[BatchRun]:
    """A list that gets the report of every batch from now on."""
    reports: list[BatchRun] = []
    runtime.batcher.ran = reports.append
    return reports


def test_a_short_batch_runs_in_the_event_loop() -> None:
    async def work(runtime: Runtime, model: Model) -> None:
        reports = reported(runtime)
        await predict(runtime, model, "A good film .")
        assert (runtime.batcher.counters.inline_batches, len(reports)) == (1, 1)

    with_model(work, inline_ms=100)  # on a busy machine, too, a text of five tokens takes less


def test_no_long_batch_runs_in_the_event_loop() -> None:
    async def work(runtime: Runtime, model: Model) -> None:
        reports = reported(runtime)
        await predict(runtime, model, *["Ada lived in London . " * 100] * 32)
        assert len(reports) >= 4
        assert runtime.batcher.counters.inline_batches == 0

    with_model(work)


def test_room_is_looked_for_in_the_event_loop_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queues change with every turn of the loop: whoever counts them from a thread sees them half changed."""
    long = "Ada lived in London . " * 400
    asked: dict[str, Any] = {
        "/predict": {"inputs": [long] * 4},
        "/gates": {"inputs": [long], "units": [0]},
        "/models/sentiment-bilstm": {"inputs": [long] * 4},
        "/v2/models/sentiment-bilstm/infer": {
            "inputs": [{"name": "text", "shape": [4], "datatype": "BYTES", "data": [long] * 4}]
        },
    }
    looked: list[int] = []
    check = Inference.check_room

    def noted(self: Inference, model: Model, **options: bool) -> None:
        looked.append(threading.get_ident())
        check(self, model, **options)

    monkeypatch.setattr(Inference, "check_room", noted)

    async def main() -> None:
        app = create_app(Settings(models=MODELS, threads=2))
        async with app.router.lifespan_context(app):
            await loaded(app.state.runtime)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
                for path, content in asked.items():
                    response = await client.post(path, json=content)
                    assert response.status_code == 200, (path, response.text)

    asyncio.run(main())
    assert looked == [threading.get_ident()] * len(asked)
