"""The text between two tokens, kept short: a text may have a million line breaks in a row."""

from __future__ import annotations

from service.model.sentences import is_hard_break, line_ends

WIDEST = 4096
"""Columns. The splitter tells no wider gap, nor line, from this one."""


def squeezed(gap: str) -> str:
    """A gap that the splitter takes for the same, of at most `WIDEST` code points and a few. More may be added."""
    if len(gap) <= WIDEST:
        return gap
    body = gap[:-1] if gap[-2:] != "\r\n" else gap[:-2]  # what comes may make one break of \r and \n
    ends = line_ends(body)
    breaks = "\n\n" if len(ends) > 1 or is_hard_break(body) else "\n" if ends else ""
    width = min(len(body) - (ends[-1] if ends else 0), WIDEST // 2)
    return breaks + (" " if any(map(str.isspace, body)) else "\u200b") * width + gap[len(body) :]
