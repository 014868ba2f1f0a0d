"""Names in tweets and forums, in the three types of Universal NER: further training data for the default tagger.

    python -m recipes.web_names $DATA/ner

reads ``btc/train.conll`` (Broad Twitter Corpus) and ``wnut17/train.conll`` below that folder, both CC BY 4.0, and
writes ``web/train.conll``. Of WNUT-17, corporations and groups become ORG, and products and works are no names here. Of
BTC, tweets are left out that mark a user's name behind an @, which no other corpus does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from training.corpora import Example, read

_TYPES = {"person": "PER", "location": "LOC", "corporation": "ORG", "group": "ORG"}


def web_names(folder: Path) -> list[Example]:
    """The sentences of both corpora, with types PER, LOC and ORG."""
    tweets = [example for example in read(folder / "btc" / "train.conll", "ner") if not _marks_a_user(example)]
    forums = [Example(each.value, _renamed(each.label)) for each in read(folder / "wnut17" / "train.conll", "ner")]
    return tweets + forums


def write(examples: list[Example], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    sentences = [
        "".join(f"{token}\t{tag}\n" for token, tag in zip(each.value, each.label, strict=True)) for each in examples
    ]
    path.write_text("\n".join(sentences), "utf-8", newline="\n")


def _marks_a_user(example: Example) -> bool:
    before = ""
    for token, tag in zip(example.value, example.label, strict=True):
        if tag != "O" and (token.startswith("@") or before == "@"):
            return True
        before = token
    return False


def _renamed(tags: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{tag[:2]}{_TYPES[tag[2:]]}" if tag[2:] in _TYPES else "O" for tag in tags)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recipes.web_names $DATA/ner")
    made = web_names(Path(sys.argv[1]))
    write(made, Path(sys.argv[1]) / "web" / "train.conll")
    print(f"{len(made):,} sentences")
