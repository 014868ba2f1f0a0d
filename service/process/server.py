"""The server process: uvicorn, with a socket and signals of its own.

On SIGTERM, SIGINT or SIGQUIT the service reports that it is not ready and accepts requests for `drain_seconds` more.
Then it rejects new connections, accepts those in its queue, closes its socket, finishes its requests within
`grace_seconds`, and exits with status 0. At the end of the grace period a request without an answer gets a 503. An
answer that has begun is sent for up to `SEND_SECONDS` more; then its connection is reset. A second signal ends the
service at once. On SIGHUP it looks at the models folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from service import interpreter
from service.errors import StartupError
from service.http.app import create_app
from service.observability import logs
from service.observability.metrics import Metrics
from service.process import tls
from service.process.connection import Protocol
from service.process.handover import Acceptor, Adoption, close_all, until
from service.process.sockets import refuse, turn_away
from service.process.supervisor import Loaded
from service.process.websocket import WebSocket
from service.process.wire import Wire, reset
from service.process.worker import SIGNALS
from service.serving.opening import Opening
from service.serving.runtime import Phase, Runtime
from service.serving.shared import Shared
from service.settings import Settings

QUIET_SECONDS = 0.25
"""Seconds without a new connection or request before the last connections close. Clients with open connections may
still ask until then. Their answers say that the connection closes, so they hang up first, and no request meets a closed
socket."""
HANDOVER_SECONDS = 0.5
"""Seconds that the workers wait for a request that began to arrive while the models loaded. Then it gets a 503."""
LONGEST_ANSWER_SECONDS = 5.0
"""Seconds after that for answers that have begun. The API document is the longest answer before the models are
loaded."""
TURNS_TO_HEAR = 3
TURN_SECONDS = 0.25
TICKS_TO_PUBLISH = 5
"""Tenths of a second between two publications of this worker's gauges."""

SEND_SECONDS = 4.0
"""Seconds after the grace period in which clients may take answers that have begun. Less than the supervisor's
`KILL_AFTER`."""

_log = structlog.get_logger()


def work(
    settings: Settings, listeners: Sequence[socket.socket], shared: Shared | None, opening: Opening | None = None
) -> int:
    """Serve at sockets until a signal comes. Returns the exit status. `opening` is the loading of the models if it has
    begun. Raises `StartupError`."""
    interpreter.tune()
    server = Server(create_app(settings, shared, opening=opening), settings, shared)
    server.run(sockets=list(listeners))
    if server.runtime.failure is not None:
        raise server.runtime.failure
    return 0


