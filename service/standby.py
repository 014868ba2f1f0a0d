"""A spare worker: it has its models loaded, and waits for the place of one that dies.

Its models take seconds to load, on a busy machine many; a place is taken within milliseconds. Until it is called, it
has every worker's socket and accepts from none.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection

import structlog

from service.errors import StartupError

LOADED = "loaded"
"""What a spare tells the supervisor; which answers, one day, with the number of a place."""
STARTUP_STATUS = 1
"""With which a worker ends that cannot start."""
_LOOK_SECONDS = 0.5
_log = structlog.get_logger()


class Standby:
    """One spare's wait. `places` are the workers' sockets, `listener` the one at which it will serve."""

    def __init__(self, calls: Connection, places: Sequence[socket.socket]) -> None:
        self._calls = calls
        self._places = places
        self._parent = os.getppid()
        self.listener = socket.socket(places[0].family, socket.SOCK_STREAM)
        self.listener.setblocking(False)

    async def called(self, failure: StartupError | None) -> None:
        """Say that the models are loaded, and return once a place is this process's: its socket is `listener` now.

        With a `failure`, or when nobody is left to call, the process ends: it has begun nothing.
        """
        if failure is not None:
            _log.error(f"cannot start: {failure}")
            os._exit(STARTUP_STATUS)
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._calls.fileno(), told.set)
        try:
            self._calls.send(LOADED)
            while not told.is_set():
                try:
                    await asyncio.wait_for(told.wait(), _LOOK_SECONDS)
                except TimeoutError:
                    if os.getppid() != self._parent:  # siblings have the other end open too: it would not tell
                        os._exit(0)
            place = self._calls.recv()
        except (EOFError, OSError):
            os._exit(0)
        finally:
            loop.remove_reader(self._calls.fileno())
        os.dup2(self._places[place].fileno(), self.listener.fileno())
        for each in self._places:
            each.close()
        self._calls.close()
        _log.info("place taken", place=place)
