"""Several worker processes on one port, and one that watches over them.

The supervisor serves nothing. It makes the sockets, loads the models, forks a worker for each socket, replaces one that
dies, and passes on the signal to stop. It keeps every socket open: what waits in a dead worker's queue is answered by
the replacement, and the other workers never notice. Workers share the memory of the models that they were forked with,
and have them at once. Where that cannot be (CUDA, systems without a safe fork), each loads its own.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from typing import Literal

import structlog

from service import telemetry
from service.errors import StartupError
from service.listeners import listen, steer, url, welcome
from service.metrics import FAMILIES, Metrics
from service.registry import Changes, Registry
from service.settings import Settings
from service.tally import MEMORY_BYTES, Board, total

Method = Literal["fork", "spawn"]
METHOD: Method = "fork" if sys.platform == "linux" else "spawn"
"""How workers are started. Forked ones share the memory of all code, and are there at once. No thread runs before."""
KILL_AFTER = 5.0
"""Seconds beyond the grace period in which a worker has to end."""
STABLE_SECONDS = 10.0
"""A worker that lived for so long is replaced at once; one that did not, after a pause."""
LONGEST_PAUSE = 5.0
GREETER_SECONDS = 5.0
"""In which the greeter has to stop accepting: longer than it ever needs."""
LOOK_SECONDS = 1.0
"""Between two looks whether the workers' event loops turn."""
STARTUP_STATUS = 1
"""With which a worker ends that cannot start."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Shared:
    """What a worker has in common with the others."""

    workers: int
    metrics: Metrics
    registry: Registry | None = None
    """The models that all were forked with; None where a worker loads its own."""
    replaces: bool = False
    """Another worker had its socket before: it has models first, and then answers what waits there."""
    greets: Connection | None = None
    """Of the greeter, which says at all sockets that the models are loading: closed once it accepts no more."""
    turn: Callable[[], None] = lambda: None
    """To be called by the event loop now and then, more often than once in `LOOK_SECONDS`: it turns."""


Work = Callable[[Settings, Sequence[socket.socket], Shared], int]
"""What a worker does: serve until SIGTERM comes; its exit status. Raises `StartupError`."""
Loading = Callable[[], tuple[Registry, Changes]]
"""How the models are loaded that all workers share. Raises `StartupError`."""


@dataclass(slots=True)
class _Worker:
    """What stands, or will, at a place: a socket's number, or None for the greeter's, which stands at all of them."""

    place: int | None
    board: int
    process: BaseProcess | None = None
    started: float = 0.0
    starts: int = 0
    failures: int = 0
    """Deaths in a row, each soon after its start, and starts that failed."""
    start_at: float = 0.0
    turns: float = 0.0
    """Of its event loop, as of the last look."""
    still: int = 0
    """Looks in a row that found it where it was, once it had turned."""

    @property
    def name(self) -> str | int:
        return "greeter" if self.place is None else self.place


class Supervisor:
    """Starts `count` workers that `work`, and keeps them running. `work` has to be a function of a module. They are
    forked with what `load` returns; without it each loads its own models."""

    def __init__(
        self, settings: Settings, count: int, work: Work, load: Loading | None = None, *, method: Method = METHOD
    ) -> None:
        self._settings = settings
        self._work = work
        self._load = load
        self._registry: Registry | None = None
        self._forks = method == "fork"
        self._context = _context(method)
        self._listeners = listen(settings.host, settings.port, count)
        # One board for each worker, which its replacement goes on with, the greeter's, and the supervisor's own.
        self._memory = RawArray(ctypes.c_char, MEMORY_BYTES * (count + 2))
        self._boards = boards(self._memory)
        self._turns = RawArray(ctypes.c_double, count + 1)
        self._looked = time.monotonic()
        self._workers = [_Worker(number, board=number) for number in range(count)]
        self._greeter = _Worker(None, board=count)
        self._steered = False
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
        try:
            if self._load is not None:
                self._load_for_all(self._load)
            gc.collect()
            gc.freeze()  # what is shared with the workers stays shared: no collection writes to it
            while not self._signals:
                self._start_due()
                self._steer()
                wait([sleeper, *self._sentinels()], self._pause())
                self._look()
                for worker in self._ended():
                    self._note_death(worker)
                    restarts.add(worker is not self._greeter)
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
        return [*self._workers, self._greeter]

    def _load_for_all(self, load: Loading) -> None:
        """Load the models, while the greeter says so to whoever asks."""
        accepts, greets = self._context.Pipe(duplex=False)
        self._start(self._greeter, self._listeners, greets)
        greets.close()
        self._registry, changes = load()
        for outcome, count in changes.counts.items():
            self._boards[-1].number("reloads_total", outcome).add(count)
        if self._greeter.process is not None:
            self._greeter.process.terminate()
            wait([accepts], GREETER_SECONDS)  # else it would say so still when workers are ready
        accepts.close()

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.place is not None and worker.process is None and worker.start_at <= now:
                place = self._listeners[worker.place % len(self._listeners)]
                welcome(place)
                self._start(worker, [place])

    def _steer(self) -> None:
        """Have new connections go where somebody is: a place whose worker is to be started later gets none."""
        live = [
            worker.place for worker in self._workers if worker.place is not None and worker.start_at <= time.monotonic()
        ]
        vacant = len(live) < len(self._workers)
        if (vacant or self._steered) and live:
            steer(self._listeners, live)
            self._steered = vacant

    def _look(self) -> None:
        """End a worker whose event loop stands still. Looks are counted, not seconds: those in which the machine slept,
        or this process too got no turn, say nothing."""
        if not self._settings.hang_seconds or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for worker in self._workers:
            turns = self._turns[worker.board]
            moved, worker.turns = turns != worker.turns, turns
            worker.still = 0 if moved or not turns or worker.process is None else worker.still + 1
            over = worker.still * LOOK_SECONDS - self._settings.hang_seconds
            if worker.process is None or worker.process.pid is None or over < 0:
                continue
            if over < LOOK_SECONDS:
                _log.error("worker hangs", worker=worker.name, seconds=worker.still * LOOK_SECONDS)
                os.kill(worker.process.pid, signal.SIGABRT)  # it says on standard error where it stands
            else:
                worker.process.kill()

    def _start(self, worker: _Worker, places: Sequence[socket.socket], greets: Connection | None = None) -> None:
        arguments = _Start(
            self._settings,
            worker.board,
            len(self._workers),
            self._memory,
            self._turns,
            self._work,
            self._registry,
            worker.starts > 0,
        )
        self._turns[worker.board] = worker.still = 0
        process = self._context.Process(
            target=_run,
            args=(arguments, places, self._others(places), greets),
            name=f"worker-{worker.name}",
        )
        worker.started = time.monotonic()
        # A signal between the fork and the worker's own handler would be the supervisor's in the worker: held back.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
        except OSError as error:  # no memory for it, or no more processes: those that run go on
            pause = self._postpone(worker)
            _log.error("worker not started", worker=worker.name, reason=error.strerror, restart_in=pause)
        else:
            worker.process = process
            worker.starts += 1
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _others(self, places: Sequence[socket.socket]) -> list[socket.socket]:
        """Sockets that a forked worker finds open and must not keep; a spawned one has its own alone."""
        return [each for each in self._listeners if each not in places] if self._forks else []

    def _sentinels(self) -> list[int]:
        return [worker.process.sentinel for worker in self._all if worker.process is not None]

    def _pause(self) -> float | None:
        """Seconds until a worker is due to be started, or all are to be looked at; None for neither."""
        now = time.monotonic()
        due = [worker.start_at for worker in self._workers if worker.process is None]
        if self._settings.hang_seconds:
            due.append(self._looked + LOOK_SECONDS)
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
        if worker is self._greeter:
            return
        lived = time.monotonic() - worker.started
        # Added up, not looked up: what a board does not know of another process's memory yet, it would write there.
        if status == STARTUP_STATUS and not any(total(self._boards).get(("ready",), ())):
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
        for worker in self._all:
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
    turns: ctypes.Array[ctypes.c_double]
    work: Work
    registry: Registry | None
    replaces: bool


def _run(
    start: _Start, places: Sequence[socket.socket], others: Sequence[socket.socket], greets: Connection | None
) -> None:
    """The worker's process, at its places."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from a terminal it comes to all; the supervisor decides
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the server has its own: nothing has begun
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for other in others:
        other.close()
    settings = start.settings
    faulthandler.enable()
    telemetry.configure(settings.log_format, settings.log_level)  # a spawned process has its own
    structlog.contextvars.bind_contextvars(worker=start.board)
    all_boards = boards(start.memory)
    metrics = Metrics(all_boards[start.board], all_boards)

    def turn() -> None:
        start.turns[start.board] += 1

    shared = Shared(start.workers, metrics, start.registry, start.replaces, greets, turn)
    try:
        status = start.work(settings, places, shared)
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
