"""Logs: one line an event, for people or as JSON, on standard error.

Everything goes through structlog: the service's own events, those of libraries that use `logging` (uvicorn's), and
Python's warnings. The values given to `in_request` (the request's id) stand in every line of a request.

A request's own line (`request`) is formatted here by hand, once in a turn of the event loop: structlog's processors
take three times as long, and every request has such a line.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache, partial
from threading import get_ident
from time import time_ns
from types import MappingProxyType
from typing import Any, Literal, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["console", "json"]
Level = Literal["debug", "info", "warning", "error"]

_QUIET = ("uvicorn", "asyncio")
"""Libraries with progress reports that only repeat the service's own events."""


_FIRST = frozenset(("timestamp", "level", "event"))
_WORD = re.compile(r"[^ \t=\r\n\"']*")

_request: ContextVar[Mapping[str, object]] = ContextVar("request", default=MappingProxyType({}))

Renderer = Callable[[Mapping[str, Any]], str]
"""Makes a line of a request's fields, among them timestamp (microseconds since 1970), level and event."""


class _Stream:
    """A stream that drops lines it cannot write: a full disk must not fail a request.

    The lines of an event loop can be gathered: those of one turn are written together. A system call for each would
    cost about as much as the line itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.isatty = stream.isatty
        self._soon: Callable[[Callable[[], None]], object] | None = None
        self._thread = 0
        self._waiting: list[str | Mapping[str, object]] = []
        self.lost = 0
        """How often something could not be written."""
        self.level = logging.INFO
        self.fields: dict[str, object] = {}
        """Fields of every line of this process."""
        self.line: Renderer | None = None
        """Makes the lines of requests; None if structlog makes them too."""

    def gather(self, soon: Callable[[Callable[[], None]], object] | None) -> None:
        """Keep this thread's lines until the function given to `soon` is called. None ends this."""
        self._soon, self._thread = soon, get_ident()
        self.write_waiting()

    def write(self, text: str | Mapping[str, object]) -> None:
        """Write a line, or the line of a request's fields."""
        if self._soon is None or get_ident() != self._thread:
            self._write(self._text(text))
            return
        if not self._waiting:
            self._soon(self.write_waiting)
        self._waiting.append(text)

    def _text(self, text: str | Mapping[str, object]) -> str:
        if isinstance(text, str):
            return text
        assert self.line is not None
        return self.line(text) + "\n"

    def flush(self) -> None:
        if not self._waiting or get_ident() != self._thread:
            self._flush()

    def write_waiting(self) -> None:
        """Write the lines that were kept."""
        if self._waiting:
            text = "".join(map(self._text, self._waiting))
            self._waiting.clear()
            self._write(text)
            self._flush()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            self.lost += 1

    def _flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self.lost += 1


class _Loggers(structlog.WriteLoggerFactory):
    """structlog's loggers over a stream. structlog's configuration is the one place that holds the stream."""

    def __init__(self, stream: _Stream) -> None:
        super().__init__(cast(TextIO, stream))  # has the methods that a log uses
        self.stream = stream


_log = structlog.get_logger()


def _stream() -> _Stream | None:
    """The stream of the last `configure`; None before it, and after structlog was reset."""
    loggers = structlog.get_config()["logger_factory"]
    return loggers.stream if isinstance(loggers, _Loggers) else None


def gather(soon: Callable[[Callable[[], None]], object] | None) -> None:
    """Write this thread's lines together, whenever `soon`, such as an event loop's ``call_soon``, calls for it; None:
    each at once again. Waiting lines are written first."""
    if (stream := _stream()) is not None:
        stream.gather(soon)


def lost() -> int:
    """How often something could not be written to the log."""
    return stream.lost if (stream := _stream()) is not None else 0


def in_process(**fields: object) -> None:
    """Add fields to every later line of this process. Call it after `configure`."""
    stream = _stream()
    assert stream is not None
    stream.fields.update(fields)


def in_request(fields: Mapping[str, object]) -> None:
    """Replace the fields of every later line of the current task."""
    _request.set(fields)


class RequestLog:
    """Writes the lines of finished requests to the stream of the last `configure`, which must come before."""

    def __init__(self) -> None:
        self._stream = _stream()

    def write(self, fields: Mapping[str, object], more: Mapping[str, object], *, debug: bool = False) -> None:
        """The line of one request with `fields` and `more` fields, at level info or debug."""
        level, stream = "debug" if debug else "info", self._stream
        if stream is None or stream.line is None:
            getattr(_log, level)("request", **fields, **more)
        elif stream.level <= (logging.DEBUG if debug else logging.INFO):
            known = {"event": "request", "level": level, "timestamp": time_ns() // 1000}
            stream.write({**stream.fields, **_request.get(), **fields, **more, **known})


def configure(log_format: Format, level: Level, stream: TextIO | None = None) -> None:
    """Set logging up for the whole process."""
    own = _Stream(stream or sys.stderr)
    number = getattr(logging, level.upper())
    shared: list[Processor] = [
        partial(_merge, own.fields),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    ending = _ending(log_format, colours=own.isatty())
    if log_format == "json":
        own.line = _as_json
    elif not own.isatty():
        own.line = _console
    own.level = number
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Loggers(own),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(cast(TextIO, own))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
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
    return (structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),)


def _console(fields: Mapping[str, Any]) -> str:
    """The line that structlog's console makes of a request, without colours."""
    facts = [
        f"{name}={_word(value)}" if type(value := fields[name]) is str else f"{name}={value!r}"
        for name in _in_order(*fields)
    ]
    return f"{_stamp(fields)} [{fields['level']:<9}] {fields['event']:<30} {' '.join(facts)}".rstrip(" ")


@lru_cache(maxsize=64)
def _in_order(*names: str) -> Sequence[str]:
    """The names that stand behind the event. Nearly all requests have the same."""
    return sorted({*names} - _FIRST)


@lru_cache(maxsize=512)
def _word(text: str) -> str:
    return text if text.isalnum() or _WORD.fullmatch(text) else repr(text)


def _as_json(fields: Mapping[str, object]) -> str:
    return _json({**fields, "timestamp": _stamp(fields)})


def _stamp(fields: Mapping[str, Any]) -> str:
    """The time in ISO 8601, of microseconds since 1970."""
    seconds, microseconds = divmod(fields["timestamp"], 1_000_000)
    return f"{_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[: len("2026-01-02T03:04:05")]


def _merge(process: Mapping[str, object], logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add the fields of the process and of the request."""
    return {**process, **_request.get(), **event}


def _json(event: EventDict, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a file's name that is not UTF-8, say: a line must never be lost for that
        return json.dumps(event, default=repr)
