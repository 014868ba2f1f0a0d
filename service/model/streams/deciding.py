"""Decides which tokens of an unfinished word are final: no later character can change them.

The styles' patterns (`service.model.rules`) cannot be matched in part. These rules bound the text that a pattern reads,
so a token may be held back longer than necessary but is never released too early. A word is the text between two
spaces. Tokens of a finished word are always final.
"""

from __future__ import annotations

import re
import unicodedata

LOOK_AHEAD = 2048
"""Code points after a token, at most, that may change its end."""

_THROUGH = frozenset("._+-@'’&$,:/")
"""Marks inside patterns that begin with a letter or a number."""
_RUNS = frozenset("!?_~>$/")
"""Marks that form runs."""
_PASSED = {"@": "_", "#": "_", "&": "_", ".": ".!?", **dict.fromkeys("'’‘`", "'’‘`")}
"""Marks that begin tokens of letters and numbers, and the other marks in such tokens."""
_STARTS = frozenset("<:;=(^*[8")
"""They begin ``<br />``, smileys and runs of up to nine, all shorter than `_SHORT`."""
_SHORT = 12
_LOCAL_PART = 66
"""The ``@`` of an address comes within this many code points."""
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+]{1,15}://|[wW]{3}\.|[A-Za-z0-9_.-]*\.[A-Za-z0-9_.-]*/")
_LINK_ENDS = re.compile(r"[\s<>\"'()]")
_OPEN_REFERENCE = re.compile(r"&(?:amp;){0,2}[#A-Za-z0-9]*\Z")
_IDEOGRAPHS = re.compile("[\u3041-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002a6df]")
_TICKS = frozenset("`´‘")
_JAMO = ("\u1100", "\u11ff")


def known(text: str, form: str, places: list[tuple[int, int]] | None) -> int:
    """The number of characters of a plain form that no text after `text` can change.

    `form` and `places` are `service.model.plain.plain` of the text. The last character may always change, because a
    mark may be composed with it.
    """
    last = len(form) - 1
    while last > 0 and _joins(form[last]):
        last -= 1
    if reference := _OPEN_REFERENCE.search(text):  # it may become an entity
        start = reference.start()
        if places is None:
            last = min(last, start)
        else:
            while last > 0 and places[last - 1][1] > start:
                last -= 1
    if last > 0 and form[last - 1] in _TICKS:  # an apostrophe, if a letter follows
        last -= 1
    return max(last, 0)


def decided(form: str, start: int, end: int, known: int) -> bool:
    """True if the token from `start` to `end` of a word's plain form is final. The first `known` characters cannot
    change."""
    if end >= known:
        return False
    if known >= end + LOOK_AHEAD:
        return True
    first = form[start]
    if _is_wordlike(first) or first in "+-":
        return _word_decided(form, start, known)
    if first in _RUNS:
        return _passed(form, start, known, "!?" if first in "!?" else first)
    if first in _PASSED:
        short = known >= start + _SHORT if first in "&'’‘`" else False
        return short or _passed(form, start, known, _PASSED[first], words=True)
    if _is_flag(first):
        return any(not (_is_flag(form[at]) or _is_mark(form[at])) for at in range(start + 1, known))
    # Otherwise a short pattern or a grapheme. Its end depends only on the text before it and on the next character.
    return first not in _STARTS or known >= start + _SHORT


def _word_decided(form: str, start: int, known: int) -> bool:
    """The same for a token that begins with a letter, a number or a mark on one."""
    end = next((at for at in range(start + 1, known) if _stops(form, at)), known)
    if _LINK.match(form, start, end):
        return _LINK_ENDS.search(form, start, known) is not None
    if end == known:
        # An ideograph is a token by itself, unless it begins an address.
        alone = is_ideograph(form[start]) and form[start + 1] != "." and known - start > _LOCAL_PART
        return alone and "@" not in form[start : start + _LOCAL_PART]
    if form[end].isspace() and known < end + 2:  # No. 1
        return False
    return not (form.startswith("8-", start) and known < start + _SHORT)


def _stops(form: str, at: int) -> bool:
    """True if no pattern that begins with a letter or a number continues over the character; links are excepted."""
    character = form[at]
    if character == ",":
        return not form[at - 1].isnumeric()
    return character not in _THROUGH and not _is_wordlike(character)


def _passed(form: str, start: int, known: int, run: str, *, words: bool = False) -> bool:
    """True if the run that begins at `start` ends within the known characters. It consists of the characters `run`, and
    with `words` also of letters, numbers and marks on them."""
    return any(not (form[at] in run or (words and _is_wordlike(form[at]))) for at in range(start + 1, known))


def is_ideograph(character: str) -> bool:
    """True if a character is a token by itself in every style: most of Han, Hiragana and Katakana."""
    return _IDEOGRAPHS.match(character) is not None


def _is_wordlike(character: str) -> bool:
    return character.isalnum() or _is_mark(character) or unicodedata.category(character) == "Pc"


def _is_mark(character: str) -> bool:
    return character >= "\u0300" and unicodedata.category(character)[0] == "M"


def _joins(character: str) -> bool:
    """True if a character may be composed with the one before it."""
    return _is_mark(character) or _JAMO[0] <= character <= _JAMO[1]


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
