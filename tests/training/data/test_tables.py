"""Tables as people have them: their own column names, separators, long fields, and no header at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from training.data.corpora import CorpusError, Example, Layout, read
from training.data.sources import AS_FOUND

FILMS = [Example("A fine film .", "positive"), Example("Dull , dull .", "negative")]


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_bytes(content.encode())
    return path


def told(path: Path, layout: Layout = AS_FOUND) -> tuple[list[Example], list[str]]:
    """The examples, and the notes without the file's name."""
    lines: list[str] = []
    examples = read(path, "sentiment", layout, lines.append)
    assert all(line.startswith(f"note: {path}: ") for line in lines)
    return examples, [line.removeprefix(f"note: {path}: ") for line in lines]


def complaint(path: Path, layout: Layout = AS_FOUND) -> str:
    with pytest.raises(CorpusError) as caught:
        read(path, "sentiment", layout)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


TEXT, LABEL = "the text is read from", "the label is read from"


@pytest.mark.parametrize(
    ("header", "guessed"),
    [
        ("review,sentiment", ("review", "sentiment")),
        ("Sentence,Sentiment", ("Sentence", "Sentiment")),
        ("text,stars", (None, "stars")),
        ("text,airline_sentiment", (None, "airline_sentiment")),
        ("Review Text,Rating", ("Review Text", "Rating")),
        ("reviewText,overall", ("reviewText", "overall")),
        ("tweet,class", ("tweet", "class")),
        ("Text,Label", ("Text", "Label")),
        ("sentence,label", ("sentence", None)),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_well_known_names_are_found_and_said(
    tmp_path: Path, header: str, guessed: tuple[str | None, str | None], ending: str
) -> None:
    names = header.split(",")
    rows = [["A fine film .", "positive"], ["Dull , dull .", "negative"]]
    content = {
        "csv": "\n".join([header, *(f'"{text}",{label}' for text, label in rows)]),
        "tsv": "\n".join("\t".join(row) for row in [names, *rows]),
        "jsonl": "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows),
    }[ending]
    examples, notes = told(write(tmp_path, f"a.{ending}", content))
    assert examples == FILMS
    said = [
        f"{part} {name!r} (--{option}-column names another)"
        for part, name, option in ((TEXT, guessed[0], "text"), (LABEL, guessed[1], "label"))
        if name
    ]
    assert notes == [", ".join(said)]


def test_the_contracts_names_go_before_well_known_ones(tmp_path: Path) -> None:
    examples, notes = told(write(tmp_path, "a.csv", "review,text,label,stars\nno,A fine film .,positive,1\n"))
    assert examples == FILMS[:1]
    assert notes == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("review,comment,label", "'text', or named by --text-column, to say whether 'review' or 'comment' is meant"),
        ("text,stars,sentiment", "'label', or named by --label-column, to say whether 'stars' or 'sentiment' is meant"),
        ("opus,verdict", "'text', or named by --text-column; without a header, give both columns by number"),
        ("text,text,label", "'text'; it has several: name one by its number (--text-column)"),
        ("text,label,label", "'label'; it has several: name one by its number (--label-column)"),
    ],
)
def test_what_is_not_sure_is_asked_for(tmp_path: Path, header: str, expected: str) -> None:
    names = ", ".join(map(repr, header.split(",")))
    row = ",".join("abc"[: header.count(",") + 1])
    found = complaint(write(tmp_path, "a.csv", f"{header}\n{row}\n"))
    assert found == f"1: the header has {names}; one column must be named {expected}"


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize(
    "layout",
    [
        Layout(text="opus", label="verdict"),
        Layout(text="2", label="-1"),
        Layout(text="opus", label="3"),
        Layout(text="OPUS", label=" Verdict "),
    ],
)
def test_columns_are_named(tmp_path: Path, ending: str, layout: Layout) -> None:
    rows = [["id", "opus", "verdict"], ["7", "A fine film .", "positive"], ["8", "Dull , dull .", "negative"]]
    path = tmp_path / f"a.{ending}"
    if ending == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    elif ending == "tsv":
        path.write_text("\n".join("\t".join(row) for row in rows))
    else:
        path.write_text("\n".join(json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:]))
    examples, notes = told(path, layout)
    assert examples == FILMS
    assert notes == []


