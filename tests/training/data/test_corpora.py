"""Readers of labelled data: every format, every trap in it, and what each complaint says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.model.bundle import Task
from training.data.corpora import CorpusError, Example, check_labels, labels, read
from training.data.sources import few

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """A file as given, compressed where its name says so."""
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return path


def sentence(text: str) -> Example:
    """``Ada/B-PER spoke/O`` → an example."""
    pairs = [pair.rsplit("/", 1) for pair in text.split(" ")]
    return Example(tuple(token for token, _ in pairs), tuple(tag for _, tag in pairs))


def column(tags: str) -> str:
    """``O B-PER`` → the lines of one sentence."""
    return "".join(f"w{number}\t{tag}\n" for number, tag in enumerate(tags.split(" ")))


def complaint(path: Path, task: Task) -> str:
    """What `read` says is wrong with a file, after the file's name."""
    with pytest.raises(CorpusError) as caught:
        read(path, task)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


# Columns of tokens and tags.

TWO = [sentence("Ada/B-PER Lovelace/I-PER spoke/O ./O"), sentence("London/B-LOC")]


@pytest.mark.parametrize("name", ["a.conll", "a.iob", "a.bio", "a.txt", "a.tsv", "a.b.conll", "a.CONLL", "a.conll.gz"])
def test_columns_under_every_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, "Ada\tB-PER\nLovelace\tI-PER\nspoke\tO\n.\tO\n\nLondon\tB-LOC\n\n")
    assert read(path, "ner") == TWO


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("Ada B-PER\nLovelace I-PER\nspoke O\n. O\n\nLondon B-LOC\n", id="spaces"),
        pytest.param(
            "Ada NNP I-NP B-PER\nLovelace NNP I-NP I-PER\nspoke V O O\n. . O O\n\nLondon N O B-LOC", id="four"
        ),
        pytest.param("Ada   B-PER \nLovelace I-PER\nspoke    O\n.        O\n\nLondon   B-LOC\n", id="aligned"),
        pytest.param("Ada\tN\tB-PER\nLovelace\tN\tI-PER\nspoke\t\tO\n.\t.\tO\n\nLondon\tN\tB-LOC\n", id="three-tabs"),
        pytest.param("Ada\tB-PER\r\nLovelace\tI-PER\r\nspoke\tO\r\n.\tO\r\n\r\nLondon\tB-LOC\r\n", id="crlf"),
        pytest.param("\n\n\nAda\tB-PER\nLovelace\tI-PER\nspoke\tO\n.\tO\n\n\t\n  \nLondon\tB-LOC\n\n\n", id="blanks"),
        pytest.param("\ufeffAda\tB-PER\nLovelace\tI-PER\nspoke\tO\n.\tO\n\nLondon\tB-LOC", id="bom-no-last-newline"),
        pytest.param(
            "-DOCSTART- -X- O O\n\nAda N O I-PER\nLovelace N O I-PER\nspoke V O O\n. . O O\n\n"
            "-DOCSTART- -X- O O\n\nLondon N O I-LOC\n",
            id="docstart",
        ),
        pytest.param(
            "-DOCSTART-\nAda\tI-PER\nLovelace\tI-PER\nspoke\tO\n.\tO\n-DOCSTART-\nLondon\tI-LOC\n",
            id="docstart-alone",
        ),
        pytest.param(
            "-DOCSTART-\tO\n\nAda\tB-PER\nLovelace\tI-PER\nspoke\tO\n.\tO\n-DOCSTART- (1 EU)\nLondon\tB-LOC\n",
            id="docstart-with-a-tag",
        ),
    ],
)
def test_columns_in_every_shape(tmp_path: Path, content: str) -> None:
    assert read(write(tmp_path, "a.conll", content), "ner") == TWO


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param("O B-PER I-PER O", "O B-PER I-PER O", id="iob2-is-kept"),
        pytest.param("I-ORG O I-PER I-PER O", "B-ORG O B-PER I-PER O", id="iob1"),
        pytest.param("I-PER I-PER B-PER I-PER", "B-PER I-PER B-PER I-PER", id="iob1-neighbours"),
        pytest.param("I-PER I-LOC I-LOC", "B-PER B-LOC I-LOC", id="iob1-change-of-type"),
        pytest.param("B-PER I-LOC O I-LOC", "B-PER B-LOC O B-LOC", id="broken-iob2"),
        pytest.param("S-PER O B-LOC I-LOC E-LOC", "B-PER O B-LOC I-LOC I-LOC", id="bioes"),
        pytest.param("S-PER S-PER B-PER E-PER S-PER", "B-PER B-PER B-PER I-PER B-PER", id="bioes-neighbours"),
        pytest.param("B-PER E-PER I-PER", "B-PER I-PER B-PER", id="after-an-end"),
        pytest.param("O E-PER E-PER", "O B-PER B-PER", id="an-end-alone"),
        pytest.param("U-PER B-LOC L-LOC L-LOC", "B-PER B-LOC I-LOC B-LOC", id="bilou"),
        pytest.param("B-creative-work I-creative-work", "B-creative-work I-creative-work", id="type-with-hyphen"),
        pytest.param("B-O I-O O", "B-O I-O O", id="type-named-O"),
    ],
)
def test_tags_become_strict_iob2(tmp_path: Path, tags: str, expected: str) -> None:
    (columns,) = read(write(tmp_path, "a.conll", column(tags)), "ner")
    assert columns.label == tuple(expected.split(" "))
    record = {"tokens": list(columns.value), "tags": tags.split(" ")}
    assert read(write(tmp_path, "a.jsonl", json.dumps(record)), "ner") == [columns]


