"""Small labelled data of the tests' own making: regular enough to be learnt in a second."""

from __future__ import annotations

from itertools import product
from pathlib import Path

_PRAISE = ("great", "good", "fine", "lovely", "superb", "moving")
_BLAME = ("bad", "dull", "poor", "awful", "weak", "boring")
_SUBJECTS = ("the film", "this movie", "the acting", "its plot")
_PEOPLE = (("Ada", "Lovelace"), ("Alan", "Turing"), ("Grace",), ("Emmy", "Noether"))
_PLACES = (("London",), ("New", "York"), ("Paris",))


def sentiment(path: Path, *, start: int = 0, step: int = 1) -> Path:
    """A table of texts; `start` and `step` pick some of them. Returns the path."""
    lines = ["text\tlabel"]
    for subject, (praise, blame) in product(_SUBJECTS, zip(_PRAISE, _BLAME, strict=True)):
        lines += [f"{subject} is {praise} .\tpositive", f"{subject} isn't good, it's {blame} .\tnegative"]
    return _write(path, [lines[0], *lines[1 + start :: step]])


def ner(path: Path, *, start: int = 0, step: int = 1) -> Path:
    """Columns of tokens and tags; `start` and `step` pick some of the sentences. Returns the path."""
    sentences = []
    for person, place, verb in product(_PEOPLE, _PLACES, ("lived", "worked")):
        tags = [(token, "PER", position) for position, token in enumerate(person)]
        tags += [(verb, "", 0), ("in", "", 0)]
        tags += [(token, "LOC", position) for position, token in enumerate(place)]
        tags.append((".", "", 0))
        sentences.append("".join(f"{word}\t{_tag(kind, position)}\n" for word, kind, position in tags))
    return _write(path, sentences[start::step])


def _tag(kind: str, position: int) -> str:
    return f"{'I' if position else 'B'}-{kind}" if kind else "O"


def _write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
