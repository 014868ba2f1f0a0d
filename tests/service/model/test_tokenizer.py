"""Text to tokens and rows: tokens in the style for the web, exact offsets, and inputs that mean harm."""

from __future__ import annotations

import gc
import json
import random
import unicodedata
import weakref
import zlib
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from service.errors import BundleError, InvalidField
from service.model import tokenizer as texts
from service.model.bundle import Feature
from service.model.features import SHAPES
from service.model.plain import plain
from service.model.tokenizer import _NORMALIZED_LENGTH, UNKNOWN, Encoded, Tokenizer, build
from tests.service.model.reading import assert_linear_reading
from tests.work import Characters

WORDS = (UNKNOWN, "a", "film", "do", "n't", "it", "'s", "0000", "<url>", "<user>", "<br>", '"', "'", "--", "...", "été")
FEATURES = (
    Feature(name="word", size=len(WORDS)),
    Feature(name="shape", size=SHAPES),
    Feature(name="prefix", size=64),
    Feature(name="suffix", size=128),
)
TOKENIZER = build(WORDS, FEATURES)


def split(text: str) -> list[str]:
    """The tokens of a text, each of which is the slice that its offsets name."""
    found = TOKENIZER.split(text)
    for token, (start, end) in found:
        assert text[start:end] == token
    return [token for token, _ in found]


# What the tokens are. Tokens are shown parted by one space.


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        # Clitics and negations, as the Penn Treebank parts them.
        ("don't", "do n't"),
        ("It's", "It 's"),
        ("can't", "ca n't"),
        ("won't ain't DON'T", "wo n't ai n't DO N'T"),
        ("cannot Cannot CANNOT", "can not Can not CAN NOT"),
        ("I'm we've you'd they'll he's", "I 'm we 've you 'd they 'll he 's"),
        ("I'd've couldn't've", "I 'd 've could n't 've"),
        ("the dogs' bowls", "the dogs ' bowls"),
        ("John's.", "John 's ."),
        ("don’t It’s", "do n’t It ’s"),
        ("isn't, is it?", "is n't , is it ?"),
        ("candid cannots canister", "candid cannots canister"),
        ("O'Brien's rock'n'roll l'été", "O'Brien 's rock'n'roll l'été"),
        # Full stops.
        ("Mr. Smith met Dr. No.", "Mr. Smith met Dr. No ."),
        ("U.S. troops in the U.S.", "U.S. troops in the U.S."),
        ("e.g. this, i.e. that, etc. too", "e.g. this , i.e. that , etc. too"),
        ("It ended.Then", "It ended . Then"),
        ("Wait... what....", "Wait ... what ...."),
        # Quotes, brackets and other marks.
        ('"Fine," he said.', '" Fine , " he said .'),
        ("“Hello” ‘there’ «oui»", "“ Hello ” ‘ there ’ « oui »"),
        ("``so'' it goes", "`` so '' it goes"),
        ("(a) [b] {c}", "( a ) [ b ] { c }"),
        ("well-known -- a—b", "well - known -- a — b"),
        ("AT&T &amp; C++ x & y", "AT&T &amp; C + + x & y"),
        ("what?! no!!", "what ? ! no ! !"),
        # Numbers.
        ("3.14 1,234.56 1/2 10:30", "3.14 1,234.56 1/2 10:30"),
        ("$5 50% #1", "$ 5 50 % #1"),
        ("1990s 1st 22nd 5pm 10k", "1990s 1st 22nd 5pm 10k"),
        ("in 1996.", "in 1996 ."),
        ("٣٫١٤ ½ Ⅳ", "٣ ٫ ١٤ ½ Ⅳ"),
        # What people write on the web.
        ("see https://example.com/a?b=c.", "see https://example.com/a?b=c ."),
        ("www.example.com, or (http://x.org)", "www.example.com , or ( http://x.org )"),
        ("mail ada@example.co.uk!", "mail ada@example.co.uk !"),
        ("@ada #great", "@ada #great"),
        ("good :-) bad :( <3 ^_^", "good :-) bad :( <3 ^_^"),
        ("one<br />two<br>three", "one <br /> two <br> three"),
        # Every script has tokens.
        ("日本語です。", "日 本 語 で す 。"),
        ("我爱London", "我 爱 London"),
        ("Привет, мир!", "Привет , мир !"),
        ("שלום עולם", "שלום עולם"),
        ("مرحبا", "مرحبا"),
        ("नमस्ते", "नमस्ते"),
        ("한국어", "한국어"),
        ("ไทย", "ไทย"),
        # What is one character to its reader is never cut.
        ("cafe\u0301 nai\u0308ve", "cafe\u0301 nai\u0308ve"),
        ("👩‍👩‍👧 hi 👍🏽", "👩‍👩‍👧 hi 👍🏽"),
        ("🇬🇧🇫🇷", "🇬🇧 🇫🇷"),
        ("1️⃣ ❤️ #️⃣", "1️⃣ ❤️ #️⃣"),
        ("😀😀!", "😀 😀 !"),
        # White space of every kind parts, and is no token.
        ("a\tfilm\n\nit\r\na", "a film it a"),
        ("  a\u00a0film\u2003it\u3000a\u2028b ", "a film it a b"),
        # Nor is a character without a shape of its own, where it stands alone.
        ("\ufeffa \u200bfilm\u2060 \0 it", "a film it"),
    ],
)
def test_tokens_of_raw_text(text: str, tokens: str) -> None:
    # A <br /> holds a space of its own, so that the two are compared as text.
    assert " ".join(split(text)) == tokens


