"""The text between two tokens, kept short: a text may have a million line breaks in a row."""

from __future__ import annotations

from service.model.sentences import as_read, is_hard_break, line_ends

WIDEST = 4096
"""Columns. The splitter treats all wider gaps and lines alike."""


def squeezed(gap: str) -> str:
    """An equivalent gap for the splitter of little more than `WIDEST` code points. It may be extended."""
    if len(gap) <= WIDEST:
        return gap
    body = gap[:-1] if gap[-2:] != "\r\n" else gap[:-2]  # a following \n would join the \r to one break
    rest, body = gap[len(body) :], as_read(body)
    ends = line_ends(body)
    breaks = "\n\n" if len(ends) > 1 or is_hard_break(body) else "\n" if ends else ""
    width = min(len(body) - (ends[-1] if ends else 0), WIDEST // 2)
    return breaks + (" " if any(map(str.isspace, body)) else "\u200b") * width + rest
