"""Ports for programs that cannot be told to take any, or that have to take one again."""

from __future__ import annotations

import random
import socket

LOWEST, HIGHEST = 20_000, 32_000
"""Below those that Linux gives to connections and to listeners that ask for any port. A port that the system gave, and
that is free again, may be another program's a moment later; one of these is not."""


def free_port() -> int:
    """A port of all addresses that nothing listens at. Another run of the tests chooses another one."""
    for port in random.SystemRandom().sample(range(LOWEST, HIGHEST), 100):
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError(f"no port between {LOWEST} and {HIGHEST} is free")