ORDINARY = [
    "The film isn't bad, but it's no masterpiece: I've seen better (and worse).",
    "Mr. O'Brien's U.S. tour cannot begin before 10:30 a.m. on 3/4/1996, he said.",
    "“Don’t!” she cried — ‘It’s over’… and $1,234.56 was gone -- 50% of it.",
    "Dr. Ada Lovelace (1815-1852) didn't live in St. Louis; she'd've hated it!",
    "Visit https://example.com/x?y=z or mail me@example.org, @you #now :-) <3",
    "日本語 and 한국어, Привет мир, शब्द, cafe\u0301 👩‍👩‍👧 🇬🇧🇫🇷 2nd 1990s etc.",
    "``Quoted'' text, 'twas the '90s, rock'n'roll, AT&T, e.g. this, i.e. that...",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_the_tokens_of_tokens_are_the_same(text: str) -> None:
    tokens = split(text)
    assert split(" ".join(tokens)) == tokens


_WORDS = st.sampled_from(
    [
        *("the", "a", "film", "isn't", "It's", "can't", "cannot", "I'd", "Mr.", "U.S.", "O'Brien's", "3.14", "1990s"),
        *("$5", "50%", ":-)", "été", "cafe\u0301", "日本", "😀", "👍🏽", "don’t"),
    ]
)
_MARKS = st.sampled_from(["", "", "", ",", ".", "!", "?", ";", " --", "...", '"', "”", ")"])


@given(st.lists(st.tuples(_WORDS, _MARKS), max_size=12))
def test_the_tokens_of_tokens_are_the_same_for_sentences(pieces: list[tuple[str, str]]) -> None:
    tokens = split(" ".join(word + mark for word, mark in pieces))
    assert split(" ".join(tokens)) == tokens


# Offsets.


def blank(text: str) -> bool:
    """Whether a text has nothing to show: white space, control and format characters, selectors without a character."""
    # Cn: what this Python does not know yet.
    return all(
        character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Cn") or not plain(character)[0]
        for character in text
    )


HARD = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("aA1.'’nNtT-@#:/&<>\"`,!? \t\n\r\u0301\u0308\u200b\u200d\ufe0f\u20e3👩🇬🇧🏽漢がक्\u2028\u00a0\0"),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(HARD)
@example("\ufeffa\u0301\u200d👩\u200d👩 don't")
@example("𝒜𝒹𝒶 𝔏 \U0010ffff")
def test_spans_are_exact_ordered_slices_that_leave_out_white_space_alone(text: str) -> None:
    end = 0
    for token, (start, stop) in TOKENIZER.split(text):
        assert text[start:stop] == token != ""
        assert end <= start < stop
        assert blank(text[end:start])
        assert token.strip()
        end = stop
    assert blank(text[end:])


@settings(max_examples=300)
@given(HARD)
def test_any_text_has_one_row_a_token(text: str) -> None:
    assume(TOKENIZER.split(text))
    found = TOKENIZER.encode(text, 100)
    assert found.text == text
    assert found.rows.shape == (len(found), len(FEATURES))
    assert found.rows.dtype == np.int32
    assert (found.rows >= 0).all()
    assert (found.rows < [feature.size for feature in FEATURES]).all()
    assert [token["text"] for token in found.tokens()] == [text[start:end] for start, end in found.spans]


def test_offsets_count_code_points() -> None:
    found = TOKENIZER.encode("😀 a\u0301 𝒜x 漢字\tfilm", 100)
    assert found.tokens() == [
        {"text": "😀", "start": 0, "end": 1},
        {"text": "a\u0301", "start": 2, "end": 4},
        {"text": "𝒜x", "start": 5, "end": 7},
        {"text": "漢", "start": 8, "end": 9},
        {"text": "字", "start": 9, "end": 10},
        {"text": "film", "start": 11, "end": 15},
    ]


# Long texts are read piece by piece.


def whole(text: str) -> list[tuple[str, tuple[int, int]]]:
    """The tokens of a text read at once, by the very pattern."""
    found: list[tuple[str, tuple[int, int]]] = TOKENIZER._splitter.pre_tokenize_str(text)
    return found


def cut(text: str, limit: int | None = None) -> list[tuple[str, tuple[int, int]]]:
    """The tokens of a text in pieces, by the very pattern."""
    return TOKENIZER._cut(text, limit)


_PARTS = (
    *ORDINARY,
    *("a" * 1500, " " * 3000, "+" + "\u0301" * 3000, "https://" + "x" * 1200, "1," * 900, "🇬" * 701, "漢" * 99),
    *("ada.of.lovelace.and.of.london.town@example.co.uk", "www.x" + "." * 900 + "y"),
)


@pytest.mark.parametrize("seed", range(10))
def test_a_text_read_in_pieces_has_the_tokens_of_the_whole(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    source = random.Random(seed)
    monkeypatch.setattr(texts, "_PIECE", texts._LOOK_AHEAD + source.choice([50, 700, 3000]))
    text = source.choice(["", " "]).join(source.choices(_PARTS, k=20))
    found = cut(text)
    assert found == whole(text)
    assert cut(text, 10)[:11] == found[:11]


@pytest.mark.parametrize("text", ["film " * 5000, "don't" * 4000, "x" * 50_000, "\u0301" * 30_000, " " * 20_000 + "a"])
def test_long_texts(text: str) -> None:
    assert cut(text) == whole(text)


def test_no_more_of_a_long_text_is_read_than_the_limit_needs() -> None:
    text = "film " * 400_000
    found = TOKENIZER.encode(text, 100, truncate=True)
    assert (len(found), found.truncated) == (100, True)
    assert len(cut(text, 100)) < 5000


# Hostile texts. The work on each of them grows with its length alone.

_HOSTILE = {
    "letters": "a",
    "combining marks": "\u0301",
    "marks of all classes": "\u0323\u0301\u0345",
    "regional indicators": "🇬",
    "joined emoji": "👩\u200d",
    "joiners": "\u200d",
    "zero-width spaces": "\u200b",
    "variation selectors": "\ufe0f",
    "tags": "\U000e0067",
    "skin tones": "🏽",
    "hangul": "\u1100\u1161",
    "prepended marks": "\u0600",
    "devanagari": "क\u094d",
    "ideographs": "漢",
    "long expansions": "\ufdfa",
    "apostrophes": "'",
    "negations": "n't",
    "almost negations": "an'",
    "clitics": "'s'd",
    "full stops": ".",
    "initials": "a.",
    "almost mail": "a@",
    "mail": "a@b.c",
    "dotted": "a.a-",
    "addresses": "http://",
    "almost addresses": "www.",
    "dotted addresses": "http://....",
    "numbers": "1",
    "parted numbers": "1,",
    "dashes": "-",
    "entities": "&aaaaaaaaa",
    "ats": "@a",
    "smileys": ":-",
    "carets": "^_",
    "breaks": "<br ",
    "cannots": "cannotcan",
    "spaces": " ",
    "lines": "\r\n",
    "nothing": "\0",
}


@pytest.mark.slow
@pytest.mark.parametrize("unit", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_a_hostile_text_is_read_to_its_end(unit: str) -> None:
    megabyte = unit * (1_000_000 // len(unit.encode()))
    for text in (megabyte, "x " + megabyte[: len(megabyte) // 2] + "y"):
        if not blank(unit):
            found = TOKENIZER.encode(text, 4096, truncate=True)
            assert len(found) <= 4096
            assert int(found.tokens()[-1]["end"]) <= len(text)
        else:
            assert len(TOKENIZER.split(text)) <= 2


@pytest.mark.parametrize("unit", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_the_work_on_a_hostile_text_grows_with_its_length(unit: str) -> None:
    assert_linear_reading("web", unit)
    assert_linear_reading("web", unit, before="x ")


@pytest.mark.parametrize("unit", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_only_the_head_of_a_long_token_is_normalised(unit: str) -> None:
    token = unit * (25_000 // len(unit.encode()))
    tokenizer = build(WORDS, FEATURES)
    normaliser = tokenizer._normalizer = Characters(tokenizer._normalizer)
    found = tokenizer.encode([token, "film"], 4096)
    assert normaliser.total <= _NORMALIZED_LENGTH + len("film")
    assert [token["end"] for token in found.tokens()] == [len(token), len(token) + 5]
    assert found.rows[1, 0] == WORDS.index("film")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(_HOSTILE.values())), st.integers(1, 3000)), min_size=1, max_size=6),
)
def test_hostile_mixtures_are_read_as_the_whole_is(parts: list[tuple[str, int]]) -> None:
    text = "".join(unit * times for unit, times in parts)
    assert cut(text) == whole(text)


# Rows.


def words(*tokens: str) -> list[str]:
    """The words whose rows these tokens get."""
    return [WORDS[row] for row in TOKENIZER.rows(tokens)[:, 0]]


@pytest.mark.parametrize(
    ("tokens", "form"),
    [
        (["film", "Film", "FILM", "ｆｉｌｍ", "fi\u200blm", "ﬁlm"], "film"),
        (["n't", "N'T", "n’t", "n‘t", "n`t"], "n't"),
        (["'s", "’s", "’S"], "'s"),
        (["1996", "2004", "٣٣٣٣", "１９９６"], "0000"),
        (["http://a.b/c", "https://x.org", "www.example.com", "HTTP://A"], "<url>"),
        (["WWW.X.org", "Https://A", "ftp://f.g", "FTP://F", "Www.a.b"], "<url>"),
        (["@ada", "@x_1"], "<user>"),
        (["<br>", "<br />", "<BR/>"], "<br>"),
        (['"', "``", "''", "“", "”", "„", "«", "»", "’’"], '"'),
        (["'", "‘", "’", "`"], "'"),
        (["--", "---", "–", "—", "―"], "--"),
        (["...", "....", "..", "…"], "..."),
        (["été", "ÉTÉ", "e\u0301te\u0301"], "été"),
        (["zebra", "👩‍👩‍👧", "\u200b", "漢", "a film", " ", UNKNOWN], UNKNOWN),
    ],
)
def test_forms_in_which_words_are_looked_up(tokens: list[str], form: str) -> None:
    assert words(*tokens) == [form] * len(tokens)


def test_an_unknown_word_has_row_0() -> None:
    assert TOKENIZER.rows(["zebra"])[0, 0] == 0


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        (0, ["film", "n't", "été", "l'été", "'s", "e-mail"]),
        (1, ["Film", "Éte", "O'Brien", "U.S."]),
        (2, ["FILM", "ÉTÉ"]),
        (3, ["A", "É"]),
        (4, ["iPhone", "McDonald", "漢字"]),
        (5, ["1996", "1,234", "٣"]),
        (6, ["1990s", "B2B"]),
        (7, [".", "--", "😀", " "]),
    ],
)
def test_shapes(shape: int, tokens: list[str]) -> None:
    assert TOKENIZER.rows(tokens)[:, 1].tolist() == [shape] * len(tokens)


def test_prefixes_and_suffixes_are_stable_buckets_of_the_form() -> None:
    rows = TOKENIZER.rows(["Lovelace", "LOVElorn", "palace", "a"])
    assert rows[0, 2] == rows[1, 2] == zlib.crc32(b"lov") % 64
    assert rows[0, 3] == rows[2, 3] == zlib.crc32(b"ace") % 128
    assert rows[3].tolist()[2:] == [zlib.crc32(b"a") % 64, zlib.crc32(b"a") % 128]


def test_a_token_gets_the_same_row_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_CACHED_IN_TRAINING", 3)
    fresh = build(WORDS, FEATURES)
    tokens = ["Film", "a", "x" * 100, "do", "n't", "it", "Film", "x" * 100, "a"]
    np.testing.assert_array_equal(fresh.rows(tokens), np.vstack([build(WORDS, FEATURES).rows([t]) for t in tokens]))
    assert len(fresh._cache) <= 3


_BETWEEN = st.sampled_from(
    [" ", "\n", "\t", "  ", "\r\n", "\x0b", "\u00a0", "\u2028", "\u0600 ", "\u0d4e ", " \u0301", "\u200d "]
)
_WORDS_OF_ALL_KINDS = st.sampled_from(
    [*_HOSTILE.values(), *_PARTS, "<br />", "<br", "/>", "don't", "New", "www.a", "a@b.c", ":-)", "U.S."]
) | st.text(max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_WORDS_OF_ALL_KINDS, _BETWEEN), min_size=1, max_size=12))
def test_a_text_read_word_by_word_has_the_tokens_of_the_whole(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + space for word, space in parts)
    found = TOKENIZER.split(text)
    assume(found)
    fresh = build(WORDS, FEATURES)
    for _ in range(2):  # read, and remembered
        read = fresh.encode(text, 1_000_000)
        assert read.spans == [span for _, span in found]
        np.testing.assert_array_equal(read.rows, fresh.rows([token for token, _ in found]))
        np.testing.assert_array_equal(read.rows, fresh.rows(text))


def test_no_more_words_are_remembered_than_there_is_room_for() -> None:
    fresh = Tokenizer({word: row for row, word in enumerate(WORDS)}, FEATURES, "web", 3)
    for text in ("a film", "do n't", "it is", "x" * 100, "a film."):
        fresh.encode(text, 100)
    assert 0 < len(fresh._words) <= 3


# Tokens that were sent.


def test_a_token_sent_is_one_row_never_split_and_never_dropped() -> None:
    sent = ["New York", "don't", "  ", "\n", "👩‍👩‍👧", "a.b.", "\u200b", "film"]
    found = TOKENIZER.encode(sent, 100)
    assert found.text == " ".join(sent)
    assert [token["text"] for token in found.tokens()] == sent
    assert found.rows.shape == (8, 4)
    assert found.rows[-1, 0] == WORDS.index("film")


@pytest.mark.parametrize("text", [*ORDINARY, "It's a film, don't"])
def test_tokens_sent_get_the_rows_of_raw_text(text: str) -> None:
    raw = TOKENIZER.encode(text, 100)
    sent = TOKENIZER.encode(split(text), 100)
    np.testing.assert_array_equal(raw.rows, sent.rows)
    assert [token["text"] for token in raw.tokens()] == [token["text"] for token in sent.tokens()]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=12))