class Server(uvicorn.Server):
    """uvicorn's server with the shutdown described above. It also ends if the runtime cannot go on."""

    def __init__(self, app: FastAPI, settings: Settings, shared: Shared | None = None) -> None:
        self.runtime: Runtime = app.state.runtime
        self._wire = Wire(settings, self.runtime.metrics)
        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], partial(Protocol, wire=self._wire)),  # a partial in place of a class
                ws="websockets-sansio",
                ws_max_size=settings.stream_bytes,
                ws_per_message_deflate=False,  # for messages of 150 bytes it costs more than it saves
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=settings.idle_seconds,
                timeout_graceful_shutdown=settings.grace_seconds,
                **tls.options(settings),
            )
        )
        board = self.runtime.metrics.board
        board.track("connections", read=lambda: self._wire.connections)
        board.track("unsent_bytes", read=lambda: self._wire.unsent)
        board.track("unread_bytes", read=lambda: self._wire.unread)
        self._settings = settings
        self._drain_seconds = settings.drain_seconds
        self._shared = shared
        parent = multiprocessing.parent_process() if shared is not None else None
        self._parent = parent.pid if parent is not None else None
        """The process that sends signals to a worker. If it dies, the worker shuts down."""
        self._stop_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's startup for existing sockets, with a time limit on TLS handshakes. asyncio would allow 60 seconds,
        uvicorn has no setting for it, and the limits of `Protocol` begin after the handshake."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        config = self.config
        shared = {"config": config, "server_state": self.server_state, "app_state": self.lifespan.state}
        make = partial(config.http_protocol_class, **shared)
        self._adoption = Adoption(make, config.ssl, self._settings.header_seconds)
        await self._listen(make, sockets or ())
        self.started = True

    async def _listen(self, make: Callable[[], asyncio.Protocol], sockets: Sequence[socket.socket]) -> None:
        """Accept connections. Those already accepted for this worker come first."""
        for connection in self._shared.accepted if self._shared is not None else ():
            self._adoption.add(connection)
        config, loop = self.config, asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                make,
                sock=listener,
                ssl=config.ssl,
                ssl_handshake_timeout=self._settings.header_seconds if config.ssl is not None else None,
                backlog=config.backlog,
            )
            for listener in sockets
        ]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals arrive as callbacks of the event loop and are not raised again at the end, as uvicorn would do.

        A worker handles only SIGTERM. A terminal sends SIGINT and SIGQUIT to all of its processes, and the supervisor
        decides on them.
        """
        loop = asyncio.get_running_loop()
        numbers = SIGNALS if self._parent is None else (signal.SIGTERM,)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a pending one arrives now
        logs.gather(loop.call_soon)
        self.runtime.metrics.gather(loop.call_soon)
        self._turn()
        try:
            yield
        finally:
            logs.gather(None)
            self.runtime.metrics.gather(None)
            # Every request has its answer. A signal must not change the exit status any more.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # until the end
            held = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            for number in (*numbers, signal.SIGHUP):
                loop.remove_signal_handler(number)
                signal.signal(number, lambda *_: None)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _turn(self) -> None:
        """Report regularly, until the end of the shutdown, that the event loop runs."""
        if self._shared is not None:
            self._shared.turn()
            asyncio.get_running_loop().call_later(TURN_SECONDS, self._turn)

    def _on_signal(self, number: signal.Signals) -> None:
        """The first signal starts the shutdown, and the second ends the process. A worker ignores a second one: all got
        it."""
        if self._stop_at is None:
            self._begin_to_stop(number.name)
        elif self._parent is None:
            _log.warning("stopped at once", signal=number.name)
            logs.gather(None)
            sys.stderr.flush()
            os._exit(1)

    def _on_hangup(self) -> None:
        """Look at the models folder. A supervisor has logged it already."""
        if self._stop_at is not None:
            return
        if self._parent is None:
            _log.info("reloading models", signal=signal.SIGHUP.name)
        self.runtime.look()

    def _begin_to_stop(self, why: str) -> None:
        # A service that was never ready has no load balancer that must notice.
        seconds = self._drain_seconds if self.runtime.phase is Phase.READY else 0.0
        self.runtime.phase = Phase.DRAINING
        self._stop_at = asyncio.get_running_loop().time() + seconds
        _log.info("draining", signal=why, seconds=seconds)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second. Returns True to shut down."""
        if counter % TICKS_TO_PUBLISH == 0:
            self.runtime.metrics.board.publish()
        if self._parent is not None and self._stop_at is None and os.getppid() != self._parent:
            self._begin_to_stop("the supervisor has gone")
        if self._stop_at is not None and asyncio.get_running_loop().time() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter) or self.runtime.failure is not None

    async def _hear_out(self, listeners: list[socket.socket]) -> None:
        """Wait until no connection waits to be accepted, and no accepted one has an unread request."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + self._settings.grace_seconds / 2
        before = -1
        while loop.time() < limit and (before != self._wire.begun or _any_waits(listeners)):
            before = self._wire.begun
            await asyncio.sleep(QUIET_SECONDS)
            for _ in range(TURNS_TO_HEAR):  # a busy loop runs timers before it reads sockets
                await asyncio.sleep(0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept and answer the requests that have arrived, and no others. Then end."""
        self.runtime.phase = Phase.DRAINING
        end = asyncio.get_running_loop().time() + self._settings.grace_seconds
        # A running supervisor may start another worker at these sockets.
        keep_out = turn_away if self._parent is not None and os.getppid() == self._parent else refuse
        for listener in sockets or []:
            keep_out(listener)
        await self._hear_out(sockets or [])
        await self._end_streams(end)
        # Both share one grace period, because a supervisor or an orchestrator kills at its end.
        self.config.timeout_graceful_shutdown = max(1, round(end - asyncio.get_running_loop().time()))
        await super().shutdown(sockets)
        await self._send_rest(end + SEND_SECONDS)
        _log.info("stopped")

    async def _end_streams(self, limit: float) -> None:
        """Send every stream its state and wait for its end. uvicorn would close it at once."""
        streams = self.runtime.streams
        streams.close()
        left = limit - asyncio.get_running_loop().time()
        await until(lambda: not streams.open, min(left, self._settings.grace_seconds / 2))

    async def _send_rest(self, limit: float) -> None:
        """Wait until clients have taken the answers that have begun. At the loop time `limit`, reset the others."""
        if sending := self._sending():
            _log.warning("sending answers after the grace period", connections=len(sending))
            await until(lambda: not self._sending(), limit - asyncio.get_running_loop().time())
        if sending := self._sending():
            _log.error("answers cut off: their clients did not take them in time", connections=len(sending))
        for connection in sending:
            reset(connection.transport)  # so that the client cannot mistake the part for the whole

    def _sending(self) -> list[Protocol]:
        connections = cast(set[Protocol], self.server_state.connections)  # uvicorn's set, of the class in its config
        return [each for each in connections if each.sending]


