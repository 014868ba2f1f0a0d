"""Names in tweets and forums, put into the types of another corpus: further training data for taggers.

    python -m recipes.web_names $DATA/ner

reads ``btc/train.conll`` (Broad Twitter Corpus) and ``wnut17/train.conll`` below that folder, both CC BY 4.0, and
writes ``web/train.conll`` in the three types of Universal NER, for the default tagger. Corporations and groups
of WNUT-17 become ORG, and products and works are no names here. If ``uner-ewt/train.conll`` is there too,
``emerging/train.conll`` gets people and places in the types of WNUT-17: sentences that name an organisation are left
out, which may be a corporation or a group there. Tweets of BTC that mark a user's name
behind an @ are left out: no other corpus marks them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from training.data.corpora import Example, read

TYPES = {"person": "PER", "location": "LOC", "corporation": "ORG", "group": "ORG"}
_EMERGING = {"PER": "person", "LOC": "location"}


def web_names(folder: Path) -> list[Example]:
    """The sentences of both corpora, with types PER, LOC and ORG."""
    forums = [_renamed(each, TYPES) for each in read(folder / "wnut17" / "train.conll", "ner")]
    return tweets(folder) + forums


def emerging_names(folder: Path) -> list[Example]:
    """Sentences of BTC and UNER that name people or places and no organisation, with WNUT-17's types for these."""
    examples = tweets(folder) + read(folder / "uner-ewt" / "train.conll", "ner")
    kinds = [{tag[2:] for tag in each.label} - {""} for each in examples]
    chosen = [each for each, names in zip(examples, kinds, strict=True) if names and "ORG" not in names]
    return [_renamed(each, _EMERGING) for each in chosen]


def write(examples: list[Example], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sentences = [
        "".join(f"{token}\t{tag}\n" for token, tag in zip(each.value, each.label, strict=True)) for each in examples
    ]
    path.write_text("\n".join(sentences), "utf-8", newline="\n")


def tweets(folder: Path) -> list[Example]:
    """The sentences of the Broad Twitter Corpus that mark no user's name."""
    return [example for example in read(folder / "btc" / "train.conll", "ner") if not _marks_a_user(example)]


def _marks_a_user(example: Example) -> bool:
    before = ""
    for token, tag in zip(example.value, example.label, strict=True):
        if tag != "O" and (token.startswith("@") or before == "@"):
            return True
        before = token
    return False


def _renamed(example: Example, types: Mapping[str, str]) -> Example:
    tags = tuple(f"{tag[:2]}{types[tag[2:]]}" if tag[2:] in types else "O" for tag in example.label)
    return Example(example.value, tags)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recipes.web_names $DATA/ner")
    data = Path(sys.argv[1])
    made = {"web": web_names(data)}
    if (data / "uner-ewt" / "train.conll").exists():
        made["emerging"] = emerging_names(data)
    for name, sentences in made.items():
        write(sentences, data / name / "train.conll")
        print(f"{name}: {len(sentences):,} sentences")