@pytest.mark.parametrize("wanted", ["opera", "0", "4", "-4", "1.0"])
def test_a_named_column_that_is_not_there(tmp_path: Path, wanted: str) -> None:
    path = write(tmp_path, "a.csv", "id,opus,verdict\n7,A fine film .,positive\n")
    expected = f"1: the header has 'id', 'opus', 'verdict'; one column must be named {wanted!r}"
    assert complaint(path, Layout(text=wanted, label="verdict")) == f"{expected} (--text-column)"
    assert complaint(path, Layout(text="opus", label=wanted)) == f"{expected} (--label-column)"
    lines = write(tmp_path, "a.jsonl", '{"id": 7, "opus": "A fine film .", "verdict": "positive"}')
    found = complaint(lines, Layout(text=wanted, label="verdict"))
    assert found == f'1: no "{wanted}"; the object has: id, opus, verdict (--text-column)'


def test_a_comma_in_a_text_without_a_header_is_no_separator(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "Dull , dull .;negative\nA fine film .;positive\nDull;negative\n")
    examples, notes = told(path, Layout(text="1", label="2"))
    assert [example.label for example in examples] == ["negative", "positive", "negative"]
    assert examples[0].value == "Dull , dull ."
    assert notes[0] == "the columns are parted by semicolons"
    assert len(read(write(tmp_path, "b.csv", "text,label;x\na,b;c\n"), "sentiment", Layout("1", "2"))) == 1


def test_of_names_with_other_capitals_only_one_is_meant(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.csv",
        "Opus,OPUS,verdict\nA fine film .,x,positive\nDull , dull .,x,negative\n".replace(" , ", " ; "),
    )
    assert len(read(path, "sentiment", Layout(text="Opus", label="verdict"))) == 2
    expected = "1: the header has 'Opus', 'OPUS', 'verdict'; one column must be named 'opus' (--text-column)"
    assert complaint(path, Layout(text="opus", label="verdict")) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_line_that_names_excels_separator_is_skipped(tmp_path: Path, end: str) -> None:
    content = "sep=;\ntext;label\nA fine film .;positive\n".replace("\n", end)
    examples, notes = told(write(tmp_path, "a.csv", content))
    assert examples == FILMS[:1]
    assert examples[0].lines == (3,)
    assert notes[0] == "the first line, 'sep=;', is for Excel, and skipped"
    assert read(write(tmp_path, "b.csv", "sep=,text,label\n1,A fine film .,positive\n"), "sentiment") == FILMS[:1]


def test_one_column_cannot_be_both(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "text\tlabel\nx\ty\n")
    assert (
        complaint(path, Layout(text="text", label="1")) == "1: the column 'text' cannot be both the text and its label"
    )


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("header", [["text", "label"], ["review", "stars"], ["label", "id", "text"]])
def test_separators_of_csv_are_recognised(tmp_path: Path, separator: str, header: list[str]) -> None:
    texts = ["A fine, long film .", f"Dull {separator} dull", 'She said "no"', "two\nlines"]
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file, delimiter=separator)
        rows.writerow(header)
        rows.writerows(
            [{"id": 7}.get(name, "x" if name in ("label", "stars") else text) for name in header] for text in texts
        )
    examples, notes = told(path)
    assert [example.value for example in examples] == texts
    name = {";": "semicolons", "\t": "tabs", "|": "bars"}[separator]
    assert notes[0] == f"the columns are parted by {name}"


def test_a_comma_in_the_header_does_not_hide_the_separator(tmp_path: Path) -> None:
    examples, _ = told(write(tmp_path, "a.csv", 'text;label;"a, b"\nfine;good;x\n'))
    assert examples == [Example("fine", "good")]


@pytest.mark.parametrize(("separator", "name"), [(",", "commas"), (";", "semicolons"), ("|", "bars")])
def test_tsv_without_tabs_is_told_what_it_is(tmp_path: Path, separator: str, name: str) -> None:
    found = complaint(write(tmp_path, "a.tsv", f"text{separator}label\nfine{separator}good\n"))
    assert found.startswith(f"1: the header has 'text{separator}label'; one column must be named 'text'")
    assert found.endswith(f"; the columns are parted by {name}: name the file .csv")


