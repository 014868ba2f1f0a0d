"""Token conventions of a corpus: find the style of rules that returns its tokens, and convert other corpora to it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.model.rules import STYLES, UNKNOWN, Style
from service.model.tokenizer import Tokenizer, build
from training.data.corpora import Example
from training.data.detokenize import hyphens_apart, join

_ENOUGH = 2000
"""Sentences of a corpus that are enough: more tell nothing new."""
_OTHER = 0.05
"""A corpus has other conventions if its share is lower than the first one's by more than this."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Share of sentences, and share of tokens, that come back unchanged when the sentences are written as text and cut
    again."""

    style: Style
    sentences: float
    tokens: float
    counted: int


def chosen(examples: Sequence[Example], wanted: Style | None, tell: Callable[[str], None]) -> Style:
    """The style for a training corpus: the one wanted, or the one that returns most of its sentences.

    Texts are cut by the rules anyway, and get the style ``web``. `tell` gets a line with the measurement.
    """
    sentences = _sentences(examples)
    if not sentences:
        return wanted or "web"
    found = agreements(sentences) if wanted is None else [agreement(sentences, wanted)]
    tell(
        f"raw text is cut in the style {found[0].style}, which returns {found[0].sentences:.1%} of the training "
        "corpus's sentences" + "".join(f", {each.style} {each.sentences:.1%}" for each in found[1:])
    )
    return found[0].style


def agreement(sentences: Sequence[Sequence[str]], style: Style) -> Agreement:
    """Write tokenised sentences as people write them, cut them by a style's rules, and compare.

    If there are 4,000 sentences or more, it takes 2,000 to 3,000, spread over the whole. Raises `ValueError` for none,
    and for one without a token.
    """
    if not sentences or not all(sentences):
        raise ValueError("a sentence without a token cannot be compared" if sentences else "no sentence to compare")
    tokenizer = _blank(style)
    step = max(1, len(sentences) // _ENOUGH)
    chosen = sentences[::step]
    apart = hyphens_apart(sentences)
    whole = same = tokens = 0
    for sentence in chosen:
        joined = join(sentence, apart=apart)
        found = [span for _, span in tokenizer.split(joined.text)]
        whole += found == joined.spans
        same += len(set(joined.spans) & set(found))
        tokens += len(sentence)
    return Agreement(style, whole / len(chosen), same / max(tokens, 1), len(chosen))


def agreements(sentences: Sequence[Sequence[str]]) -> list[Agreement]:
    """The agreement of every style, best first."""
    found = (agreement(sentences, style) for style in STYLES if style != "reviews")  # which cuts as `web` does
    return sorted(found, key=lambda each: -each.sentences)


def differs(first: Sequence[Example], other: Sequence[Example], style: Style) -> bool:
    """True if tagged sentences are cut differently from the first corpus, which has this style."""
    ours, theirs = (agreement(_sentences(each), style).sentences for each in (first, other))
    return theirs < ours - _OTHER


def conform(examples: Sequence[Example], style: Style) -> tuple[list[Example], int]:
    """Tagged sentences with the tokens that a style's rules find in them, and how many of them changed.

    A token made of several takes the first entity among them; the parts of one token share its tag. Every example
    stays, and its tags stay IOB2.
    """
    tokenizer = _blank(style)
    apart = hyphens_apart(_sentences(examples))
    made = [_conformed(example, tokenizer, apart) for example in examples]
    return made, sum(new.value != old.value for new, old in zip(made, examples, strict=True))


def _sentences(examples: Sequence[Example]) -> list[tuple[str, ...]]:
    return [example.value for example in examples if not isinstance(example.value, str)]


def _conformed(example: Example, tokenizer: Tokenizer, apart: bool) -> Example:
    if isinstance(example.value, str):
        return example
    joined = join(example.value, apart=apart)
    found = tokenizer.split(joined.text)
    if not found or [span for _, span in found] == joined.spans:
        return example
    entities = _entities(example.label)
    starts, ends = zip(*joined.spans, strict=True)
    tags: list[str] = []
    before = -1
    for _, (start, end) in found:
        covered = entities[bisect_right(ends, start) : bisect_left(starts, end)]
        number, kind = next((each for each in covered if each[0] >= 0), (-1, ""))
        tags.append("O" if number < 0 else f"{'I' if number == before else 'B'}-{kind}")
        before = number
    return Example(tuple(token for token, _ in found), tuple(tags), example.lines[:1] * len(tags))


def _entities(tags: Sequence[str]) -> list[tuple[int, str]]:
    """For each token the number of its entity (-1: none) and the entity's type."""
    numbered: list[tuple[int, str]] = []
    number = -1
    for tag in tags:
        number += tag.startswith("B-")
        numbered.append((number, tag[2:]) if tag != "O" else (-1, ""))
    return numbered


def _blank(style: Style) -> Tokenizer:
    return build([UNKNOWN], [], style)
