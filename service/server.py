"""The server process: uvicorn, with a socket and signals of its own.

On SIGTERM or SIGINT the service says that it is not ready, goes on taking requests for `drain_seconds`, closes its
socket, finishes what it took within `grace_seconds`, and exits with status 0. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator

import structlog
import uvicorn
from fastapi import FastAPI

from service import tls
from service.app import create_app
from service.errors import StartupError
from service.runtime import Phase, Runtime
from service.settings import Settings

BACKLOG = 2048
SWITCH_INTERVAL = 0.001
"""Seconds after which Python's lock is handed over to a thread that waits for it: the event loop must not wait for the
5 milliseconds that are the default while another thread tokenises or builds a large answer."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until a signal comes; the process's exit status. Raises `StartupError`."""
    listener = listen(settings.host, settings.port)
    sys.setswitchinterval(SWITCH_INTERVAL)
    server = Server(create_app(settings), settings)
    server.run(sockets=[listener])
    if server.runtime.failure is not None:
        raise server.runtime.failure
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `StartupError`, which says what is in the way."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartupError(f"cannot listen on {host} port {port} (--host, --port): {reason}") from error
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn's server, which ends the way described above, and also when the runtime cannot go on."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=settings.grace_seconds,
                **tls.options(settings),
            )
        )
        self.runtime: Runtime = app.state.runtime
        self._drain_seconds = settings.drain_seconds
        self._stop_at: float | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's, these signals come as callbacks of the event loop, and are not raised again at the end."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        """The first signal begins the end, the second is the end."""
        if self._stop_at is not None:
            _log.warning("stopped at once", signal=number.name)
            sys.stderr.flush()
            os._exit(1)
        self.runtime.phase = Phase.DRAINING
        self._stop_at = asyncio.get_running_loop().time() + self._drain_seconds
        _log.info("draining", signal=number.name, seconds=self._drain_seconds)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        scheme = "https" if self.config.is_ssl else "http"
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            _log.info("listening", url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", pid=os.getpid())

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second: whether it is time to shut down."""
        if self._stop_at is not None and asyncio.get_running_loop().time() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter) or self.runtime.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.runtime.phase = Phase.STOPPING
        await super().shutdown(sockets)
        _log.info("stopped")
