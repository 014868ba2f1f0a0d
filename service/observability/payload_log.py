"""The payload log: each request and its answer as one CloudEvent, a line of JSON in a file.

An event is handed over in the event loop and written by a thread: no answer waits for it. An event that cannot be
written, or finds the queue full, is dropped and counted. Every worker has files of its own. A partly written event is
removed from the file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal, cast

import orjson
import structlog

from service.errors import StartupError
from service.observability.rotated_file import RotatedFile, is_device, open_file

PREDICTION, FEEDBACK = "gatelight.prediction.v1", "gatelight.feedback.v1"
"""The types of events. Each has a file of its own."""

WAITING_EVENTS = 4096
"""Events that may wait for the disk; more are lost."""
WAITING_CHARACTERS = 32 * 1024 * 1024
"""Characters of texts in them, at most."""
CLOSE_SECONDS = 2.0
"""For which the end of a service waits for events that are not written."""
_AS_A_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY

Lost = Literal["full", "disk", "redact"]
"""Why an event was not written: too many wait, the file cannot be written, or the hook failed."""
LOST: tuple[Lost, ...] = ("full", "disk", "redact")

Event = dict[str, Any]
Redact = Callable[[Event], Event | None]
"""Takes an event, and returns the part that may be written; None for nothing."""

_log = structlog.get_logger()


def event(kind: str, identity: str, source: str, then: float, data: Event, **extensions: str) -> Event:
    """A CloudEvent 1.0 with JSON data. `then` is in seconds since 1970."""
    time = datetime.fromtimestamp(then, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"specversion": "1.0", "id": identity, "source": source, "type": kind, "time": time}
    return {**head, "datacontenttype": "application/json", **extensions, "data": data}


def path_of(path: Path, worker: int | None) -> Path:
    """A worker's own file: ``log.0.jsonl`` for ``log.jsonl``. With one process, and for a device: the file itself."""
    if worker is None or is_device(path):
        return path
    return path.with_name(f"{path.stem}.{worker}{path.suffix}")


def feedback_path(path: Path) -> Path:
    """The path of feedback: ``log.jsonl`` has ``log.feedback.jsonl`` beside it; a device takes both."""
    if is_device(path):
        return path
    return path.with_name(f"{path.stem}.feedback{path.suffix}")


def check(path: Path) -> None:
    """Raise `StartupError` if a log cannot be opened for a lasting reason; a full disk is none."""
    try:
        os.close(open_file(path))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise StartupError(
            f"payload_log: {str(path)!r} cannot be opened: {error.strerror}. It has to be a file in a folder that is "
            "there and can be written."
        ) from error
    except OSError as error:
        _log.error("payload log cannot be opened yet", reason=error.strerror)


def read_redact(name: str) -> Redact | None:
    """The hook of this name, ``module:function``; None for none. Raises `StartupError`."""
    if not name:
        return None
    module, colon, function = name.partition(":")
    try:
        if not colon:
            raise ValueError("it has no colon")
        hook = getattr(import_module(module), function)
    except Exception as error:  # the module is the user's: it may raise anything
        raise StartupError(
            f"payload_redact: {name!r} is not MODULE:FUNCTION of a module that is there: {error}"
        ) from error
    if not callable(hook):
        raise StartupError(f"payload_redact: {name!r} is no function")
    return cast("Redact", hook)


class PayloadLog:
    """Writes events from a thread of its own, which `start` starts.

    `path` is this process's file. A file is put aside before it would be over `most_bytes`, and `kept` such are kept.
    `written` and `lost` count events by their type, and by the reason.
    """

    def __init__(self, path: Path, *, most_bytes: int, kept: int, redact: Redact | None = None) -> None:
        files = {each: RotatedFile(each, most_bytes, kept) for each in (path, feedback_path(path))}  # one for a device
        self._files = {PREDICTION: files[path], FEEDBACK: files[feedback_path(path)]}
        self._redact = redact
        self._queue: SimpleQueue[tuple[str, Callable[[], Event], int] | None] = SimpleQueue()
        """The type of each event, the function that makes it, and its characters. None ends the thread."""
        self._thread = Thread(target=self._work, name="payload-log", daemon=True)  # no end waits for a slow disk
        self._offered = self._done = 0  # characters: the one counts in the event loop, the other in the thread
        self.written: Counter[str] = Counter()
        self.lost: Counter[Lost] = Counter()

    def start(self) -> None:
        self._thread.start()

    def offer(self, kind: str, build: Callable[[], Event], characters: int) -> None:
        """Queue an event of this type and of `characters` characters. `build` makes it in the thread. Returns at
        once."""
        waiting = self._offered - self._done
        if self._queue.qsize() >= WAITING_EVENTS or (waiting and waiting + characters > WAITING_CHARACTERS):
            self.lost["full"] += 1
            return
        self._offered += characters
        self._queue.put((kind, build, characters))

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write the waiting events, for a limited time."""
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> None:
        for kind, build, characters in iter(self._queue.get, None):
            self._write(kind, build)
            self._done += characters
        for file in self._files.values():
            file.close()

    def _write(self, kind: str, build: Callable[[], Event]) -> None:
        why: Lost = "redact"
        try:
            line = orjson.dumps(build(), option=_AS_A_LINE)
            if self._redact is not None:
                # A copy in plain values: what the hook changes is nobody else's.
                made = self._redact(orjson.loads(line))
                if made is None:
                    return
                if not isinstance(made, dict):
                    raise TypeError("the hook has to return an event, or None")
                line = orjson.dumps(made, option=_AS_A_LINE)
            why = "disk"
            self._files[kind].write(line)
        except Exception as error:  # the hook is the user's, the disk may be full: nobody's answer must suffer
            self.lost[why] += 1
            if self.lost[why] == 1:
                _log.error("payload log lost an event", why=why, error=type(error).__name__)
            return
        self.written[kind] += 1