def test_an_entity_does_not_reach_over_a_blank_line(tmp_path: Path) -> None:
    found = read(write(tmp_path, "a.conll", column("B-PER") + "\n" + column("I-PER I-PER")), "ner")
    assert [example.label for example in found] == [("B-PER",), ("B-PER", "I-PER")]


TRICKY = ("\u200b", "\ufeff", "a\u2028b", "a\u0085b", "a\x0cb", "a\x1cb", "a\rb", "New York", "a\xa0b", '"', "#", "é")


def test_tokens_keep_every_character(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "".join(f"{token}\tO\n" for token in ("x", *TRICKY)))
    assert read(path, "ner") == [Example(("x", *TRICKY), ("O",) * (len(TRICKY) + 1))]


def test_space_separated_tokens_keep_every_character_but_the_space(tmp_path: Path) -> None:
    tokens = ("x", *(token for token in TRICKY if " " not in token))
    path = write(tmp_path, "a.conll", "".join(f"{token} O\n" for token in tokens))
    assert read(path, "ner") == [Example(tokens, ("O",) * len(tokens))]


def test_only_one_carriage_return_belongs_to_the_line_end(tmp_path: Path) -> None:
    with_two = complaint(write(tmp_path, "a.conll", "Ada\tO\r\nspoke\tO\r\r\n"), "ner")
    assert with_two == "2: a carriage return within the line: let all lines of the file end in one way"


def test_only_the_first_byte_order_mark_is_one(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "\ufeff\ufeff\tO\n")
    assert read(path, "ner") == [Example(("\ufeff",), ("O",))]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("Ada\tB-PER\nspoke\n", "2: no tag beside the token; .* here parted by tabs", id="no-tag"),
        pytest.param("Ada B-PER\nspoke\n", "2: no tag beside the token; .* here parted by spaces", id="no-tag-spaces"),
        pytest.param("Ada\tB-PER\nspoke O\n", "2: no tag beside the token", id="spaces-in-a-tab-file"),
        pytest.param("Ada\n", "1: no tag beside the token", id="no-tag-at-all"),
        pytest.param("Ada\tB-PER\nspoke\t\n", "2: the tag is empty", id="empty-tag"),
        pytest.param("Ada\tB-PER\n\n\tO\n", "3: the token is empty", id="empty-token"),
        pytest.param("Ada B-PER\n\n O\n", "3: the token is empty", id="empty-token-spaces"),
        pytest.param("Ada B-PER\nNew York B-LOC\n", "2: 3 columns parted by spaces, but 2", id="more-columns"),
        pytest.param("Ada\tNNP\tO\n\nspoke\tO\n", "3: 2 columns parted by tabs, but 3", id="fewer-columns"),
        pytest.param("Ada\tB-PER\nspoke\tV\n", "2: 'V' is no tag; a tag is O, B-TYPE or I-TYPE", id="no-such-tag"),
        pytest.param("Ada\t1\nspoke\t0\n", "1: '1' is no tag; it is a class number: write the name", id="class-number"),
        pytest.param("Ada\t-100\n", "1: '-100' is no tag; it is a class number: write the name", id="ignored"),
        pytest.param("['Ada']\t['B-PER']\n", r"1: \"\['B-PER'\]\" is no tag; it is a list: a row is one", id="list"),
        pytest.param("['a' 'b']\t[1 0]\n" * 10, r"1: '\[1 0\]' is no tag; it is a list", id="lists"),
        pytest.param("Ada\tB-\n", "1: 'B-' is no tag", id="no-type"),
        pytest.param("Ada\tX-PER\n", "1: 'X-PER' is no tag", id="no-such-prefix"),
        pytest.param("Ada\tb-PER\n", "1: 'b-PER' is no tag", id="lower-case-prefix"),
        pytest.param("Ada\tB_PER\n", "1: 'B_PER' is no tag", id="underscore"),
        pytest.param("Ada\tPER\n", "1: 'PER' is no tag", id="bare-type"),
        pytest.param("Ada\to\n", "1: 'o' is no tag", id="lower-case-o"),
        pytest.param("Ada\tO-PER\n", "1: 'O-PER' is no tag", id="outside-with-type"),
        pytest.param("Ada\tB PER\n", "1: 'B PER' is no tag", id="space-in-tag"),
        pytest.param(
            "Ada\tB-P\x1b[31m\n", r"1: the tag 'B-P\\x1b\[31m' holds a control character .*U\+001B", id="escape"
        ),
        pytest.param("x\tO\nAda\tB-\u200b\n", r"2: the tag 'B-\\u200b' shows nothing \(U\+200B\)", id="unseen-type"),
        pytest.param("Ada\u00a0B-PER\n", "1: no tag .* spaces; the line holds U\\+00A0, which neither", id="no-break"),
        pytest.param("Ada O\n\u3000\nx O\n", "2: no tag beside .* the line holds U\\+3000", id="wide-blank-line"),
        pytest.param("Ada\tO\n\x0c\nx\tO\n", "2: no tag beside .* the line holds U\\+000C", id="form-feed"),
        pytest.param("Ada N O\nx\u00a0N O\n", "2: 2 columns .*; the line holds U\\+00A0", id="no-break-among-columns"),
        pytest.param("Ada O\n" + "a " * 500 + "word", "2: 501 columns", id="prose"),
        pytest.param("", " it holds no example; columns are TOKEN<TAB>TAG", id="empty"),
        pytest.param("\n\n-DOCSTART- O\n\n", " it holds no example", id="nothing-but-breaks"),
    ],
)
def test_wrong_columns(tmp_path: Path, content: str, expected: str) -> None:
    assert re.match(expected, complaint(write(tmp_path, "a.conll", content), "ner"))


