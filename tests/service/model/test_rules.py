"""The styles: the tokens of each corpus's conventions, for text as people write it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from service.errors import BundleError
from service.model.bundle import Feature
from service.model.rules import STYLES, Style, described, style_of
from service.model.tokenizer import UNKNOWN, Tokenizer, build
from tests.service.model.reading import assert_linear_reading

TOKENIZERS: dict[Style, Tokenizer] = {
    style: build([UNKNOWN], [Feature(name="word", size=1)], style) for style in STYLES
}


def tokens(text: str, style: Style) -> str:
    return "|".join(token for token, _ in TOKENIZERS[style].split(text))


# What all styles have in common. Tokens are shown parted by a stroke.


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Initials and abbreviations.
        (
            "President George W. Bush met Samuel L. Jackson.",
            "President|George|W.|Bush|met|Samuel|L.|Jackson|.",
        ),
        ("J.R.R. Tolkien, J. K. Rowling", "J.R.R.|Tolkien|,|J.|K.|Rowling"),
        ("Mr. Ed, Mrs. Fox and Dr. No at 5 p.m. on St. Ann's", "Mr.|Ed|,|Mrs.|Fox|and|Dr.|No|at|5|p.m.|on|St.|Ann|'s"),
        ("Apple Inc. and Ford Motor Co. vs. BP", "Apple|Inc.|and|Ford|Motor|Co.|vs.|BP"),
        ("on Jan. 5, in the U.S. and the U.K", "on|Jan.|5|,|in|the|U.S.|and|the|U.K"),
        ("Is No. 1 the no. 2? No. Yes", "Is|No.|1|the|no.|2|?|No|.|Yes"),
        ("a Ph.D. student", "a|Ph.D.|student"),
        ("at 5 a.m. Monday", "at|5|a.m.|Monday"),
        ("at 10:30 A.M. EST, 6 P.M. Friday", "at|10:30|A.M.|EST|,|6|P.M.|Friday"),
        # The full stop that ends a text stands alone, but behind U.S.
        ("He works for Apple Inc.", "He|works|for|Apple|Inc|."),
        ("This is plan B. ", "This|is|plan|B|."),
        ("troops in the U.S.", "troops|in|the|U.S."),
        ("It ended.Then A.", "It|ended|.|Then|A|."),
        # Currency, times, numbers.
        ("US$5 and C$7, $5.20, £3, €1,000 and 50%", "US$|5|and|C$|7|,|$|5.20|,|£|3|,|€|1,000|and|50|%"),
        ("at 10:30 on 3/4/1996", "at|10:30|on|3/4/1996"),
        ("batting .496", "batting|.496"),
        ("Wait... what.... no…", "Wait|...|what|....|no|…"),
        # Quotes, possessives, contractions.
        ("“Don’t!” she’d said", "“|Do|n’t|!|”|she|’d|said"),
        ("the dogs' bowls, O'Brien's", "the|dogs|'|bowls|,|O'Brien|'s"),
        ("yes—no–maybe", "yes|—|no|–|maybe"),
        ("AT&T and S&P, R&D", "AT&T|and|S&P|,|R&D"),
        # Links, mail, names of users.
        ("Https://a.b/C?d=e. WWW.X.org, ftp://f.g", "Https://a.b/C?d=e|.|WWW.X.org|,|ftp://f.g"),
        ("HTTP://A.B/(c) example.com, see report.pdf.", "HTTP://A.B/|(|c|)|example.com|,|see|report.pdf|."),
        ("mail ada@lovelace.org!", "mail|ada@lovelace.org|!"),
        ("@ada #naïve #cafe\u0301s #हिन्दी", "@ada|#naïve|#cafe\u0301s|#हिन्दी"),
        ("rene\u0301@cafe\u0301.fr", "rene\u0301@cafe\u0301.fr"),
        # Marks that compose with no letter.
        ("ask x\u0301@a.b now", "ask|x\u0301@a.b|now"),
        ("a@x\u0301.b, #x\u0301y @q\u0308z", "a@x\u0301.b|,|#x\u0301y|@q\u0308z"),
        # Faces, and what is none.
        ("good :) bad :-( lol:D ;) =) :'( :P", "good|:)|bad|:-(|lol|:D|;)|=)|:'(|:P"),
        ("(Windows 8) (see 8) x=8)", "(|Windows|8|)|(|see|8|)|x|=|8|)"),
        ("list 3) C:D x=3 8-)", "list|3|)|C|:|D|x|=|3|8-)"),
        ("https:/ C:/ I'm :/", "https|:|/|C|:|/|I|'m|:/"),
        ("one<br />two", "one|<br />|two"),
    ],
)
def test_tokens_that_all_styles_have(style: Style, text: str, expected: str) -> None:
    assert tokens(text, style) == expected


@pytest.mark.parametrize(
    ("text", "by_style"),
    [
        (
            "an all-rounder from Nagorno-Karabakh",
            {
                "web": "an|all|-|rounder|from|Nagorno|-|Karabakh",
                "ewt": "an|all|-|rounder|from|Nagorno|-|Karabakh",
                "treebank": "an|all-rounder|from|Nagorno-Karabakh",
                "conll": "an|all-rounder|from|Nagorno-Karabakh",
            },
        ),
        (
            "won 6-3 on 1996-08-22 (A123-45)",
            {
                "web": "won|6|-|3|on|1996|-|08|-|22|(|A123|-|45|)",
                "ewt": "won|6|-|3|on|1996-08-22|(|A123|-|45|)",
                "treebank": "won|6-3|on|1996-08-22|(|A123-45|)",
                "conll": "won|6-3|on|1996-08-22|(|A123-45|)",
            },
        ),
        (
            "U.S.-led, 20-year-old's, 104th-ranked",
            {
                "ewt": "U.S.|-|led|,|20|-|year|-|old|'s|,|104th|-|ranked",
                "treebank": "U.S.-led|,|20-year-old|'s|,|104th-ranked",
                "conll": "U.S.-led|,|20-year-old|'s|,|104th-ranked",
            },
        ),
        ("e-mail, anti-war", {"web": "e|-|mail|,|anti|-|war", "ewt": "e-mail|,|anti-war"}),
        ("writer/director", {"web": "writer|/|director", "treebank": "writer/director", "conll": "writer|/|director"}),
        ("call 404-449-1026", {"ewt": "call|404-449-1026", "conll": "call|404-449-1026"}),
        ("at 5pm, 10th, 1.5bn, 3D", {"ewt": "at|5|pm|,|10th|,|1.5|bn|,|3D", "conll": "at|5pm|,|10th|,|1.5|bn|,|3D"}),
        ("I cannot", {"web": "I|can|not", "ewt": "I|can|not", "treebank": "I|can|not", "conll": "I|cannot"}),
        ("I'm gonna", {"web": "I|'m|gonna", "ewt": "I|'m|gon|na", "conll": "I|'m|gonna"}),
        ("no!!! why?!", {"web": "no|!|!|!|why|?|!", "ewt": "no|!!!|why|?!", "conll": "no|!|!|!|why|?|!"}),
        ("+44 points", {"web": "+|44|points", "conll": "+44|points"}),
        ("the '70s", {"web": "the|'|70s", "treebank": "the|'70s", "conll": "the|'70s"}),
        ("1. Ada\n2. Bob is 3. Yes", {"web": "1|.|Ada|2|.|Bob|is|3|.|Yes", "conll": "1.|Ada|2.|Bob|is|3|.|Yes"}),
        ("file_name", {"web": "file|_|name", "ewt": "file_name", "conll": "file_name"}),
    ],
)  # fmt: skip
def test_tokens_of_each_corpus(text: str, by_style: dict[Style, str]) -> None:
    assert {style: tokens(text, style) for style in by_style} == by_style


@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_told_by_its_rules(tmp_path: Path, style: Style) -> None:
    path = tmp_path / "tokenizer.json"
    build([UNKNOWN, "a"], [], style).save(path)
    assert Tokenizer.load(path, [Feature(name="word", size=2)]).style == style
    assert style_of(described(style)) == style


@pytest.mark.parametrize("part", ["pattern", "normalizer", "behavior"])
def test_other_rules_are_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "tokenizer.json"
    build([UNKNOWN], [], "conll").save(path)
    rules = json.loads(path.read_text("utf-8"))
    if part == "pattern":
        rules["pre_tokenizer"]["pattern"]["Regex"] += "|x"
    elif part == "behavior":
        rules["pre_tokenizer"]["behavior"] = "Isolated"
    else:
        del rules["normalizer"]["normalizers"][0]
    path.write_text(json.dumps(rules), "utf-8")
    with pytest.raises(BundleError, match="cuts text by other rules than this service, which has the styles web, ewt"):
        Tokenizer.load(path, [])


_UNITS = [
    "a-",
    "1-",
    "a.",
    "A.b-",
    "a_",
    "a@b",
    "a.b.",
    "x.com",
    "a&",
    "U.S.-",
    "+1",
    ".5",
    "(:",
    "l:D",
    "ab:/",
    "!?",
    "a/b-c'",
    "co-",
    "é-",
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("unit", _UNITS)
def test_the_work_on_a_hostile_text_grows_with_its_length_in_every_style(style: Style, unit: str) -> None:
    assert_linear_reading(style, unit, before="x ")


@pytest.mark.parametrize("style", STYLES)
def test_every_repetition_in_a_pattern_is_bounded(style: Style) -> None:
    """So the matcher's work at one place of a text has a bound, whatever the text is."""
    pattern = re.sub(r"\\.", "", described(style)["pre_tokenizer"]["pattern"]["Regex"])
    while (without := re.sub(r"\[[^\[\]]*\]", "", pattern)) != pattern:  # classes, which may be nested
        pattern = without
    assert not re.search(r"[*+]|\{\d+,\}", pattern)


@pytest.mark.parametrize(
    ("token", "kept"),
    [
        *[(each, each) for each in ("1", "10", "9/10", "4.5", "2nd", "90s", "24/7")],
        ("1999", "0000"),
        ("100", "000"),
        ("12:30", "00:00"),
        ("1,000", "0,000"),
        ("11/22/2003", "11/22/0000"),
    ],
)
def test_small_numbers_keep_their_digits_in_reviews_alone(token: str, kept: str) -> None:
    for style in STYLES:
        found = TOKENIZERS[style].normalize(token)
        assert found == (kept if style == "reviews" else "".join("0" if each.isdigit() else each for each in token))
