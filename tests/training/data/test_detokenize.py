"""Tokens written as a text: spaces as people set them, and each token where its span says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.detokenize import hyphens_apart, join


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("He left , and I stayed .", "He left, and I stayed."),
        ("It 's late , is n't it ?", "It's late, isn't it?"),
        ("the dogs ' bowls", "the dogs' bowls"),
        ('" Fine , " he said .', '"Fine," he said.'),
        ("`` Fine '' he said", "``Fine'' he said"),
        ("“ Fine , ” he said", "“Fine,” he said"),
        ("( a ) [ b ]", "(a) [b]"),
        ("$ 5 , US$ 7 and 50 % of £ 3", "$5, US$7 and 50% of £3"),
        ("and / or", "and/or"),
        ("at 12 : 46 : late", "at 12:46: late"),
        ("I can not , gon na , wan na", "I cannot, gonna, wanna"),
        ("well ... no", "well... no"),
        ("SOCCER - ENGLAND WIN", "SOCCER - ENGLAND WIN"),
        ("@ ada likes # 1", "@ada likes #1"),
        ("George W. Bush met AT & T .", "George W. Bush met AT & T."),
        ("' Yes , ' she said", "'Yes,' she said"),
        ("5 $", "5 $"),
        ("", ""),
    ],
)
def test_texts_have_spaces_where_people_set_them(tokens: str, text: str) -> None:
    assert join(tokens.split()).text == text


def test_hyphens_join_words_where_a_corpus_cuts_at_them() -> None:
    tokens = ["Al", "-", "Zaman", "-", "and", "-"]
    assert join(tokens, apart=True).text == "Al-Zaman-and -"
    assert hyphens_apart([tokens])
    assert not hyphens_apart([["an", "all-rounder", "-", "left-handed"]])


@given(
    st.lists(st.sampled_from(["a", "'", '"', "n't", "(", ")", "-", "/", ":", "1", "$", "@", "été", ".", "😀"])),
    st.booleans(),
)
def test_each_token_is_the_slice_that_its_span_names(tokens: list[str], apart: bool) -> None:
    joined = join(tokens, apart=apart)
    assert [joined.text[start:end] for start, end in joined.spans] == tokens
    assert joined.text.replace(" ", "") == "".join(tokens)
    assert not joined.text.startswith(" ")
    assert "  " not in joined.text
