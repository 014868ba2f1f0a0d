"""Sentences of raw text. Each beginning is decided token by token, with bounded lookahead.

A tagger learns from single sentences, so it reads a text sentence by sentence. A sentence ends at a line break, unless
the line was only wrapped there, and behind ``.``, ``!``, ``?`` or ``…`` if the next characters look like a beginning:
a capital, a number, an opening quote or bracket. A period behind an initial or an abbreviation ends a sentence only
before a word that commonly begins one (``in the U.S. She``).

Tokens and the text between them count in their plain form (`service.model.plain`): ``&#10;`` is a line break.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

from service.model.plain import Places, plain

LOOKAHEAD = 2
"""Plain characters behind a token that may decide whether a sentence begins at it."""
WINDOW = 96
"""Code points of the text as sent that are searched for them: two of HTML's longest references, escaped twice."""

FULL_LINE = 58
"""Columns. A line that would have been longer with the next line's first word is taken for wrapped."""
LONGEST_LINE = 100
"""Columns. Text is not wrapped at more, so that a longer line is a paragraph."""
NARROW_LINE = 30
"""Columns. A line of at least this width counts as wrapped if the next one goes on in lower case."""
REST_OF_WORD = 6
"""Columns that a word is assumed to have behind its first token, if no space follows that token."""
SLACK = 10
"""Columns that a wrapped line may fall short of the widest, if the next one goes on in lower case."""

_End = Literal["", "stop", "dots", "abbreviation", "title", "numbered", "break"]
"""The way in which the tokens so far end; "" if no sentence can end here."""

_HARD = re.compile("[\v\f\x1c-\x1e\u2028\u2029]")
_LINE = re.compile("\r\n|[\n\r\x85\v\f\x1c-\x1e\u2028\u2029]")
_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_LINES = re.compile(r"[\n\r\x85\v\f\x1c-\x1e\u2028\u2029]|<[bB][rR]")
_ENDS = re.compile(r"[.!?…。！？｡؟।॥]")
_TRAILING = " \t\n\r.!?…”’)]}»"
"""No sentence begins at these if only one straight quotation mark follows, attached: it closes."""

_DOTS = re.compile(r"\.{2,}|…+")
_MARKS = re.compile(r"[.!?…]*[!?][.!?…]*")
"""``!``, ``?``, or a run such as ``?!!``, which some tokenizers keep whole."""
_PERIOD = "."
_STOPS = frozenset(".!?。！？｡؟।॥")
_WIDE = frozenset("。！？｡।॥」』）】")
"""No space follows these."""
_MARKED = frozenset("！？｡（）［］｛｝")
"""Full-width signs that are not read as their plain forms: sentences end at them without a space."""
_AS_SENT = re.compile(r"[\t\n\r\x20-\x25\x27-\x5f\x61-\x7e]{2}")
"""Two characters that are their own plain form, with any text behind them."""
_OPENING = frozenset(("``", "“", "„", "«", "‘", "(", "[", "{", "¿", "¡"))
_CLOSING = frozenset(("''", "”", "’", "»", ")", "]", "}", "」", "』", "）", "】"))
_STRAIGHT = frozenset(('"', "'"))
_BULLETS = frozenset("-*•‣◦▪▫·●○■□–—✓✔➢➤→")
_SMILEY = re.compile(r"[:;=8][-o*']?[)(\[\]dDpP/\\|*3]|<3|\^[_.-]?\^")
_ENUMERATOR = re.compile(r"\d{1,3}|[A-Za-z]|[ivxIVX]{1,5}")
_NUMERAL = re.compile("[A-Z]|[IVXLC]+")
"""The letter of a figure or a section, or a Roman number."""
_ITEM = re.compile(r"(?:\(?(?:\d{1,3}|[a-z]|[ivx]{1,5})[.)]|\(?(?:[A-Z]|[IVX]{1,5})\))(?!\S)")
_LETTERS = re.compile(r"[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})*")
"""Initials, and abbreviations such as ``U.S`` and ``a.m``: one letter, or pairs at most with periods between them."""
_LONGEST_WORD = 16
"""Characters that are kept of the token before: more than any word below has."""


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_ORNAMENTS = frozenset("-_=*#~")

