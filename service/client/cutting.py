"""Long lists cut into requests, and their answers put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from service.client.answers import Predictions, Traces
from service.client.problems import ClientError

Input = str | Sequence[str]
"""One input: a raw text, or its tokens."""
Inputs = str | Sequence[Input]

PIECE_CHARACTERS = 250_000
"""Characters in one request, about: in UTF-8 and JSON's escapes, well below the service's usual limit of 2 MiB."""
_AROUND = 4
"""Characters that JSON adds to a string."""

Answer = TypeVar("Answer", Predictions, Traces)


@dataclass(frozen=True, slots=True)
class Piece:
    """The inputs of one request, and the position of the first in the whole list."""

    first: int
    inputs: list[str | list[str]]
    alone: bool = False
    """True if the input is one text, not a list. Pointers into the request then have no number."""

    def body(self) -> str | list[str | list[str]]:
        """As the request's `inputs`."""
        (text,) = self.inputs if self.alone else (None,)
        return text if isinstance(text, str) else self.inputs

    def halves(self) -> tuple[Piece, Piece]:
        middle = len(self.inputs) // 2
        return Piece(self.first, self.inputs[:middle]), Piece(self.first + middle, self.inputs[middle:])


def cut(inputs: Inputs, most: int) -> list[Piece]:
    """Pieces of at most `most` inputs and about `PIECE_CHARACTERS` characters, one input at least. Raises `ValueError`
    for an empty list."""
    if isinstance(inputs, str):
        return [Piece(0, [inputs], alone=True)]
    plain = [each if isinstance(each, str) else list(each) for each in inputs]
    if not plain:
        raise ValueError("there is no input")
    pieces: list[Piece] = []
    size = 0
    for number, each in enumerate(plain):
        characters = _characters(each)
        if not pieces or len(pieces[-1].inputs) == most or size + characters > PIECE_CHARACTERS:
            pieces.append(Piece(number, []))
            size = 0
        pieces[-1].inputs.append(each)
        size += characters
    return pieces


def joined(answers: Sequence[Answer]) -> Answer:
    """The answers of pieces as one. Raises `ClientError` when they are not of one version of the model."""
    first = answers[0]
    if len({(answer.model, answer.version) for answer in answers}) > 1:
        raise ClientError(f"The model {first.model} was replaced while the list was on its way: ask again.")
    sources = [each for answer in answers for each in answer.sources]
    if isinstance(first, Predictions):
        return replace(first, sources=sources, predictions=[each for answer in answers for each in answer.predictions])
    return replace(first, sources=sources, traces=[each for answer in answers for each in answer.traces])


def _characters(each: str | list[str]) -> int:
    return len(each) + _AROUND if isinstance(each, str) else sum(len(token) + _AROUND for token in each)