def test_a_complaint_does_not_repeat_a_whole_page(tmp_path: Path) -> None:
    assert len(complaint(write(tmp_path, "a.conll", "Ada\t" + "x" * 10_000), "ner")) < 200
    assert len(complaint(write(tmp_path, "a.tsv", "x" * 10_000 + "\tpositive\n"), "sentiment")) < 200


# Tables and JSON lines of texts and labels.

FILMS = [Example("A fine film .", "positive"), Example("Dull , dull , dull .", "negative")]
FILM_ROWS = [(str(film.value), str(film.label)) for film in FILMS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "text\tlabel\nA fine film .\tpositive\nDull , dull , dull .\tnegative\n"),
        ("a.tsv.GZ", "text\tlabel\nA fine film .\tpositive\nDull , dull , dull .\tnegative"),
        ("a.TSV", "\ufefftext\tlabel\r\nA fine film .\tpositive\r\nDull , dull , dull .\tnegative\r\n\r\n"),
        ("a.tsv", "id\tlabel\tby\ttext\n1\tpositive\t\tA fine film .\n\n2\t negative \tme\tDull , dull , dull .\n"),
        ("a.csv", 'text,label\r\nA fine film .,positive\r\n"Dull , dull , dull .",negative\r\n'),
        ("a.csv.gz", 'id,"label","text"\n1,positive,A fine film .\n\n2,negative,"Dull , dull , dull ."'),
        ("a.csv", '\ufefflabel,text\npositive,A fine film .\n negative,"Dull , dull , dull ."\n'),
        (
            "a.jsonl",
            '{"text": "A fine film .", "label": "positive"}\n\n'
            '{"id": {"n": [1]}, "label": "negative", "text": "Dull , dull , dull ."}',
        ),
        (
            "a.ndjson.gz",
            '\ufeff{"text": "A fine film .", "label": "positive"}\r\n'
            '{"text": "Dull , dull , dull .", "label": "negative"}\r\n',
        ),
    ],
)
def test_tables_in_every_shape(tmp_path: Path, name: str, content: str) -> None:
    assert read(write(tmp_path, name, content), "sentiment") == FILMS


def test_a_quote_in_tsv_is_an_ordinary_character(tmp_path: Path) -> None:
    rows = ['"Open', '" middle " ', 'end"', '"', '""whole""', "'"]
    path = write(tmp_path, "a.tsv", "text\tlabel\n" + "".join(f"{row}\tpositive\n" for row in rows))
    assert [example.value for example in read(path, "sentiment")] == rows


def test_a_quoted_csv_field_may_hold_anything(tmp_path: Path) -> None:
    content = 'text,label\r\n"One,\r\ntwo\nand ""three""\u2028",positive\r\n"\tfour\r",negative\r\n'
    found = read(write(tmp_path, "a.csv", content), "sentiment")
    assert [example.value for example in found] == ['One,\r\ntwo\nand "three"\u2028', "\tfour\r"]


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
def test_texts_keep_every_character(tmp_path: Path, ending: str) -> None:
    text = " \u200bzero\ufeff width\u2028line\x85next\x0cpage\x1c😀\xa0 "
    content = {
        "tsv": f"text\tlabel\n{text}\tpositive\n",
        "csv": f"text,label\n{text},positive\n",
        "jsonl": json.dumps({"text": text, "label": "positive"}, ensure_ascii=False),
    }[ending]
    assert read(write(tmp_path, f"a.{ending}", content), "sentiment") == [Example(text, "positive")]


@pytest.mark.parametrize(
    ("label", "expected"),
    [('"very good"', "very good"), ("1", "1"), ("-3", "-3"), ("true", "true"), ("false", "false")],
)
def test_json_labels_are_strings_as_the_file_spells_them(tmp_path: Path, label: str, expected: str) -> None:
    path = write(tmp_path, "a.jsonl", f'{{"text": "Fine", "label": {label}}}')
    assert read(path, "sentiment") == [Example("Fine", expected)]


