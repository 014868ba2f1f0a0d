"""Plain forms of text: what nobody sees changes no answer, and offsets stay those of the text as sent."""

from __future__ import annotations

import html
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from service.model import plain as plains
from service.model.bundle import Feature
from service.model.features import CHARACTERS, SHAPES
from service.model.plain import plain
from service.model.rules import STYLES, Style
from service.model.tokenizer import UNKNOWN, Tokenizer, build
from tests.work import Characters, assert_linear, lines

WORDS = (UNKNOWN, "wonderful", "ca", "n't", "i", "café", "&", '"', "<url>", "paris", "é", "'", "<br>", "film")
FEATURES = (
    Feature(name="word", size=len(WORDS)),
    Feature(name="shape", size=SHAPES),
    Feature(name="suffix", size=64),
    Feature(name="character", size=CHARACTERS, columns=20),
)
TOKENIZERS: dict[Style, Tokenizer] = {style: build(WORDS, FEATURES, style) for style in STYLES}
WEB = TOKENIZERS["web"]
MOST_COMPARED = 100
"""Times that a character is given to Unicode's functions: up to 32 are composed together, four times each at most."""


def tokens(text: str, style: Style = "web") -> list[str]:
    return [token for token, _ in TOKENIZERS[style].split(text)]


def same(sent: str, wanted: str, style: Style = "web") -> None:
    """The rows of a text are those of its plain form, and its tokens exact slices in order."""
    tokenizer = TOKENIZERS[style]
    expected = tokenizer.encode(wanted, 1000).rows
    for _ in range(2):  # read, and remembered
        found = tokenizer.encode(sent, 1000)
        np.testing.assert_array_equal(found.rows, expected)
        end = 0
        for token, (start, stop) in zip(found.tokens(), found.spans, strict=True):
            assert token["text"] == sent[start:stop] != ""
            assert end <= start < stop
            end = stop


INVISIBLE = (
    "\x00\x07\x1b\x7f\u115f\u1160\u17b4\u3164\uffa0\ufff9\U0001d173"
    "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2064\u2066\u2069\ufeff"
)
SELECTORS = "\u034f\u180b\ufe00\ufe0e\ufe0f\U000e0067\U000e0100"


@pytest.mark.parametrize("character", [*INVISIBLE, *SELECTORS])
@pytest.mark.parametrize("style", STYLES)
def test_what_nobody_sees_within_a_word_changes_nothing(character: str, style: Style) -> None:
    same(f"I can{character}'t, won{character}{character}derful!", "I can't, wonderful!", style)
    sent = TOKENIZERS[style].encode([f"won{character}derful", character], 10)
    np.testing.assert_array_equal(sent.rows[0], TOKENIZERS[style].rows(["wonderful"])[0])
    assert [token["text"] for token in sent.tokens()] == [f"won{character}derful", character]


_TEXTS = st.lists(
    st.sampled_from(
        [
            *("wonderful", "I can't", "Mr. Smith's", "U.S.-based", "George W. Bush", "http://a.b/c", "a@b.org", "#tag"),
            *(
                "6-3",
                "$5.20",
                ":-)",
                "caf\u00e9",
                "N\u0303o",
                "AT&T",
                "p.m.",
                "日本",
                "well-known",
                "10:30",
                "naïve—yes",
            ),
        ]
    ),
    min_size=1,
    max_size=6,
).map(" ".join)


@given(
    _TEXTS, st.lists(st.tuples(st.integers(0, 200), st.sampled_from(INVISIBLE)), max_size=6), st.sampled_from(STYLES)
)
def test_invisible_characters_anywhere(text: str, inserted: list[tuple[int, str]], style: Style) -> None:
    sent = text
    for place, character in inserted:
        place %= len(sent) + 1
        sent = sent[:place] + character + sent[place:]
    same(sent, unicodedata.normalize("NFC", text), style)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.sampled_from(STYLES))
@example("a\u0316\u0301 \u1112\u1161\u11ab \u0915\u093c =\u0338", "web")
def test_composed_and_decomposed_text_are_the_same(text: str, style: Style) -> None:
    composed, decomposed = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assume(TOKENIZERS[style].split(composed))
    assume(len(composed) <= len(decomposed))
    same(decomposed, composed, style)


