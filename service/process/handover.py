"""Connections that pass from one process to another before their first byte is read.

While the models load, one process answers at the workers' sockets. A connection that it has accepted is its own only
once the client has sent something. Until then nothing is lost if a worker reads it: the open file is inherited.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Sequence
from ssl import SSLContext
from typing import Any

AT_ONCE = 256
"""Connections that are accepted from one socket in one turn of the event loop."""
NO_ROOM_SECONDS = 1.0
"""Pause after the system had no room for another open file."""

Make = Callable[[], asyncio.Protocol]


class Adoption:
    """Gives accepted sockets their protocols, in the event loop."""

    def __init__(self, make: Make, ssl: SSLContext | None, handshake_seconds: float) -> None:
        self._make = make
        self._options: dict[str, Any] = {}
        if ssl is not None:
            self._options = {"ssl": ssl, "ssl_handshake_timeout": handshake_seconds}
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself keeps no task alive

    def __bool__(self) -> bool:
        """True while a connection has no protocol yet: a TLS handshake takes time."""
        return bool(self._tasks)

    def add(self, connection: socket.socket) -> None:
        """Read from a connection from now on."""
        task = asyncio.get_running_loop().create_task(self._add(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # the client has gone, or its handshake failed
            await loop.connect_accepted_socket(self._make, connection, **self._options)


class Acceptor:
    """Accepts connections, and calls `begin` once the client has sent something or hung up.

    At most `most` connections wait for their first byte here; one more begins at once. `stop` returns those that wait.
    """

    def __init__(self, listeners: Sequence[socket.socket], begin: Callable[[socket.socket], object], most: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = listeners
        self._begin = begin
        self._most = most
        self._silent: dict[int, socket.socket] = {}  # by file descriptor
        self._stopped = False
        for listener in listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def stop(self) -> list[socket.socket]:
        """Accept no more. Returns the connections that have sent nothing, which are the caller's from now on."""
        self._stopped = True
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        silent, self._silent = list(self._silent.values()), {}
        for connection in silent:
            self._loop.remove_reader(connection)
        return silent

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no open file is left
                self._loop.remove_reader(listener)
                self._loop.call_later(NO_ROOM_SECONDS, self._resume, listener)
                return
            connection.setblocking(False)
            if len(self._silent) >= self._most:
                self._begin(connection)
                continue
            self._silent[connection.fileno()] = connection
            self._loop.add_reader(connection, self._hear, connection.fileno())

    def _resume(self, listener: socket.socket) -> None:
        if not self._stopped:
            self._loop.add_reader(listener, self._accept, listener)

    def _hear(self, number: int) -> None:
        connection = self._silent.pop(number)
        self._loop.remove_reader(connection)
        self._begin(connection)


def close_all(connections: Iterable[socket.socket]) -> None:
    """Close this process's copies of the sockets."""
    for connection in connections:
        connection.close()


async def until(done: Callable[[], object], seconds: float, step: float = 0.005) -> bool:
    """Wait until `done` is true, for at most `seconds`. Returns True if it was."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + seconds
    while not done():
        if loop.time() >= limit:
            return False
        await asyncio.sleep(step)
    return True
