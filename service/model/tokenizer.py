"""Text to rows of integers: tokens with exact offsets, and for each token one number per feature.

Raw text is cut by one regular expression, which belongs to the style of the model's corpus (`service.model.rules`);
text that is tokenised already goes past it. Both are read in their plain form (`service.model.plain`). From there both
take the same path: each token is normalised and looked up as a whole, one row a token, never split and never dropped.
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import orjson
from numpy.typing import NDArray

from service.errors import BundleError, InvalidField
from service.model.bundle import TOKENIZER, Feature
from service.model.features import COLUMNS, SHAPES
from service.model.plain import plain
from service.model.rules import LISTED, STYLES, UNKNOWN, Style, described, hub, style_of
from service.model.vocabulary import compact

__all__ = ["UNKNOWN", "WORD", "Encoded", "Tokenizer", "build"]

_PIECE = 8192
"""Code points that the matcher is given at once: a millisecond or two."""
_LARGEST_PIECE = 65_536
_LOOK_AHEAD = 2048
"""Code points behind a token that may decide its end: more than any token has, except a letter under many marks."""

_NORMALIZED_LENGTH = 1000
"""Code points of a token that are looked at. Normal forms can be 18 times as long, and take as much longer to make."""

_CACHED = 16_384
"""Tokens, and words, that the cache of a served tokenizer holds at most."""
_CACHED_IN_TRAINING = 1 << 20
"""The same in training, which reads every text several times. A word takes about 400 bytes."""
_CACHED_LENGTH = 48

_in_use: WeakValueDictionary[tuple[bytes, tuple[Feature, ...]], Tokenizer] = WeakValueDictionary()
"""Tokenizers from files, by SHA-256 and features: models of one vocabulary share it and its cache."""

_WORD = re.compile(r"(?:[^ \t\n<]+|<[bB][rR] ?/?>|<)+")
"""Text between spaces. A token holds no space, except ``<br />``, and no pattern looks behind a space."""
WORD = re.compile(r"(?:(?<![^ \t\n])[Nn]o\. (?=[0-9])|[^ \t\n<&]+|<[bB][rR] ?/?>|&lt;[bB][rR] ?/?&gt;|[<&])+")
"""The same in any text: it may have a ``<br />`` of entities, or ``No. 1``, with a full stop that depends on the
number."""
_NUMBER_SIGN = re.compile(r"(?<![^ \t\n])[Nn]o\. [0-9]")
_LAST_STOP = re.compile(r"(?:^|[^\w.])[^\W\d_]{1,50}\.$")
"""A word that ends in a full stop and has no other."""
_SURE_ENDS = frozenset(map(chr, range(33, 127))) - {".", ";"}
"""Last characters that prove that a text does not end in a full stop. ``;`` is not one: ``&#46;`` is a full stop."""
_TAIL = 256
"""Code points of a text's last word that are looked at for it."""
_LIST_NUMBER = re.compile(r"[0-9]{1,3}\.")
_EDGE = "\n"
"""Makes the key of a word that is read otherwise at a line's start (before it) or at a text's end (behind it)."""

_Spans = list[tuple[int, int]]
_Word = tuple[bytes, _Spans | None]
"""The rows and spans of the tokens in the text between two spaces; no spans if that text is one token unchanged."""

_rows_of: Callable[[_Word], bytes] = itemgetter(0)

_NOTHING: Mapping[str, _Word] = {"": (b"", [])}
"""The empty text between two spaces in a row."""


def build(words: Sequence[str], features: Sequence[Feature], style: Style = "web") -> Tokenizer:
    """A tokenizer for training, with the vocabulary `words`, already normalised. Row 0 is `UNKNOWN`."""
    if not words or words[0] != UNKNOWN:
        raise ValueError(f"the first word must be {UNKNOWN}")
    return Tokenizer({word: row for row, word in enumerate(words)}, features, style, _CACHED_IN_TRAINING)


