"""Listening sockets: several on one port, and given up without losing what waits."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

import pytest

from service.errors import StartupError
from service.process.sockets import listen, refuse, steer, turn_away, url, welcome
from tests.patience import PATIENCE, until

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these socket options")


def _may_filter() -> bool:
    """Whether this process may set a filter, which passes all, at a TCP socket."""
    passes = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF))
    with socket.socket() as each:
        try:
            each.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(passes)))
        except OSError:
            return False
    return True


@linux
def test_several_have_one_port_and_share_its_connections() -> None:
    listeners = listen("127.0.0.1", 0, 3)
    (port,) = {listener.getsockname()[1] for listener in listeners}
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(64)]
    accepted = _accept_all(listeners, 64)
    assert all(accepted)
    for each in (*clients, *listeners, *(server for servers in accepted for server in servers)):
        each.close()


@linux
def test_new_connections_go_where_they_are_steered_and_what_waits_elsewhere_is_kept() -> None:
    listeners = listen("127.0.0.1", 0, 3)
    clients = [socket.create_connection(listeners[0].getsockname()) for _ in range(32)]
    steer(listeners, [0, 2])
    clients += [socket.create_connection(listeners[0].getsockname()) for _ in range(64)]
    steer(listeners, [1])
    clients += [socket.create_connection(listeners[0].getsockname()) for _ in range(8)]
    steer(listeners, [0, 1, 2])
    clients += [socket.create_connection(listeners[0].getsockname()) for _ in range(64)]
    accepted = _accept_all(listeners, len(clients))
    order = [[server.getpeername() for server in servers] for servers in accepted]
    names = [client.getsockname() for client in clients]
    reached = [next(n for n, peers in enumerate(order) if name in peers) for name in names]
    assert set(reached[32:96]) == {0, 2}
    assert set(reached[96:104]) == {1}
    assert set(reached[:32]) == set(reached[104:]) == {0, 1, 2}
    for each in (*clients, *listeners, *(server for servers in accepted for server in servers)):
        each.close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_port_in_use_is_not_shared_with_a_stranger(count: int) -> None:
    stranger = socket.create_server(("127.0.0.1", 0), reuse_port=hasattr(socket, "SO_REUSEPORT"))
    with stranger, pytest.raises(StartupError, match="in use"):
        listen("127.0.0.1", stranger.getsockname()[1], count)


def test_where_it_listens() -> None:
    (listener,) = listen("127.0.0.1", 0)
    assert url(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@linux
def test_new_connections_are_refused_by_any_user_and_those_before_them_are_kept() -> None:
    listeners = listen("127.0.0.1", 0, 2)
    address = listeners[0].getsockname()
    before = [socket.create_connection(address) for _ in range(20)]
    for client in before:
        client.sendall(b"x")
    for listener in listeners:
        refuse(listener)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    servers = [server for accepted in _accept_all(listeners, 20) for server in accepted]
    for server in servers:
        assert server.recv(1) == b"x"
        server.sendall(b"y")
        server.close()
    for client in before:
        assert client.recv(1) == b"y"
        client.close()
    for listener in listeners:
        listener.close()


@linux
@pytest.mark.skipif(not _may_filter(), reason="this kernel lets nobody without CAP_NET_ADMIN filter TCP")
def test_turned_away_clients_wait_until_they_are_welcome_and_those_before_them_are_kept() -> None:
    (listener,) = listen("127.0.0.1", 0)
    before = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    for client in before:
        client.sendall(b"x")
    turn_away(listener)
    with pytest.raises(TimeoutError):
        socket.create_connection(listener.getsockname(), timeout=0.3)
    welcome(listener)
    before.append(socket.create_connection(listener.getsockname(), timeout=PATIENCE))
    before[-1].sendall(b"x")
    (servers,) = _accept_all([listener], 21)
    listener.close()
    for server in servers:
        assert server.recv(1) == b"x"
        server.sendall(b"y")
        server.close()
    for client in before:
        assert client.recv(1) == b"y"
        client.close()


def _accept_all(listeners: Sequence[socket.socket], count: int) -> list[list[socket.socket]]:
    """The connections of each listener, `count` in all. One that its client has already may be still on its way."""
    accepted: list[list[socket.socket]] = [[] for _ in listeners]

    def all_there() -> bool:
        for listener, found in zip(listeners, accepted, strict=True):
            with suppress(BlockingIOError):
                while True:
                    connection, _ = listener.accept()
                    connection.setblocking(True)
                    found.append(connection)
        return sum(map(len, accepted)) >= count

    until(all_there)
    assert sum(map(len, accepted)) == count
    return accepted
