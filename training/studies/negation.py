"""Sentences in which negation, contrast or intensity decides: made of patterns and words, for training and as a check.

A pattern takes words of praise or of blame, and says if the sentence has their sentiment or the opposite. The words of
the two sets are apart, so that the check has no pattern together with a word that training has seen in it. Patterns
marked ``new`` are in the check alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from training.data.corpora import Example

Kind = Literal["negation", "kept", "contrast", "intensity"]
"""Negation turns the word's meaning around; ``kept`` looks like negation and does not; in a contrast the clause
that the sentence stands for decides; intensity leaves the meaning as it is."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A sentence with places for words: {a} decides, {b} is a word of the opposite meaning, {n} a thing spoken of."""

    text: str
    kind: Kind
    new: bool = False


GOOD = (
    *("good", "great", "wonderful", "funny", "moving", "charming", "brilliant", "excellent", "delightful", "clever"),
    *("beautiful", "fresh", "enjoyable", "gripping", "superb", "touching", "amazing", "smart", "entertaining", "fine"),
)
BAD = (
    *("bad", "awful", "boring", "dull", "stupid", "terrible", "tedious", "pointless", "lifeless", "horrible"),
    *("weak", "disappointing", "clumsy", "bland", "annoying", "ugly", "silly", "poor", "worthless", "lame"),
)
"""The words of the check."""
PATTERNS = (
    Pattern("not {a}", "negation"),
    Pattern("It is not {a}.", "negation"),
    Pattern("It isn't {a}.", "negation"),
    Pattern("It wasn't {a} at all.", "negation"),
    Pattern("The {n} was not {a} at all.", "negation"),
    Pattern("This is not a {a} {n}.", "negation"),
    Pattern("That wasn't a {a} {n}.", "negation"),
    Pattern("I don't think it is {a}.", "negation"),
    Pattern("I didn't find the {n} {a}.", "negation"),
    Pattern("The {n} is never {a}.", "negation"),
    Pattern("There is nothing {a} about the {n}.", "negation"),
    Pattern("The {n} is far from {a}.", "negation"),
    Pattern("It was anything but {a}.", "negation"),
    Pattern("The {n} is by no means {a}.", "negation"),
    Pattern("Nobody would call this {n} {a}.", "negation"),
    Pattern("The {n} is neither {a} nor {a2}.", "negation"),
    Pattern("I would not say that the {n} was {a}.", "negation"),
    Pattern("The {n} doesn't seem {a} to me.", "negation", new=True),
    Pattern("At no point was the {n} {a}.", "negation", new=True),
    Pattern("It's not a {a} {n} at all.", "negation", new=True),
    Pattern("The {n} is not only {a}, it is {a2}.", "kept"),
    Pattern("It could not be more {a}.", "kept"),
    Pattern("I have never seen a more {a} {n}.", "kept"),
    Pattern("There is no doubt that the {n} is {a}.", "kept"),
    Pattern("The {n} is not just {a} but {a2}.", "kept", new=True),
    Pattern("The {n} looks {b}, but it is {a}.", "contrast"),
    Pattern("It started {b}, but in the end it was {a}.", "contrast"),
    Pattern("Although parts of it are {b}, the {n} is {a}.", "contrast"),
    Pattern("The {n} is {a}, even though others call it {b}.", "contrast"),
    Pattern("I expected it to be {b}, but the {n} was {a}.", "contrast"),
    Pattern("People say that it is {b}; however, the {n} is {a}.", "contrast", new=True),
    Pattern("very {a}", "intensity"),
    Pattern("The {n} is extremely {a}.", "intensity"),
    Pattern("It was so {a}!", "intensity"),
    Pattern("It is {a}, really {a}.", "intensity"),
    Pattern("What an incredibly {a} {n}.", "intensity"),
    Pattern("The {n} was rather {a}, I must say.", "intensity", new=True),
)
PRAISE = (
    *(
        "nice",
        "lovely",
        "fantastic",
        "terrific",
        "fabulous",
        "marvelous",
        "pleasant",
        "perfect",
        "outstanding",
        "solid",
    ),
    *("reliable", "comfortable", "useful", "helpful", "friendly", "tasty", "delicious", "fast", "elegant", "sturdy"),
    *(
        "impressive",
        "engaging",
        "hilarious",
        "thoughtful",
        "inventive",
        "original",
        "convincing",
        "absorbing",
        "stunning",
    ),
    *("satisfying", "refreshing", "memorable", "polished", "intelligent", "warm", "witty", "interesting", "exciting"),
    *(
        "magnificent",
        "splendid",
        "handy",
        "efficient",
        "durable",
        "adorable",
        "compelling",
        "sweet",
        "awesome",
        "flawless",
    ),
)
BLAME = (
    *("dreadful", "mediocre", "unpleasant", "lousy", "atrocious", "crappy", "useless", "unreliable", "flimsy", "noisy"),
    *("rude", "slow", "dirty", "smelly", "overpriced", "broken", "faulty", "uncomfortable", "shoddy", "painful"),
    *(
        "predictable",
        "shallow",
        "confusing",
        "forgettable",
        "contrived",
        "pretentious",
        "tiresome",
        "monotonous",
        "dreary",
    ),
    *(
        "unfunny",
        "incoherent",
        "irritating",
        "frustrating",
        "ridiculous",
        "cheesy",
        "messy",
        "sloppy",
        "hollow",
        "stale",
    ),
    *("inferior", "unhelpful", "wretched", "greasy", "buggy", "defective", "pathetic", "nasty", "disgusting", "vile"),
)
THINGS = ("film", "book", "phone", "hotel", "meal", "service", "app", "story", "product", "place", "band", "show")
_CHECKED_THINGS = ("film", "phone", "restaurant", "room", "game", "camera")


