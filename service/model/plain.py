"""Text as it is sent → its plain form, and the place of each plain character in the text as sent.

The plain form is the text that a reader sees: without invisible characters, with HTML's entities decoded, composed
(NFC), with full-width ASCII, odd apostrophes and hyphens as plain ASCII. Tokens are found, and looked up, in the plain
form; their offsets are those of the text as sent.
"""

from __future__ import annotations

import html
import re
import unicodedata
from html.entities import html5

Places = list[tuple[int, int]]
"""(start, end) in the text as sent of each character of its plain form: in order and apart."""

_EMOJI = "\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
_UNSEEN = (
    "\x00-\x08\x0e-\x1b\x7f\x81\x8d\x8f\x90\x9d\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a"
)
"""Soft hyphens, zero-width spaces, marks of direction, fillers, control characters that are no white space."""
_SELECTORS = "\u034f\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0020-\U000e007f\U000e0100-\U000e01ef"
"""They choose how the character before them is drawn, and belong to it; tags choose a flag."""
_HYPHENS = "\u2010\u2011\u2212\ufe63"
"""The hyphen of Unicode, the one that lines do not break at, the minus sign, a small hyphen."""
_BLANK = "\u2800"
"""Braille's blank pattern, a space that services do not remove."""
_WINDOWS = "\x80\x82-\x84\x86-\x8c\x8e\x91\x93-\x9c\x9e\x9f"
"""Quotes, dashes and others of Windows-1252 in text that was taken for Latin-1."""
_ALIKE = f"{_WINDOWS}\uff01-\uff5e\u24b6-\u24e9\U0001d400-\U0001d7ff{_HYPHENS}{_BLANK}"
"""The above, full-width ASCII, letters in circles, bold and other letters of mathematics."""
_ODD = re.compile(
    # Text that was escaped twice, or three times: &amp;#39; is &#39;.
    r"(?P<escaped>&(?:amp;){1,2}(?:#[0-9]{1,16}|#[xX][0-9a-fA-F]{1,16}|[A-Za-z][A-Za-z0-9]{1,31});)"
    r"|(?P<entity>&(?:#[0-9]{1,16}(?![0-9]);?|#[xX][0-9a-fA-F]{1,16}(?![0-9a-fA-F]);?"
    # A query string in a link has no entities: &copy=1 stays.
    r"|[A-Za-z][A-Za-z0-9]{1,31}(?:;|(?![A-Za-z0-9]{0,32}=))))"
    f"|(?P<selector>[{_SELECTORS}])"
    # The joiner of an emoji of several is part of it.
    f"|(?P<unseen>[{_UNSEEN}]|(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}]))"
    f"|(?P<alike>[{_ALIKE}])"
)
_TAG = re.compile(r"<B[rR](?= ?/?>)")
_APOSTROPHE = re.compile(r"[\u0092\u02bc\u2032\u201b\ua78c]|(?<=[^\W\d_])[\u00b4`\u2018](?=[^\W\d_])")
"""``\x92`` is that of Windows-1252."""
_UNSEEN_CHARACTER = re.compile(f"[{_UNSEEN}{_SELECTORS}\u200d]")
_ALIKE_CHARACTER = re.compile(f"[{_ALIKE}]")
_MOST_MARKS = 32
"""Characters that are composed together: Unicode's stream-safe text has at most 30 marks behind a letter."""


def plain(text: str) -> tuple[str, Places | None]:
    """The plain form of a text, and the place of each of its characters; None if the text is plain already.

    Takes time linear in the text's length.
    """
    if text.isascii() and "&" not in text and "`" not in text and "<B" not in text and text.isprintable():
        return text, None
    form, places = _read(text) if _ODD.search(text) else (text, None)
    if not unicodedata.is_normalized("NFC", form):
        form, places = _composed(form, places or [(at, at + 1) for at in range(len(form))])
    form = _TAG.sub("<br", _APOSTROPHE.sub("'", form))
    return form, places or ([(at, at + 1) for at in range(len(form))] if form != text else None)


def _read(text: str) -> tuple[str, Places]:
    pieces: list[str] = []
    places: Places = []
    done = 0
    for match in _ODD.finditer(text):
        start, end = match.span()
        kind = match.lastgroup
        character = match[0]
        if kind in ("entity", "escaped"):
            read = _entity(character) if kind == "entity" else _escaped(character)
            if read is None:
                continue
            character, length = read
            end = start + length
            kind = "unseen" if _UNSEEN_CHARACTER.fullmatch(character) or not character else "entity"
        pieces.append(text[done:start])
        places += [(at, at + 1) for at in range(done, start)]
        done = end
        if kind == "selector":
            if places and places[-1][1] == start:
                places[-1] = places[-1][0], end
        elif kind != "unseen":
            pieces.append(_alike(character) if _ALIKE_CHARACTER.fullmatch(character) else character)
            places.append((start, end))
    pieces.append(text[done:])
    places += [(at, at + 1) for at in range(done, len(text))]
    return "".join(pieces), places


def _alike(character: str) -> str:
    """The common character that looks and reads like this one: one for one, so that each keeps its place."""
    if character in _HYPHENS or character == _BLANK:
        return "-" if character in _HYPHENS else " "
    if character < "\xa0":
        return character.encode("latin-1").decode("cp1252")
    form = unicodedata.normalize("NFKC", character)
    return form if len(form) == 1 else character


def _entity(reference: str) -> tuple[str, int] | None:
    """The character that a reference stands for, and how much of it is the reference, by HTML's rules; None for none.

    As in HTML, old names need no semicolon: ``&eacute``, ``&ampersand``. The few names of two characters are left.
    """
    if reference[1] == "#":
        return html.unescape(reference), len(reference)
    name = reference[1:]
    while name not in html5:
        name = name[:-1]
        if not name:
            return None
    return (html5[name], len(name) + 1) if len(html5[name]) == 1 else None


def _escaped(reference: str) -> tuple[str, int]:
    """The same for a reference whose ``&`` is ``&amp;`` or ``&amp;amp;``. Without a reference behind them, ``&amp;``
    alone is read."""
    inner = reference[1:]
    while inner.startswith("amp;") and len(inner) > 4:
        inner = inner[4:]
    read = _entity(f"&{inner}")
    return (read[0], len(reference)) if read is not None and read[1] == len(inner) + 1 else ("&", 5)


def _composed(text: str, places: Places) -> tuple[str, Places]:
    """Compose each letter with the marks behind it, a few characters at a time."""
    pieces: list[str] = []
    composed: Places = []
    start = 0
    for end in range(1, len(text) + 1):
        if end < len(text) and end - start < _MOST_MARKS and _goes_on(text, start, end):
            continue
        form = unicodedata.normalize("NFC", text[start:end])
        kept = form if len(form) <= end - start else text[start:end]
        pieces.append(kept)
        # A composed character begins with the letter: it takes the places of the marks that went into it.
        tail = len(kept) - 1
        composed.append((places[start][0], places[end - tail - 1][1]))
        composed += places[end - tail : end]
        start = end
    return "".join(pieces), composed


def _goes_on(text: str, start: int, end: int) -> bool:
    """True if the character at `end` is a mark on those from `start`, or is composed with them."""
    character = text[end]
    if character < "\u0300":
        return False
    if unicodedata.combining(character):
        return True
    before = text[start:end]
    apart = unicodedata.normalize("NFC", before) + unicodedata.normalize("NFC", character)
    return unicodedata.normalize("NFC", before + character) != apart
