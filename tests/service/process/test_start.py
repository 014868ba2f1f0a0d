"""What a start imports, and in which order: checks, socket, models, server."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from service import interpreter, settings
from service.errors import StartupError
from service.process import start
from service.serving import opening
from service.serving.opening import Opening
from tests.bundles import tiny_bundle
from tests.patience import PATIENCE, until

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {
    # colours and tables of the trainer's terminal, and all that it takes
    *("rich", "pygments", "markdown_it", "attr"),
    # classes that nobody has
    "pydantic.v1",
    # the trainer's, the client's, the tests'
    *("torch", "onnx", "training", "service.client", "service.scoring", "httpx", "pytest"),
    # settings that are off
    *("opentelemetry.sdk", "yaml", "jinja2"),
}
"""Modules that a service with default settings has no use for."""
SERVE = """
import gc, json, runpy, sys
try:
    BEGIN
except SystemExit as end:
    from fastapi.openapi import models
    from pydantic import BaseModel
    document = not models.OpenAPI.__pydantic_complete__
    found = {"status": end.code, "modules": sorted(sys.modules), "deferred": document, "config": BaseModel.model_config}
    found |= {"collects": gc.isenabled(), "frozen": gc.get_freeze_count()}
    print(json.dumps(found))
"""


PROGRAMS = {
    "python -m service": 'runpy.run_module("service", run_name="__main__", alter_sys=True)',
    "gatelight": "from service.script import gatelight; gatelight()",
}


@pytest.fixture(scope="module", params=PROGRAMS)
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A service that was ready with one model: its modules at the end. Both of its programs are tried."""
    folder = tmp_path_factory.mktemp("start")
    tiny_bundle(folder / "models" / "sentiment-bilstm")
    log = folder / "log"
    program = SERVE.replace("BEGIN", PROGRAMS[request.param])
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--workers", "1", "--models", "models"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**clean, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=stream,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text("utf-8")
        return "] ready" in log.read_text("utf-8")

    try:
        until(ready)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    found: dict[str, Any] = json.loads(printed)
    assert found["status"] == 0, log.read_text("utf-8")
    return found


def test_a_service_imports_nothing_heavy_that_it_has_no_use_for(ended: dict[str, Any]) -> None:
    assert HEAVY.isdisjoint(ended["modules"]), sorted(HEAVY.intersection(ended["modules"]))
    assert {"structlog.dev", "fastapi.openapi.models", "service.process.server"} <= set(ended["modules"])


def test_models_of_the_openapi_format_are_not_built_before_the_document(ended: dict[str, Any]) -> None:
    assert ended["deferred"]
    assert ended["config"] == {}, "the setting holds for FastAPI's own models alone"


def test_garbage_is_looked_for_once_it_serves_and_not_in_what_the_start_has_made(ended: dict[str, Any]) -> None:
    assert ended["collects"]
    assert ended["frozen"] > 50_000


def test_the_installed_command_is_that_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["gatelight"] == "service.script:gatelight"


def test_without_a_package_imports_within_do_not_find_it() -> None:
    with interpreter.without("xmlrpc"), pytest.raises(ImportError):
        import_module("xmlrpc")
    assert import_module("xmlrpc").__name__ == "xmlrpc"
    with interpreter.without("xmlrpc"):
        assert import_module("xmlrpc").__name__ == "xmlrpc", "one that is imported stays"


@pytest.mark.parametrize("collect", [True, False])
def test_tuning_says_whether_cycles_are_looked_for(collect: bool) -> None:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    try:
        interpreter.tune(collect=collect)
        assert gc.isenabled() == collect
        assert gc.get_threshold()[0] == interpreter.GARBAGE_AFTER
    finally:
        gc.unfreeze()
        gc.enable()
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)


def test_the_socket_is_open_and_the_models_load_before_the_server_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[str] = []
    begun = threading.Event()

    class Server:
        @staticmethod
        def work(asked: settings.Settings, listeners: list[Any], shared: None, models: Opening) -> int:
            seen.append(f"serves at {len(listeners)} socket")
            assert cast(object, models.wait()) == "the models"
            return 0

    def server() -> type[Server]:
        assert begun.wait(PATIENCE)
        seen.append("imported")
        return Server

    def load(asked: settings.Settings) -> Any:
        seen.append("loading")
        begun.set()
        return "the models"

    def listen(*address: object) -> list[Any]:
        seen.append("listening")
        return [None]

    monkeypatch.setattr(start, "_server", server)
    monkeypatch.setattr(start, "listen", listen)
    monkeypatch.setattr(start, "url", lambda *_: "")
    monkeypatch.setattr(start, "allow_connections", lambda _: None)
    monkeypatch.setattr(opening, "open_registry", load)
    assert start.serve(settings.read({"models": tmp_path, "workers": 1}, _env_file=None)) == 0
    assert seen == ["listening", "loading", "imported", "serves at 1 socket"]


def test_nothing_is_loaded_where_a_setting_cannot_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(asked: settings.Settings) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(opening, "open_registry", load)
    asked = settings.read({"api_keys_file": tmp_path / "none", "port": 0, "workers": 1}, _env_file=None)
    with pytest.raises(StartupError, match="api_keys_file"):
        start.serve(asked)


@pytest.mark.parametrize("way", ["awaited", "waited for"])
@pytest.mark.parametrize("error", [None, StartupError("no model")])
def test_the_thread_has_ended_when_the_models_are_there(
    monkeypatch: pytest.MonkeyPatch, way: str, error: StartupError | None
) -> None:
    """A process with a second thread cannot be forked safely."""

    def load(asked: settings.Settings) -> Any:
        if error is not None:
            raise error
        return "the models"

    monkeypatch.setattr(opening, "open_registry", load)
    loading = Opening(settings.read({}, _env_file=None))
    outcome: object
    try:
        outcome = asyncio.run(loading.registry()) if way == "awaited" else loading.wait()
    except StartupError as raised:
        outcome = raised
    assert outcome == (error or "the models")
    assert loading.done
    assert not any(thread.is_alive() for thread in loading._executor._threads)


def test_models_that_are_there_before_the_server_need_no_server_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Opening] = []

    class Known(Opening):
        def __init__(self, asked: settings.Settings) -> None:
            super().__init__(asked)
            made.append(self)

    monkeypatch.setattr(start, "Opening", Known)
    monkeypatch.setattr(start, "_server", lambda: until(lambda: made[0].done))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(opening, "open_registry", lambda _: ("the models", "changes"))
    loaded = start._load(settings.read({}, _env_file=None), [], None)  # type: ignore[arg-type] # no metrics needed
    assert tuple(loaded) == ("the models", "changes", ())
