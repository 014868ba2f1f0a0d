"""Which words get a row, and what it starts from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.tokenizer import UNKNOWN
from training.data.vectors import Vectors
from training.data.vocabulary import choose, initial_table


def vectors(*words: str, size: int = 3) -> Vectors:
    matrix = np.arange(len(words) * size, dtype=np.float32).reshape(len(words), size)
    return Vectors(list(words), matrix)


def test_words_stand_by_falling_frequency_and_then_by_name() -> None:
    assert choose(["b", "a", "c", "c", "a", "b", "c", "d"], None, 100) == [UNKNOWN, "c", "a", "b", "d"]


def test_no_more_rows_than_asked_for() -> None:
    assert choose(["b", "a", "c", "c", "a", "b", "c", "d"], None, 3) == [UNKNOWN, "c", "a"]
    assert choose(["b", "a", "c", "c"], vectors("x", "y", "z"), 2) == [UNKNOWN, "x"]


def test_the_unknown_word_has_row_0_once_even_when_the_data_holds_it() -> None:
    assert choose([UNKNOWN, UNKNOWN, "a"], vectors("x", UNKNOWN, "y"), 100) == [UNKNOWN, "x", "y"]
    assert choose([UNKNOWN, UNKNOWN, "a"], None, 100) == [UNKNOWN, "a"]


def test_a_word_seen_once_needs_a_vector() -> None:
    assert choose(["often", "often", "once", "known"], vectors("known"), 100) == [UNKNOWN, "often", "known"]


def test_a_share_is_kept_for_words_that_the_data_has_not() -> None:
    seen = [word for word in "abcdefghij" for _ in range(2)]
    found = choose(seen, vectors(*"uvwxyz"), 11, reserve=0.2)
    assert found == [UNKNOWN, *"abcdefgh", "u", "v"]


def test_what_the_data_leaves_free_goes_to_the_vectors_first_words() -> None:
    assert choose(["a", "a"], vectors("x", "a", "y", "z"), 4) == [UNKNOWN, "a", "x", "y"]


@given(
    tokens=st.lists(st.sampled_from([*"abcdefgh", UNKNOWN]), max_size=30),
    known=st.none() | st.lists(st.sampled_from([*"efghijkl", UNKNOWN]), min_size=1, unique=True),
    most=st.integers(2, 20),
)
def test_rows_are_distinct_bounded_and_begin_with_the_unknown_word(
    tokens: list[str], known: list[str] | None, most: int
) -> None:
    found = choose(tokens, vectors(*known) if known else None, most)
    assert found[0] == UNKNOWN
    assert len(found) == len(set(found)) <= most
    assert set(found) <= {UNKNOWN, *tokens, *(known or ())}


def test_a_row_starts_from_its_words_vector() -> None:
    given_ = vectors("a", "b", "c")
    table = initial_table([UNKNOWN, "c", "new", "a"], given_, np.random.default_rng(0))
    assert table.shape == (4, 3)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[1], given_.matrix[2])
    np.testing.assert_array_equal(table[3], given_.matrix[0])


def test_other_rows_are_noise_of_the_same_spread_and_the_same_for_a_seed() -> None:
    given_ = Vectors(["a"], np.random.default_rng(1).normal(0, 0.4, (1, 400)).astype(np.float32))
    words = [UNKNOWN, *(f"w{number}" for number in range(50))]
    one, two = (initial_table(words, given_, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert float(one.std()) == pytest.approx(0.4, rel=0.1)
    assert abs(float(one.mean())) < 0.02
