"""How text is cut into tokens, in a few named styles, and how a token is normalised.

Corpora are cut differently: CoNLL-2003 keeps ``all-rounder`` whole, the English Web Treebank writes ``all - rounder``.
A model must be given the tokens that it learned from, so that each bundle names the style of its corpus, by writing
that style's rules into ``tokenizer.json``. No other rules are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, cast, get_args

import orjson
from tokenizers import Regex
from tokenizers import Tokenizer as HubTokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFKC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import Split

UNKNOWN = "<unk>"
"""Row 0 of every vocabulary: words that no row stands for."""

Style = Literal["web", "ewt", "treebank", "conll", "reviews"]
"""``web``: reviews and tweets; hyphens and marks stand alone. ``ewt``: English Web Treebank; hyphens stand alone, runs
of marks do not. ``treebank``: Penn Treebank; words keep hyphens and slashes. ``conll``: CoNLL-2003; words, scores and
dates keep hyphens, numbers their signs. ``reviews``: cuts as ``web`` does, and small numbers keep their digits, as in
``1 star`` and ``9/10``; the others read every digit as 0."""
STYLES = cast(tuple[Style, ...], get_args(Style))

# Alternatives are tried in order at each position; a character that none of them matches is white space, or a
# character without a shape of its own (zero-width, control) that stands alone. Every repetition is
# bounded, so that the time of a match is too: a run of more than a thousand letters is cut into tokens of that length.
# None looks behind a space, but for the full stop of "No. 1".
_IDEOGRAPH = r"\p{Han}\p{Hiragana}\p{Katakana}"
_LETTER = rf"[\p{{L}}\p{{M}}\p{{N}}&&[^{_IDEOGRAPH}]]"
_END = r"(?![\p{L}\p{N}])"
_START = r"(?<![\p{L}\p{M}\p{N}])"
_TITLES = "Mr Mrs Ms Dr Prof St Jr Sr Inc Ltd Co Corp Gen Sen Rep Reps Gov Lt Col Sgt Capt Rev Hon Maj Cpl Adm Ft Mt"
_TIMES = "Jan Feb Aug Sept Oct Nov Dec Mon Tue Tues Wed Thur Thurs Fri Sat"
_STATES = "Calif Fla Ill Wash Mass Mich Minn Wis Conn Ariz Colo Okla Tenn Tex Penn Va Ky"
_ABBREVIATIONS = "|".join(
    [
        *(form for word in f"{_TITLES} {_TIMES} {_STATES}".split() for form in (word, word.upper())),
        "vs|Vs|etc|Etc|al|Bros",
    ]
)
_CLITICS = rf"(?i:s|m|d|ll|re|ve){_END}"
_APOSTROPHE = rf"['’](?!{_CLITICS})\p{{L}}"
_DOMAINS = "com|org|net|edu|gov|mil|info|biz|io|tv|uk|de|fr|nl|eu|ca|au|jp|cn|ru|ch|br|nz|za|ie"
_FILES = "html?|docx?|xlsx?|pptx?|pdf|txt|csv|jpe?g|png|gif|zip|exe|mp[34]"

_LINK = (
    rf"(?:{_START}[A-Za-z][A-Za-z0-9+]{{1,15}}://|{_START}(?i:www)\.)[^\s<>\"'()]{{1,1000}}(?<![.,;:!?])",
    r"[\p{L}\p{N}][\p{L}\p{M}\p{N}._+-]{0,63}@[\p{L}\p{M}\p{N}-]{1,64}(?:\.[\p{L}\p{M}\p{N}-]{1,64}){1,8}",
    rf"{_START}(?>[A-Za-z0-9_-]{{1,63}}(?:\.(?!(?i:{_DOMAINS}|{_FILES}){_END})[A-Za-z0-9_-]{{1,63}}){{0,5}})"
    rf"\.(?i:(?:(?:co|org|ac|gov)\.)?(?:{_DOMAINS})|{_FILES}){_END}(?:/[^\s<>\"'()]{{0,500}}(?<![.,;:!?]))?",
)
_NAME = r"[@#][\p{L}\p{N}_][\p{L}\p{M}\p{N}_]{0,99}"
_NAMED = r"[@#]\p{N}{0,20}[\p{L}_][\p{L}\p{M}\p{N}_]{0,99}"
_ADDRESSED = rf"{_START}\p{{L}}[\p{{L}}\p{{N}}.]{{0,63}}@\p{{L}}[\p{{L}}\p{{N}}]{{1,63}}"
_REVERSED = r"\([-o]?:(?=\s|$)"
_ENDING = rf"(?<![\p{{L}}\p{{N}}.])\.(?i:{_FILES}){_END}"
# A mouth that is a letter or a digit has no letter before its eyes but behind a word (lol:D, not C:D or x=3). A slash
# is none in https:/ and C:/. (8) and 8) are numbers in brackets, 8-) is a face.
_SMILEYS = (
    rf"(?:[:;]|(?<![\p{{L}}\p{{N}}])=)[-o*']?[)(\[\]*]{_END}",
    rf"(?:(?<![\p{{L}}\p{{N}}])[:;=]|(?<=\p{{L}}\p{{L}})[:;])[-o*']?[dDpP]{_END}",
    rf"(?<![\p{{L}}\p{{N}}])[:;=][-o*']?3{_END}",
    r"(?<!(?i:https)|(?i:http)|(?i:ftp))(?:(?<![\p{L}\p{N}])|(?<=\p{L}\p{L}))[:;=][-o*']?[/\\|](?![\p{L}\p{N}/\\])",
    rf"(?<![\p{{L}}\p{{N}}])8-[)(D]{_END}",
    r"<3(?!\p{N})|\^[_.-]?\^",
)
_ACRONYM = (
    rf"{_START}(?:\p{{L}}\.){{1,11}}\p{{L}}(?![\p{{L}}\p{{M}}\p{{N}}.'’])",
    r"(?:\p{L}\.){2,12}",
    rf"{_START}\p{{Lu}}\.(?![\p{{N}}.])",
    rf"Ph\.D(?:\.|{_END})|[Nn]o\.(?=[ \xA0]?\p{{N}})|(?=[A-Za-z]{{2,5}}\.)(?:{_ABBREVIATIONS})\.(?![\p{{L}}\p{{N}}.])",
)
_COMPANY = rf"{_START}\p{{L}}{{1,4}}&\p{{L}}{{1,4}}(?![\p{{L}};])"
_CURRENCY = rf"{_START}\p{{Lu}}{{1,3}}\$(?!\p{{L}})"
_CONTRACTION = (
    r"[\p{L}\p{M}]{1,24}?(?=[nN]['’][tT](?![\p{L}\p{N}]))",
    r"[nN]['’][tT](?![\p{L}\p{N}])",
)
_CANNOT = rf"(?i:can)(?=(?i:not){_END})"
_GONNA = rf"{_START}(?:(?i:gon|wan)(?=(?i:na){_END})|(?i:got)(?=(?i:ta){_END})|(?i:gim|lem)(?=(?i:me){_END}))"
_DECADE = rf"(?<![\p{{L}}\p{{N}}])['’]\p{{N}}{{2}}s{_END}"
_CLITIC = rf"['’]{_CLITICS}"
_NUMBER = r"\p{N}{1,100}(?:[.,:/]\p{N}{1,100}){0,10}"
_SIGNED = rf"(?<![\p{{L}}\p{{N}}])\+{_NUMBER}"
_FRACTION = rf"(?<![\p{{L}}\p{{N}}.])\.\p{{N}}{{1,20}}{_END}"
_SUFFIX = rf"(?:(?i:st|nd|rd|th|s|am|pm|k|m){_END})?"
# A number of several parts may end before a letter (1.5bn), of one part it is a word with it (3D).
_NUMBERS = rf"\p{{N}}{{1,100}}(?:(?:[.,:/]\p{{N}}{{1,100}}){{1,10}}{_SUFFIX}|{_SUFFIX}{_END})"
_UNIT = rf"(?=(?i:[ap]m|k|m|mm|km|cm|kg|lbs?|mg|gb|mb){_END})"
_PHONE = (
    r"(?<![\p{N}-])\p{N}{1,3}(?:-\p{N}{3}){0,2}-\p{N}{4}(?![\p{N}-])"
    r"|(?<![\p{N}-])\p{N}{4}-\p{N}{2}-\p{N}{2}(?![\p{N}-])"
)
_IDEOGRAPHS = rf"[{_IDEOGRAPH}]\p{{M}}{{0,8}}"
_WORD = rf"{_LETTER}{{1,1000}}(?:{_APOSTROPHE}[\p{{L}}\p{{M}}\p{{N}}]{{0,100}}){{0,4}}"
_JOINED = rf"{_LETTER}{{1,1000}}(?:(?:{_APOSTROPHE}|_[\p{{L}}\p{{N}}])[\p{{L}}\p{{M}}\p{{N}}]{{0,100}}){{0,8}}"
_PART = (
    r"(?>(?:\p{L}\.){2,8}|\p{N}{1,20}(?:[.,:/]\p{N}{1,20}){0,4}(?![\p{L}\p{N}])"
    rf"|{_LETTER}{{1,100}}(?:{_APOSTROPHE}[\p{{L}}\p{{M}}\p{{N}}]{{0,50}}){{0,2}})"
)
_PREFIXED = (
    rf"{_START}(?i:e|non|pre|anti|mid|re|post|co|over|pro|multi|ex|sub|semi|neo|intra|inter|counter|cross)"
    rf"-\p{{L}}[\p{{L}}\p{{M}}\p{{N}}]{{0,100}}"
)
_MARKS = r"\.{2,100}|-{2,100}|``|''|&\w{2,8};"
_RUNS = r"\.?[!?]{2,200}|\.[!?]|’’|‘’|\*{2,200}|={2,200}|_{2,200}|~{2,200}|<{2,9}|>{2,9}|\${2,9}|/{2,9}"
_REST = (
    # A flag. Left to \X, a run of them takes time in the square of its length.
    r"[\x{1F1E6}-\x{1F1FF}]{1,2}\p{M}{0,8}",
    r"(?![\s\p{Cc}\p{Cf}])\X",
)


def _parts(joints: str) -> str:
    """Words that keep these signs within them."""
    return rf"{_START}{_PART}(?:[{joints}]{_PART}){{1,12}}"


_KEYCAP = r"[0-9#*]\x{20E3}"
_BEFORE = (r"<br ?/?>", _KEYCAP, *_LINK, _NAME, *_SMILEYS)
_ALTERNATIVES: dict[Style, tuple[str, ...]] = {
    "web": (
        *_BEFORE, *_ACRONYM, _COMPANY, _CURRENCY, _CANNOT, *_CONTRACTION, _CLITIC, _IDEOGRAPHS,
        _NUMBER + _SUFFIX, _FRACTION, _WORD, _MARKS, *_REST,
    ),
    "ewt": (
        r"<br ?/?>", _KEYCAP, *_LINK, _ADDRESSED, _NAMED, *_SMILEYS, _REVERSED,
        *_ACRONYM, _COMPANY, _CURRENCY, _CANNOT, _GONNA, *_CONTRACTION, _CLITIC, _IDEOGRAPHS,
        _PREFIXED, _PHONE, rf"{_START}(?:(?i:w/o?|b/c|l/c){_END})",
        _NUMBER + _UNIT, _NUMBERS, _FRACTION, _ENDING, _JOINED, _MARKS, _RUNS, *_REST,
    ),
    "treebank": (
        *_BEFORE, *_CONTRACTION, _parts("-/"), *_ACRONYM, _COMPANY, _CURRENCY, _CANNOT, _DECADE, _CLITIC, _IDEOGRAPHS,
        _NUMBERS, _FRACTION, _JOINED, _MARKS, *_REST,
    ),
    "conll": (
        *_BEFORE, *_CONTRACTION, _parts("-"), *_ACRONYM, _COMPANY, _CURRENCY, _DECADE, _CLITIC, _IDEOGRAPHS,
        _SIGNED, _NUMBERS, _FRACTION, _JOINED, _MARKS, *_REST,
    ),
}  # fmt: skip
_ALTERNATIVES["reviews"] = _ALTERNATIVES["web"]

# Most words, before anything else is tried: letters up to a space or a comma.
_SIMPLE = rf"{_START}(?!(?i:cannot|gonna|wanna|gotta|gimme|lemme))(?>[A-Za-z]{{1,30}})(?=[\s,;!?]|\z)"
_PATTERNS: dict[Style, str] = {style: "|".join((_SIMPLE, *parts)) for style, parts in _ALTERNATIVES.items()}

LISTED: frozenset[Style] = frozenset({"conll"})
"""Styles that keep the number of a list's item whole, at the start of a line: ``3.``"""


