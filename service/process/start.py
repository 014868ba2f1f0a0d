"""The start of the service: the socket opens first, then a thread loads the models while the server is imported.

Importing FastAPI and the service's routes takes about as long as loading the models. The import needs Python's lock all
the time, loading releases it. So this module imports only the modules that checks, listening and loading need.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from types import FrameType, ModuleType

import structlog
from pydantic import BaseModel, ConfigDict, SecretStr

from service import interpreter
from service.cpus import usable_cpus
from service.http.security.keys import Keys
from service.model import engine  # noqa: F401 # without ONNX Runtime the start fails before it listens
from service.model.loading import choose_provider
from service.observability import payload_log, spans
from service.observability.metrics import Metrics
from service.process import tls
from service.process.sockets import listen, url
from service.process.supervisor import METHOD, Loaded, Loading, Supervisor
from service.process.worker import SHOW_STACKS, SIGNALS
from service.serving import sequences
from service.serving.opening import Opening
from service.serving.shared import Shared
from service.settings import Settings

OTHER_FILES = 256
"""Open files beside connections, at most: models, listeners, pipes, logs."""
_log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until a signal comes, in one process or several. Returns the exit status. Raises `StartupError`."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # by default it would end the process; log rotation sends it
    faulthandler.register(SHOW_STACKS)
    check(settings)
    is_random = not settings.state_key.get_secret_value()
    settings = with_state_key(settings)
    with sequences.kept(settings.state_key.get_secret_value().encode(), random=is_random):
        return _serve(settings)


def _serve(settings: Settings) -> int:
    allow_connections(settings.max_connections)
    workers = settings.workers or usable_cpus()
    if workers > 1:
        load = loading(settings)
        if load is None:
            _server()  # forked workers share its memory
        return Supervisor(settings, workers, work, load).run()
    (listener,) = listen(settings.host, settings.port)
    _log.info("listening", url=url(listener, settings.scheme), pid=os.getpid(), workers=1)
    opening = Opening(settings)
    status: int = _server().work(settings, [listener], None, opening)
    return status


def check(settings: Settings) -> None:
    """Raises `StartupError` for settings with missing or unusable files, before models are loaded."""
    if settings.tracing:
        spans.check()
    tls.options(settings)
    Keys(settings.keys, settings.administrators, settings.api_keys_file)
    if settings.payload_log is not None:
        several = (settings.workers or usable_cpus()) > 1
        payload_log.check(payload_log.path_of(settings.payload_log, 0 if several else None))
        payload_log.read_redact(settings.payload_redact)


def with_state_key(settings: Settings) -> Settings:
    """The settings with a key for the states of streams: a random one, the same for all workers, if none is set."""
    if settings.state_key.get_secret_value():
        return settings
    return settings.model_copy(update={"state_key": SecretStr(secrets.token_hex())})


def loading(settings: Settings) -> Loading | None:
    """A loader of models for all workers at once; None if each must load its own. Raises `StartupError`."""
    provider = choose_provider(settings.provider)
    if METHOD != "fork" or provider != "cpu":  # CUDA does not survive a fork
        return None
    return partial(_load, settings.model_copy(update={"provider": provider}))


def allow_connections(most: int) -> None:
    """Raise the limit on open files to the number of connections, counting those that will be rejected.

    If the system does not allow it, clients lose connections without an answer. The log warns of that.
    """
    wanted = 2 * most + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning("the system allows fewer open files than connections", allowed=allowed, wanted=wanted)


def work(settings: Settings, listeners: Sequence[socket.socket], shared: Shared | None) -> int:
    """Run a worker: `server.work`."""
    status: int = _server().work(settings, listeners, shared)
    return status


def _load(settings: Settings, listeners: Sequence[socket.socket], metrics: Metrics) -> Loaded:
    """Load the models for all workers. Requests get answers as soon as the server is imported. Raises
    `StartupError`."""
    opening = Opening(settings)
    for number in SIGNALS:
        signal.signal(number, _end)
    server = _server()
    if opening.done:
        return Loaded(*opening.wait(), ())
    loaded: Loaded = server.load_and_answer(settings, listeners, metrics, opening)
    return loaded


def _server() -> ModuleType:
    """The server's module. Its import leaves out two parts of FastAPI that this service does not use.

    FastAPI builds its models of the OpenAPI format; here pydantic builds them for the first API document. FastAPI
    imports pydantic 1 to find out if a class is one of its models; no class here is.
    """
    before, BaseModel.model_config = BaseModel.model_config, ConfigDict(defer_build=True)
    try:
        with interpreter.without("pydantic.v1"):
            import_module("fastapi")
            BaseModel.model_config = before
            return import_module("service.process.server")
    finally:
        BaseModel.model_config = before


def _end(number: int, _: FrameType | None) -> None:
    """End the process at once, because no work has begun."""
    _log.info("stopped", signal=signal.Signals(number).name)
    sys.stderr.flush()
    os._exit(0)
