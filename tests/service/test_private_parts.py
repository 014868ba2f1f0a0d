"""Parts of uvicorn and FastAPI that are not theirs to promise, and that the service needs: each is pinned to a minor
version, and a new one has to have them still."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, _compat
from fastapi.openapi import utils
from fastapi.routing import APIRoute
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

ROOT = Path(__file__).resolve().parents[2]


async def _accepts(scope: object, receive: object, send: object) -> None:
    """An application."""


def test_the_connection_of_uvicorn() -> None:
    async def attributes() -> set[str]:
        config = Config(_accepts, http="httptools")
        config.load()
        protocol = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        protocol.on_message_begin()
        return set(dir(protocol))

    needed = [
        "access_logger",
        "app",
        "client",
        "connection_lost",
        "connection_made",
        "cycle",
        "data_received",
        "eof_received",
        "expect_100_continue",
        "flow",
        "headers",
        "logger",
        "loop",
        "on_body",
        "on_header",
        "on_headers_complete",
        "on_message_begin",
        "on_message_complete",
        "on_response_complete",
        "parser",
        "pause_writing",
        "pipeline",
        "resume_writing",
        "scheme",
        "scope",
        "server_state",
        "shutdown",
        "tasks",
        "timeout_keep_alive",
        "timeout_keep_alive_handler",
        "timeout_keep_alive_task",
        "transport",
        "url",
        "_start_asgi_task",
        "_unset_keepalive_if_required",
    ]
    assert set(needed) - asyncio.run(attributes()) == set()


def test_the_exchange_of_uvicorn() -> None:
    source = inspect.getsource(RequestResponseCycle)
    needed = [
        "body",
        "disconnected",
        "expected_content_length",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
        "transport",
        "waiting_for_100_continue",
    ]
    assert [name for name in needed if f"self.{name}" not in source] == []
    taken = [
        "scope",
        "transport",
        "flow",
        "logger",
        "access_logger",
        "access_log",
        "default_headers",
        "message_event",
        "expect_100_continue",
        "keep_alive",
        "on_response",
    ]
    assert set(taken) <= set(inspect.signature(RequestResponseCycle).parameters)


def test_the_server_of_uvicorn() -> None:
    needed = [
        "capture_signals",
        "config",
        "main_loop",
        "on_tick",
        "run",
        "serve",
        "shutdown",
        "should_exit",
        "started",
        "startup",
    ]
    server = uvicorn.Server(Config(_accepts))
    assert [name for name in needed if not hasattr(server, name)] == []
    assert {"connections", "tasks", "total_requests", "default_headers"} <= set(vars(ServerState()))


def test_the_document_and_the_routes_of_fastapi() -> None:
    assert {"fields", "model_name_map", "separate_input_output_schemas"} <= set(
        inspect.signature(_compat.get_definitions).parameters
    )
    assert {"route", "operation_ids", "model_name_map", "field_mapping"} <= set(
        inspect.signature(utils.get_openapi_path).parameters
    )
    assert callable(utils.get_fields_from_routes)

    def nothing() -> None:
        """A route."""

    route = APIRoute("/a/{b}", nothing)
    assert (route.path_format, set(route.param_convertors), route.endpoint) == ("/a/{b}", {"b"}, nothing)
    assert callable(route.app)
    assert {"user_middleware", "exception_handlers", "middleware_stack"} <= set(vars(FastAPI()))


@pytest.mark.parametrize("name", ["fastapi", "uvicorn"])
def test_both_are_pinned_to_a_minor_version(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pin,) = [each for each in project["dependencies"] if each.startswith(f"{name}>")]
    least, most = pin.removeprefix(name).split(",")
    major, minor = least.removeprefix(">=").split(".")
    assert most == f"<{major}.{int(minor) + 1}"
