"""The tokens of a text that arrives in pieces, cut anywhere: the same as `Tokenizer.encode` gives for the whole text.

A token is returned once no later character can change it. The reader keeps only the open end of the text, usually one
word. Every token costs the same, however far into the text it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.errors import InvalidField
from service.model.plain import Places, plain
from service.model.sentences import WINDOW, Splitter, ahead, as_read, is_hard_break, line_ends
from service.model.streams.deciding import decided, known
from service.model.tokenizer import WORD, Tokenizer

MOST_OPEN = 6144
"""Limit on the code points of a text's end without a final token."""
_CUT_FROM = 1024
"""An unfinished word of this many code points loses its head."""
_CONTEXT = 256
"""Code points kept before the first open token of such a word: more than any pattern looks back."""
_RETRY = 32
"""An unfinished word without marks is checked again after this many more code points."""
_BREAKS = ("<br", (" />", " >")), ("&lt;br", (" /&gt;", " &gt;"))
"""A word with such an ending continues after a space if one of these follows."""
_NUMBER_SIGNS = ("No.", "no.")
_OPEN_ENDS = "rR."
"""Last characters of these."""
_BLANKS = re.compile(r"[^\S\x1c-\x1f]{2}")
"""No pattern matches over two blanks of any kind, so they end a word, too. In patterns ``\\x1c`` is none."""

_LONGEST_GAP = 4096
"""Code points of a gap that are kept. The splitter treats all gaps and lines of half as many alike."""

Kept = tuple[Any, ...]
"""A reader's state, of plain JSON values."""


class Token(NamedTuple):
    """One token: its text as sent, its (start, end) in the text so far in code points, its feature row as bytes of an
    array int32 [columns], whether it begins a sentence, and, for taggers, the text between it and the token before."""

    text: str
    start: int
    end: int
    row: bytes
    begins: bool = False
    gap: str = ""


@dataclass(slots=True)
class _Waiting:
    """A final token, and the text beside it that the splitter reads."""

    text: str
    start: int
    row: bytes
    gap: str
    behind: str


@dataclass(slots=True)
class _Held:
    """A finished word whose last token may change if more text follows. `item` and `done` are as in `_give`. `behind`
    is the start of the text after it, `space` the white space before that."""

    word: str
    at: int
    done: int
    item: bool
    behind: str
    space: str = ""


class Undecided(InvalidField):
    """The open end of a text exceeds `MOST_OPEN`, so the reader cannot continue."""


