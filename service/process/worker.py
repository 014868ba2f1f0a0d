"""A worker process of several: what it is given, and its life from its start to its exit status."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from service.errors import StartupError
from service.observability import logs
from service.observability.metrics import ON_BOARD, Metrics
from service.observability.shared_metrics import MEMORY_BYTES, Board
from service.serving.decisions import Decisions
from service.serving.rates import Buckets
from service.serving.registry import Registry
from service.serving.shared import Remembered, Shared
from service.settings import Settings

STARTUP_STATUS = 1
"""Exit status of a worker that cannot start."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
"""Signals to stop."""
SHOW_STACKS = signal.SIGUSR2
"""Makes a process print the stacks of its threads to standard error."""
_log = structlog.get_logger()

Work = Callable[[Settings, Sequence[socket.socket], Shared], int]
"""A worker's main function: serve until SIGTERM, then return the exit status. Raises `StartupError`."""


def boards(memory: ctypes.Array[ctypes.c_char]) -> list[Board]:
    """The boards in shared memory."""
    view = memoryview(memory).cast("B")
    return [Board(ON_BOARD, view[start : start + MEMORY_BYTES]) for start in range(0, len(view), MEMORY_BYTES)]


@dataclass(frozen=True, slots=True)
class Start:
    """The arguments of a worker. `place` is the number of the worker and of its board."""

    settings: Settings
    place: int
    workers: int
    memory: ctypes.Array[ctypes.c_char]
    turns: ctypes.Array[ctypes.c_double]
    decisions: Decisions
    work: Work
    registry: Registry | None
    replaces: bool
    remembered: Remembered | None
    rates: Buckets | None
    accepted: Sequence[socket.socket]


def run(start: Start, listener: socket.socket, others: Sequence[socket.socket]) -> None:
    """The main function of a worker process."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT):  # a terminal sends them to all processes; the supervisor decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the server has its own handler: no work has begun
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for other in others:
        other.close()
    settings = start.settings
    faulthandler.register(SHOW_STACKS)
    logs.configure(settings.log_format, settings.log_level)  # a spawned process has its own log
    logs.in_process(worker=start.place)
    all_boards = boards(start.memory)
    metrics = Metrics(all_boards[start.place], all_boards)

    def turn() -> None:
        start.turns[start.place] += 1

    shared = Shared(
        start.workers,
        metrics,
        start.registry,
        start.replaces,
        worker=start.place,
        decisions=start.decisions,
        remembered=start.remembered,
        rates=start.rates,
        accepted=start.accepted,
        turn=turn,
    )
    try:
        status = start.work(settings, [listener], shared)
    except StartupError as error:
        _log.error(f"cannot start: {error}")
        status = STARTUP_STATUS
    sys.exit(status)
