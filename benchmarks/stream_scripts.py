"""Random scripts of messages to `WS /stream`: right and wrong ones, in any order, from clients that vanish.

A script ends well when the connection ends as the protocol says. A hang is a time-out, an error of the service a
message with the status 500; both raise `AssertionError`, which names the seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

SECONDS = 30.0
"""In which the service has to answer or to close."""
_OPENINGS = (
    {"model": "sentiment-lstm"},
    {"model": "sentiment-lstm", "state_every": 2, "gates": ["forget"], "units": [0]},
    {"task": "ner"},
    {"model": "sentiment-bilstm"},
    {"model": "nobody"},
    {"state": "AAAA"},
    {"text": "too early"},
)
_MESSAGES: tuple[object, ...] = (
    {"text": "The film was gr"},
    {"text": "eat, Ada. "},
    {"text": ""},
    {"text": "\U0001f468\u200d\U0001f469 e\u0301 我"},
    {"tokens": ["a", "film"]},
    {"tokens": [""]},
    {"end": True},
    {"text": "a", "end": True},
    {"text": "a", "tokens": ["b"]},
    {"model": "sentiment-lstm"},
    {"text": 7},
    [],
    {},
)


def service_url(text: str) -> str:
    """The address of a service as `play` takes it: http or https, without a path. Raises `ValueError`, which says what
    is right."""
    right = "URL is the address of a service without a path, such as http://127.0.0.1:8000"
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{right}; /stream is added")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{right}; /stream is added. Here: {parts.scheme}://{parts.netloc}")
    return f"{parts.scheme}://{parts.netloc}"


def play(url: str, seed: int) -> bool:
    """Play one script against the service at `url`. Returns whether it got as far as an answer for a whole text."""
    choice = random.Random(seed)  # noqa: S311  # nothing secret
    done = False
    socket = url.replace("http", "ws", 1) + "/stream"
    with suppress(ConnectionClosed), connect(socket, open_timeout=SECONDS, proxy=None, close_timeout=5) as connection:
        say(connection, choice.choices(_OPENINGS, [8, 8, 8, 1, 1, 1, 1])[0])
        for _ in range(choice.randrange(1, 12)):
            _act(choice)(connection, choice)
        if choice.random() < 0.2:  # the client vanishes
            connection.socket.shutdown(SHUT_RDWR)
            return done
        say(connection, {"end": True})  # of what is under way
        say(connection, {"tokens": ["a", "last", "film"], "end": True})
        while not done:
            message = json.loads(connection.recv(SECONDS))
            assert message.get("status") != 500, f"seed {seed}: {message}"
            done = message["type"] == "done" and message["tokens"] == 3
    return done


def say(connection: ClientConnection, message: object) -> None:
    connection.send(json.dumps(message))


def _act(choice: random.Random) -> Callable[[ClientConnection, random.Random], None]:
    return choice.choices([_send, _receive, _nonsense, _binary, _ping], [12, 6, 1, 1, 1])[0]


def _send(connection: ClientConnection, choice: random.Random) -> None:
    say(connection, choice.choice(_MESSAGES))


def _receive(connection: ClientConnection, choice: random.Random) -> None:
    with suppress(TimeoutError):
        message = json.loads(connection.recv(0.01))
        assert message.get("status") != 500, message


def _nonsense(connection: ClientConnection, choice: random.Random) -> None:
    connection.send(choice.choice(["", "{", "nul", "[1", '{"text": "\\ud800"}', "9" * 1000]))


def _binary(connection: ClientConnection, choice: random.Random) -> None:
    connection.send(choice.randbytes(choice.randrange(64)))


def _ping(connection: ClientConnection, choice: random.Random) -> None:
    connection.ping()
