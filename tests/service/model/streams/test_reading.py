"""A text in pieces has the tokens, offsets and sentences of the whole text, wherever it is cut."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import InvalidField
from service.model.bundle import Feature
from service.model.rules import STYLES, Style
from service.model.sentences import sentences
from service.model.streams.reading import StreamTokenizer, Token
from service.model.tokenizer import UNKNOWN, Tokenizer, build

WORDS = (UNKNOWN, "a", "film", "it", "n't", "...")
FEATURES = (Feature(name="word", size=len(WORDS)), Feature(name="suffix", size=64))
TOKENIZERS: dict[Style, Tokenizer] = {style: build(WORDS, FEATURES, style) for style in STYLES}


def whole(tokenizer: Tokenizer, text: str) -> list[Token]:
    """What the whole text comes to."""
    try:
        encoded = tokenizer.encode(text, 1_000_000)
    except InvalidField:
        return []
    begins = {first for first, _ in sentences(text, encoded.spans)}
    return [
        Token(text[start:end], start, end, encoded.rows[number].tobytes(), number in begins, text[before:start])
        for number, ((_, before), (start, end)) in enumerate(pairwise([(0, 0), *encoded.spans]))
    ]


def in_pieces(tokenizer: Tokenizer, pieces: list[str], *, suspend: bool = False) -> list[Token]:
    reader, found = StreamTokenizer(tokenizer, split=True), []
    for piece in pieces:
        if suspend:
            kept = json.loads(json.dumps(reader.keep()))
            reader = StreamTokenizer(tokenizer, split=True)
            reader.resume(kept)
        found += reader.feed(piece)
    return found + reader.end()


PARTS = [
    *"aZé3 .,'\"-–…!?()[]:;/<>&#@%$*+=^_|~`´’“”\n\t\r",
    " ", " ", " ", " ", "\n", "\n\n", "\r\n", "\x0b", "\x85", "\u2028", "\xa0", "\u3000",
    "don't", "Mr.", "U.S.", "Inc.", "e.g.", "No. 1", "no. ", "3.", "12,500.50", "3:30pm", "'90s", "$5", "10%", "+44",
    "555-1234", "2020-01-31", "well-known", "and/or", "w/o", "cannot", "gonna", "AT&T", "Ph.D", "I'm", "he'll",
    "o'clock", "http://a.b/c?d=1", "https:", "//", "www.", "x.com", "/path", "me@here.org", "@user", "#tag",
    ":-)", "8-)", "<3", ":D",
    "<br />", "<br>", "<br", "&lt;br /&gt;", "&lt;br", "&amp;", "&eacute", "&copy=1", "&#233;", "&#x301;", "&#46;",
    "&amp;#39;t", "&amp;amp;", "&amp;foo;", "&amp;#3", "‘t", "\x92s", "\x00", "\u3164", "\U000e0067",
    "&nbsp;", "&#10;", "&#13;", "&NewLine;", "&#x2029;", "&#32;",
    "&quot;", "&#39;", "&lpar;", "&#x31;", "&#41;", "1",
    "A", "I", "&#73;", "&#8203;", "\u200b" * 40, "&amp;amp;NotNestedGreaterGreater;",
    "\x93", "\x9d", "<BR />", "<Br", "&lt;BR", "\u2011", "\u2212", "\u2800", "\U0001d40b",
    "e\u0301", "\u0301", "\u0323", "\u200d", "\ufe0f", "\u200b", "\u00ad", "\u20e3", "\u1161", "\u1100",
    "\u09c7\u09be", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea",
    "\U0001f1e9", "❤\ufe0f", "\U0001f600", "我喜欢", "电影", "。", "，", "カタ", "ー", "ไทย", "한국", "\uff21",
    "\uff01", "The", "London", "film", "he",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=24).map("".join)


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=6))
@example(text="He said.\r\n", cuts=[])
@example(text="Apple Inc.", cuts=[9])
@example(text="I like Inc. \u200b", cuts=[])
@example(text="3. One\n4. Two", cuts=[])
def test_pieces_are_read_as_the_whole_is(style: Style, text: str, cuts: list[int]) -> None:
    expected = whole(TOKENIZERS[style], text)
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert in_pieces(TOKENIZERS[style], list(text)) == expected
    assert in_pieces(TOKENIZERS[style], pieces, suspend=True) == expected


BLANKS = [
    *" \t\n\r\x0b\x85\u2028\xa0\u3000\u2800\u200b\u00ad\ufe0f\u200d", "\x1c", "\r\n", " \n", "\u200b ", "&nbsp;",
    "&#10;", "&#13;", "&NewLine;", "&#8203;", "&amp;nbsp;",
]  # fmt: skip
FULL = "a line that is wide enough to be wrapped by the program at the"
"""A line that goes on in the next one, unless two line breaks or a hard one end it."""


def without_gaps(tokens: Sequence[Token]) -> list[Token]:
    """A reader replaces long gaps by others that are read alike."""
    return [each._replace(gap="") for each in tokens]


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.sampled_from([FULL, "film", "The film", "film.", "x" * 3000]), min_size=1, max_size=4),
    gaps=st.lists(
        st.lists(st.tuples(st.sampled_from(BLANKS), st.sampled_from([1, 1, 2, 800, 4096, 4097])), max_size=4),
        min_size=5,
        max_size=5,
    ),
    cuts=st.lists(st.integers(0, 20_000), max_size=4),
)
@example(words=[FULL, "The film"], gaps=[[], [(" ", 4096), ("&NewLine;", 1), (" ", 1)], [], []], cuts=[])
@example(words=[FULL, "film"], gaps=[[], [(" ", 4096), ("&#13;", 1), ("\n", 1)], [], []], cuts=[])
@example(words=["film Inc."], gaps=[[], [("\xa0", 1), ("\x1c", 2)]], cuts=[6, 10, 11])
@example(words=["film Inc."], gaps=[[], [("\r", 4096)]], cuts=[])
@example(words=["film", "The"], gaps=[[], [("\xa0", 4096), ("\xa0", 4096)], []], cuts=[])
def test_long_gaps_are_read_as_the_whole_is(
    words: list[str], gaps: list[list[tuple[str, int]]], cuts: list[int]
) -> None:
    blanks = ["".join(blank * count for blank, count in gap) for gap in gaps]
    text = "".join(f"{gap}{word}" for gap, word in zip(blanks, words, strict=False)) + blanks[len(words)]
    spaced = re.sub(r"([\S\x1c]{5000})", r"\1 ", text)  # an endless word is rejected
    ends = sorted({min(cut, len(spaced)) for cut in cuts} | {len(spaced)})
    pieces = [spaced[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert without_gaps(in_pieces(TOKENIZERS["web"], pieces, suspend=True)) == without_gaps(
        whole(TOKENIZERS["web"], spaced)
    )
