"""The mixture that the default English tagger learns from: names in web text, news, Wikipedia and tweets.

    python -m recipes.names $DATA/ner

reads train files below that folder (`SOURCES`) and writes each anew as ``names/FOLDER/train.conll``, in three types,
PER, LOC and ORG, and dev files likewise. Nothing that is marked non-commercial is among them.

* Other types become ``O``: the corpora agree on people, places and organisations only.
* Few-NERD marks a nationality (``American``) as a place at times, the other corpora never do. A word that
  worldwide-news marks as no place, and as another type (its nationalities are), is ``O`` there.
* A share of the sentences stands there in lower case too, and a smaller one in upper case: people write so.
* Tweets of BTC that mark a user's name behind an @ are left out, which no other corpus does.
* A sentence whose letters and digits are those of a sentence in any dev or test file below the folder is left out.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from recipes.web_names import TYPES, tweets, write
from training.data.corpora import Example, read

_KEPT = {"PER": "PER", "LOC": "LOC", "ORG": "ORG"}
SOURCES: dict[str, tuple[Mapping[str, str], int]] = {
    "uner-ewt": (_KEPT, 1),
    "worldwide-news": (_KEPT, 1),
    "fewnerd-wiki": (_KEPT, 1),
    "crossner": (_KEPT, 1),
    "btc": (_KEPT, 1),
    "wnut17": (TYPES, 1),
    "tweebank": (_KEPT, 3),
}
"""Folder → which types become which, and how often the file is taken."""
MEASURED = ("worldwide-news", "fewnerd-wiki", "wikineural", "tweebank")
"""Folders whose dev files are written anew in the three types, to measure on."""
LOWER, UPPER = 0.12, 0.03
"""Shares of sentences of which a copy is added in lower and in upper case."""
_PLAIN = re.compile(r"[^a-z0-9]+")


def key(tokens: Iterable[str]) -> str:
    """The letters and digits of a sentence in lower case; the whole sentence where it has none."""
    text = "".join(tokens).lower()
    return _PLAIN.sub("", text) or text


def held_out(folder: Path) -> frozenset[str]:
    """The keys of every sentence in a dev or test file."""
    files = sorted(path for name in ("dev", "test") for path in folder.glob(f"*/{name}.conll"))
    return frozenset(key(example.value) for path in files for example in read(path, "ner"))


def renamed(example: Example, types: Mapping[str, str], never: frozenset[str] = frozenset()) -> Example:
    """A sentence with its types mapped, others ``O``; a place of one word in `never` is none."""
    tags = [f"{tag[:2]}{types[tag[2:]]}" if tag[2:] in types else "O" for tag in example.label]
    for at, (token, tag) in enumerate(zip(example.value, tags, strict=True)):
        alone = not tags[at + 1 : at + 2] or not tags[at + 1].startswith("I-")
        if tag == "B-LOC" and alone and token in never:
            tags[at] = "O"
    return Example(example.value, tuple(tags))


def other_names(examples: Sequence[Example]) -> frozenset[str]:
    """Words that alone are a name of another type than PER, LOC and ORG three times or more, and next to never one."""
    other, kept = Counter[str](), Counter[str]()
    for example in examples:
        for token, tag in zip(example.value, example.label, strict=True):
            (kept if tag[2:] in _KEPT else other)[token] += tag.startswith("B-")
    return frozenset(word for word, count in other.items() if count > 2 and count > 9 * kept[word])


def mixture(folder: Path, seed: int = 1) -> Iterator[tuple[str, list[Example], int]]:
    """By source: its name, its sentences, and how many were left out because a dev or test file has them."""
    nationalities = other_names(read(_train(folder, "worldwide-news"), "ner"))
    aside = held_out(folder)
    for name, (types, times) in SOURCES.items():
        generator = random.Random(seed)  # noqa: S311  # no secrets
        found = tweets(folder) if name == "btc" else read(_train(folder, name), "ner")
        never = nationalities if name == "fewnerd-wiki" else frozenset[str]()
        kept = [renamed(each, types, never) for each in found if key(each.value) not in aside]
        yield name, [*kept * times, *cased(kept, generator)], len(found) - len(kept)


def cased(examples: Sequence[Example], generator: random.Random) -> list[Example]:
    """Copies of some sentences in lower and in upper case."""
    copies = []
    for example in examples:
        drawn = generator.random()
        if drawn < LOWER:
            copies.append(Example(tuple(token.lower() for token in example.value), example.label))
        elif drawn < LOWER + UPPER:
            copies.append(Example(tuple(token.upper() for token in example.value), example.label))
    return copies


def _train(folder: Path, name: str) -> Path:
    plain = folder / name / "train.conll"
    return plain if plain.exists() else plain.with_suffix(".conll.gz")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recipes.names $DATA/ner")
    data = Path(sys.argv[1])
    for name, sentences, left_out in mixture(data):
        write(sentences, data / "names" / name / "train.conll")
        print(f"{name}: {len(sentences):,} sentences; {left_out:,} left out, which a dev or test file has")
    for name in MEASURED:
        write(
            [renamed(each, _KEPT) for each in read(data / name / "dev.conll", "ner")],
            data / "names" / name / "dev.conll",
        )
