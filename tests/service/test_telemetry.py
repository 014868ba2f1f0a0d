"""The lines of the log."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service import telemetry

CONSOLE = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)

values = st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text())
events = st.dictionaries(st.text(min_size=1).filter(lambda key: key not in ("stack", "exc_info", "exception")), values)


@pytest.fixture
def _logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@given(events, st.sampled_from(("debug", "info", "warning", "error", "critical")), st.text())
def test_a_line_of_words_is_the_one_that_structlog_makes(fields: dict[str, Any], level: str, what: str) -> None:
    event = {**fields, "event": what, "level": level, "timestamp": "2026-01-02T03:04:05.000006Z"}
    line = telemetry.plain(CONSOLE, None, "info", dict(event))
    assert line == CONSOLE(None, "info", dict(event))


@pytest.mark.usefixtures("_logging")
def test_a_traceback_follows_its_line() -> None:
    stream = io.StringIO()
    telemetry.configure("console", "info", stream)
    try:
        raise ValueError("this went wrong")
    except ValueError:
        structlog.get_logger().exception("unexpected error", model="m")
    first, *rest = stream.getvalue().splitlines()
    assert "unexpected error" in first
    assert "model=m" in first
    assert rest[-1] == "ValueError: this went wrong"
