"""Tokens → a text as people write it: no space before a comma, none within brackets and quotes.

Corpora of columns keep tokens and not the text that they were cut from. This writes such a text again, with the place
of each token in it, so that it can be measured how a model does on raw text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_CLOSING = re.compile(r"[,.;:?!%)\]}…”»]+|''|(?i:n['’]t)|['’](?i:s|m|d|ll|re|ve|all|em)")
"""Tokens that follow the one before them without a space."""
_OPENING = re.compile(r"[(\[{“«‘¿¡£€¥$]|``|[A-Z]{1,3}\$|[#@]")
"""Tokens that the next one follows without a space."""
_WORD = re.compile(r"[^\W_]")
_DIGITS = re.compile(r"[0-9]+")
_HYPHENATED = re.compile(r"[^\W_]+(?:-[^\W_]+)+")
_HALVES = frozenset({("gon", "na"), ("wan", "na"), ("got", "ta"), ("gim", "me"), ("lem", "me"), ("can", "not")})
"""Words that treebanks cut in two without a sign of it."""
_QUOTES = frozenset({'"', "'"})


@dataclass(frozen=True, slots=True)
class Joined:
    """A text, and (start, end) of each token in it: code points, end exclusive, in order and apart."""

    text: str
    spans: list[tuple[int, int]]


def hyphens_apart(sentences: Iterable[Sequence[str]]) -> bool:
    """True if a corpus cuts words at their hyphens (``Al - Zaman``): then a hyphen between words has no spaces.

    Otherwise words keep their hyphens (``all-rounder``), and a hyphen that stands alone is a dash.
    """
    apart = whole = 0
    for tokens in sentences:
        for number, word in enumerate(tokens):
            whole += _HYPHENATED.fullmatch(word) is not None
            apart += word == "-" and 0 < number < len(tokens) - 1
    return apart > whole


def join(tokens: Sequence[str], *, apart: bool = False) -> Joined:
    """Write tokens as a text, every one as it stands.

    `apart` is the result of `hyphens_apart` for their corpus.
    """
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    open_quotes: set[str] = set()
    length, glued = 0, True
    for number, word in enumerate(tokens):
        before = tokens[number - 1] if number else ""
        behind = tokens[number + 1] if number + 1 < len(tokens) else ""
        glues = _OPENING.fullmatch(word) is not None and behind != ""
        closes = _CLOSING.fullmatch(word) is not None or (before.lower(), word.lower()) in _HALVES
        if word in _QUOTES:
            possessive = word == "'" and word not in open_quotes and before.lower().endswith("s")
            opening = not possessive and word not in open_quotes
            closes, glues = not opening, opening
            if not possessive:
                open_quotes ^= {word}
        elif _between(before, word, behind, apart):
            closes = glues = True
        if not (glued or closes):
            pieces.append(" ")
            length += 1
        pieces.append(word)
        spans.append((length, length + len(word)))
        length += len(word)
        glued = glues
    return Joined("".join(pieces), spans)


def _between(before: str, word: str, behind: str, apart: bool) -> bool:
    """True for a sign that joins the words on its both sides: ``and/or``, ``10:30``, and separate hyphens."""
    if word == "/" or (word == "-" and apart):
        return _WORD.search(before[-1:]) is not None and _WORD.search(behind[:1]) is not None
    return word == ":" and _DIGITS.fullmatch(before) is not None and _DIGITS.fullmatch(behind) is not None
