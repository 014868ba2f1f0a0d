"""Several worker processes on one port, and one that watches over them.

The supervisor serves nothing. It makes the sockets, starts a worker for each, replaces one that dies, and passes on the
signal to stop. It keeps every socket open: what waits in a dead worker's queue is answered by the replacement, and the
other workers never notice. The replacement is a spare process that has its models already (`service.standby`), where
there is one; the next spare is started then.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from typing import Literal

import structlog

from service import telemetry
from service.errors import StartupError
from service.listeners import listen, url, welcome
from service.metrics import FAMILIES, Metrics
from service.settings import Settings
from service.standby import STARTUP_STATUS, Standby
from service.tally import MEMORY_BYTES, Board, total

Method = Literal["fork", "spawn"]
METHOD: Method = "fork" if sys.platform == "linux" else "spawn"
"""How workers are started. Forked ones share the memory of all code, and are there at once. No thread runs before."""
KILL_AFTER = 5.0
"""Seconds beyond the grace period in which a worker has to end."""
STABLE_SECONDS = 10.0
"""A worker that lived for so long is replaced at once; one that did not, after a pause."""
LONGEST_PAUSE = 5.0
LOOK_SECONDS = 0.5
"""Between two looks whether all workers are ready, after which the spare is started: it must not slow them down."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shared:
    """What a worker has in common with the others."""

    workers: int
    metrics: Metrics
    replaces: bool = False
    """Another worker had its socket before: it has models first, and then answers what waits there."""
    called: Callable[[StartupError | None], Awaitable[None]] | None = None
    """Of a spare: `Standby.called`, to be awaited once its models are loaded or have failed to."""


Work = Callable[[Settings, socket.socket, Shared], int]
"""What a worker does: serve until SIGTERM comes; its exit status. Raises `StartupError`."""


@dataclass(slots=True)
class _Worker:
    """What stands, or will, at a place: a socket's number, or None for the spare's."""

    place: int | None
    board: int
    process: BaseProcess | None = None
    calls: Connection | None = None
    """To a spare, until it is called."""
    loaded: bool = False
    """Of a spare: whether it said so."""
    started: float = 0.0
    starts: int = 0
    failures: int = 0
    """Deaths in a row, each soon after its start, and starts that failed."""
    start_at: float = 0.0

    @property
    def name(self) -> str | int:
        return "spare" if self.place is None else self.place


