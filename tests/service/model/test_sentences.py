"""Where sentences of raw text begin: by example, and what holds for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.model.sentences import LOOKAHEAD, Splitter, may_divide, sentences
from service.model.tokenizer import Tokenizer
from tests.bundles import architecture, tokenizer


@pytest.fixture(scope="module")
def cut() -> Tokenizer:
    return tokenizer(architecture(task="ner"))


def split(cut: Tokenizer, text: str) -> list[str]:
    """The slices of a text that are its sentences."""
    spans = [span for _, span in cut.split(text)]
    return [text[spans[first][0] : spans[end - 1][1]] for first, end in sentences(text, spans)]


LINES = [
    ["He left for Paris", "Rome is beautiful."],
    ["Ada Lovelace", "Alan Turing", "Grace Hopper"],
    ["ada lovelace", "alan turing", "grace hopper"],
    ["University of California, Los Angeles", "Massachusetts Institute of Technology", "RWTH Aachen"],
    ["PARIS 1996-08-22", "The president left."],
    ["1. Paris", "2. Rome", "10. Berlin"],
    ["a) Paris", "b) Rome"],
    ["- Paris", "- Rome"],
    ["•\tParis", "•\tRome"],
    ["* Paris", "* Rome"],
    ["Best regards,", "Mary Shelley"],
]


@pytest.mark.parametrize("lines", LINES, ids=lambda lines: lines[0])
@pytest.mark.parametrize(
    "between",
    ["\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\n \n\t\n", "  \n", "\n    ", "\u2028", "\u2029", "\x85", "\v", "\f"],
    ids=ascii,
)
def test_a_line_break_ends_a_sentence(cut: Tokenizer, lines: list[str], between: str) -> None:
    assert split(cut, between.join(lines)) == lines


def test_a_break_of_html_ends_a_sentence_that_it_belongs_to(cut: Tokenizer) -> None:
    assert split(cut, "Ada<br />Alan<br><br>\nGrace") == ["Ada<br />", "Alan<br><br>", "Grace"]


@pytest.mark.parametrize(
    ("sent", "plain"),
    [
        ("Ada&#10;Alan&#xA;&#x0a;Grace", "Ada\nAlan\n\nGrace"),
        ("Ada&#13;&#10;Alan&NewLine;Grace&#8232;Emmy", "Ada\r\nAlan\nGrace\u2028Emmy"),
        ("Ada&amp;#10;Alan", "Ada\nAlan"),
        ("1. Paris&#10;2. Rome&#10;3&#46; Berlin", "1. Paris\n2. Rome\n3. Berlin"),
        ("&bull; Paris&#10;&bull; Rome", "• Paris\n• Rome"),
        ("Ada&lt;br&gt;Alan<BR>Grace&lt;BR /&gt;Emmy", "Ada<br>Alan<br>Grace<br />Emmy"),
        ("He left&#46; &quot;Stay&#46;&quot; Rome fell&excl; Ada", 'He left. "Stay." Rome fell! Ada'),
        ("Wait&hellip; Paris&quest; It is.", "Wait… Paris? It is."),
        ("Dr\u00ad. Ada met Gen\u200b. X in the U\u2060.S. She left.", "Dr. Ada met Gen. X in the U.S. She left."),
        ("J.&nbsp;R.&nbsp;R. Tolkien left.\u200b Ada came.", "J.\u00a0R.\u00a0R. Tolkien left. Ada came."),
        ("He left．　She came", "He left. She came"),
        ('Ada said&colon; "\u200bGo." "\u200bNo."', 'Ada said: "Go." "No."'),
        ("&#40;Go.&#41; &lbrack;Stay.&rbrack; No.", "(Go.) [Stay.] No."),
        ("I met A.&#32;B. Then A. I left.", "I met A. B. Then A. I left."),
    ],
)
def test_sentences_are_those_of_the_plain_form(cut: Tokenizer, sent: str, plain: str) -> None:
    found, wanted = (cut.encode(text, 1000) for text in (sent, plain))
    assert sentences(sent, found.spans) == sentences(plain, wanted.spans)
    assert found.rows.tolist() == wanted.rows.tolist()
    assert may_divide(sent) == may_divide(plain)


def test_full_width_marks_end_a_sentence_without_a_space(cut: Tokenizer) -> None:
    assert split(cut, "我去巴黎！他在伦敦？") == ["我去巴黎！", "他在伦敦？"]
    assert split(cut, "我去&nbsp;巴黎！他在伦敦。") == ["我去&nbsp;巴黎！", "他在伦敦。"]


ITEMS = "\n".join(
    f"{number}) a long item that says a good deal about the town of Paris and ends" for number in range(1, 4)
)


def test_a_list_of_long_items_is_not_wrapped_text(cut: Tokenizer) -> None:
    assert split(cut, ITEMS) == ITEMS.split("\n")


WRAPPED = [
    "The president of the republic, who had come the day before, met George\nBush of the United States.",
    "It is said that in the old capital near the river the\nking was seen.",
    "It was opened by the head of the Bank of\nAmerica.",
    "He said that the ship, which was on the way from Rome to the harbour of\nOld Genoa and back, was lost near\nElba.",
    "> The president of the republic, who had come the day before, met George\n> Bush of the United States.",
]


@pytest.mark.parametrize("text", WRAPPED)
@pytest.mark.parametrize("between", ["\n", "\r\n"], ids=ascii)
def test_a_wrapped_line_ends_no_sentence(cut: Tokenizer, text: str, between: str) -> None:
    if "Elba" in text:  # whose last line is too short to be full
        assert split(cut, text.replace("\n", between))[-1] == "Elba."
    else:
        assert split(cut, text.replace("\n", between)) == [text.replace("\n", between)]


def test_a_wrapped_text_still_has_sentences(cut: Tokenizer) -> None:
    text = (
        "The president of the republic, who had come the day before, met George\n"
        "Bush of the United States. Then they went to the old town, and later\n"
        "to the harbour. It rained.\n\nThe end"
    )
    assert [each.split()[0] for each in split(cut, text)] == ["The", "Then", "It", "The"]


ON_ONE_LINE = [
    ["He left for Paris.", "Rome is beautiful."],
    ["Is it?", "Yes!", "No…", "Then it was."],
    ["He said no...", "The end."],
    ["It rained!!! 😀 :)", "We left."],
    ["He left.", '"She stayed," he said.'],
    ['"Go!" he said.', '"Stay!"', "He did."],
    ["(He left.)", "(She stayed.)"],
    ["« Il part. »", "Elle reste."],
    ["It cost $3.5 million.", "5 people paid."],
    ["It fell to 108.45.", "Oil rose."],
    ["it rained.", "then it stopped."],
    ["IT RAINED.", "THE U.S. ARMY LEFT."],
    ["He lives in the U.S.", "She does not."],
    ["He works at Apple Inc.", "The company grew."],
    ["It is 5 p.m.", "They left."],
    ["See http://example.com/a.", "Then call."],
    ["他去了巴黎。", "她留下了。"],
    ["No.", "She left."],
    ["He said no.", "Rome is far."],
    ["He read to p. 4.", "Then he left."],
    ["He came in 1997.", "1998 was better."],
    ["It ended.", "-- Reuters, London"],
    ["Thanks.", "@mary is here."],
]


@pytest.mark.parametrize("expected", ON_ONE_LINE, ids=lambda expected: expected[0])
def test_a_stop_ends_a_sentence(cut: Tokenizer, expected: list[str]) -> None:
    between = "" if expected[0].endswith("。") else " "
    assert split(cut, between.join(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "President George W. Bush met Samuel L. Jackson.",
        "J. R. R. Tolkien and J.R.R. Tolkien wrote it.",
        "Kent 214 (P. Johnson 84, S. P. Rhodes 5) beat Essex.",  # `p.` is a page, `P.` a name
        "She read Vol. II, Ch. IV and Sec. B of it.",
        "Mr. Smith, Dr. Jones and Sen. John Kerry (D., Mass.) met.",
        "The U.S. Army and the U.K. Parliament met St. Louis vs. Chicago at No. 5, p. 6.",
        "Apple Inc. said on Jan. 5 at 5 a.m. Monday that Smith Jr. left.",
        "Yahoo! Inc. bought it.",
        "1. Paris is old.",
        "Visit www.example.com or see 3.5 pages, e.g. this one.",
        "Wait... what?",
        '"Go!" he said, "now."',
        "He asked (was it him?) and left.",
        "end.Next",
        "   It is.   \n\n ",
    ],
)
def test_no_sentence_ends_here(cut: Tokenizer, text: str) -> None:
    assert split(cut, text) == [text.strip()]


@pytest.mark.parametrize("run", ["!!!", "?!", "?", "!..", "…?"])
def test_a_run_of_marks_may_be_one_token(run: str) -> None:
    splitter = Splitter()
    tokens = [("", "Go"), ("", run), (" ", "then"), (" ", "Ada")]
    found = [splitter.begins(gap, token, " ") for gap, token in tokens]
    assert found == [True, False, True, False]


PIECES = st.sampled_from(
    [
        *"aAzZ1. !?…\"'()-*•,;:\n\r\t\f\x85\u2028。 ",
        *("\r\n", "\n\n", "...", "U.S.", "Mr.", "Inc", "No", "She", "The", "of", "Paris", "<br />", "``", "''", "”"),
        *("http://a.b", "😀", ":)", "1.", "a)", "----", "“", "e\u0301", "\u200b", " " * 3, "x" * 40),
    ]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)


@given(TEXTS)
def test_sentences_are_all_tokens_in_order(cut: Tokenizer, text: str) -> None:
    spans = [span for _, span in cut.split(text)]
    found = sentences(text, spans)
    assert [number for first, end in found for number in range(first, end)] == list(range(len(spans)))
    assert all(first < end for first, end in found)
    assert may_divide(text) or len(found) <= 1


@given(TEXTS, TEXTS)
def test_what_comes_later_changes_nothing(cut: Tokenizer, text: str, later: str) -> None:
    """A decision needs the text up to the token's end and `LOOKAHEAD` characters of the rest."""
    spans = [span for _, span in cut.split(text)]
    whole, cut_off, before = Splitter(), Splitter(), 0
    for start, end in spans:
        gap, token, following = text[before:start], text[start:end], text[end : end + LOOKAHEAD]
        more = following if len(following) < LOOKAHEAD else following + later
        assert whole.begins(gap, token, following) == cut_off.begins(gap, token, more)
        before = end


@pytest.mark.parametrize("piece", [".", ". ", "! ", '"', "\n", ".)", "<", "\u200b", "a.\n"])
def test_a_long_text_takes_no_longer_than_its_length(cut: Tokenizer, piece: str) -> None:
    """In the square of the length, this would take hours."""
    text = "a" + piece * (1_000_000 // len(piece))
    may_divide(text)
    may_divide(text + "b")
    spans = [span for _, span in cut.split(text[:5000])]
    assert sentences(text, [*spans, (len(text) - 1, len(text))])


def test_what_a_splitter_remembers_is_bounded(cut: Tokenizer) -> None:
    text = ("A" * 900 + "\n") * 50 + "Bush " * 5000
    splitter, before = Splitter(), 0
    for start, end in [span for _, span in cut.split(text)]:
        splitter.begins(text[before:start], text[start:end], text[end : end + LOOKAHEAD])
        before = end
    assert all(len(str(getattr(splitter, name))) < 20 for name in Splitter.__slots__)
