"""Is a split true? The model itself answers: tokens are deleted, and its answer is compared.

Comprehensiveness is how much of the label's probability is lost when the tokens with the largest shares are deleted;
sufficiency is how much is lost when only they are kept (ERASER: DeYoung et al. 2020, arXiv:1911.03429). Both are means
over `PERCENTS` of the tokens, rounded up. A text never loses its last token. A tagger's text never loses the explained
token.

Nothing here runs a model: `DeletionPlan` lists the needed runs, and its methods compute scores from their answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from service.model.decoding import Classifier, Tagger
from service.model.tokenizer import Encoded

PERCENTS = (1, 5, 10, 20, 50)
"""Shares of the tokens, for comprehensiveness and sufficiency."""
MAX_TOKENS = 256
"""Tokens of one input: a text of n tokens takes about n runs."""
MAX_RERUN_TOKENS = 500_000
"""Tokens of all runs of one request."""

Array = NDArray[np.float64]
Logits = NDArray[np.float32]


class Deletion(TypedDict):
    """`order` has all token numbers, the largest share first; `scores[k]` is the label's probability when the first
    k + 1 of them are gone. There is a score less than tokens: one token always stays."""

    order: list[int]
    scores: list[float]


class Faithfulness(TypedDict):
    """The scores that `/gates` returns for one input."""

    label: str
    score: float
    deletion: Deletion
    comprehensiveness: float
    sufficiency: float


def order_of(shares: Array, explained: int | None = None) -> list[int]:
    """Token numbers by their shares [tokens], the largest first; the earlier token first among equals. The explained
    token comes last, because it stays."""
    order: list[int] = np.argsort(-shares, kind="stable").tolist()
    if explained is not None:
        order.remove(explained)
        order.append(explained)
    return order


def count(percent: int, tokens: int) -> int:
    """A percentage of the tokens, rounded up."""
    return -(-percent * tokens // 100)


@dataclass(frozen=True, slots=True)
class DeletionPlan:
    """The runs that measure one order of one input's tokens: `kept` has each run's token numbers, ascending."""

    order: Sequence[int]
    explained: int | None = None

    @property
    def tokens(self) -> int:
        return len(self.order)

    def kept(self) -> list[list[int]]:
        """The whole text; the text without the first 1, 2, … tokens of the order; then the first tokens alone, for each
        of `PERCENTS`."""
        deleted = [sorted(self.order[gone:]) for gone in range(self.tokens)]
        stays = set() if self.explained is None else {self.explained}
        alone = [sorted({*self.order[: count(percent, self.tokens)], *stays}) for percent in PERCENTS]
        return [*deleted, *alone]

    def summary(self, label: str, probabilities: Sequence[float]) -> Faithfulness:
        """The scores from the label's probabilities in these runs."""
        full, *deleted = probabilities[: self.tokens]
        alone = probabilities[self.tokens :]
        # without the first tokens of the order, or all but the last one
        left = [probabilities[min(count(percent, self.tokens), self.tokens - 1)] for percent in PERCENTS]
        return {
            "label": label,
            "score": full,
            "deletion": {"order": list(self.order), "scores": deleted},
            "comprehensiveness": float(np.mean([full - each for each in left])),
            "sufficiency": float(np.mean([full - each for each in alone])),
        }


def label_of(decoder: Classifier | Tagger, logits: Logits, source: Encoded, explained: int | None) -> int:
    """The number of the predicted label, from an input's logits; a tagger's of the token that is explained."""
    if isinstance(decoder, Classifier):
        return int(logits.argmax())
    assert explained is not None
    first, end = _sentence(source, explained)
    return decoder.path(logits[first:end])[explained - first]


def probabilities(
    decoder: Classifier | Tagger, runs: Sequence[Run], logits: Sequence[Logits], label: int
) -> list[float]:
    """The probability of a label, by number, in each run; a tagger's at the explained token."""
    if isinstance(decoder, Classifier):
        return decoder.probability(logits, label)
    return decoder.probability(logits, label, [run.explained or 0 for run in runs])


def _sentence(source: Encoded, explained: int | None) -> tuple[int, int]:
    """(first token, end) of the tokens that are read together with the explained one: its sentence, or the text."""
    if explained is None or source.sentences is None:
        return 0, len(source)
    return next((first, end) for first, end in source.sentences if first <= explained < end)


def rows_of(source: Encoded, kept: Sequence[Sequence[int]], explained: int | None) -> tuple[list[int], list[Run]]:
    """The rows to run for these selections of an input's tokens, each once; and by selection the number of its row.

    If the text has sentences, only that of the explained token is run: no other changes its label.
    """
    first, end = _sentence(source, explained)
    numbers: dict[tuple[int, ...], int] = {}
    places = []
    for selection in kept:
        here = tuple(token for token in selection if first <= token < end)
        places.append(numbers.setdefault(here, len(numbers)))
    runs = [
        Run(here, source.rows[list(here)], None if explained is None else here.index(explained)) for here in numbers
    ]
    return places, runs


@dataclass(frozen=True, slots=True)
class Run:
    """One row to run: the numbers of its tokens in the input, the row int32 [tokens, columns], and the explained
    token's place in it."""

    tokens: tuple[int, ...]
    row: NDArray[np.int32]
    explained: int | None


class DeletionEffects(TypedDict):
    """The change of each logit when a token is deleted, [tokens, labels]. It is null for the token that a tagger
    explains, because its logits go with it. `exact` is true if a closed form of the cell gives the change, false if
    the model was run."""

    labels: list[str]
    tokens: list[list[float] | None]
    exact: bool
    method: str


RERUN = "the model was run without each token"


def without_each(tokens: int, explained: int | None) -> list[list[int]]:
    """The whole text, then for each token the text without it, if something is left to explain."""
    everything = list(range(tokens))
    rest = [[other for other in everything if other != token] for token in everything if token != explained]
    return [everything, *(each for each in rest if each)]


def effects(
    labels: Sequence[str], tokens: int, explained: int | None, bias: Array, logits: Sequence[Array]
) -> DeletionEffects:
    """The effects from the logits [labels] of the runs that `without_each` names. A text that loses its only token has
    the head's `bias` [labels] left."""
    full, *rest = logits
    following = iter(rest)
    rows = [None if token == explained else (next(following, bias) - full).tolist() for token in range(tokens)]
    return {"labels": list(labels), "tokens": rows, "exact": False, "method": RERUN}
