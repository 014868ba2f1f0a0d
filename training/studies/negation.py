"""Sentences in which a few words decide: made of patterns and words, for training and as a check.

A pattern takes words of praise or of blame, and says if the sentence has their sentiment or the opposite. The words of
the two sets are apart, so that the check has no pattern together with a word that training has seen in it. Patterns
marked ``new`` are in the check alone. A verdict is a sentence without such a word, and a rating has a number in its
place; both are new in the check, sentence by sentence.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

from training.data.corpora import Example

Kind = Literal["negation", "kept", "contrast", "intensity", "verdict", "rating"]
"""Negation turns the word's meaning around; ``kept`` looks like negation and does not; in a contrast the clause
that the sentence stands for decides; intensity leaves the meaning as it is. A verdict is what people say of a thing
without naming its quality; a rating is a number of stars or points."""
Words = Literal["quality", "feeling", "comparison"]
"""The kind of word {a}: a quality of a thing, what somebody feels, or a comparative."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A sentence with places for words: {a} decides, {b} is a word of the opposite meaning, {n} a thing spoken of."""

    text: str
    kind: Kind
    new: bool = False
    words: Words = "quality"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence with a fixed meaning, and a place {n} for a thing."""

    text: str
    positive: bool
    new: bool = False


def _words(listed: str) -> tuple[str, ...]:
    return tuple(listed.split())


GOOD = _words(
    """
    good great wonderful funny moving charming brilliant excellent delightful clever beautiful fresh enjoyable
    gripping superb touching amazing smart entertaining fine
    """
)
BAD = _words(
    """
    bad awful boring dull stupid terrible tedious pointless lifeless horrible weak disappointing clumsy bland
    annoying ugly silly poor worthless lame
    """
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
    Pattern("Never once was the {n} {a}.", "negation"),
    Pattern("Not once did I find the {n} {a}.", "negation"),
    Pattern("In no way is the {n} {a}.", "negation"),
    Pattern("The {n} didn't feel {a}.", "negation"),
    Pattern("The {n} does not look {a}.", "negation"),
    Pattern("It hardly seems {a}.", "negation"),
    Pattern("This is hardly a {a} {n}.", "negation"),
    Pattern("It is nowhere near {a}.", "negation"),
    Pattern("The {n} isn't remotely {a}.", "negation"),
    Pattern("It isn't what I would call {a}.", "negation"),
    Pattern("Certainly not a {a} {n}.", "negation"),
    Pattern("I can't call it {a}.", "negation"),
    Pattern("It's not that {a}.", "negation"),
    Pattern("The {n} doesn't sound {a}.", "negation"),
    Pattern("It doesn't appear {a}.", "negation"),
    Pattern("The {n} did not strike me as {a}.", "negation"),
    Pattern("That's not a {a} {n}, not even close.", "negation"),
    Pattern("This isn't a {a} {n}, period.", "negation"),
    Pattern("We didn't think that the {n} was {a}.", "negation"),
    Pattern("I have yet to find it {a}.", "negation"),
    Pattern("None of it is {a}.", "negation"),
    Pattern("The {n} never gets {a}.", "negation"),
    Pattern("Who would call this {n} {a}?", "negation"),
    Pattern("Not exactly {a}.", "negation"),
    Pattern("The {n} turned out not to be {a}.", "negation"),
    Pattern("We were not {a} with the {n}.", "negation", words="feeling"),
    Pattern("I am not {a} with it at all.", "negation", words="feeling"),
    Pattern("I was anything but {a}.", "negation", words="feeling"),
    Pattern("I never felt {a}.", "negation", words="feeling"),
    Pattern("Nobody here was {a} with it.", "negation", words="feeling"),
    Pattern("I'm not exactly {a}.", "negation", words="feeling"),
    Pattern("I have had {a}.", "negation", words="comparison"),
    Pattern("There are {a} ones out there.", "negation", words="comparison"),
    Pattern("I had expected a {a} {n}.", "negation", words="comparison"),
    Pattern("I have seen {a}.", "negation", words="comparison"),
    Pattern("It could have been {a}.", "negation", words="comparison"),
    Pattern("I've had {a} ones.", "negation", words="comparison"),
    Pattern("I've seen {a}.", "negation", words="comparison"),
    Pattern("The {n} doesn't seem {a} to me.", "negation", new=True),
    Pattern("At no point was the {n} {a}.", "negation", new=True),
    Pattern("It's not a {a} {n} at all.", "negation", new=True),
    Pattern("I wasn't {a}.", "negation", new=True, words="feeling"),
    Pattern("You can find a {a} {n} elsewhere.", "negation", new=True, words="comparison"),
    Pattern("The {n} is not only {a}, it is {a2}.", "kept"),
    Pattern("It could not be more {a}.", "kept"),
    Pattern("I have never seen a more {a} {n}.", "kept"),
    Pattern("There is no doubt that the {n} is {a}.", "kept"),
    Pattern("Not only is the {n} {a}, it is {a2} too.", "kept"),
    Pattern("It is not merely {a}; it is {a2}.", "kept"),
    Pattern("It is more than {a}: it is {a2}.", "kept"),
    Pattern("You won't find a more {a} {n}.", "kept"),
    Pattern("No other {n} is this {a}.", "kept"),
    Pattern("Nothing is as {a} as this {n}.", "kept"),
    Pattern("I can't believe how {a} it is.", "kept"),
    Pattern("It isn't simply {a}: it is {a2}, too.", "kept"),
    Pattern("There isn't a more {a} {n} in town.", "kept"),
    Pattern("Nobody can deny that it is {a}.", "kept"),
    Pattern("I have never been so {a}.", "kept", words="feeling"),
    Pattern("I couldn't be more {a} with the {n}.", "kept", words="feeling"),
    Pattern("I can't tell you how {a} I am.", "kept", words="feeling"),
    Pattern("I have never had a {a} {n}.", "kept", words="comparison"),
    Pattern("It doesn't get {a} than this.", "kept", words="comparison"),
    Pattern("The {n} could not be {a}.", "kept", words="comparison"),
    Pattern("It could not have been {a}.", "kept", words="comparison"),
    Pattern("It couldn't have been {a}.", "kept", words="comparison"),
    Pattern("It doesn't get any {a} than this.", "kept", words="comparison"),
    Pattern("No {n} was ever {a}.", "kept", words="comparison"),
    Pattern("The {n} is not just {a} but {a2}.", "kept", new=True),
    Pattern("Never have I been so {a}.", "kept", new=True, words="feeling"),
    Pattern("We have yet to find a {a} {n}.", "kept", new=True, words="comparison"),
    Pattern("The {n} looks {b}, but it is {a}.", "contrast"),
    Pattern("It started {b}, but in the end it was {a}.", "contrast"),
    Pattern("Although parts of it are {b}, the {n} is {a}.", "contrast"),
    Pattern("The {n} is {a}, even though others call it {b}.", "contrast"),
    Pattern("I expected it to be {b}, but the {n} was {a}.", "contrast"),
    Pattern("Yes, it looks {b} at first, yet the {n} is {a}.", "contrast"),
    Pattern("I was told that it is {b}. I find it {a}.", "contrast"),
    Pattern("I thought I would be {b}, but the {n} left me {a}.", "contrast", words="feeling"),
    Pattern("People say that it is {b}; however, the {n} is {a}.", "contrast", new=True),
    Pattern("very {a}", "intensity"),
    Pattern("The {n} is extremely {a}.", "intensity"),
    Pattern("It was so {a}!", "intensity"),
    Pattern("It is {a}, really {a}.", "intensity"),
    Pattern("What an incredibly {a} {n}.", "intensity"),
    Pattern("The {n} left me {a}.", "intensity", words="feeling"),
    Pattern("I am so {a} with this {n}.", "intensity", words="feeling"),
    Pattern("The {n} was {a} than expected.", "intensity", words="comparison"),
    Pattern("This {n} is {a} than the last one.", "intensity", words="comparison"),
    Pattern("The {n} was rather {a}, I must say.", "intensity", new=True),
)
PRAISE = _words(
    """
    nice lovely fantastic terrific fabulous marvelous pleasant perfect outstanding solid reliable comfortable useful
    helpful friendly tasty delicious fast elegant sturdy impressive engaging hilarious thoughtful inventive original
    convincing absorbing stunning satisfying refreshing memorable polished intelligent warm witty interesting
    exciting magnificent splendid handy efficient durable adorable compelling sweet awesome flawless
    """
)
BLAME = _words(
    """
    dreadful mediocre unpleasant lousy atrocious crappy useless unreliable flimsy noisy rude slow dirty smelly
    overpriced broken faulty uncomfortable shoddy painful predictable shallow confusing forgettable contrived
    pretentious tiresome monotonous dreary unfunny incoherent irritating frustrating ridiculous cheesy messy sloppy
    hollow stale inferior unhelpful wretched greasy buggy defective pathetic nasty disgusting vile
    """
)
GLAD = ("pleased", "satisfied", "impressed", "delighted", "thrilled", "glad", "content", "charmed")
SAD = ("annoyed", "frustrated", "upset", "irritated", "dissatisfied", "displeased", "disgusted", "bored")
BETTER = ("better", "faster", "tastier", "friendlier", "cleaner", "sturdier", "prettier", "nicer")
WORSE = ("worse", "slower", "dirtier", "ruder", "noisier", "flimsier", "nastier", "shabbier")
_LEARNED: dict[Words, tuple[Sequence[str], Sequence[str]]] = {
    "quality": (PRAISE, BLAME),
    "feeling": (GLAD, SAD),
    "comparison": (BETTER, WORSE),
}
_CHECKED: dict[Words, tuple[Sequence[str], Sequence[str]]] = {
    "quality": (GOOD, BAD),
    "feeling": (("happy", "excited", "grateful", "amazed"), ("disappointed", "angry", "unhappy", "furious")),
    "comparison": (("funnier", "smarter", "fresher", "finer"), ("duller", "uglier", "weaker", "sillier")),
}
VERDICTS = (
    Verdict("No complaints so far.", positive=True),
    Verdict("No complaints about the {n}.", positive=True),
    Verdict("No problems so far.", positive=True),
    Verdict("Not a single problem with the {n}.", positive=True),
    Verdict("There is nothing to complain about.", positive=True),
    Verdict("No regrets.", positive=True),
    Verdict("I can't recommend the {n} enough.", positive=True),
    Verdict("I can't praise this {n} enough.", positive=True),
    Verdict("You won't regret it.", positive=True),
    Verdict("You will not be sorry.", positive=True),
    Verdict("Don't hesitate.", positive=True),
    Verdict("Don't miss this {n}.", positive=True),
    Verdict("It never lets me down.", positive=True),
    Verdict("The {n} has not failed me once.", positive=True),
    Verdict("Worth every penny.", positive=True),
    Verdict("The {n} is worth the price.", positive=True),
    Verdict("You can't go wrong with this {n}.", positive=True),
    Verdict("What's not to like?", positive=True),
    Verdict("I cannot fault the {n}.", positive=True),
    Verdict("I wish I had bought it sooner.", positive=True),
    Verdict("I could not ask for more.", positive=True),
    Verdict("I can't wait for more.", positive=True),
    Verdict("I can't get enough of this {n}.", positive=True),
    Verdict("I can't say that I disliked it.", positive=True),
    Verdict("I couldn't put it down.", positive=True),
    Verdict("I will come back.", positive=True),
    Verdict("I can't recommend the {n}.", positive=False),
    Verdict("I cannot recommend it to anyone.", positive=False),
    Verdict("I can't praise this {n} at all.", positive=False),
    Verdict("Don't bother.", positive=False),
    Verdict("Don't waste your time on this {n}.", positive=False),
    Verdict("You will regret it.", positive=False),
    Verdict("You will be sorry.", positive=False),
    Verdict("It let me down.", positive=False),
    Verdict("The {n} has failed me more than once.", positive=False),
    Verdict("Not worth a penny.", positive=False),
    Verdict("The {n} is not worth the price.", positive=False),
    Verdict("I want my money back.", positive=False),
    Verdict("Save your money.", positive=False),
    Verdict("Look elsewhere.", positive=False),
    Verdict("Stay away from this {n}.", positive=False),
    Verdict("I expected more.", positive=False),
    Verdict("I expected more from the {n}.", positive=False),
    Verdict("I wish I had never bought it.", positive=False),
    Verdict("I regret that I bought it.", positive=False),
    Verdict("Nothing works.", positive=False),
    Verdict("Nothing but problems with the {n}.", positive=False),
    Verdict("There is nothing to like about it.", positive=False),
    Verdict("I couldn't wait for it to end.", positive=False),
    Verdict("I could not finish it.", positive=False),
    Verdict("I can't say that I liked it.", positive=False),
    Verdict("I will not come back.", positive=False),
    Verdict("No issues whatsoever with the {n}.", positive=True, new=True),
    Verdict("I have nothing bad to say about the {n}.", positive=True, new=True),
    Verdict("You can't beat this {n}.", positive=True, new=True),
    Verdict("The {n} never disappoints.", positive=True, new=True),
    Verdict("I wish I had found this {n} earlier.", positive=True, new=True),
    Verdict("Don't think twice about this {n}.", positive=True, new=True),
    Verdict("The {n} leaves much to be desired.", positive=False, new=True),
    Verdict("I have nothing good to say about the {n}.", positive=False, new=True),
    Verdict("You can do without this {n}.", positive=False, new=True),
    Verdict("The {n} never works.", positive=False, new=True),
    Verdict("I wish I had skipped this {n}.", positive=False, new=True),
    Verdict("Think twice about this {n}.", positive=False, new=True),
)
_BEFORE = ("", "", "Honestly: ", "In short: ", "After a month: ", "Update: ", "My verdict: ", "To sum up: ")
_STARS = {True: ("5", "4", "5", "4", "five", "four"), False: ("1", "2", "1", "2", "0", "one", "two", "zero")}
_POINTS = {True: ("8", "9", "10"), False: ("0", "1", "2", "3")}
RATINGS: tuple[tuple[str, Mapping[bool, Sequence[str]]], ...] = (
    ("{k} {stars}", _STARS),
    ("{k} {stars}.", _STARS),
    ("{k} {stars}!", _STARS),
    ("{k} {stars} from me.", _STARS),
    ("{k} {stars} for the {n}.", _STARS),
    ("I gave the {n} {k} {stars}.", _STARS),
    ("The {n} gets {k} {stars}.", _STARS),
    ("The {n}: {k} {stars}.", _STARS),
    ("I bought this {n} last year: {k} {stars}.", _STARS),
    ("{k} out of 5.", _STARS),
    ("{k}/5", _STARS),
    ("I give it {k} {stars}.", _STARS),
    ("{k} out of 5 stars.", _STARS),
    ("{k}/5 for the {n}.", _STARS),
    ("{k}/10", _POINTS),
    ("{k}/10 for the {n}.", _POINTS),
    ("Rating: {k}/10", _POINTS),
    ("I would say {k} out of 10.", _POINTS),
    ("{k} out of 10.", _POINTS),
    ("I give the {n} {k}/10.", _POINTS),
)
_RATINGS_CHECKED: tuple[tuple[str, Mapping[bool, Sequence[str]]], ...] = (
    ("The {n} deserves {k} {stars}.", {True: ("5", "4"), False: ("1", "2")}),
    ("My rating of the {n}: {k}/5.", {True: ("5", "4"), False: ("1", "2")}),
    ("I rate this {n} {k}/10.", {True: ("8", "9", "10"), False: ("1", "2", "3")}),
)
_NUMBERS = ("zero", "one", "two", "three", "four", "five")
_SHARES: dict[Kind, float] = {
    "negation": 0.35,
    "kept": 0.2,
    "contrast": 0.05,
    "intensity": 0.05,
    "verdict": 0.15,
    "rating": 0.2,
}
"""The share of each kind in what training sees."""
_FIRST: dict[Kind, int] = {"negation": 17, "kept": 4, "contrast": 5, "intensity": 5}
"""The patterns of each kind, from its beginning, that a first stage learns from."""
THINGS = ("film", "book", "phone", "hotel", "meal", "service", "app", "story", "product", "place", "band", "show")
_CHECKED_THINGS = ("film", "phone", "restaurant", "room", "game", "camera")


def drawn(count: int, seed: int = 1) -> list[tuple[Kind, Example]]:
    """Sentences of every kind, as many positive as negative. No word of the check is in a pattern."""
    generator = random.Random(seed)  # noqa: S311  # no secrets
    learned = [pattern for pattern in PATTERNS if not pattern.new]
    found: dict[str, tuple[Kind, Example]] = {}
    while len(found) < count:
        positive = len(found) % 2 == 0
        kind = generator.choices(list(_SHARES), list(_SHARES.values()))[0]
        thing = generator.choice(THINGS)
        if kind == "verdict":
            verdict = generator.choice([each for each in VERDICTS if each.positive == positive and not each.new])
            example = _said(generator.choice(_BEFORE) + verdict.text.format(n=thing), positive)
        elif kind == "rating":
            rating, numbers = generator.choice(RATINGS)
            example = _rated(rating, generator.choice(numbers[positive]), thing, positive)
            example = _said(generator.choice(_BEFORE) + str(example.value), positive)
        else:
            pattern = generator.choice([each for each in learned if each.kind == kind])
            praise = positive != (kind == "negation")
            example = _made(pattern, praise, _LEARNED[pattern.words], thing, generator)
            if pattern.words != "quality":  # few words: a beginning makes more sentences of them
                example = _said(generator.choice(_BEFORE) + str(example.value), positive)
        found.setdefault(str(example.value), (kind, example))
    return list(found.values())


def training(first: int, among: int, seed: int = 1) -> list[Example]:
    """The examples for `sentiment-bilstm`: `first` sentences of the first few patterns, then the ratings among
    `drawn(among)` in random order. More patterns and verdicts beside them cost a point on SST-2."""
    ratings = [example for kind, example in drawn(among, seed) if kind == "rating"]
    random.Random(seed).shuffle(ratings)  # noqa: S311  # no secrets
    return beginning(first, seed) + ratings


def beginning(count: int, seed: int = 1) -> list[Example]:
    """Sentences of the first few patterns, each as often."""
    generator = random.Random(seed)  # noqa: S311  # no secrets
    learned: list[Pattern] = []
    for kind, number in _FIRST.items():
        learned += [pattern for pattern in PATTERNS if pattern.kind == kind and not pattern.new][:number]
    found: dict[str, Example] = {}
    while len(found) < count:
        pattern, praise = generator.choice(learned), len(found) % 2 == 0
        example = _made(pattern, praise, (PRAISE, BLAME), generator.choice(THINGS), generator)
        found.setdefault(str(example.value), example)
    return list(found.values())


def check() -> Iterator[tuple[Kind, bool, Example]]:
    """The kind, whether the pattern is new, and a sentence: every pattern with every word that training has not, every
    new verdict with every thing, and every new rating."""
    generator = random.Random(0)  # noqa: S311  # no secrets
    for pattern in PATTERNS:
        words = _CHECKED[pattern.words]
        for praise in (True, False):
            for number, word in enumerate(words[0] if praise else words[1]):
                thing = _CHECKED_THINGS[number % len(_CHECKED_THINGS)]
                yield pattern.kind, pattern.new, _made(pattern, praise, words, thing, generator, word)
    for verdict in VERDICTS:
        if verdict.new:
            for thing in _CHECKED_THINGS:
                yield "verdict", True, _said(verdict.text.format(n=thing), verdict.positive)
    for (rating, numbers), positive, thing in product(_RATINGS_CHECKED, (True, False), _CHECKED_THINGS):
        for given in numbers[positive]:
            yield "rating", True, _rated(rating, given, thing, positive)


def _rated(text: str, number: str, thing: str, positive: bool) -> Example:
    if "/" in text and not number.isdigit():
        number = str(_NUMBERS.index(number))
    said = text.format(k=number, n=thing, stars="star" if number in ("1", "one") else "stars")
    return _said(said[0].upper() + said[1:], positive)


def _said(text: str, positive: bool) -> Example:
    return Example(text, "positive" if positive else "negative")


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
    return _said(_article(text), praise != (pattern.kind == "negation"))


def _article(text: str) -> str:
    """``a awful`` becomes ``an awful``."""
    words = text.split(" ")
    for at, (word, behind) in enumerate(pairwise(words)):
        if word in ("a", "an"):
            words[at] = "an" if behind[0] in "aeiou" and not behind.startswith("use") else "a"
    return " ".join(words)
