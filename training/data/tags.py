"""Tags of entities: recognise tags and their scheme, and convert them to strict IOB2."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from training.data.sources import unfit

_TAG = re.compile(r"O|[BIESLUMW]-\S+")
_OPENING, _CLOSING = frozenset("BSUW"), frozenset("ESLUW")
"""Prefixes with which an entity surely begins, and after which it cannot go on (BIOES, BILOU, BMES and BMEWO)."""
_BARE = frozenset("BIESLUMW")
_CHUNKS = frozenset(("NP", "VP", "PP", "ADJP", "ADVP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"))
"""Types of syntactic chunks in CoNLL-2000 and CoNLL-2003 (English and German)."""
_FEATURES = re.compile(r"_|[^|=]+=[^|]*(?:\|[^|=]+=[^|]*)*")

TYPE = "ENTITY"
"""Type of all entities with the bare tags B and I."""
EXPECTED = "a tag is O, B-TYPE or I-TYPE (BIOES, BILOU and BMES are converted), or B, I and O alone"
BY_NAME = "write the name of its label, such as B-PER; datasets keeps them: features['ner_tags'].feature.names"
"""Said of a class number."""


def remedy(value: str) -> str:
    """The right form in place of a string that is no tag."""
    if value.strip().removeprefix("-").isdecimal():
        return f"it is a class number: {BY_NAME}"
    if value.startswith("["):
        return "it is a list: a row is one token and its tag, and JSON lines take the lists of a sentence"
    return EXPECTED


def is_tag(value: str) -> bool:
    return value in _BARE or bool(_TAG.fullmatch(value) and not unfit(value[2:]))


def are_tags(values: Collection[str]) -> bool:
    """True for the values of a whole column of tags: every one is a tag, and all have a type or none has."""
    return all(map(is_tag, values)) and not (bare(values) and any("-" in value for value in values))


def bare(values: Iterable[str]) -> bool:
    """True if a value is a prefix without a type."""
    return any(value in _BARE for value in values)


def types(values: Iterable[str]) -> set[str]:
    """The types of the entities; `TYPE` for bare tags."""
    return {value.partition("-")[2] or TYPE for value in values if value != "O"}


def are_chunks(values: Iterable[str]) -> bool:
    """True for a column of syntactic chunks."""
    found = types(values)
    return bool(found) and found <= _CHUNKS


def feature(values: Collection[str]) -> str | None:
    """The key of the tags in a column such as CoNLL-U's MISC, ``SpaceAfter=No|NER=B-PER``; None for none."""
    if not all(map(_FEATURES.fullmatch, values)):
        return None
    found: dict[str, set[str]] = {}
    for value in values:
        for key, tag in _pairs(value):
            found.setdefault(key, set()).add(tag)
    keys = [key for key, tags in found.items() if are_tags(tags)]
    return keys[0] if len(keys) == 1 else None


def of_feature(value: str, key: str) -> str:
    """The tag under a key of ``SpaceAfter=No|NER=B-PER``; O if it has none."""
    return dict(_pairs(value)).get(key, "O")


def _pairs(value: str) -> list[tuple[str, str]]:
    return [(key, tag) for key, _, tag in (pair.partition("=") for pair in value.split("|")) if tag]


def iob2(tags: Iterable[str]) -> tuple[str, ...]:
    """Valid tags of one sentence in any of the schemes, as strict IOB2: every entity begins with B."""
    converted, going_on = [], ""
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        if prefix != "O":
            kind = kind or TYPE
            tag = ("B-" if prefix in _OPENING or kind != going_on else "I-") + kind
        going_on = "" if prefix in _CLOSING else kind
        converted.append(tag)
    return tuple(converted)