class LoadingServer(Server):
    """The supervisor's own server while the models load. It reports that they are loading, and ends once they are
    loaded.

    Every accepted connection gets an answer: from this server if a byte has come, else from the worker that inherits
    it.
    """

    def __init__(self, settings: Settings, metrics: Metrics, opening: Opening) -> None:
        shared = Shared(1, metrics, loads=False)
        super().__init__(create_app(settings, shared), settings)
        self._opening = opening
        self.accepted: list[socket.socket] = []
        """At the end, the connections that have sent nothing."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal to stop ends the process at once, because no work has begun. SIGHUP waits."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:  # the loop calls back between two log lines, not within one, which holds the log's lock
            loop.add_signal_handler(number, self._on_signal, number)
        yield
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the supervisor has its own handlers
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        _log.info("stopped", signal=number.name)
        sys.stderr.flush()
        os._exit(0)

    async def main_loop(self) -> None:
        with contextlib.suppress(StartupError):  # `load_and_answer` raises it
            await self._opening.registry()

    async def _listen(self, make: Callable[[], asyncio.Protocol], sockets: Sequence[socket.socket]) -> None:
        self._acceptor = Acceptor(sockets, self._adoption.add, self._settings.max_connections)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and answer those that have sent something."""
        self.accepted = self._acceptor.stop()
        connections = cast(set[Protocol | WebSocket], self.server_state.connections)
        if not await until(lambda: not (self._adoption or connections), HANDOVER_SECONDS):
            for connection in list(connections):
                connection.end()
            await until(lambda: not connections, LONGEST_ANSWER_SECONDS)
            for connection in list(connections):
                connection.transport.abort()  # a worker must not inherit it
            await asyncio.sleep(0)
        close_all(sockets or ())
        await self.lifespan.shutdown()


def load_and_answer(
    settings: Settings, listeners: Sequence[socket.socket], metrics: Metrics, opening: Opening
) -> Loaded:
    """Wait for the models of all workers. Meanwhile `/health/live` returns 200, and routes that need a model return
    503.

    The sockets stay open and keep the connections that were not accepted. Raises `StartupError`.
    """
    server = LoadingServer(settings, metrics, opening)
    server.run(sockets=[listener.dup() for listener in listeners])
    try:
        return Loaded(*opening.wait(), server.accepted)
    except StartupError:
        close_all(server.accepted)
        raise


def _any_waits(listeners: list[socket.socket]) -> bool:
    """True if a connection waits to be accepted."""
    poll = select.poll()
    for listener in listeners:
        poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
