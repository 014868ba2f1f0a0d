"""The lines of the log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.observability import logs

CONSOLE = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
KNOWN = ("event", "level", "timestamp", "stack", "exc_info", "exception", "logger", "logger_name")

values = st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text())
events = st.dictionaries(st.text(min_size=1).filter(lambda key: key not in KNOWN), values)


@given(events, st.sampled_from(("debug", "info")))
def test_the_line_of_a_request_is_the_one_that_structlog_makes(fields: dict[str, Any], level: str) -> None:
    then = int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()) * 1_000_000 + 6
    known = {"event": "request", "level": level, "timestamp": then}
    line = logs._console({**fields, **known})
    assert line == CONSOLE(None, "info", {**fields, **known, "timestamp": "2026-01-02T03:04:05.000006Z"})


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_request_and_other_events_have_the_same_fields(
    log_format: logs.Format,
) -> None:
    """Whichever way a line was made: the process's, the request's, its own."""
    under = io.StringIO()
    before = structlog.get_config()
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure(log_format, "info", under)
        logs.in_process(worker=3)
        logs.in_request({"request_id": "one"})
        lines = logs.RequestLog()
        lines.write({"route": "/predict"}, {"status": 200})
        lines.write({"route": "/health/live"}, {}, debug=True)
        structlog.get_logger().info("request", route="/predict", status=200)
    finally:
        logs.in_request({})
        structlog.configure(**before)
        assert logs._stream() is None, "the stream goes with structlog's configuration"
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
        logging.captureWarnings(False)
    first, second = (re.sub(r"2\d{3}-\S+Z", "then", line) for line in under.getvalue().splitlines())
    if log_format == "json":
        assert json.loads(first) == json.loads(second)
        assert json.loads(first)["worker"] == 3
    else:
        assert first == second
    assert "one" in first


class _Counting(io.StringIO):
    """Counts what it is asked to write."""

    calls = 0

    def write(self, text: str) -> int:
        self.calls += 1
        return super().write(text)


def test_gathered_lines_are_written_at_once_and_in_order() -> None:
    under, due = _Counting(), list[Callable[[], None]]()
    stream = logs._Stream(under)
    stream.gather(due.append)
    for line in ("a\n", "b\n"):
        stream.write(line)
        stream.flush()
    assert (under.getvalue(), len(due)) == ("", 1)
    due.pop()()
    assert (under.getvalue(), under.calls) == ("a\nb\n", 1)
    stream.write("c\n")
    assert len(due) == 1


def test_what_waits_is_written_when_gathering_ends_and_other_threads_wait_for_nothing() -> None:
    under, due = io.StringIO(), list[Callable[[], None]]()
    stream = logs._Stream(under)
    stream.gather(due.append)
    stream.write("kept\n")
    thread = Thread(target=stream.write, args=("from a thread\n",))
    thread.start()
    thread.join()
    assert under.getvalue() == "from a thread\n"
    stream.gather(None)
    stream.write("at once\n")
    assert under.getvalue().splitlines() == ["from a thread", "kept", "at once"]
