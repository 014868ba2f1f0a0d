"""Text to rows of integers: tokens with exact offsets, and for each token one number per feature.

The tokens are those of the Penn Treebank (``do n't``, ``It 's``), found in raw text by one regular expression;
text that is tokenised already goes past it. From there both take the same path: each token is normalised and looked
up as a whole, one row a token, never split and never dropped.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Regex
from tokenizers import Tokenizer as HubTokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFKC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import Split

from service.bundle import TOKENIZER, Feature, FeatureName
from service.errors import BundleError, InvalidField

UNKNOWN = "<unk>"
"""Row 0 of every vocabulary: words that no row stands for."""

_PIECE = 8192
"""Code points that the matcher is given at once: a millisecond or two."""
_LOOK_AHEAD = 2048
"""Code points behind a token that may decide where it ends: more than any token has, but a letter under many marks."""

_NORMALIZED_LENGTH = 1000
"""Code points of a token that are looked at. Normal forms can be 18 times as long, and take as much longer to make."""

_CACHED = 16_384
"""Tokens, and words, of which a tokenizer remembers what they come to."""
_CACHED_LENGTH = 48

_in_use: WeakValueDictionary[tuple[bytes, tuple[Feature, ...]], Tokenizer] = WeakValueDictionary()
"""Those read from files, by SHA-256 and features: models of one vocabulary hold it, and what it remembers, once."""

_WORD = re.compile(r"(?:[^ \t\n<]+|<br ?/?>|<)+")
"""What stands between spaces. A token holds no space, but for ``<br />``, and none looks at what lies behind one."""

# Alternatives are tried in order at each position; whatever none of them matches is white space, or a
# character without a shape of its own (zero-width, control) that stands alone. Every repetition is
# bounded, so that the time of a match is too: a run of more than a thousand letters is cut into tokens of that length.
_ABBREVIATIONS = "Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|Inc|Ltd|Co|Corp|Gen|Sen|Rep|Gov|Lt|Col|Sgt|Capt|Rev|Hon"
_CLITICS = r"(?i:s|m|d|ll|re|ve)(?![\p{L}\p{N}])"
_IDEOGRAPH = r"\p{Han}\p{Hiragana}\p{Katakana}"
_PATTERN = "|".join(
    (
        r"<br ?/?>",
        r"(?:https?://|www\.)[^\s<>\"'()]{1,1000}(?<![.,;:!?])",
        r"[\p{L}\p{N}][\p{L}\p{N}._+-]{0,63}@[\p{L}\p{N}-]{1,64}(?:\.[\p{L}\p{N}-]{1,64}){1,8}",
        r"[@#][\p{L}\p{N}_]{1,100}",
        r"[:;=8][-o*']?[)(\[\]dDpP/\\|*3](?![\p{L}\p{N}])|<3(?!\p{N})|\^[_.-]?\^",
        r"(?:\p{L}\.){2,12}",
        rf"(?:{_ABBREVIATIONS})\.(?![\p{{L}}\p{{N}}])",
        r"(?i:can)(?=(?i:not)(?![\p{L}\p{N}]))",
        r"[\p{L}\p{M}]{1,24}?(?=[nN]['’][tT](?![\p{L}\p{N}]))",
        r"[nN]['’][tT](?![\p{L}\p{N}])",
        rf"['’]{_CLITICS}",
        rf"[{_IDEOGRAPH}]\p{{M}}{{0,8}}",
        r"\p{N}{1,100}(?:[.,:/]\p{N}{1,100}){0,10}(?:(?i:st|nd|rd|th|s|am|pm|k|m)(?![\p{L}\p{N}]))?",
        rf"[\p{{L}}\p{{M}}\p{{N}}&&[^{_IDEOGRAPH}]]{{1,1000}}"
        rf"(?:['’](?!{_CLITICS})\p{{L}}[\p{{L}}\p{{M}}\p{{N}}]{{0,100}}){{0,4}}",
        r"\.{2,100}|-{2,100}|``|''|&\w{2,8};",
        # A flag, of two letters: one match each.
        r"[\x{1F1E6}-\x{1F1FF}]{1,2}\p{M}{0,8}",
        r"(?![\s\p{Cc}\p{Cf}])\X",
    )
)


_Spans = list[tuple[int, int]]
_Word = tuple[bytes, _Spans | None]
"""Of what stands between spaces: the rows of its tokens, and their spans; None where it is a token as it stands."""

_NOTHING: Mapping[str, _Word] = {"": (b"", [])}
"""What stands between two spaces in a row."""


def build(words: Sequence[str], features: Sequence[Feature]) -> Tokenizer:
    """A tokenizer whose vocabulary is `words`, already normalised, row 0 being `UNKNOWN`."""
    if not words or words[0] != UNKNOWN:
        raise ValueError(f"the first word must be {UNKNOWN}")
    return Tokenizer({word: row for row, word in enumerate(words)}, features)


@cache
def _rules() -> HubTokenizer:
    """How text is cut and normalised, the same for every vocabulary; it has no words itself."""
    hub = HubTokenizer(WordLevel({}, unk_token=UNKNOWN))
    hub.normalizer = Normalizers(
        [
            Replace(Regex("[\u200b-\u200d\u2060\ufe0e\ufe0f\ufeff]"), ""),
            Replace(Regex("[‘’`´]{2}|[“”„«»]|''"), '"'),
            Replace(Regex("[‘’`´]"), "'"),
            NFKC(),  # behind the quotes: it takes ´ for a space under an accent
            Lowercase(),
            Replace(Regex("[–—―]|-{2,}"), "--"),
            Replace(Regex(r"\.{2,}"), "..."),
            Replace(Regex(r"\p{N}"), "0"),
            Replace(Regex(r"^(?:https?://|www\.).*"), "<url>"),
            Replace(Regex(r"^@\w+"), "<user>"),
            Replace(Regex(r"^<br ?/?>"), "<br>"),
        ]
    )
    hub.pre_tokenizer = Split(Regex(_PATTERN), "removed", invert=True)
    return hub


def _described(vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """What ``tokenizer.json`` says: the rules, as the library writes them, and the words."""
    described: dict[str, Any] = orjson.loads(_rules().to_str())
    described["model"]["vocab"] = vocabulary
    return described


class Encoded:
    """One input, ready for the network.

    `text` is the text as sent (tokens sent are joined by one space), `rows` is int32 [tokens, features]; `truncated`
    says whether a tail was cut off. `sentences` has (first token, end) of each sentence where the text is to be read
    sentence by sentence; None where it is read as a whole.
    """

    __slots__ = ("_spans", "rows", "sentences", "text", "truncated")

    def __init__(
        self, text: str, spans: _Spans | Callable[[], _Spans], rows: NDArray[np.int32], truncated: bool
    ) -> None:
        """`spans` may be what finds them: a label for a whole text, which is all that most callers want, needs none."""
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

    def __init__(self, vocabulary: Mapping[str, int], features: Sequence[Feature]) -> None:
        """`vocabulary` has the row of each word, the words normalised."""
        self._vocabulary = vocabulary
        self._normalizer, self._splitter = _rules().normalizer, _rules().pre_tokenizer
        self._columns = [(_COLUMNS[feature.name], feature) for feature in features]
        self._width = sum(feature.columns for feature in features)
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
        """Read what a ``tokenizer.json`` holds. While a tokenizer of the same content and features is in use, that one
        is returned.

        Raises `BundleError` when it does not fit the manifest's features.
        """
        key = hashlib.sha256(content).digest(), tuple(features)
        tokenizer = _in_use.get(key)
        if tokenizer is None:
            tokenizer = _in_use[key] = cls._parse(content, TOKENIZER, features)
        return tokenizer

    @classmethod
    def _parse(cls, content: bytes | memoryview, name: str, features: Sequence[Feature]) -> Tokenizer:
        try:
            described = orjson.loads(content)
            vocabulary, described["model"]["vocab"] = described["model"]["vocab"], {}
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{name} is no tokenizer: {type(error).__name__}") from error
        # Models learned from the tokens of these rules, and the time that these take is known.
        if described != _described({}):
            raise BundleError(f"{name} cuts text by other rules than this service: export the model anew")
        rows_of = vocabulary.values() if isinstance(vocabulary, dict) else [None]
        if not set(map(type, rows_of)) <= {int} or min(rows_of, default=0) < 0:
            raise BundleError(f"{name} is no tokenizer: its vocabulary must have the row of each word, a whole number")
        rows = max(vocabulary.values(), default=-1) + 1
        for feature in features:
            if feature.name == "word" and feature.size != rows:
                raise BundleError(f"{name} has {rows} rows of words, the manifest says {feature.size}")
        tokenizer = cls(vocabulary, features)
        tokenizer._try()
        return tokenizer

    def _try(self) -> None:
        """Raises `BundleError` when the parts that the file describes do not work: some fail only in use."""
        try:
            found = self.encode("A test, of 1.", limit=16).rows
        except InvalidField as error:
            raise BundleError("the tokenizer finds no token in plain text") from error
        except Exception as error:
            raise BundleError(f"the tokenizer does not work: {error}") from error
        except BaseException as error:  # not all that libraries raise are Exceptions
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise BundleError("the tokenizer does not work") from error
        sizes = np.repeat(*np.array([(each.size, each.columns) for _, each in self._columns], int).reshape(-1, 2).T)
        if (found >= sizes).any() or (found < 0).any():
            raise BundleError("the tokenizer gives rows that the embedding tables have not")

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``, which the library `tokenizers` reads too."""
        path.write_bytes(orjson.dumps(_described(self._vocabulary)))

    def split(self, text: str, limit: int | None = None) -> list[tuple[str, tuple[int, int]]]:
        """The tokens of raw text, each with its (start, end) in code points; not many more than `limit` of them.

        A long text is read piece by piece: the matcher holds Python's lock, and others get it in between. A token is
        kept only when what follows it was in sight, and the next piece begins where the last kept token ended.
        """
        found: list[tuple[str, tuple[int, int]]] = []
        start, size = 0, _PIECE
        while start < len(text) and (limit is None or len(found) <= limit):
            tokens = self._splitter.pre_tokenize_str(text[start : start + size])
            sure = size if start + size >= len(text) else size - _LOOK_AHEAD
            kept = [(token, (start + left, start + right)) for token, (left, right) in tokens if right <= sure]
            if tokens and not kept:  # one token longer than the piece: a letter under thousands of marks
                size *= 2
                continue
            found += kept
            start, size = kept[-1][1][1] if kept and sure < size else start + sure, _PIECE
        return found

    def normalize(self, token: str) -> str:
        """The form in which a token is looked up; of a very long one, which no row stands for, that of its head."""
        form: str = self._normalizer.normalize_str(token[:_NORMALIZED_LENGTH])
        return form

    def rows(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """Feature rows of tokens: int32 [tokens, columns of all features]."""
        return self._array(self._bytes(token) for token in tokens)

    def _array(self, rows: Iterable[bytes]) -> NDArray[np.int32]:
        # Bytes laid end to end: many times faster than an array of tuples, now that each character may have a column.
        return np.frombuffer(b"".join(rows), np.int32).reshape(-1, self._width)

    def _read(self, text: str, limit: int) -> NDArray[np.int32]:
        """The rows of the tokens of raw text; of a long text, not many more than `limit` of them.

        The same tokens as `split` finds, word by word: most words have been seen before, and looking one up takes a
        tenth of matching it.
        """
        if len(text) <= _PIECE:
            try:
                return self._array([self._words[word][0] for word in _words(text)])
            except KeyError:
                pass  # a word that was not seen before
        rows, count = [], 0
        for match in _WORD.finditer(text):
            row, places = self._word(match[0], limit)
            rows.append(row)
            count += 1 if places is None else len(places)
            if count > limit:
                break
        return self._array(rows)

    def _locate(self, text: str, tokens: int) -> _Spans:
        """Where the first `tokens` tokens of raw text stand."""
        spans: _Spans = []
        for match in _WORD.finditer(text):
            _, places = self._word(match[0], tokens)
            if places is None:
                spans.append(match.span())
            else:
                start = match.start()
                spans += [(start + left, start + right) for left, right in places]
            if len(spans) >= tokens:
                break
        return spans[:tokens]

    def _word(self, word: str, limit: int) -> _Word:
        return self._words.get(word) or self._read_word(word, limit)

    def _read_word(self, word: str, limit: int) -> _Word:
        kept = len(word) <= _CACHED_LENGTH
        found = self.split(word, None if kept else limit)
        whole = len(found) == 1 and found[0][0] == word
        read = b"".join(self._bytes(token) for token, _ in found), None if whole else [span for _, span in found]
        if kept:
            if len(self._words) >= _CACHED:
                self._words = dict(_NOTHING)
            self._words[word] = read
        return read

    def encode(self, value: str | Sequence[str], limit: int, *, truncate: bool = False) -> Encoded:
        """Encode raw text, or tokens, of at most `limit` tokens; with `truncate` the head is kept.

        Raises `InvalidField` (pointer relative to the input) for an input without a token, an empty token, and an
        input over the limit.
        """
        if isinstance(value, str):
            rows = self._read(value, limit)
            if not len(rows):
                raise InvalidField("", "The text is empty: it holds no token.")
            count = len(rows)
        else:
            text, spans = _join(value)
            rows, count = self.rows(value[: limit + 1]), len(value)
        if truncated := count > limit:
            if not truncate:
                raise InvalidField(
                    "",
                    f"At least {count} tokens; the model's limit is {limit}. Send less, or set truncate to true.",
                )
            rows = rows[:limit].copy()  # a view would keep the rows of the tail in memory
        if isinstance(value, str):
            return Encoded(value, partial(self._locate, value, len(rows)), rows, truncated)
        return Encoded(text, spans[:limit], rows, truncated)

    def _bytes(self, token: str) -> bytes:
        """The feature row of a token, as the bytes of an array."""
        row = self._cache.get(token)
        if row is not None:
            return row
        word = self.normalize(token)
        row = b"".join(
            np.array(column(self._vocabulary, token, word, feature), np.int32).tobytes()
            for column, feature in self._columns
        )
        if len(token) <= _CACHED_LENGTH:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[token] = row
        return row


def _words(text: str) -> list[str]:
    """What stands between spaces; nothing, too, where there are two in a row. Plain text needs no matcher."""
    if "\n" in text or "\t" in text or "<" in text:
        return _WORD.findall(text)
    return text.split(" ")


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


# Feature columns: (vocabulary, token as sent, its normalised form, feature) -> row number below the feature's size, or
# one for each of the feature's columns.


def _word(vocabulary: Mapping[str, int], token: str, word: str, feature: Feature) -> int:
    return vocabulary.get(word, 0)


def _shape(vocabulary: Mapping[str, int], token: str, word: str, feature: Feature) -> int:
    """Casing and character classes: 0 lower, 1 Title, 2 UPPER, 3 one capital, 4 miXed, 5 digits, 6 digits and letters,
    7 anything else."""
    if token.isalpha():
        if token.islower():
            return 0
        if token.isupper():
            return 2 if len(token) > 1 else 3
        return 1 if token[0].isupper() and token[1:].islower() else 4
    digit = any(character.isdigit() for character in token)
    letter = any(character.isalpha() for character in token)
    if digit:
        return 6 if letter else 5
    if not letter:
        return 7
    return 0 if token.islower() else 1 if token[0].isupper() else 4


SHAPES = 8
"""Rows of the `shape` table."""


def _bucket(piece: str, size: int) -> int:
    """A stable hash: the same bucket on every machine and in every process."""
    return zlib.crc32(piece.encode("utf-8", "replace")) % size


def _prefix(vocabulary: Mapping[str, int], token: str, word: str, feature: Feature) -> int:
    return _bucket(word[:3], feature.size)


def _suffix(vocabulary: Mapping[str, int], token: str, word: str, feature: Feature) -> int:
    return _bucket(word[-3:], feature.size)


CHARACTERS = 160
"""Rows of a `character` table: nothing, the 95 printable characters of ASCII, and buckets for all others."""


def _characters(vocabulary: Mapping[str, int], token: str, word: str, feature: Feature) -> list[int]:
    """The token's characters as sent, digits alike; of a long token the first half of the columns and the last.

    0 is nothing, 1 to 95 are the printable characters of ASCII; any other falls into a bucket by its code point.
    """
    if len(token) > feature.columns:
        token = token[: feature.columns // 2] + token[len(token) - (feature.columns + 1) // 2 :]
    rows = [_character(ord("0") if character.isdigit() else ord(character), feature.size) for character in token]
    return rows + [0] * (feature.columns - len(rows))


def _character(code: int, size: int) -> int:
    if 32 <= code < 127 and code - 31 < size:
        return code - 31
    return 96 + code % (size - 96) if size > 96 else 0


_Column = Callable[[Mapping[str, int], str, str, Feature], int | list[int]]
_COLUMNS: dict[FeatureName, _Column] = {
    "word": _word,
    "shape": _shape,
    "prefix": _prefix,
    "suffix": _suffix,
    "character": _characters,
}