class Supervisor:
    """Starts `count` workers that `work`, and keeps them running. `work` has to be a function of a module."""

    def __init__(self, settings: Settings, count: int, work: Work, method: Method = METHOD) -> None:
        self._settings = settings
        self._work = work
        self._forks = method == "fork"
        self._context = _context(method)
        self._listeners = listen(settings.host, settings.port, count)
        # One board for each worker and the spare, which others go on with, and the supervisor's own, the last.
        self._memory = RawArray(ctypes.c_char, MEMORY_BYTES * (count + 2))
        self._boards = boards(self._memory)
        self._workers = [_Worker(number, board=number) for number in range(count)]
        self._spare = _Worker(None, board=count)
        self._signals: list[int] = []

    def run(self) -> int:
        """Until a signal comes and every worker has ended; 0 if they did. Raises `StartupError` when none can start."""
        waker, sleeper = socket.socketpair()
        for end in (waker, sleeper):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda received, _: self._signals.append(received))
        _log.info(
            "listening", url=url(self._listeners[0], self._settings.scheme), pid=os.getpid(), workers=len(self._workers)
        )
        restarts = self._boards[-1].number("worker_restarts_total")
        gc.collect()
        gc.freeze()  # what is shared with the workers stays shared: no collection writes to it
        try:
            while not self._signals:
                self._start_due()
                calls = [self._spare.calls] if self._spare.calls is not None and not self._spare.loaded else []
                wait([sleeper, *calls, *self._sentinels()], self._pause())
                self._hear_spare()
                for worker in self._ended():
                    self._note_death(worker)
                    restarts.add()
            return self._stop(sleeper)
        finally:
            signal.set_wakeup_fd(-1)
            waker.close()
            sleeper.close()
            for worker in self._all:
                if worker.process is not None:
                    worker.process.kill()

    @property
    def _all(self) -> list[_Worker]:
        return [*self._workers, self._spare]

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and worker.start_at <= now and not self._hand_over(worker, now):
                self._start(worker, now)
        if self._wants_spare() and self._spare.start_at <= now and self._all_ready():
            self._start(self._spare, now)

    def _wants_spare(self) -> bool:
        return self._settings.spare and self._spare.process is None

    def _all_ready(self) -> bool:
        """Whether every worker has said so on its board."""
        return sum(total(self._boards).get(("ready",), ())) >= len(self._workers)

    def _hand_over(self, worker: _Worker, now: float) -> bool:
        """Have the spare take a worker's place, loaded or not: it is nearer to it than a new process. Whether there was
        one. The board of the one that died is the next spare's."""
        spare = self._spare
        if spare.process is None or spare.calls is None or worker.place is None:
            return False
        place = worker.place % len(self._listeners)
        welcome(self._listeners[place])
        try:
            spare.calls.send(place)
        except OSError:  # it has just died: its sentinel tells
            return False
        spare.calls.close()
        worker.process, spare.process, spare.calls = spare.process, None, None
        worker.board, spare.board = spare.board, worker.board
        worker.started, spare.start_at = now, now
        worker.starts += 1
        self._show_spare(loaded=False)
        return True

    def _hear_spare(self) -> None:
        """Take note that the spare has its models."""
        calls = self._spare.calls
        if calls is not None and not self._spare.loaded and calls.poll():
            with contextlib.suppress(EOFError, OSError):  # it has died: its sentinel tells
                calls.recv()
                self._show_spare(loaded=True)

    def _hang_up(self, worker: _Worker) -> None:
        if worker.calls is not None:
            worker.calls.close()
            worker.calls = None
            self._show_spare(loaded=False)

    def _show_spare(self, *, loaded: bool) -> None:
        self._spare.loaded = loaded
        self._boards[-1].number("spares").set(loaded)

    def _start(self, worker: _Worker, now: float) -> None:
        spare = worker.place is None
        if spare:
            places, others = self._listeners, []
            worker.calls, calls = self._context.Pipe()
        else:
            assert worker.place is not None
            places, calls = [self._listeners[worker.place % len(self._listeners)]], None
            welcome(places[0])
            others = self._others(places[0])
        arguments = _Start(
            self._settings, worker.board, len(self._workers), self._memory, self._work, worker.starts > 0
        )
        process = self._context.Process(
            target=_run, args=(arguments, places, others, calls), name="spare" if spare else f"worker-{worker.place}"
        )
        worker.started = now
        # A signal between the fork and the worker's own handler would be the supervisor's in the worker: held back.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
        except OSError as error:  # no memory for it, or no more processes: those that run go on
            pause = self._postpone(worker)
            _log.error("worker not started", worker=worker.name, reason=error.strerror, restart_in=pause)
            self._hang_up(worker)
        else:
            worker.process = process
            worker.starts += 1
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        if calls is not None:
            calls.close()

    def _others(self, own: socket.socket) -> list[socket.socket]:
        """Sockets that a forked worker finds open and must not keep; a spawned one has its own alone."""
        return [each for each in self._listeners if each is not own] if self._forks else []

    def _sentinels(self) -> list[int]:
        return [worker.process.sentinel for worker in self._all if worker.process is not None]

    def _pause(self) -> float | None:
        """Seconds until a worker is due to be started; None when none is."""
        now = time.monotonic()
        due = [worker.start_at for worker in self._workers if worker.process is None]
        if self._wants_spare():
            due.append(max(self._spare.start_at, now + LOOK_SECONDS))
        return max(0.0, min(due) - now) if due else None

    def _ended(self) -> list[_Worker]:
        ended = [worker for worker in self._all if worker.process is not None and not worker.process.is_alive()]
        for worker in ended:
            self._boards[worker.board].clear_gauges()
        return ended

    def _note_death(self, worker: _Worker) -> None:
        assert worker.process is not None
        status = worker.process.exitcode
        worker.process.close()
        worker.process = None
        self._hang_up(worker)
        lived = time.monotonic() - worker.started
        # Added up, not looked up: what a board does not know of another process's memory yet, it would write there.
        if worker.place is not None and status == STARTUP_STATUS and not any(total(self._boards).get(("ready",), ())):
            raise StartupError("no worker could start; the log says why")
        pause = self._postpone(worker)
        _log.error("worker died", worker=worker.name, status=status, seconds=round(lived, 3), restart_in=pause)

    def _postpone(self, worker: _Worker) -> float:
        """Have a worker that ended, or did not begin, be started anew; the seconds until then."""
        now = time.monotonic()
        worker.failures = 0 if now - worker.started >= STABLE_SECONDS else worker.failures + 1
        # The exponent is bounded: a worker that cannot start for days must not come to a number that is none.
        pause = min(LONGEST_PAUSE, 0.1 * 2 ** min(worker.failures - 2, 16)) if worker.failures > 1 else 0.0
        worker.start_at = now + pause
        return pause

    def _stop(self, sleeper: socket.socket) -> int:
        """Have every worker end; the exit status. A second signal ends them at once."""
        settings = self._settings
        for listener in self._listeners:
            listener.close()  # the workers have theirs
        if self._spare.process is not None:
            self._spare.process.kill()  # it has begun nothing, and holds every socket
        for worker in self._workers:
            if worker.process is not None:
                worker.process.terminate()
        _log.info("stopping workers", signal=signal.Signals(self._signals[0]).name)
        limit = time.monotonic() + settings.drain_seconds + settings.grace_seconds + KILL_AFTER
        while sentinels := self._sentinels():
            _drain(sleeper)
            ready = wait([sleeper, *sentinels], max(0.0, limit - time.monotonic()))
            for worker in self._ended():
                worker.process = None
            if len(self._signals) > 1:
                _log.warning("stopped at once")
                return 1
            if not ready:
                _log.error("workers killed: they did not end within the grace period")
                return 1
        _log.info("stopped")
        return 0