class Encoded:
    """One input, ready for the network.

    `text` is the text as sent (tokens sent are joined by one space), `rows` is int32 [tokens, features]; `truncated`
    says whether a tail was cut off. `sentences` has (first token, end) of each sentence if the text is to be read
    sentence by sentence; None if it is read as a whole.
    """

    __slots__ = ("_spans", "rows", "sentences", "text", "truncated")

    def __init__(
        self, text: str, spans: _Spans | Callable[[], _Spans], rows: NDArray[np.int32], truncated: bool
    ) -> None:
        """`spans` may be a function that finds them: the label of a whole text needs none, and most callers want no
        more."""
        self.text, self.rows, self.truncated = text, rows, truncated
        self._spans = spans
        self.sentences: Sequence[tuple[int, int]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(start, end) of each token in the text, in code points, end exclusive."""
        if callable(self._spans):
            self._spans = self._spans()
        return self._spans

    def tokens(self) -> list[dict[str, str | int]]:
        """Each token's text and offsets; the text is exactly the slice of the text as sent."""
        return [{"text": self.text[start:end], "start": start, "end": end} for start, end in self.spans]


class Tokenizer:
    """Finds the tokens of raw text and the feature rows of tokens."""

    def __init__(
        self, vocabulary: Mapping[str, int], features: Sequence[Feature], style: Style, cached: int = _CACHED
    ) -> None:
        """`vocabulary` has the row of each word, the words normalised; `style` says how raw text is cut. So many tokens
        and words are remembered at most."""
        self.style = style
        self._cached = cached
        self._vocabulary = vocabulary
        self._normalizer, self._splitter = hub(style).normalizer, hub(style).pre_tokenizer
        self._columns = [(COLUMNS[feature.name], feature) for feature in features]
        self._width = sum(feature.columns for feature in features)
        self._listed = style in LISTED
        self._cache: dict[str, bytes] = {}
        self._words = dict(_NOTHING)

    @classmethod
    def load(cls, path: Path, features: Sequence[Feature]) -> Tokenizer:
        """Read a file ``tokenizer.json``: see `read`."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path.name} is no tokenizer: {type(error).__name__}") from error
        return cls.read(content, features)

    @classmethod
    def read(cls, content: bytes | memoryview, features: Sequence[Feature]) -> Tokenizer:
        """Read the content of a ``tokenizer.json``. While a tokenizer of the same content and features is in use, that
        one is returned.

        Raises `BundleError` when it does not fit the manifest's features.
        """
        key = hashlib.sha256(content).digest(), tuple(features)
        tokenizer = _in_use.get(key)
        if tokenizer is None:
            tokenizer = _in_use[key] = cls._parse(content, features)
        return tokenizer

    @classmethod
    def _parse(cls, content: bytes | memoryview, features: Sequence[Feature]) -> Tokenizer:
        try:
            rules = orjson.loads(content)
            vocabulary, rules["model"]["vocab"] = rules["model"]["vocab"], {}
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{TOKENIZER} is no tokenizer: {type(error).__name__}") from error
        style = style_of(rules)
        if style is None:
            raise BundleError(
                f"{TOKENIZER} cuts text by other rules than this service, which has the styles {', '.join(STYLES)}: "
                "export the model anew (python -m training retokenize)"
            )
        rows_of = vocabulary.values() if isinstance(vocabulary, dict) else [None]
        if not set(map(type, rows_of)) <= {int} or min(rows_of, default=0) < 0:
            raise BundleError(
                f"{TOKENIZER} is no tokenizer: its vocabulary must have the row of each word, a whole number"
            )
        rows = max(vocabulary.values(), default=-1) + 1
        for feature in features:
            if feature.name == "word" and feature.size != rows:
                raise BundleError(f"{TOKENIZER} has {rows} rows of words, the manifest says {feature.size}")
            if feature.name == "shape" and feature.size < SHAPES:
                raise BundleError(f"the tokenizer gives {SHAPES} rows of shapes, the manifest says {feature.size}")
        return cls(compact(vocabulary), features, style)

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``, which the library `tokenizers` reads too."""
        rules = described(self.style)
        rules["model"]["vocab"] = dict(self._vocabulary)
        path.write_bytes(orjson.dumps(rules))

    def split(self, text: str) -> list[tuple[str, tuple[int, int]]]:
        """The tokens of raw text as they stand there, each with its (start, end) in code points."""
        return [(text[start:end], (start, end)) for start, end in self._locate(text, len(text))]

    def _cut(self, text: str, limit: int | None = None) -> list[tuple[str, tuple[int, int]]]:
        """The tokens of plain text by the style's pattern; not many more than `limit` of them.

        A long text is read piece by piece: the matcher holds Python's lock, and others get it in between. A token is
        kept only if the text behind it was in sight. The next piece begins at the end of a token, if possible of one
        that no pattern looks back at.
        """
        found: list[tuple[str, tuple[int, int]]] = []
        start, size = 0, _PIECE
        while start < len(text) and (limit is None or len(found) <= limit):
            tokens = self._splitter.pre_tokenize_str(text[start : start + size])
            last = start + size >= len(text)
            sure = size if last else size - _LOOK_AHEAD
            kept = [(token, (start + left, start + right)) for token, (left, right) in tokens if right <= sure]
            if not last:
                ends = (at for at in range(len(kept), 0, -1) if _parts(text, kept[at - 1][1][1]))
                end = next(ends, None)
                # Longer than the piece: a letter under thousands of marks, or tokens without a space.
                if tokens and (not kept or (end is None and size < _LARGEST_PIECE)):
                    size *= 2
                    continue
                kept = kept[:end]
            found += kept
            start, size = kept[-1][1][1] if kept and not last else start + sure, _PIECE
        return found

    def normalize(self, token: str) -> str:
        """The form in which a token is looked up; of a very long one, which no row stands for, that of its head."""
        return self._form(plain(token[:_NORMALIZED_LENGTH])[0])

    def _form(self, token: str) -> str:
        """The same of a token in its plain form."""
        form: str = self._normalizer.normalize_str(token[:_NORMALIZED_LENGTH])
        return form

    def rows(self, value: str | Iterable[str]) -> NDArray[np.int32]:
        """Feature rows of raw text, or of tokens: int32 [tokens, columns of all features]."""
        if isinstance(value, str):
            return self._read(value, sys.maxsize)
        return self._array(self.row(token) for token in value)

    def _array(self, rows: Iterable[bytes]) -> NDArray[np.int32]:
        # Bytes laid end to end: many times faster than an array of tuples, now that each character may have a column.
        return np.frombuffer(b"".join(rows), np.int32).reshape(-1, self._width)

    def _read(self, text: str, limit: int) -> NDArray[np.int32]:
        """The rows of the tokens of raw text; of a long text, not many more than `limit` of them.

        Word by word: most words have been seen before, and looking one up takes a tenth of matching it.
        """
        if len(text) <= _PIECE:
            try:
                return self._array(map(_rows_of, map(self._words.__getitem__, self._keys(text))))
            except KeyError:
                pass  # a word that was not seen before
        rows, count = [], 0
        for key, _, _ in self._each(text):
            row, places = self._word(key, limit)
            rows.append(row)
            count += 1 if places is None else len(places)
            if count > limit:
                break
        return self._array(rows)

    def _locate(self, text: str, tokens: int) -> _Spans:
        """The spans of the first `tokens` tokens of raw text."""
        spans: _Spans = []
        for key, start, end in self._each(text):
            _, places = self._word(key, tokens)
            if places is None:
                spans.append((start, end))
            else:
                spans += [(start + left, start + right) for left, right in places]
            if len(spans) >= tokens:
                break
        return spans[:tokens]

    def _keys(self, text: str) -> list[str]:
        """The keys of a text's words; nothing, too, between two spaces. Plain text needs no matcher."""
        end, breaks = text[-1:], "\n" in text or "\t" in text or "<" in text
        unsure = (breaks and self._listed) or (end != "." and end not in _SURE_ENDS)
        if unsure or ("o. " in text and _NUMBER_SIGN.search(text)):
            return [key for key, _, _ in self._each(text)]
        if breaks:
            words = _WORD.findall(text)
        else:
            words = text.split(" ")
            if self._listed and len(words) > 1 and _LIST_NUMBER.fullmatch(words[0]):
                words[0] = _EDGE + words[0]
        if end == ".":
            words[-1] += _EDGE
        return words

    def _each(self, text: str) -> Iterator[tuple[str, int, int]]:
        """Each word's key, by which it is remembered, and its (start, end)."""
        last = len(text.rstrip())
        for match in (WORD if ("&lt;" in text or "o. " in text) else _WORD).finditer(text):
            key, (start, end) = match[0], match.span()
            if start < last <= end:
                key = key[: last - start] + _EDGE
            elif (
                self._listed
                and _LIST_NUMBER.fullmatch(key)
                and text[start - 1 : start] in ("", "\n")
                and text[end] in " \t"
            ):
                key = _EDGE + key
            yield key, start, start + len(key.strip(_EDGE))

    def word(self, word: str, *, last: bool = False, item: bool = False) -> tuple[bytes, _Spans]:
        """The rows of a word's tokens, end to end, and their places in it. `WORD` finds words.

        A text's `last` word, without the white space behind it, has its full stop apart. `item` is the answer of
        `is_item`.
        """
        key = _EDGE + word if item else word + _EDGE if last else word
        row, places = self._word(key, len(word))
        return row, [(0, len(word))] if places is None else places

    def cut(self, form: str) -> _Spans:
        """The places of the tokens in a piece of text in its plain form."""
        return [span for _, span in self._cut(form)]

    def ends_apart(self, word: str) -> bool:
        """True if a word, without the white space behind it, is read differently as a text's last."""
        if word[-1:] in _SURE_ENDS:
            return False
        return _LAST_STOP.search(plain(word[-_TAIL:])[0][-64:]) is not None

    def is_item(self, word: str, before: str, behind: str) -> bool:
        """True if a word may be the number of a list's item; `before` and `behind` are the characters beside it."""
        return self._listed and before in ("", "\n") and behind in (" ", "\t") and bool(_LIST_NUMBER.fullmatch(word))

    def _word(self, key: str, limit: int) -> _Word:
        return self._words.get(key) or self._read_word(key, limit)

    def _read_word(self, key: str, limit: int) -> _Word:
        read: _Word
        kept = len(key) <= _CACHED_LENGTH and "&lt;br" not in key
        if key.startswith(_EDGE):
            read = self.row(key[1:]), None
        elif key.endswith(_EDGE):
            read = self._read_last(key[:-1], limit)
        else:
            form, places = plain(key)
            found = self._cut(form, None if kept else limit)
            whole = len(found) == 1 and found[0][0] == key
            spans = [span for _, span in found]
            if places is not None:
                spans = [(places[start][0], places[end - 1][1]) for start, end in spans]
            read = b"".join(self.row(token) for token, _ in found), None if whole else spans
        if kept:
            if len(self._words) >= self._cached:
                self._words = dict(_NOTHING)
            self._words[key] = read
        return read

    def _read_last(self, word: str, limit: int) -> _Word:
        """A text's last word, with its full stop apart: corpora keep it so even behind an abbreviation or a letter.

        ``Apple Inc .``, ``plan B .``, but ``the U.S.``
        """
        tail = word[-_TAIL:]
        form, sent = plain(tail)
        if not _LAST_STOP.search(form[-64:]):
            return self._word(word, limit)
        start, end = sent[-1] if sent else (len(tail) - 1, len(tail))
        start, end = len(word) - len(tail) + start, len(word) - len(tail) + end
        row, places = self._word(word[:start], limit)
        return row + self.row("."), [*([(0, start)] if places is None else places), (start, end)]

    def encode(self, value: str | Sequence[str], limit: int, *, truncate: bool = False) -> Encoded:
        """Encode raw text, or tokens, of at most `limit` tokens; with `truncate` the head is kept.

        Raises `InvalidField` (pointer relative to the input) for an input without a token, an empty token, and an
        input over the limit.
        """
        spans: _Spans | Callable[[], _Spans]
        if isinstance(value, str):
            rows = self._read(value, limit)
            if not len(rows):
                raise InvalidField("", "The text is empty: it holds no token.")
            text, count = value, len(rows)
            spans = partial(self._locate, value, min(count, limit))
        else:
            text, places = _join(value)
            rows, count, spans = self.rows(value[: limit + 1]), len(value), places[:limit]
        if truncated := count > limit:
            if not truncate:
                raise InvalidField(
                    "",
                    f"At least {count} tokens; the model's limit is {limit}. Send less, or ask for the text's head "
                    "with truncate (Hugging Face's clients: truncation; commands: --truncate).",
                )
            rows = rows[:limit].copy()  # a view would keep the rows of the tail in memory
        return Encoded(text, spans, rows, truncated)

    def row(self, token: str) -> bytes:
        """The feature row of a token, as the bytes of an array int32 [columns of all features]."""
        row = self._cache.get(token)
        if row is not None:
            return row
        form, _ = plain(token)
        word = self._form(form)
        row = b"".join(
            np.array(column(self._vocabulary, form, word, feature), np.int32).tobytes()
            for column, feature in self._columns
        )
        if len(token) <= _CACHED_LENGTH:
            if len(self._cache) >= self._cached:
                self._cache.clear()
            self._cache[token] = row
        return row


def _parts(text: str, end: int) -> bool:
    """True if no pattern looks back behind `end`, the end of a token."""
    character = text[end - 1]
    return text[end].isspace() or not (
        character.isalnum() or character in ".-" or unicodedata.category(character).startswith("M")
    )


def _join(tokens: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    if not tokens:
        raise InvalidField("", "The list of tokens is empty.")
    spans, start = [], 0
    for position, token in enumerate(tokens):
        if not token:
            raise InvalidField(f"/{position}", "The token is empty.")
        spans.append((start, start + len(token)))
        start += len(token) + 1
    return " ".join(tokens), spans
