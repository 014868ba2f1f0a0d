"""What the tests of streams share: a repository with models that read forward, and streams over WebSockets."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.bundles import tiny_bundle
from tests.integration.conftest import Process
from tests.patience import PATIENCE

TEXT = (
    "The film was great, Mr. Ada lived in London!\r\n\r\nIt isn't bad & dull: e\u0301te\u0301 &eacute; 我喜欢 "
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 U.S. Inc. <br />No. 1 is at http://a.example/b?c=d, very good."
)


def write_repository(repository: Path) -> None:
    """Models of both tasks that read forward, and one that does not."""
    tiny_bundle(repository / "sentiment-lstm", bidirectional=False, head="attention", layers=2)
    tiny_bundle(repository / "sentiment-gru", bidirectional=False, cell="gru", head="mean")
    tiny_bundle(repository / "sentiment-bilstm")
    tiny_bundle(repository / "ner-gru", bidirectional=False, task="ner", cell="gru", crf=True, seed=1)


def predicted(service: Process, model: str, inputs: Any, **more: Any) -> Any:
    """What `/predict` says of the whole."""
    answer = service.client.post("/predict", json={"model": model, "inputs": inputs, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"][0]


def tokens(service: Process, model: str, text: str) -> Any:
    """The tokens of the whole, with their offsets."""
    answer = service.client.post("/gates", json={"model": model, "inputs": text, "reduce": "summary"})
    return answer.json()["traces"][0]["tokens"]


def cut(text: str, seed: int) -> list[str]:
    """A text in pieces of random lengths, some of them empty."""
    pieces, at, choice = [], 0, random.Random(seed)
    while at < len(text):
        size = choice.choice([0, 1, 1, 2, 5, 30])
        pieces.append(text[at : at + size])
        at += size
    return pieces


class Socket:
    """One stream over a WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def receive(self) -> Any:
        return json.loads(self.connection.recv(PATIENCE))

    def until(self, *kinds: str) -> list[Any]:
        """The messages up to the first of these types, with it."""
        found = [self.receive()]
        while found[-1]["type"] not in kinds:
            found.append(self.receive())
        return found


@contextmanager
def stream(service: Process, headers: dict[str, str] | None = None, **opening: Any) -> Iterator[Socket]:
    """A stream that is open, behind its message `ready`."""
    with socket(service, headers) as opened:
        opened.send(**opening)
        ready = opened.receive()
        assert ready["type"] == "ready", ready
        yield opened


@contextmanager
def socket(service: Process, headers: dict[str, str] | None = None, **options: Any) -> Iterator[Socket]:
    """A WebSocket before its opening message."""
    url = service.url.replace("http", "ws", 1) + "/stream"
    with connect(url, additional_headers=headers, open_timeout=PATIENCE, proxy=None, **options) as connection:
        yield Socket(connection)


def of(kind: str, events: Sequence[Any]) -> list[Any]:
    return [event for event in events if event["type"] == kind]
