"""Several worker processes on one port, and their supervisor.

The supervisor serves no requests. It makes the sockets, loads the models, forks a worker for each socket, replaces a
worker that dies, and forwards the signals to stop and to reload. It keeps every socket open, so the replacement answers
the connections in a dead worker's queue, and the other workers never notice. Forked workers share the memory of the
models and have them at once. With CUDA, and on systems without a safe fork, each worker loads its own.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from typing import Literal, NamedTuple

import structlog

from service import interpreter
from service.errors import StartupError
from service.observability.metrics import Metrics
from service.observability.shared_metrics import MEMORY_BYTES, total
from service.process.handover import close_all
from service.process.sockets import listen, refuse, steer, url, welcome
from service.process.worker import SHOW_STACKS, SIGNALS, STARTUP_STATUS, Start, Work, boards, run
from service.serving import decisions
from service.serving.decisions import Decisions
from service.serving.rates import Buckets
from service.serving.registry import Changes, Registry
from service.serving.shared import Remembered
from service.settings import Settings

Method = Literal["fork", "spawn"]
METHOD: Method = "fork" if sys.platform == "linux" else "spawn"
"""Start method of workers. Forked ones share the memory of all code and start at once. No thread runs before the
fork."""
KILL_AFTER = 5.0
"""Seconds beyond the grace period after which a worker is killed."""
STABLE_SECONDS = 10.0
"""A worker that lived this long is replaced at once; otherwise after a pause."""
LONGEST_PAUSE = 5.0
LOOK_SECONDS = 1.0
"""Interval between two checks of the workers' event loops."""
START_SECONDS = 60.0
"""Time limit for the first turn of a worker's event loop, even if `hang_seconds` is shorter."""
_log = structlog.get_logger()


class Loaded(NamedTuple):
    """The models for all workers, and the connections accepted meanwhile that have sent nothing."""

    registry: Registry
    changes: Changes
    accepted: Sequence[socket.socket]


Loading = Callable[[Sequence[socket.socket], Metrics], Loaded]
"""Loads the models for all workers and answers meanwhile. Raises `StartupError`."""


@dataclass(slots=True)
class _Worker:
    """The worker at the socket number `place`, running or to be started."""

    place: int
    process: BaseProcess | None = None
    started: float = 0.0
    starts: int = 0
    failures: int = 0
    """Consecutive early deaths and failed starts."""
    start_at: float = 0.0
    turns: float = 0.0
    """Turns of its event loop at the last check."""
    still: int = 0
    """Consecutive checks without progress."""


class _Stopped(BaseException):
    """A signal to stop came during a look at the models folder, which can be abandoned."""


