"""The lines of the log."""

from __future__ import annotations

import io
from collections.abc import Callable
from threading import Thread
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.observability import logs

CONSOLE = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)

values = st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text())
events = st.dictionaries(st.text(min_size=1).filter(lambda key: key not in ("stack", "exc_info", "exception")), values)


@given(events, st.sampled_from(("debug", "info", "warning", "error", "critical")), st.text())
def test_a_line_of_words_is_the_one_that_structlog_makes(fields: dict[str, Any], level: str, what: str) -> None:
    event = {**fields, "event": what, "level": level, "timestamp": "2026-01-02T03:04:05.000006Z"}
    line = logs.plain(CONSOLE, None, "info", dict(event))
    assert line == CONSOLE(None, "info", dict(event))


def test_a_traceback_follows_its_line() -> None:
    event = {
        "event": "unexpected error",
        "level": "error",
        "timestamp": "now",
        "exc_info": ValueError("this went wrong"),
    }
    first, *rest = logs.plain(CONSOLE, None, "error", event).splitlines()
    assert "unexpected error" in first
    assert rest[-1] == "ValueError: this went wrong"


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