def test_offsets_of_tokens_are_into_the_tokens_joined_by_one_space(tokens: list[str]) -> None:
    found = TOKENIZER.encode(tokens, 100)
    assert len(found) == len(tokens) == len(found.rows)
    assert found.text == " ".join(tokens)
    assert [token["text"] for token in found.tokens()] == tokens


# Limits and refusals.


def problem(value: str | list[str], limit: int = 100) -> tuple[str, str]:
    with pytest.raises(InvalidField) as caught:
        TOKENIZER.encode(value, limit)
    (found,) = caught.value.problems
    return found.pointer, found.detail


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u00a0\u3000\u2028", "\0 \x1f", "\u200b\u200d \ufeff"])
def test_a_text_without_a_token(text: str) -> None:
    assert problem(text) == ("", "The text is empty: it holds no token.")


def test_tokens_that_are_none() -> None:
    assert problem([]) == ("", "The list of tokens is empty.")
    assert problem(["a", "", "b"]) == ("/1", "The token is empty.")


@pytest.mark.parametrize("value", ["a film it", ["a", "film", "it"]])
def test_the_limit(value: str | list[str]) -> None:
    assert not TOKENIZER.encode(value, 3).truncated
    pointer, detail = problem(value, limit=2)
    assert pointer == ""
    assert "the model's limit is 2" in detail
    assert detail.endswith("with truncate (Hugging Face's clients: truncation; commands: --truncate).")
    cut = TOKENIZER.encode(value, 2, truncate=True)
    assert cut.truncated
    assert [token["text"] for token in cut.tokens()] == ["a", "film"]
    assert cut.text == "a film it"
    assert cut.rows.shape == (2, 4)
    assert isinstance(cut, Encoded)


