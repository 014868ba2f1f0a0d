"""The work of reading a text: lines of Python, and characters that the matcher and the normaliser are given."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from service.model.bundle import Feature
from service.model.rules import Style
from service.model.tokenizer import _NORMALIZED_LENGTH, UNKNOWN, build
from tests.work import Characters, assert_linear, lines

PIECES: dict[str, Any] = {"_PIECE": 1024, "_LARGEST_PIECE": 8192, "_LOOK_AHEAD": 256}
"""An eighth of the service's own sizes, so that short texts have several pieces too."""
MOST = 3
"""Times that the matcher may be given a character: pieces overlap, and grow while they hold no end of a token."""


def assert_linear_reading(style: Style, unit: str, before: str = "") -> None:
    """Reading a text of many units takes work in proportion to its length, in Python and in the libraries."""

    def work(size: int) -> int:
        text = before + unit * (size // len(unit))
        tokenizer = build([UNKNOWN], [Feature(name="word", size=1)], style)
        matcher = tokenizer._splitter = Characters(tokenizer._splitter)
        normaliser = tokenizer._normalizer = Characters(tokenizer._normalizer)
        ran = lines(lambda: tokenizer.split(text))
        assert matcher.total <= MOST * len(text) + 2 * PIECES["_PIECE"]
        assert normaliser.longest <= _NORMALIZED_LENGTH
        assert normaliser.total <= 2 * len(text)
        return ran

    with patch.multiple("service.model.tokenizer", **PIECES):
        assert_linear(work, 2 * PIECES["_PIECE"])
