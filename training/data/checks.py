"""Notes on labelled data that is well formed but probably wrong. Each note names the rows."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.model.bundle import Task
from service.model.tokenizer import Tokenizer
from training.data.sources import CorpusError, Example, Tell, some

_FEW = 10
"""Rows of a class, or entities of a type, below which a note names it."""
_SMALL = 50
"""Smallest dev set, in inputs, that gets no note on the weight of one input."""
_MAJORITY = 0.9
"""The share of one label above which a note names it."""
_MANY = 20
"""Labels above which their number is compared with the number of rows."""
_SHOWN = 5
_MISSING = frozenset(("nan", "null", "n/a", "na", "<na>", "?"))
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(number) for number, word in enumerate(_WORDS)}
_WHOLE = re.compile(r"([+-]?[0-9]+)(?:[.,]0+)?")
_LETTER = re.compile("[A-Za-z0-9]")
_NOT_A_LETTER = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Part:
    """A file and its examples."""

    path: Path
    examples: Sequence[Example]


def with_tokens(path: Path, examples: Sequence[Example], tokenizer: Tokenizer, tell: Tell) -> list[Example]:
    """The examples that have a token; `tell` gets a line on the others. Raises `CorpusError` where none has."""
    kept = [
        each
        for each in examples
        # The search is a shortcut: the tokenizer makes a token of every letter and digit.
        if (_LETTER.search(each.value) or tokenizer.split(each.value) if isinstance(each.value, str) else each.value)
    ]
    if not kept:
        raise CorpusError(path, f"none of its {len(examples):,} texts holds a token; are they in another column?")
    if len(kept) < len(examples):
        there = {id(example) for example in kept}
        without = [example for example in examples if id(example) not in there]
        tell(f"note: {_rows(Part(path, examples), without)} are set aside: their text holds no token")
    return kept


def counts(examples: Iterable[Example], task: Task) -> dict[str, int]:
    """By label, in alphabetical order: the rows of a classifier's data, or the entities of a tagger's."""
    if task == "sentiment":
        found = Counter(str(example.label) for example in examples)
    else:
        found = Counter(tag[2:] for example in examples for tag in example.label if tag.startswith("B-"))
    return dict(sorted(found.items()))


def notes(train: Sequence[Part], dev: Sequence[Part], task: Task) -> Iterator[str]:
    """A line on each thing that is likely wrong in the data; none if all is well."""
    seen: dict[object, set[object]] = defaultdict(set)
    for part in train:
        yield from _repeated(part, seen)
    yield from _contradictions(train, seen)
    learned = [example for part in train for example in part.examples]
    found = counts(learned, task)
    yield from _labels(train, found, len(learned), task)
    for part in dev:
        yield from _dev(part, seen, found, task)


def _key(example: Example) -> object:
    """Key that is equal for two examples that differ only in white space."""
    return " ".join(example.value.split()) if isinstance(example.value, str) else example.value


def _line(example: Example) -> int:
    return example.lines[0] if example.lines else 0


def _rows(part: Part, examples: Sequence[Example]) -> str:
    lines = some([_line(example) for example in examples])
    return f"{part.path}: {len(examples):,} of {len(part.examples):,} rows ({lines})"


def _repeated(part: Part, seen: dict[object, set[object]]) -> Iterator[str]:
    """The rows that repeat earlier ones; `seen` then has the labels of each text of this part too."""
    again = []
    for example in part.examples:
        key = _key(example)
        if key in seen:
            again.append(example)
        seen[key].add(example.label)
    if again:
        yield f"{_rows(part, again)} repeat the text of an earlier row"


def _contradictions(train: Sequence[Part], seen: Mapping[object, set[object]]) -> Iterator[str]:
    for part in train:
        torn = [example for example in part.examples if len(seen[_key(example)]) > 1]
        if torn:
            yield f"{_rows(part, torn)} have a text that has another label elsewhere; the model cannot learn both"


def _labels(train: Sequence[Part], found: Mapping[str, int], rows: int, task: Task) -> Iterator[str]:
    rare = sorted((label for label in found if found[label] < _FEW), key=lambda label: (found[label], label))
    for label in rare[:_SHOWN]:
        where = _where(train, label, task)
        yield f"the label {label!r} has {_many(found[label], task)} ({where}): too few to learn it"
    if len(rare) > _SHOWN:
        yield f"{len(rare) - _SHOWN:,} more labels have fewer than {_many(_FEW, task)}"
    for group in _near(found)[:_SHOWN]:
        alike = [f"{label!r} ({_many(found[label], task)}, {_where(train, label, task, 2)})" for label in group]
        listed = ", ".join(alike[:_SHOWN]) + (", …" if len(alike) > _SHOWN else "")
        yield f"the labels {listed} differ in their spelling alone: if they mean the same, write them alike"
    for label in found:
        if label.casefold() in _MISSING or label == str(None):
            yield f"the label {label!r} seems to stand for a missing one ({_where(train, label, task)})"
    whole = [label for label in found if _WHOLE.fullmatch(label)]
    odd = [label for label in found if label not in whole]
    if 0 < len(odd) < len(whole):
        listed = ", ".join(f"{label!r} ({_where(train, label, task, 2)})" for label in odd[:_SHOWN])
        yield f"the labels are numbers, but for {listed}"
    if task == "sentiment" and found:
        most = max(found, key=lambda label: found[label])
        if len(found) > 1 and found[most] > _MAJORITY * rows:
            share = found[most] / rows
            yield f"{share:.1%} of the training rows have the label {most!r}: always to answer it scores as much"
        if len(found) > _MANY and 3 * len(found) > rows:
            yield f"{len(found):,} different labels in {rows:,} training rows: is their column that of the labels?"


def _many(count: int, task: Task) -> str:
    one, more = ("row", "rows") if task == "sentiment" else ("entity", "entities")
    return f"{count:,} training {one if count == 1 else more}"


def _where(train: Sequence[Part], label: str, task: Task, most: int = _SHOWN) -> str:
    """``train.tsv line 3``, for the first files that have the label."""
    found = []
    for part in train:
        if task == "sentiment":
            lines = [_line(example) for example in part.examples if example.label == label]
        else:
            tag = f"B-{label}"
            lines = [_line_of(each, at) for each in part.examples for at, own in enumerate(each.label) if own == tag]
        if lines:
            found.append(f"{part.path.name} {some(lines, most)}")
    return "; ".join(found[:2])


def _line_of(example: Example, position: int) -> int:
    return example.lines[position] if example.lines else 0


def _near(found: Iterable[str]) -> list[list[str]]:
    """Labels that are the same but for case, spaces and signs, or a number and its name."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in found:
        groups[_folded(label)].append(label)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def _folded(label: str) -> str:
    plain = unicodedata.normalize("NFKC", label).casefold().strip()
    if number := _WHOLE.fullmatch(plain):
        return str(int(number[1]))
    letters = _NOT_A_LETTER.sub("", plain)
    return _DIGITS.get(letters, letters) or plain


def _dev(part: Part, seen: Mapping[object, set[object]], learned: Mapping[str, int], task: Task) -> Iterator[str]:
    known = [example for example in part.examples if _key(example) in seen]
    if known:
        share = len(known) / len(part.examples)
        yield f"{_rows(part, known)}, {share:.1%}, are in the training data too: the score flatters the model"
    total = len(part.examples)
    if total < _SMALL:
        inputs = f"{total} input{'s' if total > 1 else ''}"
        yield f"{part.path}: only {inputs}, so that one changes a share by {1 / total:.1%}: the score says little"
    found = counts(part.examples, task)
    if task == "ner" and not found:
        yield f"{part.path}: no entity in {total:,} sentences: F1 is 0 whatever the model says"
    elif missing := [label for label in learned if label not in found]:
        shown = ", ".join(map(repr, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
        yield f"{part.path}: no example of {shown}: how well the model knows it is not measured"