@pytest.mark.parametrize("label", ["می\u200cخواهم", "👩\u200d🔬", "very good", "a\u00a0b", "–", "0"])
def test_labels_of_every_script(tmp_path: Path, label: str) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps({"text": "Fine", "label": label}))
    assert read(path, "sentiment") == [Example("Fine", label)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", " it holds no example; a table has a header", id="empty"),
        pytest.param("\n\n", " it holds no example", id="blank"),
        pytest.param("text\tlabel\n", " it holds no example", id="header-only"),
        pytest.param("opus\tlabel\nFine\tgood\n", "1: the header has 'opus', 'label'; .* named 'text'", id="no-text"),
        pytest.param("text\tyear\nFine\t5\n", "1: the header has 'text', 'year'; .* named 'label'", id="no-label"),
        pytest.param(
            "Fine\tgood\n", "1: the header has 'Fine', 'good'; one column must be named 'text'", id="no-header"
        ),
        pytest.param("text\ttext\tlabel\na\tb\tc\n", "1: .*; one column must be named 'text'", id="column-twice"),
        pytest.param("text,label\nFine,good\n", "1: the header has 'text,label'", id="commas"),
        pytest.param("text\tlabel\nFine\tgood\n\nBad\n", "4: 1 columns, but the header has 2", id="too-few"),
        pytest.param("text\tlabel\nFine\tgood\tx\n", "2: 3 columns, but the header has 2", id="too-many"),
        pytest.param("text\tlabel\nFine\t\n", "2: the label is empty", id="empty-label"),
        pytest.param("text\tlabel\nFine\t \n", "2: the label is empty", id="white-label"),
        pytest.param(
            "text\tlabel\nFine\tbad\x1b[31m\n", r"2: the label 'bad\\x1b.*U\+001B\); write it without", id="escape"
        ),
    ],
)
def test_wrong_tables(tmp_path: Path, content: str, expected: str) -> None:
    assert re.match(expected, complaint(write(tmp_path, "a.tsv", content), "sentiment"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("text,label\n", " it holds no example", id="header-only"),
        pytest.param('text,label\n"Two\nlines",good\nx,\n', "4: the label is empty", id="line-after-quoted-newline"),
        pytest.param('text,label\nFine,"bad\nx | y"\n', r"2: the label 'bad\\nx .*\(U\+000A\)", id="line-end-in-label"),
        pytest.param('text,label\n"Two\nlines"\n', "2: 1 columns, but the header has 2", id="line-of-quoted-newline"),
        pytest.param('text,label\nFine,good\n"Open,bad\nand on\n', "3: not CSV by RFC 4180", id="quote-never-closed"),
        pytest.param(
            'text,label\n"Fine" film,good\n', "2: not CSV by RFC 4180 .*doubled within", id="text-after-quote"
        ),
        pytest.param("text,label\nFine\rfilm,good\n", "2: not CSV by RFC 4180", id="bare-carriage-return"),
        pytest.param("a^b\nFine^good\n", "1: the header has 'a\\^b'; one column must be named 'text'", id="carets"),
        pytest.param(
            f'text,label\n"{"x" * 140_000}', r"2: not CSV by RFC 4180 \(unexpected end", id="quote-over-pages"
        ),
    ],
)
def test_wrong_csv(tmp_path: Path, content: str, expected: str) -> None:
    assert re.match(expected, complaint(write(tmp_path, "a.csv", content), "sentiment"))


GOOD_LINE = '{"text": "Fine", "label": "good"}\n'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param('{"text": "Fine"', "not JSON: .* at column 16; each line is one object", id="broken"),
        pytest.param("Fine\tgood", "not JSON: Expecting value at column 1", id="tsv"),
        pytest.param('["Fine", "good"]', "a list; each line is one object", id="list"),
        pytest.param("null", "null; each line is one object", id="null"),
        pytest.param("7", "a number; each line is one object", id="number"),
        pytest.param("[" * 100_000, "not JSON that can be read: .* nesting too deep", id="too-deep"),
        pytest.param(
            '{"label": ' + "1" * 5_000 + "}", "not JSON that can be read: a number is too long", id="too-long"
        ),
        pytest.param("{}", 'no "text"; the object has: nothing', id="nothing"),
        pytest.param('{"review": "x", "label": "y"}', 'no "text"; the object has: review, label', id="no-text"),
        pytest.param('{"text": "x", "stars": 3}', 'no "label"; the object has: text, stars', id="no-label"),
        pytest.param('{"text": ["x"], "label": "y"}', '"text" is a list; it must be a string', id="text-list"),
        pytest.param('{"text": 3, "label": "y"}', '"text" is a number; it must be a string', id="text-number"),
        pytest.param('{"text": "x", "label": null}', '"label" is null; it must be a string, a whole', id="label-null"),
        pytest.param('{"text": "x", "label": 1.5}', '"label" is a number; .* a whole number', id="label-fraction"),
        pytest.param('{"text": "x", "label": {"a": 1}}', '"label" is an object; it must be', id="label-object"),
        pytest.param('{"text": "x", "label": " "}', "the label is empty", id="label-empty"),
        pytest.param('{"text": "x", "label": "y\\u0000z"}', '"label" holds a NUL', id="label-nul"),
        pytest.param('{"text": "x\\u0000", "label": "y"}', '"text" holds a NUL character', id="text-nul"),
        pytest.param('{"text": "x", "label": "a\\tb"}', r"the label 'a\\tb' holds a control character", id="label-tab"),
        pytest.param('{"text": "x", "label": "a\\u2028b"}', r".*a line end \(U\+2028\)", id="label-line-separator"),
        pytest.param(
            '{"text": "x", "label": "\\u200b\\ufeff"}',
            r"the label .* shows nothing \(U\+200B, U\+FEFF\); write one that can be seen",
            id="label-unseen",
        ),
        pytest.param('{"text": "x\\ud800", "label": "y"}', '"text" holds an unpaired surrogate', id="text-surrogate"),
        pytest.param('{"text": "x", "label": "\\udc00"}', '"label" holds an unpaired surrogate', id="label-surrogate"),
    ],
)
def test_wrong_json_lines(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path, "a.jsonl", GOOD_LINE + "\n" + line + "\n" + GOOD_LINE)
    assert re.match("3: " + expected, complaint(path, "sentiment"))


