"""Output for people: lines and tables, on a terminal or in a pipe or file.

A terminal is as wide as it is, and tables wrap in their cells. A pipe or a file has no width: nothing there is wrapped,
cut or padded.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

_UNBOUNDED = 100_000
"""Width in columns of a pipe or file. rich assumes 80, and cuts tables to it."""


def console(*, stderr: bool = False) -> Console:
    """A console for standard output or standard error, as it is now."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNBOUNDED
    return Console(stderr=stderr, width=width, soft_wrap=True, markup=False, highlight=False)


def show(table: Table) -> None:
    """Print a table on standard output, below its title."""
    out = console()
    if table.title:
        out.print(table.title)
        table.title = None  # rich wraps a title to the width of its table
    for column in table.columns:
        column.overflow = "fold"
    out.print(table)
