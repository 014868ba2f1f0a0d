"""What the supervisor does where a process cannot be started."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

import pytest

from service import settings
from service.process.supervisor import LONGEST_PAUSE, METHOD, Supervisor, _Worker
from service.serving.decisions import Decision
from service.serving.shared import Shared


def _serve_nothing(asked: settings.Settings, listeners: Sequence[socket.socket], shared: Shared) -> int:
    """Wait for the signal to stop."""
    signal.sigwait({signal.SIGTERM})
    return 0


@pytest.mark.skipif(METHOD != "fork", reason="processes are not forked on this system")
def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(settings.read({"port": 0}, _env_file=None), 2, _serve_nothing)
    forked: list[int] = []
    fork = os.fork

    def scarce() -> int:
        """The second fork fails; the third is the last that is needed."""
        forked.append(0)
        if len(forked) == 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        child = fork()
        if child and len(forked) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return child

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    monkeypatch.setattr(os, "fork", scarce)
    try:
        assert supervisor.run() == 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
        sys.setswitchinterval(interval)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(forked) == 3


def test_the_pause_between_starts_has_a_bound_however_many_fail() -> None:
    supervisor = Supervisor(settings.read({"port": 0}, _env_file=None), 1, _serve_nothing)
    supervisor._listeners[0].close()
    worker = _Worker(0, started=time.monotonic(), failures=5000)
    assert supervisor._postpone(worker) == LONGEST_PAUSE
    assert not supervisor._decisions.behind(Decision(1, 0)), "no change waits for a worker that is not there"