# On disk.


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", FEATURES)
    for text in ORDINARY:
        assert loaded.split(text) == TOKENIZER.split(text)
        np.testing.assert_array_equal(loaded.encode(text, 100).rows, TOKENIZER.encode(text, 100).rows)


def test_a_vocabulary_begins_with_the_unknown_word() -> None:
    for vocabulary in ([], ["a"], ["a", UNKNOWN]):
        with pytest.raises(ValueError, match="the first word must be <unk>"):
            build(vocabulary, [])


@pytest.mark.parametrize("content", [b"", b"{}", b"no JSON", b"\xff", None])
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json is no tokenizer") as caught:
        Tokenizer.load(path, FEATURES)
    assert str(tmp_path) not in str(caught.value)


def test_a_vocabulary_of_another_size(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json has 16 rows of words, the manifest says 17"):
        Tokenizer.load(tmp_path / "tokenizer.json", [Feature(name="word", size=17)])


def test_a_table_of_too_few_shapes(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    with pytest.raises(BundleError, match=rf"gives {SHAPES} rows of shapes, the manifest says {SHAPES - 1}"):
        Tokenizer.load(tmp_path / "tokenizer.json", [Feature(name="shape", size=SHAPES - 1)])


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer"])
def test_a_tokenizer_without_its_parts(tmp_path: Path, part: str) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {part: None}), "utf-8")
    with pytest.raises(BundleError, match="cuts text by other rules"):
        Tokenizer.load(path, FEATURES)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"model": {"type": "WordLevel", "vocab": {UNKNOWN: 0, "a": 40}, "unk_token": UNKNOWN}},
            "has 41 rows of words",
        ),
        (
            {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Removed", "invert": True}},
            "cuts text by other rules",
        ),
    ],
    ids=["gaps", "no-token"],
)
def test_a_tokenizer_that_does_not_fit(tmp_path: Path, parts: dict[str, object], expected: str) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | parts), "utf-8")
    with pytest.raises(BundleError, match=expected):
        Tokenizer.load(path, FEATURES)