_TITLES = _words("""
    mr mrs ms dr prof gen sen rep reps gov lt col sgt capt cpt cmdr maj adm rev hon st ste mt ft pres messrs mme
    mlle vs v supt det insp amb sens gens
""")
"""A name or the other party follows; no sentence ends here."""
_BEFORE_NUMBERS = _words("""
    no nos p pp vol vols fig figs sec art arts ch chap para op nr
""")
"""A number follows, or the letter of a figure."""
_ABBREVIATIONS = _words("""
    inc ltd co corp cos bros plc llc jr sr esq etc al dept univ assn intl natl ave blvd rd apt approx est cf ca ed eds
    esp eg ie ext fax ph attn conf tel jan feb apr jun jul aug sep sept oct nov dec mon tue tues wed thu thur thurs fri
    calif fla ariz conn tenn wis minn mich okla nev colo ala va ky pa ga md
""")
_EXCLAIMED = frozenset(("yahoo", "jeopardy"))
"""Names that are written with an exclamation mark."""
_STARTERS = _words("""
    A After All Also Although An And Another As At Because Before Both But By Despite During Each Even For From
    Has Have He Her Here His How However I If In Is It It's Its Last Many Meanwhile More Most My No Not Nor Now
    On Once One Only Or Our Several She Since So Some Such That The Their Then There These They This Those Though
    Thus To Today Under Until Was We Were What When Where Whether Which While Who Why With Yes Yet You Your
""")
"""Words that have a capital nearly always only at the beginning of a sentence."""
_GOES_ON = _words("""
    a an and are as at by for from her his in is its my of on or our that the their to was were with your The
""")
"""Words that end a line only if the line is wrapped."""


class Splitter:
    """Takes the tokens of one text in turn, and says of each whether a sentence begins at it.

    Its memory has a fixed size. The answer for a token depends on the text before it, on the token, and on `LOOKAHEAD`
    characters behind it.
    """

    __slots__ = ("_cased", "_count", "_end", "_last", "_quoted", "_widest", "_width")

    def __init__(self) -> None:
        self._count = 0  # tokens of the sentence so far
        self._end: _End = ""
        self._last = ""  # the token before
        self._cased = False  # whether the sentence has a capital
        self._quoted = False  # whether a straight quotation mark is open
        self._width = 0  # columns of the line up to the last token
        self._widest = 0  # columns of the widest line that was wrapped; 0 before the first

    def begins(self, gap: str, token: str, following: str) -> bool:
        """True if a sentence begins at `token`. `gap` is the text between it and the token before. `following` is the
        text behind it: at least `LOOKAHEAD` characters, fewer only at the end of the text."""
        lines = gap not in ("", " ") and line_ends(gap)
        spaced = gap == " " or not self._last or any(map(str.isspace, gap))
        quote = self._quote(token, spaced, following) if token in _STRAIGHT else None
        opens = token in _OPENING or quote == "open"
        if not self._last:
            begins = True
        elif self._end == "break":
            begins = not _BREAK.fullmatch(token)
        elif not lines:
            apart = spaced or self._last in _WIDE
            begins = bool(self._end) and apart and self._is_end(token, following, opens)
        elif len(lines) > 1 or is_hard_break(gap):
            begins = True
        else:
            begins = not self._wrapped(token, following, opens)
        if lines:
            if not begins:
                self._widest = max(self._widest, self._width)
            self._width = len(gap) - lines[-1]
        else:
            self._width += len(gap)
        self._width += len(token)
        if begins:
            self._count, self._end, self._cased = 0, "", False
            if lines:
                self._quoted = False
        self._end = self._ending(token, gap, closes=token in _CLOSING or quote == "close")
        if quote:
            self._quoted = quote == "open"
        self._cased = self._cased or token != token.lower()
        self._count += 1
        self._last = token[: _LONGEST_WORD + 1]
        return begins

    def depends(self, gap: str, token: str, following: str) -> bool:
        """True if the answer of `begins` also depends on the text behind `following`."""
        if gap not in ("", " ") and _LINE.search(gap):
            return len(following) < LOOKAHEAD
        return not following and (token in _STRAIGHT or (len(token) == 1 and self._end != ""))

    def keep(self) -> list[int | str]:
        """Its memory in plain values, for `resume`."""
        return [getattr(self, name) for name in self.__slots__]

    def resume(self, kept: Sequence[int | str]) -> None:
        """Take over another splitter's memory."""
        for name, value in zip(self.__slots__, kept, strict=True):
            setattr(self, name, value)

    def _quote(self, token: str, spaced: bool, following: str) -> Literal["open", "close"]:
        """A straight quotation mark opens if a space stands before it and none behind it, and closes in the reverse
        case. Between two spaces, or two other characters, it closes an open quotation and otherwise opens one."""
        apart = not following or following[0].isspace()
        if spaced != apart:
            return "open" if spaced else "close"
        return "close" if self._quoted or not following else "open"

    def _is_end(self, token: str, following: str, opens: bool) -> bool:
        """True if a likely end is one, by the token behind it."""
        if self._end == "stop":
            return opens or self._starts(token)
        if self._end == "numbered":
            number = token[0].isdigit() or (_NUMERAL.fullmatch(token) and not _is_starter(token, following))
            return not number and self._starts(token)
        return self._end in ("dots", "abbreviation") and _is_starter(token, following)

    def _starts(self, token: str) -> bool:
        """True if a token looks like the beginning of a sentence."""
        first = token[0]
        if first.islower():
            return not self._cased or self._last in _STOPS or bool(_MARKS.fullmatch(self._last))
        return first.isalnum() or first in _BULLETS or (first == "@" and len(token) > 1)

    def _wrapped(self, token: str, following: str, opens: bool) -> bool:
        """True if a line was broken before `token` only because it was full."""
        apart = not following or following[0].isspace()
        if (token in _BULLETS and apart) or _begins_item(token, following) or "://" in token:
            return False
        if _is_ornament(token + following) or _is_ornament(self._last * 2) or _is_starter(token, following):
            return False
        if self._end and self._is_end(token, following, opens):
            return False
        if self._last in _GOES_ON or (self._last == "," and token[0].islower()):
            return True
        if self._width > LONGEST_LINE:
            return False
        least = self._width + 1 + len(token) + (0 if apart else REST_OF_WORD)
        slack = SLACK if token[0].islower() and self._width >= NARROW_LINE else 0
        if self._widest:
            return least + slack > self._widest
        return least > FULL_LINE or slack > 0

    def _ending(self, token: str, gap: str, *, closes: bool) -> _End:
        """How the sentence ends with `token`, which has been found to belong to it."""
        if token in _STOPS or _MARKS.fullmatch(token):
            word = self._last.lower()
            if gap or not self._count:
                return "stop"
            if token == _PERIOD:
                return self._behind(self._last)
            return "abbreviation" if word in _EXCLAIMED else "stop"
        if _DOTS.fullmatch(token):
            return "dots"
        if len(token) > 1 and token[-1] == _PERIOD:
            return self._behind(token[:-1])
        if closes or token in _STRAIGHT or _SMILEY.fullmatch(token) or unicodedata.category(token[0]) == "So":
            return self._end
        return "break" if token[0] == "<" and _BREAK.fullmatch(token) else ""

    def _behind(self, word: str) -> _End:
        """The kind of end that a period behind a word makes."""
        initial, word = len(word) == 1 and word.isupper(), word.lower()
        if self._count <= 1 and _ENUMERATOR.fullmatch(word):
            return ""
        if word in _TITLES:
            return "title"
        if word in _BEFORE_NUMBERS and not initial:  # `P.` begins a name, `p.` stands before the number of a page
            return "numbered"
        if word in _ABBREVIATIONS or ((len(word) == 1 or "." in word) and _LETTERS.fullmatch(word)):
            return "abbreviation"
        return "stop"


