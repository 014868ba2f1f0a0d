"""A sealed state opens for its own model and key, in time, and otherwise not."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidField, TooLarge
from service.model.streams.sealing import MODEL_BYTES, MOST_BYTES, Owner, Seal

OWNER = Owner("sentiment-lstm", "4", "0" * 64)
SEAL = Seal(b"a key", 60)


@given(st.binary(max_size=5000))
def test_a_state_comes_back_as_it_was(content: bytes) -> None:
    sealed = SEAL.close(OWNER, content)
    assert sealed.isascii()
    assert Seal(b"a key", 60).open(sealed) == (OWNER, content)  # another process with the same key


@pytest.mark.parametrize(
    ("owner", "message"),
    [
        (Owner("sentiment-gru", "4", "0" * 64), "is of 'sentiment-lstm', version 4; this is 'sentiment-gru'"),
        (Owner("sentiment-lstm", "5", "0" * 64), "version 4; this is 'sentiment-lstm', version 5"),
        (Owner("sentiment-lstm", "4", "1" * 64), "other files"),
    ],
)
def test_a_state_of_another_model_is_refused(owner: Owner, message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        SEAL.open(SEAL.close(OWNER, b"state"))[0].check(owner)


def test_a_state_expires() -> None:
    sealed = SEAL.close(OWNER, b"state", now=1000)
    assert SEAL.open(sealed, now=1060) == (OWNER, b"state")
    with pytest.raises(InvalidField, match="too old: one is good for 60 seconds"):
        SEAL.open(sealed, now=1061)


def test_any_change_is_seen() -> None:
    sealed = SEAL.close(OWNER, os.urandom(100))
    letters, choice = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", random.Random(7)
    for place in range(len(sealed)):
        other = choice.choice([letter for letter in letters if letter != sealed[place]])
        with pytest.raises(InvalidField, match="no state of this service"):
            SEAL.open(sealed[:place] + other + sealed[place + 1 :])


def test_only_the_text_that_was_sent_is_good() -> None:
    """Padding, the other alphabet of base64, and the last letter's unused bits mean the same bytes."""
    for size in range(12):
        sealed = SEAL.close(OWNER, os.urandom(40 + size))
        last = sealed[-1]
        others = {f"{sealed}=", f"{sealed}==", sealed.replace("-", "+").replace("_", "/")}
        others |= {
            sealed[:-1] + letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        }
        for other in others - {sealed}:
            with pytest.raises(InvalidField, match="no state of this service"):
                SEAL.open(other)
        assert SEAL.open(sealed[:-1] + last)


@pytest.mark.parametrize("sealed", ["", "x", "é", "=" * 8, "AAAA" * 10, "\n", "a b", "A" * 43])
def test_what_is_no_state_is_refused(sealed: str) -> None:
    with pytest.raises(InvalidField, match="no state of this service"):
        SEAL.open(sealed)


def test_another_key_is_refused() -> None:
    with pytest.raises(InvalidField, match="another key"):
        Seal(b"another", 60).open(SEAL.close(OWNER, b"state"))


def test_a_state_over_the_limit_is_not_sealed() -> None:
    text = os.urandom(8000)
    assert len(SEAL.close(OWNER, os.urandom(MODEL_BYTES) + text, MODEL_BYTES)) <= MOST_BYTES
    for model_bytes in (0, MODEL_BYTES):
        with pytest.raises(TooLarge, match=f"the limit is {MOST_BYTES}"):
            SEAL.close(OWNER, os.urandom(MOST_BYTES), model_bytes)


@pytest.mark.parametrize("more", [1, 3000, 300_000])
def test_the_limit_of_a_large_model_is_higher_by_its_bytes(more: int) -> None:
    content = os.urandom(MODEL_BYTES + more) + os.urandom(8000)
    sealed = SEAL.close(OWNER, content, MODEL_BYTES + more)
    assert SEAL.open(sealed) == (OWNER, content)
    with pytest.raises(TooLarge):
        SEAL.close(OWNER, content + os.urandom(3000), MODEL_BYTES + more)