def _context(method: Method) -> ForkContext | SpawnContext:
    return multiprocessing.get_context("fork") if method == "fork" else multiprocessing.get_context("spawn")


def boards(memory: ctypes.Array[ctypes.c_char]) -> list[Board]:
    """The boards in shared memory."""
    view = memoryview(memory).cast("B")
    return [Board(FAMILIES, view[start : start + MEMORY_BYTES]) for start in range(0, len(view), MEMORY_BYTES)]


@dataclass(frozen=True, slots=True)
class _Start:
    """What every worker is given. `board` is the number of its own."""

    settings: Settings
    board: int
    workers: int
    memory: ctypes.Array[ctypes.c_char]
    work: Work
    replaces: bool


def _run(
    start: _Start, places: Sequence[socket.socket], others: Sequence[socket.socket], calls: Connection | None
) -> None:
    """The worker's process: of the one socket in `places` or, with `calls`, a spare for all of them."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it comes to all; the supervisor decides
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the server has its own: nothing has begun
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for other in others:
        other.close()
    settings = start.settings
    telemetry.configure(settings.log_format, settings.log_level)  # a spawned process has its own
    structlog.contextvars.bind_contextvars(worker=start.board)
    all_boards = boards(start.memory)
    standby = Standby(calls, places) if calls is not None else None
    metrics = Metrics(all_boards[start.board], all_boards)
    try:
        if standby is None:
            status = start.work(settings, places[0], Shared(start.workers, metrics, start.replaces))
        else:
            shared = Shared(start.workers, metrics, replaces=True, called=standby.called)
            status = start.work(settings, standby.listener, shared)
    except StartupError as error:
        _log.error(f"cannot start: {error}")
        status = STARTUP_STATUS
    sys.exit(status)


def _drain(sleeper: socket.socket) -> None:
    """Read what signals have written."""
    try:
        while sleeper.recv(64):
            pass
    except BlockingIOError:
        pass
