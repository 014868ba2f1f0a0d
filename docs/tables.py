"""Pages and tables in Markdown, for the reference pages that are made of the code."""

from __future__ import annotations

import re

_BAR = re.compile(r"(`[^`]*`)|\|")


def page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *filter(None, parts)]) + "\n"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    """One line, whose bars end no cell; in code they end none, and a backslash there would be shown."""
    return _BAR.sub(lambda found: found[1] or "\\|", " ".join(text.split()))
