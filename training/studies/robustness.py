"""A model's scores on changed input: the same data, changed as people write, scored again. A change keeps the label: a
text in upper case has the same sentiment, and a name stays a name. Two more sets are made of words alone, for models
that tell negative from positive: praise and blame in one word, and negated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from service.model.bundle import Task
from training.data.corpora import Example
from training.scoring.metrics import spans
from training.studies.negation import BAD, GOOD, check

Change = Callable[[Example, np.random.Generator], list[Example]]
"""An example → those that stand in its place: one as a rule."""

SHARE_OF_TYPOS = 0.1
LONG = 500
"""Words that a very long input has at least."""
EMOJI = "\N{PUSHPIN}"
"""One that is neither glad nor sad."""
_ENDINGS = ".!?…"
_NEGATED = ("not {}", "It is not {}.", "This is not a {} film.", "It wasn't {} at all.", "I don't think it is {}.")


@dataclass(frozen=True, slots=True)
class Variant:
    """Examples, under the name of their change."""

    name: str
    examples: list[Example]


def variants(examples: Sequence[Example], task: Task, labels: Sequence[str], seed: int = 1) -> Iterator[Variant]:
    """The examples unchanged, under every change, and the sets of words if the labels allow them."""
    yield Variant("as it is", list(examples))
    for name, change in CHANGES.items():
        # Each change its own numbers: another one more or less alters no other's.
        generator = np.random.default_rng(seed)
        yield Variant(name, [changed for example in examples for changed in change(example, generator)])
    if task == "ner":
        yield Variant("a name alone", [name for example in examples for name in _names(example)])
    elif {"negative", "positive"} <= set(labels):
        yield Variant("one word", [Example(word, label) for label, words in _WORDS.items() for word in words])
        for name, label, words in (("praise, negated", "negative", GOOD), ("blame, negated", "positive", BAD)):
            yield Variant(name, [Example(each.format(word), label) for word in words for each in _NEGATED])
        checked: dict[str, list[Example]] = {}
        for kind, new, example in check():
            checked.setdefault(f"{kind}{', new patterns' if new else ''}: {example.label}", []).append(example)
        yield from (Variant(name, checked[name]) for name in checked)


_WORDS = {"positive": GOOD, "negative": BAD}


def _each_word(of_word: Callable[[str], str]) -> Change:
    def change(example: Example, _: np.random.Generator) -> list[Example]:
        return [_with_words(example, of_word)]

    return change


def _with_words(example: Example, of_word: Callable[[str], str]) -> Example:
    """The words of a text are separated by spaces."""
    if isinstance(example.value, str):
        return Example(" ".join(map(of_word, example.value.split(" "))), example.label)
    # A change may leave nothing of a token's characters; a token is never empty.
    return Example(tuple(of_word(token) or token for token in example.value), example.label)


def _typos(example: Example, generator: np.random.Generator) -> list[Example]:
    def typed(word: str) -> str:
        if len(word) < 4 or not word.isalpha() or generator.random() >= SHARE_OF_TYPOS:
            return word
        at = int(generator.integers(1, len(word) - 2))
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return [_with_words(example, typed)]


def _unpunctuated(example: Example, _: np.random.Generator) -> list[Example]:
    if isinstance(example.value, str):
        bare = example.value.rstrip(_ENDINGS + " ")
        return [Example(bare or example.value, example.label)]
    end = len(example.value)
    while end > 1 and not example.value[end - 1].strip(_ENDINGS) and example.label[end - 1] == "O":
        end -= 1
    return [Example(example.value[:end], example.label[:end])]


def _with_emoji(example: Example, _: np.random.Generator) -> list[Example]:
    if isinstance(example.value, str):
        return [Example(f"{example.value} {EMOJI}", example.label)]
    return [Example((*example.value, EMOJI), (*example.label, "O"))]


def _repeated(example: Example, _: np.random.Generator) -> list[Example]:
    if isinstance(example.value, str):
        times = -(-LONG // max(1, len(example.value.split())))
        return [Example(" ".join([example.value] * times), example.label)]
    times = -(-LONG // len(example.value))
    return [Example(example.value * times, tuple(example.label) * times)]


def _names(example: Example) -> list[Example]:
    """Every name of a sentence as a whole input."""
    return [Example(example.value[first:end], example.label[first:end]) for _, first, end in spans(example.label)]


CHANGES: dict[str, Change] = {
    "lower case": _each_word(str.lower),
    "upper case": _each_word(str.upper),
    "no final punctuation": _unpunctuated,
    "typos": _typos,
    "an emoji behind it": _with_emoji,
    "repeated to 500 words": _repeated,
}
"""The changes of an example, by name."""