@pytest.mark.parametrize("vocabulary", [[], None, {UNKNOWN: "0"}, {UNKNOWN: -1}, {UNKNOWN: 0.0}, {UNKNOWN: True}])
def test_a_vocabulary_that_is_none(tmp_path: Path, vocabulary: object) -> None:
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    described = json.loads(path.read_text("utf-8"))
    described["model"]["vocab"] = vocabulary
    path.write_text(json.dumps(described), "utf-8")
    with pytest.raises(BundleError, match=r"tokenizer\.json is no tokenizer: its vocabulary must have the row"):
        Tokenizer.load(path, FEATURES)


def test_the_library_reads_what_is_saved(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert library.get_vocab() == {word: row for row, word in enumerate(WORDS)}
    assert library.encode("A film, don't it").ids == [1, 2, 0, 3, 4, 5]


def test_models_of_one_vocabulary_hold_it_once(tmp_path: Path) -> None:
    one, same, other = (tmp_path / f"{name}.json" for name in ("one", "same", "other"))
    TOKENIZER.save(one)
    TOKENIZER.save(same)
    build([UNKNOWN, "a"], []).save(other)
    loaded = Tokenizer.load(one, FEATURES)
    assert Tokenizer.load(same, FEATURES) is loaded
    assert Tokenizer.load(one, FEATURES[:1]) is not loaded
    assert Tokenizer.load(other, [Feature(name="word", size=2)]) is not loaded
    kept = weakref.ref(loaded)
    del loaded
    gc.collect()
    assert kept() is None