def _reference(character: str, form: int) -> str:
    names = {"'": "&apos;", "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "é": "&eacute;"}
    code = ord(character)
    return (f"&#{code};", f"&#x{code:x};", f"&#X{code:04X};", names.get(character, f"&#{code};"))[form]


@given(
    st.text("abc'’\"&<>é. 8)(-/:$,", min_size=1, max_size=30),
    st.integers(0, 2**30),
    st.integers(0, 3),
    st.sampled_from(STYLES),
)
def test_entities_are_read_as_their_characters(text: str, chosen: int, form: int, style: Style) -> None:
    # A space as &#32; ends a word as it does, but a <br /> is one token in any case.
    sent = "".join(
        _reference(one, form) if chosen >> number % 30 & 1 and one != " " else one for number, one in enumerate(text)
    )
    assume(html.unescape(sent) == text)
    assume(TOKENIZERS[style].split(text))
    same(sent, text, style)


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        ("I can&#39;t recommend this", "I can't recommend this"),
        ("I can&#x27;t, I can&rsquo;t", "I can't, I can’t"),
        ("I can&#39t stay", "I can't stay"),
        ("I can&amp;#39;t, I can&amp;#x27;t, I can&amp;apos;t", "I can't, I can't, I can't"),
        ("&amp;amp;quot;Fine&amp;amp;quot; &amp;amp; AT&amp;amp;T", '"Fine" & AT&T'),
        ("&amp;lt;3 film&amp;nbsp;film &amp;foo; &amp;&amp;", "<3 film film &foo; &&"),
        ("I can\x92t, I can‘t, I can&lsquo;t", "I can't, I can't, I can't"),
        ("&quot;Fine&quot; &amp; AT&amp;T", '"Fine" & AT&T'),
        ("a&nbsp;film&#160;film", "a film film"),
        ("caf&eacute; caf&eacute, &ampx", "café café, &x"),
        ("1 &lt; 2 &gt; 1", "1 < 2 > 1"),
        ("film&lt;br /&gt;film", "film<br />film"),
        ("won&shy;der&#8203;ful", "wonderful"),
        ("I don´t, I don`t, I donʼt, I don′t", "I don't, I don't, I don't, I don't"),
        ("ｗｏｎｄｅｒｆｕｌ！", "wonderful!"),
        ("Ｉ　ｃａｎ＇ｔ", "I can't"),
        ("cafe\u0301", "café"),
        ("Baden\u2010Baden, Anne\u2011Marie, 5\u22123, a\ufe63b", "Baden-Baden, Anne-Marie, 5-3, a-b"),
        ("Baden&#8209;Baden, 5&minus;3, a&hyphen;b", "Baden-Baden, 5-3, a-b"),
        ("a\u2800film", "a film"),
        ("\x93film\x94 \x96 film\x97 won\x9dderful \x80 &#147;film&#148;", "“film” – film— wonderful € “film”"),
        ("𝐰𝐨𝐧𝐝𝐞𝐫𝐟𝐮𝐥 𝗣𝗮𝗿𝗶𝘀 ⓦⓞⓝⓓⓔⓡⓕⓤⓛ 𝟙𝟚", "wonderful Paris wonderful 12"),
        ("film<BR />film<Br>film<BR/>&lt;BR&gt;film", "film<br />film<br>film<br/><br>film"),
        ("a <BR x <B R", "a <BR x <B R"),
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_texts_and_their_plain_forms(sent: str, wanted: str, style: Style) -> None:
    same(sent, wanted, style)


def test_offsets_are_those_of_the_text_as_sent() -> None:
    assert tokens("won\u00adder caf&eacute;. e\u0301t &#39;x") == [
        "won\u00adder",
        "caf&eacute;",
        ".",
        "e\u0301t",
        "&#39;",
        "x",
    ]
    assert tokens("\u200bfilm\u2060 ❤\ufe0f!") == ["film", "❤\ufe0f", "!"]


@pytest.mark.parametrize(
    "text", ["x &foo; y", "&", "&#;", "&#xzz;", "a & b", "&#99999999999999999999;", "http://a.b/?x=1&copy=2&gtm=3&lt=4"]
)
def test_what_is_no_entity_stays(text: str) -> None:
    assert plain(text) == (text, None) or plain(text)[0] == text


def test_a_link_with_a_query_is_one_token() -> None:
    link = "http://a.b/?x=1&copy=2&lt=4&amp;y=5"
    assert tokens(link) == [link]
    np.testing.assert_array_equal(WEB.rows([link])[:, 0], [WORDS.index("<url>")])


def test_a_joined_emoji_is_one_token() -> None:
    england = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    for emoji in ("👩\u200d👩\u200d👧", "❤\ufe0f\u200d🔥", "🏴\u200d☠\ufe0f", "👩🏽\u200d🚀", england):
        assert tokens(f"a {emoji}!") == ["a", emoji, "!"]


def test_tokens_sent_are_read_alike_and_never_split() -> None:
    rows = WEB.encode(["caf&eacute;", "cafe\u0301", "&amp;", "won\u00adderful", "a&nbsp;b"], 10).rows
    assert [WORDS[row] for row in rows[:, 0]] == ["café", "café", "&", "wonderful", UNKNOWN]


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        "a\u00ad",
        "\u0323\u0301\u0345",
        "e\u0301",
        "&#39;",
        "&aaaaaaaaa",
        "&amp;amp;amp;",
        "&amp;aaaaaaaa",
        "\u1112\u1161\u11ab",
        "\u212b",
        "&",
        "☺\u200d",
        "\ufe0f",
    ],
)
def test_the_work_is_linear(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(size: int) -> int:
        text = unit * (size // len(unit))
        forms = Characters(unicodedata)
        monkeypatch.setattr(plains, "unicodedata", forms)
        ran = lines(lambda: plain(text))
        assert forms.total <= MOST_COMPARED * len(text)
        return ran

    assert_linear(work, 2_000)


def test_every_character_that_is_composed_is_met() -> None:
    """All of Unicode's pairs of this Python: decomposed, their plain form is the composed character."""
    for code in range(sys.maxunicode + 1):
        composed = chr(code)
        decomposed = unicodedata.normalize("NFD", composed)
        if len(decomposed) > 1 and unicodedata.normalize("NFC", decomposed) == composed:
            assert plain(decomposed)[0] == composed
