"""Conventions of corpora: the style that returns a corpus's tokens, and sentences brought to another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.rules import STYLES, Style
from service.model.tokenizer import UNKNOWN, build
from training.data.conventions import agreement, agreements, conform, differs
from training.data.corpora import Example
from training.scoring.metrics import spans

NEWS = [
    ["Simmons", ",", "an", "all-rounder", ",", "took", "4-38", "on", "1996-08-22", "."],
    ["3.", "G.", "Thorpe", "(", "England", ")", "6-3", "7-6"],
    ["+44", "points", "for", "Nagorno-Karabakh"],
]
WEB = [
    ["Al", "-", "Zaman", "called", "me", "@", "work", "!!!"],
    ["I", "'m", "gon", "na", "go", "to", "e-mail", "Mr.", "Smith", "'s", "anti-war", "friend", "-", "again"],
    ["well", "-", "known", "people", "can", "not"],
]


def test_the_style_of_a_corpus_is_the_one_that_returns_its_tokens() -> None:
    assert agreements(NEWS)[0].style == "conll"
    assert agreement(NEWS, "conll").sentences == 1.0
    assert agreement(NEWS, "web").sentences == 0.0
    assert agreements(WEB)[0].style == "ewt"
    assert agreement([["slapstick-heavy", "writer/director"]], "treebank").sentences == 1.0
    news, web = ([Example(tuple(each), ("O",) * len(each)) for each in corpus] for corpus in (NEWS, WEB))
    assert differs(news, web, "conll")
    assert not differs(news, news, "conll")
    with pytest.raises(ValueError, match="no sentence"):
        agreement([], "web")


@pytest.mark.parametrize(
    ("tokens", "tags", "style", "wanted"),
    [
        # Parts of a token share its tag, and are one entity.
        ("in Al-Zaman", "O B-ORG", "ewt", "in/O Al/B-ORG -/I-ORG Zaman/I-ORG"),
        # Tokens that become one are one.
        ("the Al - Zaman", "O B-ORG I-ORG I-ORG", "conll", "the/O Al-Zaman/B-ORG"),
        ("@ ada met Bob", "O B-PER O B-PER", "ewt", "@ada/B-PER met/O Bob/B-PER"),
        # An entity beside another stays another.
        ("Ada Bob-like", "B-PER B-LOC", "ewt", "Ada/B-PER Bob/B-LOC -/I-LOC like/I-LOC"),
        # Of two entities in one token, the first.
        ("Paris - Rome", "B-LOC O B-LOC", "treebank", "Paris-Rome/B-LOC"),
        ("It ' s Ada", "O O O B-PER", "conll", "It/O 's/O Ada/B-PER"),
    ],
)
def test_sentences_are_brought_to_a_style_with_their_tags(tokens: str, tags: str, style: Style, wanted: str) -> None:
    other = Example(("a", "-", "b"), ("O", "O", "O"))
    (made, _), changed = conform([Example(tuple(tokens.split()), tuple(tags.split()), (7,)), other], style)
    assert " ".join(f"{token}/{tag}" for token, tag in zip(made.value, made.label, strict=True)) == wanted
    assert changed >= 1


def test_what_is_in_a_style_stays_the_very_same() -> None:
    examples = [Example(tuple(each), ("O",) * len(each)) for each in NEWS]
    made, changed = conform(examples, "conll")
    assert changed == 0
    assert all(one is other for one, other in zip(made, examples, strict=True))


@given(
    st.lists(
        st.tuples(st.sampled_from(["Ada", "-", "Al-Zaman", "U.S.", "'s", "@", "...", "6-3", "/"]), st.integers(0, 2)),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from(STYLES),
)
def test_tags_stay_well_formed_and_no_entity_is_made_up(pieces: list[tuple[str, int]], style: Style) -> None:
    tags: list[str] = []
    for _, kind in pieces:
        tags.append("O" if not kind else "I-X" if kind == 2 and tags and tags[-1] != "O" else "B-X")
    example = Example(tuple(token for token, _ in pieces), tuple(tags))
    ((made,), _) = conform([example], style)
    assert len(made.value) == len(made.label) > 0
    assert len(spans(made.label)) <= len(spans(tags))
    before = "O"
    for tag in made.label:
        assert not tag.startswith("I-") or before != "O"
        before = tag
    assert "".join(made.value) == "".join(example.value)
    assert build([UNKNOWN], [], style).style == style