@pytest.mark.parametrize("label", ["\U0001fae8", "\ue000", "\U0010ffff", "-", "+"])
def test_a_label_of_a_character_that_python_may_not_know(tmp_path: Path, label: str) -> None:
    path = write(tmp_path, "a.jsonl", json.dumps({"text": "x", "label": label}))
    assert [each.label for each in read(path, "sentiment")] == [label]


def test_json_lines_of_sentences(tmp_path: Path) -> None:
    lines = [
        '{"tokens": ["Ada", "Lovelace", "spoke", "."], "tags": ["I-PER", "I-PER", "O", "O"], "id": 7}',
        '{"tags": ["S-LOC"], "tokens": ["London"]}',
    ]
    assert read(write(tmp_path, "a.ndjson", "\n".join(lines)), "ner") == TWO


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param('{"words": ["x"], "tags": ["O"]}', 'no "tokens"; the object has: words, tags', id="no-tokens"),
        pytest.param('{"tokens": ["x"]}', 'no "tags"; the object has: tokens', id="no-tags"),
        pytest.param('{"tokens": ["x", "y"], "tags": ["O"]}', "2 tokens but 1 tags", id="unequal"),
        pytest.param('{"tokens": [], "tags": []}', '"tokens" is not a list of at least one string', id="no-token"),
        pytest.param('{"tokens": "x", "tags": "O"}', '"tokens" is not a list', id="strings"),
        pytest.param('{"tokens": ["x"], "tags": "O"}', '"tags" is not a list of .* such as {"tokens"', id="no-list"),
        pytest.param('{"tokens": [3], "tags": ["O"]}', '"tokens" is not a list', id="number-as-token"),
        pytest.param(
            '{"tokens": ["x", "y"], "tags": ["O", 3]}',
            r'"tags" holds 3 \(token 2\), a class number: write the name of its label, such as B-PER; datasets',
            id="class-number",
        ),
        pytest.param('{"tokens": ["x"], "tags": [-100.0]}', r'"tags" holds -100.0 \(token 1\), a class', id="ignored"),
        pytest.param('{"tokens": ["x"], "tags": ["3"]}', "'3' is no tag; it is a class number: write", id="digits"),
        pytest.param('{"tokens": ["x", ""], "tags": ["O", "O"]}', "token 2 is empty", id="empty-token"),
        pytest.param('{"tokens": ["x\\u0000"], "tags": ["O"]}', '"tokens" holds a NUL character', id="nul"),
        pytest.param('{"tokens": ["x"], "tags": ["B-a\\u0007"]}', "the tag .* holds a control", id="bell"),
        pytest.param('{"tokens": ["x"], "tags": ["NER=B-X"]}', "'NER=B-X' is no tag", id="feature"),
        pytest.param('{"tokens": ["x"], "tags": [""]}', "the tag is empty", id="empty-tag"),
        pytest.param('{"tokens": ["x"], "tags": ["PER"]}', "'PER' is no tag", id="no-such-tag"),
        pytest.param('{"tokens": ["\\ud83d"], "tags": ["O"]}', '"tokens" holds an unpaired surrogate', id="surrogate"),
    ],
)
def test_wrong_json_lines_of_sentences(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path, "a.jsonl", '{"tokens": ["x"], "tags": ["O"]}\n' + line)
    assert re.match("2: " + expected, complaint(path, "ner"))


# Files as such.

TABLE_ENDINGS = ".tsv .csv .jsonl .ndjson"
NER_ENDINGS = (
    ".conll .conll03 .conll2003 .conllu .iob .iob2 .bio .bioes .bilou .bmes .txt .tsv .train .testa .testb .annotated "
    ".csv .jsonl .ndjson"
)


@pytest.mark.parametrize(
    ("name", "task", "endings"),
    [
        ("a", "ner", NER_ENDINGS),
        ("a.log", "ner", NER_ENDINGS),
        ("a.gz", "sentiment", TABLE_ENDINGS),
        ("stdin", "sentiment", TABLE_ENDINGS),
    ],
)
def test_a_format_that_cannot_be_told(tmp_path: Path, name: str, task: Task, endings: str) -> None:
    found = complaint(write(tmp_path, name, "text\tlabel\nFine\tgood\n"), task)
    assert found == (
        f" its format cannot be told from its name; a file for {task} ends in {endings}, each with or without .gz"
    )


