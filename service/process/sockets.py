"""Listening sockets: made for one process or several, and given up without a connection being lost."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Sequence

from service.errors import StartupError

BACKLOG = 2048

_LINUX = sys.platform == "linux"
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_ATTACH_REUSEPORT_CBPF, _SO_BINDTOIFINDEX = 26, 27, 51, 62
_NO_INTERFACE = 2**31 - 1
# Classic BPF over a TCP header: a segment with SYN and without ACK, a new connection, is dropped; all else passes.
_LOAD_FLAGS = (0x30, 0, 0, 13)  # A = byte 13
_AND_SYN_ACK = (0x54, 0, 0, 0x12)  # A &= SYN | ACK
_IF_EQUAL, _MODULO, _RETURN = 0x15, 0x94, 0x06
_IF_SYN_ALONE = (_IF_EQUAL, 0, 1, 0x02)  # A == SYN: the next instruction, else the one after it
_DROP, _PASS = (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF)
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)  # A = a random number
_NO_NEW_CONNECTIONS = (_LOAD_FLAGS, _AND_SYN_ACK, _IF_SYN_ALONE, _DROP, _PASS)


def listen(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Listening sockets for `count` processes on one port. Raises `StartupError`, which names the obstacle.

    On Linux each has its own, with a queue of its own, and the kernel spreads connections over them: processes that
    share one gather keep-alive connections on whichever wakes first. Elsewhere they share one.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        first = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        listeners = [first]
        if count > 1 and _LINUX:
            # Made anew to be shared: bound with SO_REUSEPORT from the start, it would share with a stranger too.
            name = first.getsockname()[:2]
            first.close()
            listeners = [
                socket.create_server(name, family=family, backlog=BACKLOG, reuse_port=True) for _ in range(count)
            ]
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartupError(f"cannot listen on {host} port {port} (--host, --port): {reason}") from error
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def url(listener: socket.socket, scheme: str = "http") -> str:
    """A socket's address, for people."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def refuse(listener: socket.socket) -> None:
    """Refuse new connections for good; those whose handshake has begun can still be accepted (Linux).

    Closing a socket resets the connections in its queue. With new connections refused, the queue can be emptied first.
    The socket is bound to a network interface that does not exist. Any process may do so; a packet filter would need
    CAP_NET_ADMIN. Sockets that share a port must be refused together.
    """
    if not _LINUX:
        return
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)
    except OSError:  # Linux before 5.7
        turn_away(listener)


def turn_away(listener: socket.socket) -> None:
    """Take no new connections until `welcome`; those whose handshake has begun can still be accepted (Linux).

    A client that comes now is not answered, and tries again within a second. Without CAP_NET_ADMIN some kernels refuse
    the filter: then nothing changes.
    """
    if not _LINUX:
        return
    _attach(listener, _SO_ATTACH_FILTER, _NO_NEW_CONNECTIONS)


def welcome(listener: socket.socket) -> None:
    """Take new connections again, at a socket whose last process turned them away: the filter is the socket's."""
    if _LINUX:
        with contextlib.suppress(OSError):  # there is none
            listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def steer(listeners: Sequence[socket.socket], live: Sequence[int]) -> None:
    """Send new connections to the sockets of these numbers alone, evenly. Those that wait at others stay there.

    `listeners` are all those of `listen`. Nothing changes if there is one, or if the kernel does not allow it.
    """
    if not _LINUX or len(listeners) < 2:
        return
    choose = [step for n, place in enumerate(live) for step in ((_IF_EQUAL, 0, 1, n), (_RETURN, 0, 0, place))]
    program = (_LOAD_RANDOM, (_MODULO, 0, 0, len(live)), *choose, (_RETURN, 0, 0, live[0]))
    _attach(listeners[0], _SO_ATTACH_REUSEPORT_CBPF, program)


def _attach(listener: socket.socket, option: int, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    """Set a program of classic BPF as a socket's option; without effect in a sandbox that has no filters."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    memory = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(instructions), ctypes.addressof(memory))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, option, program)
