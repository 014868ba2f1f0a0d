"""The features of a token: rows of a model's embedding tables."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

from service.model.bundle import Feature, FeatureName

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


Column = Callable[[Mapping[str, int], str, str, Feature], int | list[int]]
COLUMNS: dict[FeatureName, Column] = {
    "word": _word,
    "shape": _shape,
    "prefix": _prefix,
    "suffix": _suffix,
    "character": _characters,
}
