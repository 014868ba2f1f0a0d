"""Logs: one line an event, for people or as JSON, on standard error.

Everything goes through structlog: the service's own events, those of libraries that use `logging` (uvicorn's), and
Python's warnings. What is bound with `structlog.contextvars` (the request's id) stands in every line of a request.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from threading import get_ident
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_lost = 0

Format = Literal["console", "json"]
Level = Literal["debug", "info", "warning", "error"]

_QUIET = ("uvicorn", "asyncio")
"""Libraries whose reports of their progress say nothing that the service does not say itself."""


_PLAIN = frozenset({"timestamp", "level", "event"})
_NOT_PLAIN = frozenset({"exc_info", "exception", "stack", "logger", "logger_name"})
"""Fields with which an event is more than a line of words."""
_WORD = re.compile(r"[^ \t=\r\n\"']*")


class _Stream:
    """A stream whose lines are lost where they cannot be written: a full disk must not fail a request.

    The lines of an event loop can be gathered: what it logs in one turn is written at once. A call to the system for
    each would be a tenth of what a short request costs.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.isatty = stream.isatty
        self._soon: Callable[[Callable[[], None]], object] | None = None
        self._thread = 0
        self._waiting: list[str] = []

    def gather(self, soon: Callable[[Callable[[], None]], object] | None) -> None:
        """Keep this thread's lines until what is given to `soon` is called; None: no more."""
        self._soon, self._thread = soon, get_ident()
        self.write_waiting()

    def write(self, text: str) -> None:
        if self._soon is None or get_ident() != self._thread:
            self._write(text)
            return
        if not self._waiting:
            self._soon(self.write_waiting)
        self._waiting.append(text)

    def flush(self) -> None:
        if not self._waiting or get_ident() != self._thread:
            self._flush()

    def write_waiting(self) -> None:
        """Write the lines that were kept."""
        if self._waiting:
            text = "".join(self._waiting)
            self._waiting.clear()
            self._write(text)
            self._flush()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            self._lose()

    def _flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        global _lost
        _lost += 1


_stream: _Stream | None = None
"""Where the log goes, once it is set up."""


def gather(soon: Callable[[Callable[[], None]], object] | None) -> None:
    """Write this thread's lines together, whenever `soon`, such as an event loop's ``call_soon``, calls for it; None:
    each at once again. What waits is written first."""
    if _stream is not None:
        _stream.gather(soon)


def lost() -> int:
    """How often something could not be written to the log."""
    return _lost


def configure(log_format: Format, level: Level, stream: TextIO | None = None) -> None:
    """Set logging up for the whole process."""
    global _stream
    _stream = _Stream(stream or sys.stderr)
    stream = cast(TextIO, _stream)  # as much of one as a log needs
    number = getattr(logging, level.upper())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending = _ending(log_format, colours=stream.isatty())
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_logger],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for library in _QUIET:
        logging.getLogger(library).setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)
    logging.captureWarnings(True)


def _ending(log_format: Format, *, colours: bool) -> Sequence[Processor]:
    """From an event's fields to its line."""
    if log_format == "json":
        return (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json))
    console = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    return (console if colours else partial(plain, console),)


def plain(console: Processor, logger: WrappedLogger, method: str, event: EventDict) -> Any:
    """The line that structlog's console makes of an event, for one without a traceback: a tenth of the time, and every
    request has such a line."""
    if not (event.keys() >= _PLAIN and event.keys().isdisjoint(_NOT_PLAIN)):
        return console(logger, method, event)
    timestamp, level, what = event.pop("timestamp"), event.pop("level"), event.pop("event")
    words = [f"{timestamp} [{level:<9}] {what:<30}"]
    for key, value in sorted(event.items()):
        words.append(f"{key}={value if type(value) is str and _WORD.fullmatch(value) else repr(value)}")
    return " ".join(words).rstrip(" ")


def _json(event: EventDict, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a file's name that is not UTF-8, say: a line must never be lost for that
        return json.dumps(event, default=repr)


def _name_logger(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Which library's logger an event of `logging` came from."""
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event