@pytest.mark.parametrize(
    ("name", "task", "expected"),
    [
        ("a.txt", "sentiment", ".txt is an ending of files for --task ner"),
        ("a.CONLL", "sentiment", ".conll is an ending of files for --task ner"),
        ("a.xlsx", "sentiment", "a spreadsheet is not read: save it as CSV in UTF-8"),
        ("a.parquet", "ner", "a table of another program is not read: save it as CSV or JSON lines"),
        (
            "a.json",
            "sentiment",
            "one JSON document is not read: write an object on each line, and name the file .jsonl",
        ),
        ("a.tsv.bz2", "sentiment", "of packed files only .gz is read: unpack it"),
        ("a.conll.ZIP", "ner", "of packed files only .gz is read: unpack it"),
        ("a.xml", "ner", "a document is not read: write its texts and labels into a table"),
    ],
)
def test_the_ending_of_another_format_says_what_to_do(tmp_path: Path, name: str, task: Task, expected: str) -> None:
    endings = NER_ENDINGS if task == "ner" else TABLE_ENDINGS
    found = complaint(write(tmp_path, name, "text\tlabel\nFine\tgood\n"), task)
    assert found == f" {expected}; a file for {task} ends in {endings}, each with or without .gz"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (gzip.compress(b"text,label\na,b\n"), "the file is gzip; let its name end in .gz, such as reviews.csv.gz"),
        (b"PK\x03\x04 x", "the file is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV"),
        (b"PAR1 x", "the file is Parquet; save it as CSV"),
        (b"BZh9 x", "the file is bzip2; unpack it"),
        (b"\xfd7zXZ\0", "the file is xz; unpack it"),
        (b"\x28\xb5\x2f\xfd x", "the file is zstd; unpack it"),
        (b"\xd0\xcf\x11\xe0 x", "the file is an old Excel workbook; save the sheet as CSV"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_a_binary_file_under_a_texts_name(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    assert complaint(write(tmp_path, name, content), "sentiment").startswith(f" {expected}")


@pytest.mark.parametrize(("name", "task"), [("a.tsv", "sentiment"), ("a.csv", "sentiment"), ("a.conll", "ner")])
@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_a_byte_that_is_not_utf8(tmp_path: Path, name: str, task: Task, zipped: str) -> None:
    path = write(tmp_path, name + zipped, "text\tlabel\nfine\tgood\ncafé\tgood\n".encode("latin-1"))
    assert complaint(path, task) == "3: the byte 0xE9 is not UTF-8; save the file as UTF-8"


def test_utf8_cut_off_at_the_end(tmp_path: Path) -> None:
    assert complaint(write(tmp_path, "a.tsv", b"text\tlabel\nfine\t\xc3"), "sentiment").startswith("2: the byte 0xC3")


def test_utf16_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "text\tlabel\nfine\tgood\n".encode("utf-16"))
    assert complaint(path, "sentiment") == "1: the byte 0xFF is not UTF-8: the file is UTF-16; save it as UTF-8"
    path = write(tmp_path, "b.tsv", "text\tlabel\nfine\tgood\n".encode("utf-16-le"))
    assert complaint(path, "sentiment") == "1: a NUL character: the file is UTF-16; save it as UTF-8 text"


@pytest.mark.parametrize(("name", "task"), [("a.tsv", "sentiment"), ("a.csv", "sentiment"), ("a.conll", "ner")])
def test_a_nul_character_is_refused(tmp_path: Path, name: str, task: Task) -> None:
    path = write(tmp_path, name, "text\tlabel\nfi\0ne\tgood\nfine film\tgood\n")
    expected = "2: a NUL character: the file is not text, or damaged; save it as UTF-8 text"
    assert complaint(path, task) == expected


def test_gzip_that_is_none_or_not_whole(tmp_path: Path) -> None:
    whole = gzip.compress(b"text\tlabel\nfine\tgood\n" * 50)
    no_deflate = whole[:10] + b"\xff" + whole[11:]
    wrong_sum = whole[:-8] + bytes(4) + whole[-4:]
    for content in (b"text\tlabel\nfine\tgood\n", whole[:-9], whole[:5], no_deflate, wrong_sum, whole + b"more"):
        path = tmp_path / "a.tsv.gz"
        path.write_bytes(content)
        assert complaint(path, "sentiment").startswith(" it is not a whole gzip file")


def test_gzip_of_several_parts_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"text\tlabel\nA fine film .\tpos") + gzip.compress(b"itive\n"))
    assert read(path, "sentiment") == FILMS[:1]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_no_such_file_and_a_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert complaint(path, "sentiment") == " it cannot be read: No such file or directory"
    path.mkdir()
    assert complaint(path, "sentiment") == " it is a folder; name a file"


def test_a_file_is_named_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "dev.conll", "Ada\tPER\n")
    with pytest.raises(CorpusError, match=r"^dev\.conll:1: 'PER' is no tag"):
        read(Path("dev.conll"), "ner")


# Label sets.


def classified(*names: str) -> list[Example]:
    return [Example("text", name) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("positive negative positive", "negative positive"),
        (
            "very_positive positive neutral negative very_negative",
            "very_negative negative neutral positive very_positive",
        ),
        ("positive neutral negative", "negative neutral positive"),
        ("very_positive positive", "positive very_positive"),
        ("positive negative mixed", "mixed negative positive"),
        ("sports business arts", "arts business sports"),
        ("10 9 1 -1", "-1 1 9 10"),
        ("01 1 2", "01 1 2"),
        ("10 9 x", "10 9 x"),
        ("true false", "false true"),
    ],
)
def test_labels_of_texts(names: str, expected: str) -> None:
    assert labels(classified(*names.split()), "sentiment") == tuple(expected.split())