def test_a_row_of_another_width_names_the_separator(tmp_path: Path) -> None:
    found = complaint(write(tmp_path, "a.csv", "text;label\nfine;good\nfine;good;very\n"))
    assert found == "3: 3 columns, but the header has 2; columns are parted by semicolons"


@pytest.mark.parametrize("length", [131_073, 1_000_000])
@pytest.mark.parametrize("quote", ["", '"'])
def test_fields_of_any_length(tmp_path: Path, length: int, quote: str) -> None:
    before = csv.field_size_limit()
    text = "word " * (length // 5) + "x" * (length % 5)
    examples, _ = told(write(tmp_path, "a.csv", f"text,label\n{quote}{text}{quote},good\n"))
    assert examples == [Example(text, "good")]
    assert csv.field_size_limit() == before


def test_a_table_without_a_header_is_read_by_number(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", '"0","1","Dull , dull ."\n"4","2","A fine film ."\n"0","3","Poor"\n')
    examples, notes = told(path, Layout(text="3", label="1"))
    assert [(example.value, example.label) for example in examples] == [
        ("Dull , dull .", "0"),
        ("A fine film .", "4"),
        ("Poor", "0"),
    ]
    assert notes == ["the first row is no header: other rows have its label '0' too"]
    with_header = write(tmp_path, "b.csv", "target,id,body\n0,1,Dull\n4,2,Fine\n")
    assert [each.label for each in read(with_header, "sentiment", Layout(text="3", label="1"))] == ["0", "4"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "text\tlabel\nfine\tgood\n\tbad\n \u2028\tbad\n"),
        ("a.csv", 'text,label\nfine,good\n,bad\n" ",bad\n'),
        ("a.jsonl", '{"text": "fine", "label": "good"}\n{"text": "", "label": "bad"}\n{"text": " ", "label": "bad"}\n'),
    ],
)
def test_empty_texts_are_rows(tmp_path: Path, name: str, content: str) -> None:
    """What becomes of them is for the commands, which set aside every text without a token."""
    assert len(read(write(tmp_path, name, content), "sentiment")) == 3


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_rows_without_content_are_skipped_and_said(tmp_path: Path, name: str, separator: str) -> None:
    content = "text,label,id\nfine,good,1\n,,\n , ,\ndull,bad,2\n,,\n".replace(",", separator)
    examples, notes = told(write(tmp_path, name, content))
    assert examples == [Example("fine", "good"), Example("dull", "bad")]
    assert notes == ["rows without any content are skipped: 3 (lines 3, 4, 6)"]
    nothing = write(tmp_path, f"b{name}", f"{separator}\n {separator}\n")
    assert complaint(nothing).startswith(" it holds no example")


@pytest.mark.parametrize("layout", [Layout(token="1"), Layout(tag="2"), Layout(text="text", tag="2")])
def test_columns_of_the_other_task_are_refused(tmp_path: Path, layout: Layout) -> None:
    expected = " --token-column and --tag-column are not for sentiment: --text-column and --label-column are"
    assert complaint(write(tmp_path, "a.tsv", "text\tlabel\nfine\tgood\n"), layout) == expected


@pytest.mark.parametrize("ending", ["tsv", "csv", "jsonl"])
def test_lone_carriage_returns_end_lines(tmp_path: Path, ending: str) -> None:
    content = {
        "tsv": "text\tlabel\nA fine film .\tpositive\nDull , dull .\tnegative\n",
        "csv": 'text,label\nA fine film .,positive\n"Dull , dull .",negative\n',
        "jsonl": '{"text": "A fine film .", "label": "positive"}\n{"text": "Dull , dull .", "label": "negative"}\n',
    }[ending]
    assert read(write(tmp_path, f"a.{ending}", content.replace("\n", "\r")), "sentiment") == FILMS


@pytest.mark.parametrize(("label", "expected"), [("5", "5"), ("5.0", "5"), ("-1.0", "-1"), ("true", "true")])
def test_stars_of_json(tmp_path: Path, label: str, expected: str) -> None:
    path = write(tmp_path, "yelp.jsonl", f'{{"review_id": "a", "stars": {label}, "useful": 1, "text": "Fine"}}\n')
    assert read(path, "sentiment") == [Example("Fine", expected)]
