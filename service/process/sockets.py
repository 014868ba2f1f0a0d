"""Listening sockets for one process or several, closed without losing a connection."""

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
# Classic BPF over a TCP header: drop a segment with SYN and without ACK (a new connection), pass the others.
_LOAD_FLAGS = (0x30, 0, 0, 13)  # A = byte 13
_AND_SYN_ACK = (0x54, 0, 0, 0x12)  # A &= SYN | ACK
_IF_EQUAL, _MODULO, _RETURN = 0x15, 0x94, 0x06
_IF_SYN_ALONE = (_IF_EQUAL, 0, 1, 0x02)  # A == SYN: the next instruction, else the one after it
_DROP, _PASS = (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF)
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)  # A = a random number
_NO_NEW_CONNECTIONS = (_LOAD_FLAGS, _AND_SYN_ACK, _IF_SYN_ALONE, _DROP, _PASS)


def listen(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Listening sockets for `count` processes on one port. Raises `StartupError` with the cause.

    On Linux each process has its own socket and queue, and the kernel spreads connections over them. Processes that
    share one socket pile up keep-alive connections on the one that wakes first. Elsewhere they share one.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        first = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        listeners = [first]
        if count > 1 and _LINUX:
            # Bind again for sharing. SO_REUSEPORT from the start would also share the port with a foreign process.
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
    """A socket's address for the log."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def refuse(listener: socket.socket) -> None:
    """Reject new connections for good. Those with a started handshake can still be accepted (Linux).

    Closing a socket resets the connections in its queue. With new connections rejected, the queue can be emptied first.
    The socket is bound to a network interface that does not exist. Any process may do so; a packet filter would need
    CAP_NET_ADMIN. Sockets that share a port must be closed to new connections together.
    """
    if not _LINUX:
        return
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)
    except OSError:  # Linux before 5.7
        turn_away(listener)


def turn_away(listener: socket.socket) -> None:
    """Ignore new connections until `welcome`. Those with a started handshake can still be accepted (Linux).

    A new client gets no reply and tries again within a second. Some kernels demand CAP_NET_ADMIN for the filter;
    without it nothing changes.
    """
    if not _LINUX:
        return
    _attach(listener, _SO_ATTACH_FILTER, _NO_NEW_CONNECTIONS)


def welcome(listener: socket.socket) -> None:
    """Accept new connections again. The filter belongs to the socket, so the last process's filter must be removed."""
    if _LINUX:
        with contextlib.suppress(OSError):  # no filter is set
            listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def steer(listeners: Sequence[socket.socket], live: Sequence[int]) -> None:
    """Send new connections evenly to the sockets with the numbers `live`. Waiting connections stay at their sockets.

    `listeners` are all sockets of `listen`. Nothing changes if there is one, or if the kernel does not allow it.
    """
    if not _LINUX or len(listeners) < 2:
        return
    choose = [step for n, place in enumerate(live) for step in ((_IF_EQUAL, 0, 1, n), (_RETURN, 0, 0, place))]
    program = (_LOAD_RANDOM, (_MODULO, 0, 0, len(live)), *choose, (_RETURN, 0, 0, live[0]))
    _attach(listeners[0], _SO_ATTACH_REUSEPORT_CBPF, program)


def _attach(listener: socket.socket, option: int, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    """Set a classic BPF program as a socket option. A sandbox without filters ignores it."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    memory = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(instructions), ctypes.addressof(memory))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, option, program)