def test_labels_of_sentences() -> None:
    found = [sentence("a/B-PER b/O"), sentence("c/B-LOC d/I-LOC e/B-creative-work")]
    expected = "O B-LOC I-LOC B-PER I-PER B-creative-work I-creative-work"
    assert labels(found, "ner") == tuple(expected.split())
    assert labels([sentence("a/B-PER")], "ner") == ("O", "B-PER", "I-PER")


@pytest.mark.parametrize(
    ("examples", "task", "expected"),
    [
        (classified("good", "good"), "sentiment", "its only label is 'good'; a model needs at least two"),
        (classified("5"), "sentiment", "its only label is '5'"),
        ([sentence("a/O b/O")], "ner", "its only label is 'O'"),
        ([], "sentiment", "it has no label"),
    ],
)
def test_one_label_is_no_label_set(examples: list[Example], task: Task, expected: str) -> None:
    with pytest.raises(CorpusError, match=f"^the training data: {expected}"):
        labels(examples, task)
    with pytest.raises(CorpusError, match=f"^my/train: {expected}"):
        labels(examples, task, Path("my/train"))


def test_known_labels_pass() -> None:
    check_labels(("bad", "good"), classified("good", "bad", "good"), Path("dev.tsv"))
    check_labels(("O", "B-PER", "I-PER"), [sentence("a/B-PER b/I-PER c/O")], Path("dev.conll"))


def test_a_label_that_training_lacks() -> None:
    with pytest.raises(CorpusError) as caught:
        check_labels(("bad", "good"), classified("good", "odd", "other"), Path("my/dev.tsv"))
    assert str(caught.value) == ("my/dev.tsv: the label 'odd' is not in the training data, which has bad, good")
    with pytest.raises(CorpusError) as caught:
        check_labels(("O", "B-PER", "I-PER"), [sentence("a/O"), sentence("a/B-PER b/B-LOC")], Path("dev.conll"))
    assert str(caught.value) == ("dev.conll: the label 'B-LOC' is not in the training data, which has O, B-PER, I-PER")


# What is written is what is read.

PROPERTY = settings(max_examples=100, deadline=None)
ZIPPED = st.sampled_from(["", ".gz"])
ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
TEXT = ANYTHING.filter(str.strip)
WORD = ANYTHING.map(str.strip).filter(bool)
TOKEN = WORD.filter(lambda token: not set(token) & set("\t\n"))
LABEL = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=5)
LINE_TEXT = TEXT.filter(lambda text: not set(text) & set("\t\n"))


@st.composite
def sentences(draw: st.DrawFn, tokens: st.SearchStrategy[str]) -> Example:
    """Tokens and strict IOB2 tags."""
    words = draw(st.lists(tokens, min_size=1, max_size=8))
    tags: list[str] = []
    for _ in words:
        kind = tags[-1][2:] if tags else ""
        going_on = [f"I-{kind}"] if kind else []
        tags.append(draw(st.sampled_from(["O", "B-PER", "B-LOC", "B-creative-work", *going_on])))
    return Example(tuple(words), tuple(tags))


def written(name: str, content: str, task: Task) -> list[Example]:
    with TemporaryDirectory() as folder:
        return read(write(Path(folder), name, content), task)


def as_columns(examples: list[Example], separator: str, end: str) -> str:
    return "".join(
        "".join(f"{token}{separator}{tag}{end}" for token, tag in zip(example.value, example.label, strict=True)) + end
        for example in examples
    )


@PROPERTY
@given(
    examples=st.lists(sentences(TOKEN), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
    zipped=ZIPPED,
)
def test_columns_round_trip(examples: list[Example], end: str, zipped: str) -> None:
    # The first byte order mark of a file is the file's own.
    content = "\ufeff" + as_columns(examples, "\t", end)
    assert written("a.conll" + zipped, content, "ner") == examples


@PROPERTY
@given(st.lists(sentences(WORD.filter(lambda token: not set(token) & set("\t\n "))), min_size=1, max_size=5))
def test_spaced_columns_round_trip(examples: list[Example]) -> None:
    assert written("a.txt", "\ufeff" + as_columns(examples, " ", "\n"), "ner") == examples


@PROPERTY
@given(st.lists(sentences(WORD), min_size=1, max_size=5), st.booleans())
def test_json_sentences_round_trip(examples: list[Example], ascii_only: bool) -> None:
    records = [{"tokens": example.value, "tags": example.label} for example in examples]
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    assert written("a.jsonl", "\n".join(lines), "ner") == examples


@PROPERTY
@given(st.lists(st.builds(Example, LINE_TEXT, LABEL), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]), ZIPPED)
def test_tsv_round_trip(examples: list[Example], end: str, zipped: str) -> None:
    content = "text\tlabel" + end + "".join(f"{example.value}\t{example.label}{end}" for example in examples)
    assert written("a.tsv" + zipped, content, "sentiment") == examples


@PROPERTY
@given(st.lists(st.builds(Example, TEXT, LABEL), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]), ZIPPED)
def test_csv_round_trip(examples: list[Example], end: str, zipped: str) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["label", "text"])
    writer.writerows([example.label, example.value] for example in examples)
    assert written("a.csv" + zipped, file.getvalue(), "sentiment") == examples


