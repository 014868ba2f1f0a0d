"""The entities of a stream in its state: in columns, which compress to less than half of what rows do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Entity = dict[str, Any]

_SCORE = 1_000_000
"""Scores are whole multiples of one in so many."""


def packed(entities: Sequence[Entity]) -> list[Sequence[Any]]:
    """One sequence for each of the values. Places count from the end of the entity before."""
    rows, end, token = [], 0, 0
    for each in entities:
        text, start, first = each["text"], each["start"], each["token_start"]
        places = start - end, each["end"] - start - len(text), first - token, each["token_end"] - first
        rows.append((each["label"], text, round(each["score"] * _SCORE), *places))
        end, token = each["end"], each["token_end"]
    return [*zip(*rows, strict=True)]


def unpacked(columns: Sequence[Sequence[Any]]) -> list[Entity]:
    """The entities of `packed`."""
    entities: list[Entity] = []
    end = token = 0
    for label, text, score, gap, more, tokens_between, tokens in zip(*columns, strict=True):
        start, first = end + gap, token + tokens_between
        end, token = start + len(text) + more, first + tokens
        places = {"start": start, "end": end, "score": score / _SCORE, "token_start": first, "token_end": token}
        entities.append({"label": label, "text": text, **places})
    return entities