class StreamTokenizer:
    """Finds the tokens of one text. With `split` it also finds sentences; otherwise no token begins one. Only taggers
    need `gaps`, the texts between tokens."""

    def __init__(self, tokenizer: Tokenizer, *, split: bool, gaps: bool = True) -> None:
        self._tokenizer = tokenizer
        self._gaps = gaps or split
        self._splitter = Splitter() if split else None
        self._tail = ""  # the text from the first unfinished word on
        self._at = 0  # the position of the tail
        self._before = ""  # the character before the tail
        self._done = 0  # code points of the tail with final tokens
        self._held: _Held | None = None
        self._gap = ""  # the text between the last final token and the tail, or the held word
        self._waiting: list[_Waiting] = []
        self._tried = 0  # code points of the tail at the last check
        self._count = 0  # tokens that were sent as tokens

    def feed(self, text: str) -> list[Token]:
        """Read more text, in time that grows with the square of its length: cut a long one. Returns the newly final
        tokens.

        Raises `Undecided` if more than `MOST_OPEN` code points have no final token; the reader is unusable afterwards.
        Raises `InvalidField` after tokens.
        """
        if self._count:
            raise InvalidField("/text", "The stream began with tokens; send tokens, or begin another stream.")
        for each in self._waiting:
            each.behind += text[: WINDOW - len(each.behind)]
        if self._held is not None:
            self._held.behind += text[: WINDOW - len(self._held.behind)]
        self._tail += text
        self._read()
        return self._ready()

    def feed_tokens(self, tokens: Sequence[str]) -> list[Token]:
        """Read tokens as sent, none of them empty. The text is their concatenation with spaces. Raises `InvalidField`
        after text."""
        if self._tail or (self._at and not self._count) or self._held:
            raise InvalidField("/tokens", "The stream began with text; send text, or begin another stream.")
        found = []
        for token in tokens:
            start = self._at + (1 if self._count else 0)
            self._at, self._count = start + len(token), self._count + 1
            gap = " " if start and self._gaps else ""
            found.append(Token(token, start, self._at, self._tokenizer.row(token), False, gap))
        return found

    @property
    def characters(self) -> int:
        """Code points of the text so far."""
        return self._at + len(self._tail)

    def end(self) -> list[Token]:
        """End the text. Returns its last tokens."""
        if not self._count:
            self._read(ended=True)
            if self._held is not None:
                self._give_held(last=True)
        return self._ready(ended=True)

    def keep(self) -> Kept:
        """The state, for `resume`."""
        held, splitter = self._held, self._splitter
        return (
            self._tail,
            self._at,
            self._before,
            self._done,
            self._gap,
            self._count,
            [[each.text, each.start, each.row.hex(), each.gap, each.behind] for each in self._waiting],
            None if held is None else [held.word, held.at, held.done, held.item, held.behind, held.space],
            None if splitter is None else splitter.keep(),
        )

    def resume(self, kept: Kept) -> None:
        """Take over the state of another reader of the same kind."""
        self._tail, self._at, self._before, self._done, self._gap, self._count, waiting, held, splitter = kept
        self._waiting = [_Waiting(text, start, bytes.fromhex(row), gap, by) for text, start, row, gap, by in waiting]
        self._held = None if held is None else _Held(*held)
        if self._splitter is not None:
            self._splitter.resume(splitter)

    # Words

    def _read(self, ended: bool = False) -> None:
        """Emit the final tokens of the tail."""
        while True:
            if not self._done and self._tail[:1].isspace():
                self._skip(len(self._tail) - len(self._tail.lstrip()))
            if not self._tail:
                return
            if self._held is not None:
                self._give_held()
            found = WORD.match(self._before + self._tail, len(self._before))
            assert found is not None
            size = found.end() - len(self._before)
            if blanks := _BLANKS.search(self._tail, 0, size):
                size = blanks.start()
            if not ended and (size == len(self._tail) or self._may_go_on(size)):
                self._read_open()
                return
            word, behind = self._tail[:size], self._tail[size : size + WINDOW]
            at, done, before = self._at, self._done, self._before
            self._at, self._before, self._tail = at + size, word[-1], self._tail[size:]
            self._done = self._tried = 0
            if ended and not self._tail.strip():
                self._give(word.rstrip(), at, done, "", last=True)
                return
            item = self._tokenizer.is_item(word, before, behind[:1])
            if item or self._tokenizer.ends_apart(word.rstrip()):
                self._held = _Held(word, at, done, item, behind)
            else:
                self._give(word, at, done, behind)

    def _skip(self, size: int) -> None:
        """Skip white space at the start of the tail."""
        if size:
            space, self._tail = self._tail[:size], self._tail[size:]
            self._at, self._before, self._tried = self._at + size, space[-1], 0
            if not self._gaps:
                return
            if self._held is not None:
                self._held.space = squeezed(self._held.space + space)
            else:
                self._gap = squeezed(self._gap + space)

    def _may_go_on(self, size: int) -> bool:
        """True if the tail's first word, followed by a space, may continue in the next text."""
        if self._tail[size - 1] not in _OPEN_ENDS:
            return False
        word, rest = self._tail[:size], self._tail[size:]
        for ending, options in _BREAKS:
            if word[-len(ending) :].lower() == ending:
                return any(option.startswith(rest) for option in options)
        return rest == " " and word in _NUMBER_SIGNS

    def _give_held(self, last: bool = False) -> None:
        """Emit the held word: whether the text ends with it is known now."""
        held, self._held = self._held, None
        assert held is not None
        word = held.word.rstrip() if last else held.word
        self._give(word, held.at, held.done, held.behind, last=last, item=held.item and not last)
        if self._gaps:
            self._gap = squeezed(self._gap + held.space)

    def _give(self, word: str, at: int, done: int, behind: str, *, last: bool = False, item: bool = False) -> None:
        """Decide a finished word at position `at`, followed by `behind`. The tokens of its first `done` code points are
        already final."""
        rows, spans = self._tokenizer.word(word, last=last, item=item)
        width = len(rows) // max(1, len(spans))
        place = done
        for number, (start, end) in enumerate(spans):
            if end > done:
                row = rows[number * width : (number + 1) * width]
                self._decide(word[start:end], at + start, row, word[place:start], (word[end:] + behind)[:WINDOW])
                place = end
        if self._gaps:
            self._gap = squeezed(self._gap + word[place:])

    def _read_open(self) -> None:
        """Decide the final tokens of an unfinished word."""
        tail = self._tail
        if len(tail) - self._tried < _RETRY and tail[self._tried :].isalnum():
            return
        self._tried = len(tail)
        form, places = plain(tail)
        sure = known(tail, form, places)
        spans = self._tokenizer.cut(form)
        for start, end in spans:
            left, right = (places[start][0], places[end - 1][1]) if places is not None else (start, end)
            if right <= self._done:
                continue
            if not decided(form, start, end, sure):
                break
            if tail[right:].isspace() and self._tokenizer.ends_apart(tail[:right]):  # if the text ends here
                break
            row, behind = self._tokenizer.row(form[start:end]), tail[right : right + WINDOW]
            self._decide(tail[left:right], self._at + left, row, tail[self._done : left], behind)
            self._done = right
        if len(tail) > _CUT_FROM:
            self._cut(form, places, spans)
        if len(self._tail) > MOST_OPEN:
            raise Undecided(
                "/text",
                f"More than {MOST_OPEN} characters without a space, none of which completes a token; "
                "put spaces between words.",
            )

    def _cut(self, form: str, places: Places | None, spans: Sequence[tuple[int, int]]) -> None:
        """Drop the head of an unfinished word. The rest begins with a token, reads the same without the head, and holds
        all the text that patterns look back at."""
        for start, _ in reversed(spans):
            left = places[start][0] if places is not None else start
            if left > self._done - _CONTEXT:
                continue
            rest, kept = plain(self._tail[left:])
            alike = rest == form[start:] and self._tokenizer.cut(rest) == [
                (first - start, end - start) for first, end in spans if first >= start
            ]
            if alike and left and (kept is None or places is not None):
                self._before, self._tail = self._tail[left - 1], self._tail[left:]
                self._at, self._done, self._tried = self._at + left, self._done - left, len(self._tail)
            return

    # Tokens

    def _decide(self, text: str, start: int, row: bytes, gap: str, behind: str) -> None:
        gap = squeezed(self._gap + gap) if self._gaps else ""
        self._waiting.append(_Waiting(text, start, row, gap, behind))
        self._gap = ""

    def _ready(self, ended: bool = False) -> list[Token]:
        """The final tokens for which the start of a sentence is decided, too."""
        found = []
        while self._waiting:
            each, splitter, begins = self._waiting[0], self._splitter, False
            if splitter is not None:
                complete = ended or len(each.behind) == WINDOW
                gap = each.gap if each.gap in ("", " ") else as_read(each.gap)
                text, behind = as_read(each.text), ahead(each.behind, None if complete else known)
                if not complete and splitter.depends(gap, text, behind):
                    break
                begins = splitter.begins(gap, text, behind)
            del self._waiting[0]
            found.append(Token(each.text, each.start, each.start + len(each.text), each.row, begins, each.gap))
        return found


def squeezed(gap: str) -> str:
    """A gap of at most `_LONGEST_GAP` code points that is equivalent for the splitter: a text may have a million line
    breaks in a row. It may be extended."""
    if len(gap) <= _LONGEST_GAP:
        return gap
    form = as_read(gap)
    body = form.removesuffix("\r")  # a following \n would join it to one break
    ends = line_ends(body)
    breaks = "\n\n" if len(ends) > 1 or is_hard_break(body) else "\n" if ends else ""
    width = min(len(body) - (ends[-1] if ends else 0), _LONGEST_GAP // 2)
    return breaks + (" " if any(map(str.isspace, body)) else "\u200b") * width + form[len(body) :]