def training(count: int, seed: int = 1) -> list[Example]:
    """Sentences to learn from, as many positive as negative. No word of the check is in a pattern."""
    generator = random.Random(seed)  # noqa: S311  # no secrets
    learned = [pattern for pattern in PATTERNS if not pattern.new]
    found: dict[str, Example] = {}
    while len(found) < count:
        praise = len(found) % 2 == 0
        example = _made(generator.choice(learned), praise, (PRAISE, BLAME), generator.choice(THINGS), generator)
        found.setdefault(str(example.value), example)
    return list(found.values())


def check() -> Iterator[tuple[Kind, bool, Example]]:
    """The kind, whether the pattern is new, and a sentence: every pattern with every word that training has not."""
    generator = random.Random(0)  # noqa: S311  # no secrets
    for pattern in PATTERNS:
        for praise, words in ((True, GOOD), (False, BAD)):
            for number, word in enumerate(words):
                thing = _CHECKED_THINGS[number % len(_CHECKED_THINGS)]
                yield pattern.kind, pattern.new, _made(pattern, praise, (GOOD, BAD), thing, generator, word)


def _made(
    pattern: Pattern,
    praise: bool,
    words: tuple[Sequence[str], Sequence[str]],
    thing: str,
    generator: random.Random,
    word: str | None = None,
) -> Example:
    """One sentence. `praise` is the sentiment of the word; with a negation the sentence has the opposite."""
    own, other = words if praise else words[::-1]
    word = word or generator.choice(own)
    second = generator.choice([each for each in own if each != word])
    text = pattern.text.format(a=word, a2=second, b=generator.choice(other), n=thing)
    positive = praise != (pattern.kind == "negation")
    return Example(_article(text), "positive" if positive else "negative")


def _article(text: str) -> str:
    """``a awful`` becomes ``an awful``."""
    words = text.split(" ")
    for at, (word, behind) in enumerate(pairwise(words)):
        if word in ("a", "an"):
            words[at] = "an" if behind[0] in "aeiou" and not behind.startswith("use") else "a"
    return " ".join(words)
