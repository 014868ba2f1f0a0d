"""Counts of work in place of times: a count is the same on every machine and under any load."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines(run: Callable[[], object]) -> int:
    """The lines of Python that run within a call, in all functions that it calls."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


class Characters:
    """Passes calls on to another object, and counts the characters of the strings that they are given."""

    def __init__(self, of: Any) -> None:
        self._of = of
        self.total = self.longest = 0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._of, name)
        if not callable(function):
            return function

        def counted(*arguments: Any) -> Any:
            for each in arguments:
                if isinstance(each, str):
                    self.total += len(each)
                    self.longest = max(self.longest, len(each))
            return function(*arguments)

        return counted


def assert_linear(work: Callable[[int], int], size: int, constant: int = 1000) -> None:
    """Four times the size takes at most six times the work, besides a constant; in the square it would take sixteen."""
    small, large = work(size), work(4 * size)
    assert large <= 6 * small + constant, f"work {small} at {size}, {large} at {4 * size}"