def _is_starter(token: str, following: str) -> bool:
    """True if a word commonly begins a sentence; ``A.`` and ``I.`` are initials."""
    return token in _STARTERS and not (len(token) == 1 and following[:1] == _PERIOD)


def _begins_item(token: str, following: str) -> bool:
    """True if a line begins with a number or a letter of a list, such as ``1.``, ``b)`` or ``(iv)``."""
    return _ITEM.match(token + following[:LOOKAHEAD]) is not None


def _is_ornament(text: str) -> bool:
    """True if a text begins with a drawn line, such as ``----`` or ``* * *``."""
    return text[0] in _ORNAMENTS and text[1:2] == text[0]


def line_ends(gap: str) -> list[int]:
    """The places at which the line breaks of a gap between two tokens end."""
    return [match.end() for match in _LINE.finditer(gap)]


def is_hard_break(gap: str) -> bool:
    """True if a gap has a line break that always ends a sentence."""
    return _HARD.search(gap) is not None


def as_read(piece: str) -> str:
    """The plain form of a token, or of the text between two tokens, for the splitter."""
    return piece if piece in _MARKED else plain(piece)[0] or piece


def ahead(text: str, sure: Callable[[str, str, Places | None], int] | None = None) -> str:
    """The characters behind a token for the splitter, from the text as sent behind it, of which `WINDOW` code points
    count.

    `sure` returns how many characters of a plain form no further text can change (`streams.deciding.known`); only those
    are returned. Without it the text is complete.
    """
    if _AS_SENT.match(text):
        return text[:LOOKAHEAD]
    window = text[:WINDOW]
    form, places = plain(window)
    certain = LOOKAHEAD if sure is None or len(window) == WINDOW else sure(window, form, places)
    return form[: min(certain, LOOKAHEAD)]


def may_divide(text: str) -> bool:
    """False for a text that is one sentence, as most short ones are, by a glance at its characters alone."""
    if "&" in text or not text.isascii():
        text += plain(text)[0]
    body = text.rstrip()
    unquoted = body[:-1] if body[-1:] in _STRAIGHT and not body[-2:-1].isspace() else body
    return bool(_ENDS.search(unquoted.rstrip(_TRAILING)) or _LINES.search(body))


def sentences(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The sentences of a text by its tokens' (start, end): (first token, end) of each, in order, without gaps."""
    starts = [*_starts(text, spans), len(spans)]
    return list(pairwise(starts))


def _starts(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[int]:
    splitter, before = Splitter(), 0
    unchanged = plain(text)[1] is None
    for number, (start, end) in enumerate(spans):
        gap, token = text[before:start], text[start:end]
        if unchanged:
            begins = splitter.begins(gap, token, text[end : end + LOOKAHEAD])
        else:
            begins = splitter.begins(as_read(gap), as_read(token), ahead(text[end : end + WINDOW]))
        if begins:
            yield number
        before = end
