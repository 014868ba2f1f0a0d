"""A vocabulary is a dictionary of words and rows in less memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.features import COLUMNS
from service.model.tokenizer import Tokenizer
from service.model.vocabulary import SEPARATOR, Vocabulary, compact
from tests.bundles import tiny_bundle

WORD = st.text(st.characters(exclude_characters=SEPARATOR, exclude_categories=["Cs"]))


def rows(words: list[str]) -> dict[str, int]:
    return {word: row for row, word in enumerate(words)}


@given(st.lists(WORD, unique=True), st.lists(st.text(st.characters())))
def test_it_is_the_dictionary(words: list[str], others: list[str]) -> None:
    known = rows(words)
    vocabulary = compact(known)
    assert isinstance(vocabulary, Vocabulary)
    assert len(vocabulary) == len(known)
    assert list(vocabulary.items()) == list(known.items())
    assert vocabulary == known
    for word in [*words, *others, *(word[:-1] for word in words), *(word + "x" for word in words)]:
        assert vocabulary.get(word, 0) == known.get(word, 0)
        assert vocabulary.get(word) == known.get(word)
        assert (word in vocabulary) == (word in known)


def test_a_word_that_is_not_there_is_a_key_error() -> None:
    vocabulary = compact({"a": 0, "b": 1})
    assert vocabulary["b"] == 1
    for word in ("c", "", "a" + SEPARATOR, "a" + SEPARATOR + "b", "\ud800"):
        with pytest.raises(KeyError):
            vocabulary[word]


def test_words_of_one_bucket_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.model.vocabulary.BUCKETS", 2)
    known = rows([f"word {number}" for number in range(1000)])
    vocabulary = Vocabulary(known)
    assert dict(vocabulary) == known
    assert vocabulary.get("word 1000", -1) == -1


@pytest.mark.parametrize(
    "words",
    [
        {"a": 1, "b": 2},
        {"a": 1, "b": 0},
        {"a": 0, "b": 0},
        {"a": 0, "b": 2**53 + 1},
        {"a": 0, "b": 10**400},
        {"a": 0, f"b{SEPARATOR}c": 1},
        {SEPARATOR: 0},
    ],
    ids=["from 1", "out of order", "twice", "a large row", "a huge row", "separator", "separator alone"],
)
def test_what_it_cannot_hold_stays_a_dictionary(words: dict[str, int]) -> None:
    assert compact(words) is words


def test_a_tokenizer_from_a_file_has_one_and_writes_the_same_file_again(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "a-model")
    file = bundle.path / "tokenizer.json"
    tokenizer = Tokenizer.load(file, bundle.manifest.features)
    assert isinstance(tokenizer._vocabulary, Vocabulary)
    tokenizer.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    word = next(feature for feature in bundle.manifest.features if feature.name == "word")
    words = list(tokenizer._vocabulary)
    assert [COLUMNS["word"](tokenizer._vocabulary, each, each, word) for each in words] == list(range(len(words)))


def test_it_takes_a_third_of_the_memory_of_a_dictionary() -> None:
    known = rows([f"a word of {number}" for number in range(60_000)])
    vocabulary = Vocabulary(known)
    own = sum(sys.getsizeof(getattr(vocabulary, name)) for name in Vocabulary.__slots__)
    dictionary = sys.getsizeof(known) + sum(sys.getsizeof(word) + sys.getsizeof(row) for word, row in known.items())
    assert own < dictionary / 3