# A digit in a run of three or more, or in a time, a date or a large number; 25, 4.5, 9/10 and 2nd keep theirs.
_LARGE_NUMBER = (
    r"(?<=\p{N}\p{N})\p{N}|(?<=\p{N})\p{N}(?=\p{N})|\p{N}(?=\p{N}\p{N})"
    r"|(?<=[:,])\p{N}|(?<=[:,]\p{N})\p{N}|\p{N}(?=\p{N}?[:,])"
)


@cache
def hub(style: Style) -> HubTokenizer:
    """The rules of a style, as the library holds them; without words."""
    made = HubTokenizer(WordLevel({}, unk_token=UNKNOWN))
    made.normalizer = Normalizers(
        [
            Replace(Regex("[\u00ad\u200b-\u200d\u2060\ufe0e\ufe0f\ufeff]"), ""),
            Replace(Regex("[‘’`´]{2}|[“”„«»]|''"), '"'),
            Replace(Regex("[‘’`´]"), "'"),
            NFKC(),  # behind the quotes: it takes ´ for a space under an accent
            Lowercase(),
            Replace(Regex("[–—―]|-{2,}"), "--"),
            Replace(Regex(r"\.{2,}"), "..."),
            Replace(Regex(_LARGE_NUMBER if style == "reviews" else r"\p{N}"), "0"),
            Replace(Regex(r"^(?:[a-z][a-z0-9+]{1,15}://|www\.).*"), "<url>"),
            Replace(Regex(r"^@\w+"), "<user>"),
            Replace(Regex(r"^<br ?/?>"), "<br>"),
        ]
    )
    made.pre_tokenizer = Split(Regex(_PATTERNS[style]), "removed", invert=True)
    return made


def described(style: Style) -> dict[str, Any]:
    """A style's rules as ``tokenizer.json`` has them, with an empty vocabulary."""
    rules: dict[str, Any] = orjson.loads(hub(style).to_str())
    return rules


_known = cache(described)
"""For comparisons only: each call returns the same dictionary."""


def style_of(rules: Mapping[str, Any]) -> Style | None:
    """The style that a ``tokenizer.json`` describes, its vocabulary left out; None for any other rules.

    Models learned from the tokens of these rules, and the time that these take is known.
    """
    splitter = rules.get("pre_tokenizer")
    pattern = splitter.get("pattern") if isinstance(splitter, dict) else None
    for style, known in _PATTERNS.items():
        if pattern == {"Regex": known} and rules == _known(style):
            return style
    return None