@PROPERTY
@given(st.lists(st.builds(Example, TEXT, LABEL), min_size=1, max_size=5), st.booleans())
def test_json_texts_round_trip(examples: list[Example], ascii_only: bool) -> None:
    records = [{"text": example.value, "label": example.label} for example in examples]
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    assert written("a.ndjson", "\n".join(lines), "sentiment") == examples


@PROPERTY
@given(st.sampled_from(["tsv", "csv", "jsonl", "conll"]), st.binary(max_size=60) | st.text(max_size=60), ZIPPED)
def test_whatever_the_bytes_only_a_corpus_error(ending: str, content: bytes | str, zipped: str) -> None:
    task: Task = "ner" if ending == "conll" else "sentiment"
    header = {"tsv": b"text\tlabel\n", "csv": b"text,label\n"}.get(ending, b"")
    data = header + (content.encode("utf-8", "replace") if isinstance(content, str) else content)
    with TemporaryDirectory() as folder:
        path = write(Path(folder), f"a.{ending}{zipped}", data)
        try:
            outcome = repr(read(path, task))
        except CorpusError as error:
            outcome = str(error)
    assert outcome.startswith((f"{path}:", "[Example("))


# The public data, where it lies beside the repository.

SENTENCES = {
    "conll2003/train": (14_041, 203_621, 23_499),
    "conll2003/dev": (3_250, 51_362, 5_942),
    "uner-ewt/train": (12_543, 204_579, 7_005),
    "uner-ewt/dev": (2_001, 25_149, 966),
    "wnut17/train": (3_394, 62_730, 1_975),
    "wnut17/dev": (1_009, 15_733, 836),
    "btc/train": (5_338, 85_480, 7_141),
}
TEXTS = {
    "sst2/train.tsv": {"negative": 3_310, "positive": 3_610},
    "sst2/dev.tsv": {"negative": 428, "positive": 444},
    "sst2/train_phrases.tsv.gz": 77_616,
    "sst5/train.tsv": 8_544,
    "sst5/dev.tsv": 1_101,
    "imdb/train.tsv.gz": {"negative": 11_175, "positive": 11_302},
    "imdb/dev.tsv.gz": {"negative": 1_325, "positive": 1_198},
    "tweets/train.tsv.gz": {"negative": 7_391, "neutral": 21_206, "positive": 18_742},
    "uci-amazon/dev.tsv": {"negative": 500, "positive": 500},
}


def public(part: str) -> Path:
    path = DATA / part
    if not path.is_file():
        pytest.skip(f"the public data is not beside the repository: no {part}")
    return path


@pytest.mark.parametrize(("name", "counts"), SENTENCES.items(), ids=str)
def test_published_counts_of_sentences(name: str, counts: tuple[int, int, int]) -> None:
    found = read(public(f"ner/{name}.conll"), "ner")
    tags = [tag for example in found for tag in example.label]
    assert (len(found), len(tags), sum(tag.startswith("B-") for tag in tags)) == counts


@pytest.mark.parametrize(("name", "counts"), TEXTS.items(), ids=str)
def test_published_counts_of_texts(name: str, counts: int | dict[str, int]) -> None:
    found = Counter(example.label for example in read(public(f"sentiment/{name}"), "sentiment"))
    assert (found.total() if isinstance(counts, int) else found) == counts


def test_of_many_names_the_first_are_shown(tmp_path: Path) -> None:
    assert few(["a", "b"]) == "a, b"
    assert few((f"l{number}" for number in range(1021)), 3) == "l0, l1, l2 and 1,018 more"
    assert few(["x" * 61, "y" * 60]) == f"{'x' * 60}…, {'y' * 60}"
    names = [f"label-{number}" for number in range(2000)]
    examples = [Example("a", "n" * 5000, (7,))]
    with pytest.raises(CorpusError) as refused:
        check_labels(names, examples, tmp_path / "dev.tsv")
    shown = str(refused.value)
    assert f"dev.tsv:7: the label '{'n' * 60}…' is not in the training data, which has label-0, label-1" in shown
    assert shown.endswith("label-19 and 1,980 more")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wide.tsv", "\t".join(f"column-{number}" for number in range(3000)) + "\nx\n"),
        ("wide.jsonl", json.dumps({f"column-{number}": "x" for number in range(3000)}) + "\n"),
    ],
)
def test_the_columns_of_a_wide_table_are_not_all_listed(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(CorpusError) as refused:
        read(tmp_path / name, "sentiment")
    assert "column-19" in str(refused.value)
    assert "and 2,980 more" in str(refused.value)
    assert len(str(refused.value)) < 1000 + len(str(tmp_path))


@pytest.mark.parametrize("numbers", ["ner_tags", "labels"])
def test_of_two_keys_the_one_with_names_is_read(tmp_path: Path, numbers: str) -> None:
    names = "labels" if numbers == "ner_tags" else "ner_tags"
    path = write(tmp_path, "a.jsonl", json.dumps({"tokens": ["Ada"], numbers: [1], names: ["B-PER"]}))
    told: list[str] = []
    assert read(path, "ner", tell=told.append) == [Example(("Ada",), ("B-PER",))]
    assert told == [f"note: {path}: the tags are read from {names!r} (--tag-column names another)"]
    path = write(tmp_path, "b.jsonl", json.dumps({"tokens": ["Ada"], numbers: [1]}))
    assert complaint(path, "ner").startswith(f'1: "{numbers}" holds 1 (token 1), a class number: write the name')