class Supervisor:
    """Starts `count` workers that run `work`, and keeps them running. `work` must be a module-level function. The
    workers are forked with the models of `load`; without it each loads its own."""

    def __init__(
        self, settings: Settings, count: int, work: Work, load: Loading | None = None, *, method: Method = METHOD
    ) -> None:
        self._settings = settings
        self._work = work
        self._load = load
        self._registry: Registry | None = None
        self._accepted: list[list[socket.socket]] = [[] for _ in range(count)]
        """Connections that wait for the worker of each place."""
        self._forks = method == "fork"
        self._context = _context(method)
        self._listeners = listen(settings.host, settings.port, count)
        # One board for each worker, kept by its replacement, and one for the supervisor.
        self._memory = RawArray(ctypes.c_char, MEMORY_BYTES * (count + 1))
        self._boards = boards(self._memory)
        self._turns = RawArray(ctypes.c_double, count)
        self._decisions = Decisions(
            RawArray(ctypes.c_char, decisions.BYTES),
            RawArray(ctypes.c_uint64, count * decisions.FOLLOWED),
            self._context.Lock(),
        )
        self._remembered = Remembered.of(count) if self._forks else None
        self._rates = Buckets() if self._forks else None
        self._followed = 0
        self._looked = time.monotonic()
        self._workers = [_Worker(number) for number in range(count)]
        self._renewed = time.monotonic()
        self._steered = self._loading = self._asked = False
        self._signals: list[int] = []

    def run(self) -> int:
        """Run until a signal comes and every worker has ended. Returns 0 if all ended in time. Raises `StartupError` if
        no worker can start."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        _log.info(
            "listening", url=url(self._listeners[0], self._settings.scheme), pid=os.getpid(), workers=len(self._workers)
        )
        if self._load is not None:
            self._load_for_all(self._load)
        waker, sleeper = socket.socketpair()
        for end in (waker, sleeper):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:  # again: the server that answered meanwhile had its own
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, *SIGNALS})
        restarts = self._boards[-1].number("worker_restarts_total")
        try:
            interpreter.tune()  # all that is there by now stays shared with the workers
            while not self._signals:
                self._start_due()
                self._steer()
                wait([sleeper, *self._sentinels()], self._pause())
                _drain(sleeper)
                self._follow()
                self._renew()
                self._look()
                for worker in self._ended():
                    self._note_death(worker)
                    restarts.add()
            return self._stop(sleeper)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
            signal.set_wakeup_fd(-1)
            waker.close()
            sleeper.close()
            for process in self._processes():
                process.kill()

    def _on_signal(self, number: int, _: object) -> None:
        self._signals.append(number)
        if self._loading:
            raise _Stopped

    def _on_hangup(self, number: int, _: object) -> None:
        self._asked = True

    def _renew(self) -> None:
        """When due, look at the models folder for workers forked later, then signal the running workers to look. So a
        replacement serves the same models as the others."""
        now, interval = time.monotonic(), self._interval()
        asked, self._asked = self._asked, False
        if self._signals or not (asked or (interval and now - self._renewed >= interval)):
            return
        if asked:
            _log.info("reloading models", signal=signal.SIGHUP.name, workers=len(self._workers))
        if self._registry is not None:
            self._change(self._registry.refresh)
        self._renewed = time.monotonic()
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGHUP)

    def _follow(self) -> None:
        """Follow the decisions of workers, so that workers forked later serve the same models."""
        number = self._decisions.number
        if self._registry is None or number == self._followed or self._signals:
            return
        number, latest = self._decisions.read()
        self._change(partial(self._registry.follow, latest))
        self._followed = number

    def _change(self, change: Callable[[], object]) -> None:
        """Change the models, unless a signal to stop comes."""
        try:
            self._loading = True
            change()
            _freeze()
        except _Stopped:
            pass
        except Exception:  # a bad folder on disk must not take down the loaded models
            _log.exception("looking for new models failed")
        finally:
            self._loading = False

    def _interval(self) -> float:
        """Seconds between two looks; 0 for none, also if each worker looks by itself."""
        return self._settings.reload if self._registry is not None else 0.0

    def _load_for_all(self, load: Loading) -> None:
        """Load the models in this process before there are workers. Raises `StartupError`."""
        own = self._boards[-1]
        self._registry, changes, accepted = load(self._listeners, Metrics(own, self._boards))
        for number, connection in enumerate(accepted):
            self._accepted[number % len(self._accepted)].append(connection)
        own.clear_gauges()
        for outcome, count in changes.counts.items():
            own.number("reloads_total", outcome).add(count)

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and worker.start_at <= now:
                self._start(worker)

    def _steer(self) -> None:
        """Send new connections only to places with a worker. A place whose worker starts later gets none."""
        now = time.monotonic()
        live = [worker.place for worker in self._workers if worker.start_at <= now]
        vacant = len(live) < len(self._workers)
        if (vacant or self._steered) and live:
            steer(self._listeners, live)
            self._steered = vacant

    def _look(self) -> None:
        """Kill a worker whose event loop stands still. Checks are counted instead of seconds, because a sleeping
        machine or a stalled supervisor must not count."""
        if not self._settings.hang_seconds or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for worker in self._workers:
            turns = self._turns[worker.place]
            moved, worker.turns = turns != worker.turns, turns
            worker.still = 0 if moved or worker.process is None else worker.still + 1
            most = self._settings.hang_seconds if turns else max(self._settings.hang_seconds, START_SECONDS)
            over = worker.still * LOOK_SECONDS - most
            if worker.process is None or over < 0:
                continue
            if over < LOOK_SECONDS:
                _log.error("worker hangs", worker=worker.place, seconds=worker.still * LOOK_SECONDS)
                assert worker.process.pid is not None
                os.kill(worker.process.pid, SHOW_STACKS)
            else:
                worker.process.kill()

    def _start(self, worker: _Worker) -> None:
        listener = self._listeners[worker.place % len(self._listeners)]
        welcome(listener)
        self._turns[worker.place] = worker.turns = worker.still = 0
        worker.started = time.monotonic()
        try:
            worker.process = self._fork(worker, listener)
        except OSError as error:  # no memory, or too many processes: the running workers go on
            pause = self._postpone(worker)
            _log.error("worker not started", worker=worker.place, reason=error.strerror, restart_in=pause)
        else:
            worker.starts += 1
            close_all(self._accepted[worker.place])
            self._accepted[worker.place] = []

    def _fork(self, worker: _Worker, listener: socket.socket) -> BaseProcess:
        """Start a worker process at a socket. Raises `OSError`."""
        start = Start(
            self._settings,
            worker.place,
            len(self._workers),
            self._memory,
            self._turns,
            self._decisions,
            self._work,
            self._registry,
            worker.starts > 0,
            self._remembered,
            self._rates,
            tuple(self._accepted[worker.place]),
        )
        # A forked worker inherits the other sockets and must close them. A spawned one has only its own.
        others = [each for each in self._listeners if each is not listener] if self._forks else []
        others += [each for at, some in enumerate(self._accepted) if at != worker.place for each in some]
        name = f"worker-{worker.place}"
        process = self._context.Process(target=run, args=(start, listener, others), name=name)
        # Signals are blocked until the worker has its own handlers, or it would run the supervisor's. SIGHUP stays
        # blocked until the worker's server handles it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, signal.SIGHUP))
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return process

    def _processes(self) -> list[BaseProcess]:
        return [worker.process for worker in self._workers if worker.process is not None]

    def _sentinels(self) -> list[int]:
        return [process.sentinel for process in self._processes()]

    def _pause(self) -> float | None:
        """Seconds until a worker must be started, or the workers or the models folder checked; None if nothing is
        due."""
        now = time.monotonic()
        due = [worker.start_at for worker in self._workers if worker.process is None]
        if self._settings.hang_seconds:
            due.append(self._looked + LOOK_SECONDS)
        if self._settings.admin:
            due.append(now + LOOK_SECONDS)
        if interval := self._interval():
            due.append(self._renewed + interval)
        return max(0.0, min(due) - now) if due else None

    def _ended(self) -> list[_Worker]:
        ended = [worker for worker in self._workers if worker.process is not None and not worker.process.is_alive()]
        for worker in ended:
            self._boards[worker.place].clear_gauges()
        return ended

    def _note_death(self, worker: _Worker) -> None:
        assert worker.process is not None
        status = worker.process.exitcode
        worker.process.close()
        worker.process = None
        lived = time.monotonic() - worker.started
        # The sum over all boards, because looking a metric up would create it in the dead worker's memory.
        if status == STARTUP_STATUS and not any(total(self._boards).get(("ready",), ())):
            raise StartupError("no worker could start; the log says why")
        pause = self._postpone(worker)
        self._steer()  # before the log says that the place is vacant
        _log.error("worker died", worker=worker.place, status=status, seconds=round(lived, 3), restart_in=pause)

    def _postpone(self, worker: _Worker) -> float:
        """Schedule the next start of a worker; no change waits for it meanwhile. Returns the seconds until then."""
        self._decisions.note_gone(worker.place)
        now = time.monotonic()
        worker.failures = 0 if now - worker.started >= STABLE_SECONDS else worker.failures + 1
        # The bounded exponent prevents an overflow after days of failed starts.
        pause = min(LONGEST_PAUSE, 0.1 * 2 ** min(worker.failures - 2, 16)) if worker.failures > 1 else 0.0
        worker.start_at = now + pause
        return pause

    def _stop(self, sleeper: socket.socket) -> int:
        """End every worker. Returns the exit status. A second signal kills them at once."""
        settings = self._settings
        for process in self._processes():
            process.terminate()
        _log.info("stopping workers", signal=signal.Signals(self._signals[0]).name)
        drained = time.monotonic() + settings.drain_seconds
        limit = drained + settings.grace_seconds + KILL_AFTER
        while sentinels := self._sentinels():
            _drain(sleeper)
            if self._listeners and time.monotonic() >= drained:
                self._refuse()
            until = drained if self._listeners else limit
            ready = wait([sleeper, *sentinels], max(0.0, until - time.monotonic()))
            for worker in self._ended():
                worker.process = None
            if len(self._signals) > 1:
                _log.warning("stopped at once")
                return 1
            if not ready and not self._listeners:
                _log.error("workers killed: they did not end within the grace period")
                return 1
        self._refuse()
        _log.info("stopped")
        return 0

    def _refuse(self) -> None:
        """Reject new connections at all sockets. The workers have them, too, and answer the waiting ones."""
        for listener in self._listeners:
            refuse(listener)
            listener.close()
        self._listeners = []


def _context(method: Method) -> ForkContext | SpawnContext:
    return multiprocessing.get_context("fork") if method == "fork" else multiprocessing.get_context("spawn")


def _freeze() -> None:
    """Exclude the memory shared with workers from garbage collection, so that no collection writes to it. Garbage since
    the last call is freed first."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _drain(sleeper: socket.socket) -> None:
    """Empty the pipe that signals write to."""
    with contextlib.suppress(BlockingIOError):
        while sleeper.recv(64):
            pass
