"""What goes wrong around a service under load, in short; `make soak` is the long form."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from benchmarks.soak import Run, requests
from tests.integration.conftest import ROOT, Process, Start
from tests.integration.metrics import value
from tests.integration.together import together
from tests.patience import PATIENCE, until

CALLERS = 8


def under_load(service: Process, fault: Callable[[Run], object], callers: int = CALLERS) -> Counter[str]:
    """Load while something goes wrong, and for a second after it: what became of the requests, by kind."""

    async def play() -> Counter[str]:
        run = Run(int(service.url.rpartition(":")[2]), service.process.pid, 1, requests(32, longest=60))
        await run.learn()
        tasks = [asyncio.create_task(run.call(seed)) for seed in range(callers)]
        await asyncio.sleep(0.5)
        outcome = fault(run)
        if asyncio.iscoroutine(outcome):
            await outcome
        before = run.outcomes["right"]
        await asyncio.sleep(1)
        await asyncio.to_thread(until, lambda: run.outcomes["right"] > before)  # it goes on
        run.going = False
        await asyncio.gather(*tasks)
        return run.outcomes

    return asyncio.run(play())


def test_clients_that_reset_their_connections_harm_nobody_else(start: Start) -> None:
    service = start().until_ready()
    assert set(under_load(service, lambda run: run.reset_connections())) == {"right"}
    service.wait(lambda: value(service, "connections") <= 2)  # the client that waited until it was ready, and this one
    assert value(service, "queued_tokens") == 0
    assert "Traceback" not in service.output


def test_the_models_folder_is_deleted_and_comes_back(start: Start, repository: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(repository, models)
    service = start("--reload", "0.1", models=models).until_ready()
    served = value(service, "model_info", **_labels(service))

    async def delete(_: Run) -> None:
        """Until the service has looked for it, however slow it is."""
        copy = models.with_name("copy")
        await asyncio.to_thread(shutil.copytree, models, copy)
        await asyncio.to_thread(shutil.rmtree, models)
        await asyncio.to_thread(service.says, "cannot be read")
        copy.rename(models)

    assert set(under_load(service, delete)) == {"right"}
    assert value(service, "model_info", **_labels(service)) == served == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_the_log_fails_no_request(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "serve", "--models", str(repository), "--port", "0"]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            command, stdout=full, stderr=full, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    try:
        until(lambda: _ports(process.pid) or process.poll() is not None)
        (port,) = _ports(process.pid)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            while client.get("/health/ready").status_code != 200:
                assert process.poll() is None
            for _ in range(20):
                assert client.post("/predict", json={"inputs": "a b"}).status_code == 200
            assert "gatelight_log_failures_total 0" not in client.get("/metrics").text
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def test_more_callers_than_may_wait_are_refused_and_the_others_answered(start: Start) -> None:
    service = start("--queue-tokens", "60", "--threads", "1").until_ready()

    async def until_refused(run: Run) -> None:
        await asyncio.to_thread(until, lambda: run.outcomes["503"])

    outcomes = under_load(service, until_refused, callers=10 * CALLERS)
    assert set(outcomes) == {"right", "503"}
    assert value(service, "refusals_total", reason="full") >= outcomes["503"] > 0
    assert "Traceback" not in service.output


def test_large_bodies_wait_in_bounded_number_and_small_ones_go_past_them(start: Start) -> None:
    service = start("--edge-seconds", "0.2", "--threads", "1").until_ready()
    large = {"inputs": "a " * 400_000}  # over the token limit, as is known once it has been read
    with together(service, "/predict", [large] * 24) as asked:
        small = [service.client.post("/predict", json={"inputs": "a b"}).status_code for _ in range(20)]
        found = asked.answers
    assert small == [200] * 20
    refused = [answer for answer in found if answer.status_code == 503]
    assert {answer.status_code for answer in found} == {422, 503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert value(service, "refusals_total", reason="edge") == len(refused)
    assert value(service, "queued_edge_seconds") == 0


def test_traces_under_way_are_bounded_together(start: Start) -> None:
    service = start("--trace-numbers", "1000", "--threads", "1").until_ready()
    body = {"inputs": ["a b c d " * 400] * 8, "task": "ner"}
    with together(service, "/gates", [body] * 16) as asked:
        found = asked.answers
    refused = [answer for answer in found if answer.status_code == 503]
    assert {answer.status_code for answer in found} == {200, 503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert "limit of 1000" in refused[0].json()["detail"]
    assert value(service, "refusals_total", reason="trace") == len(refused)
    late = httpx.post(f"{service.url}/gates", json=body, headers={"X-Request-Timeout": "0.01"}, timeout=PATIENCE)
    assert late.status_code == 504
    assert value(service, "trace_numbers") == 0


def test_no_clock_that_can_jump_is_asked() -> None:
    """Deadlines, limits and rates go by clocks that only go forward. The wall clock is for dates, and for what other
    machines or files count by."""
    dates = {
        "logs.py",  # of lines
        "metrics.py",  # at which a model last answered: `/v2` tells it in its statistics
        "afterwards.py",  # of feedback
        "exchange.py",  # of an answer
        "sealing.py",  # at which a stream's state expires: replicas read it
        "sequences.py",  # of a sequence's file
    }
    jumping = []
    for file in (ROOT / "service").rglob("*.py"):
        if file.name in dates:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            imported = isinstance(node, ast.ImportFrom) and node.module == "time" and "time" in _names(node)
            if name in ("time.time", "datetime.now", "datetime.datetime.now") or imported:
                jumping.append(f"{file.name}:{getattr(node, 'lineno', 0)}")
    assert jumping == []


def _ports(pid: int) -> list[int]:
    """The ports at which a process listens, as Linux has them: its log cannot say so."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(str(descriptor.readlink()))
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    listening = "0A"
    return [int(at[1].rpartition(":")[2], 16) for at in lines if at[3] == listening and f"socket:[{at[9]}]" in sockets]


def _names(node: ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names]


def _labels(service: Process) -> dict[str, str]:
    model = service.client.get("/models/sentiment-bilstm").json()
    return {"model": model["name"], **{name: model[name] for name in ("version", "task", "cell", "provider")}}
