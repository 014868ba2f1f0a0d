"""Columns of tokens and tags as published corpora have them: numbers before words, comments, several tags, headers."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.corpora import CorpusError, Example, Layout, read
from training.data.sources import AS_FOUND

TWO = [
    Example(("Ada", "Lovelace", "spoke", "."), ("B-PER", "I-PER", "O", "O")),
    Example(("London", "calls"), ("B-LOC", "O")),
]


def write(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    data = content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def told(path: Path, layout: Layout = AS_FOUND) -> tuple[list[Example], list[str]]:
    """The examples, and the notes without the file's name."""
    lines: list[str] = []
    examples = read(path, "ner", layout, lines.append)
    assert all(line.startswith(f"note: {path}: ") for line in lines)
    return examples, [line.removeprefix(f"note: {path}: ") for line in lines]


def complaint(path: Path, layout: Layout = AS_FOUND) -> str:
    with pytest.raises(CorpusError) as caught:
        read(path, "ner", layout)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    return message.removeprefix(f"{path}:")


ENDINGS = "conll conll03 conll2003 conllu iob iob2 bio bioes bilou bmes txt tsv train testa testb annotated"


@pytest.mark.parametrize("ending", ENDINGS.split())
@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_every_ending(tmp_path: Path, ending: str, zipped: str) -> None:
    path = write(
        tmp_path, f"eng.{ending}{zipped}", "Ada\tB-PER\nLovelace\tI-PER\nspoke\tO\n.\tO\n\nLondon\tB-LOC\ncalls\tO\n"
    )
    assert read(path, "ner") == TWO


NUMBERED = [
    pytest.param(
        "1 Ada NNP I-NP I-PER\n2 Lovelace NNP I-NP I-PER\n3 spoke VBD I-VP O\n4 . . O O\n\n"
        "1 London NNP I-NP I-LOC\n2 calls VBZ I-VP O\n",
        id="conll2003-with-numbers",
    ),
    pytest.param(
        "#\thttp://example.org/a\t[2008-10-03]\n1\tAda\tB-PER\tO\n2\tLovelace\tI-PER\tB-PER\n3\tspoke\tO\tO\n"
        "4\t.\tO\tO\n\n#\thttp://example.org/b\t[2008-10-04]\n1\tLondon\tB-LOC\tO\n2\tcalls\tO\tO\n",
        id="germeval",
    ),
    pytest.param(
        "# sent_id = a-1\n# text = Ada Lovelace spoke.\n1\tAda\tB-PER\t-\t-\n2\tLovelace\tI-PER\t-\t-\n"
        "3\tspoke\tO\t-\t-\n4\t.\tO\t-\t-\n\n# sent_id = a-2\n1\tLondon\tB-LOC\t-\tme\n2\tcalls\tO\t-\tme\n",
        id="uner",
    ),
    pytest.param(
        "# newdoc id = 1\n# sent_id = 1\n1\tAda\tAda\tPROPN\tNNP\t_\t3\tnsubj\t_\tNER=B-PER\n"
        "2\tLovelace\t_\tPROPN\tNNP\t_\t1\tflat\t_\tNER=I-PER\n3\tspoke\tspeak\tVERB\tVBD\t_\t0\troot\t_\tSpaceAfter=No\n"
        "3.1\twas\tbe\tAUX\t_\t_\t_\t_\t3:x\t_\n4\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_\n\n# sent_id = 2\n"
        "1-2\tLondoncalls\t_\t_\t_\t_\t_\t_\t_\t_\n1\tLondon\t_\tPROPN\tNNP\t_\t2\tnsubj\t_\tSpaceAfter=No|NER=B-LOC\n"
        "2\tcalls\t_\tVERB\tVBZ\t_\t0\troot\t_\tNER=O\n",
        id="conllu-misc",
    ),
    pytest.param(
        "0\tAda\tB-PER\n1\tLovelace\tI-PER\n2\tspoke\tO\n3\t.\tO\n\n0\tLondon\tB-LOC\n1\tcalls\tO\n", id="from-zero"
    ),
    pytest.param(
        "1 Ada B-PER\n1 Lovelace I-PER\n1 spoke O\n1 . O\n\n2 London B-LOC\n2 calls O\n", id="number-of-the-sentence"
    ),
    pytest.param(
        "17 Ada B-PER\n18 Lovelace I-PER\n19 spoke O\n20 . O\n\n21 London B-LOC\n22 calls O\n", id="through-the-file"
    ),
]


@pytest.mark.parametrize("content", NUMBERED)
def test_a_first_column_of_numbers_is_not_read_as_the_words(tmp_path: Path, content: str) -> None:
    examples, notes = told(write(tmp_path, "a.conllu", content))
    assert examples == TWO
    assert "the first column holds numbers: the tokens are read from column 2 (--token-column names another)" in notes
    skipped = "rows that are no tokens, such as 1-2 and 1.1, are skipped: 2 (lines 6, 10)"
    assert (skipped in notes) == ("3.1" in content)


@pytest.mark.parametrize(
    "content",
    [
        "1 Ada B-PER\n1 Lovelace I-PER\n1 spoke O\n1 . O\n2 London B-LOC\n2 calls O\n",
        "7\tAda\tx\tB-PER\n7\tLovelace\tx\tI-PER\n7\tspoke\tx\tO\n7\t.\tx\tO\n8\tLondon\tx\tB-LOC\n8\tcalls\tx\tO\n",
    ],
)
def test_numbers_of_sentences_part_them(tmp_path: Path, content: str) -> None:
    examples, notes = told(write(tmp_path, "a.conll", content))
    assert examples == TWO
    assert notes[-1] == "the numbers in the first column are those of the sentences: each begins a new one"
    words = told(write(tmp_path, "b.conll", content.replace("Ada", "5")), Layout(token="1"))[0]
    assert len(words) == 1, "the numbers are the tokens"


@pytest.mark.parametrize(
    ("content", "sentences"),
    [
        ("1 I O\n2 do O\n2 n't O\n3 know O\n", 1),  # a token's number, there twice
        ("1 I O\n2 do O\n2 n't O\n3 know O\n\n" + "1 Ada B-PER\n2 spoke O\n\n" * 9, 10),
        ("1 x O\n2 y O\n2 y O\n\n2 z O\n2 z O\n3 z O\n", 2),  # blank lines part them
        ("1 x O\n1 y O\n2 z O\n2 z O\n1 z O\n1 z O\n", 1),  # the number falls
    ],
)
def test_numbers_of_tokens_part_nothing(tmp_path: Path, content: str, sentences: int) -> None:
    assert len(told(write(tmp_path, "a.conll", content))[0]) == sentences


def test_a_token_of_white_space_stays(tmp_path: Path) -> None:
    kept = [Example(("Ada", "\u00a0", "left"), ("B-PER", "O", "O"))]
    assert told(write(tmp_path, "a.conll", "Ada\tB-PER\n\u00a0\tO\nleft\tO\n")) == (kept, [])
    line = json.dumps({"tokens": ["Ada", "\u00a0", "left"], "tags": ["B-PER", "O", "O"]})
    assert told(write(tmp_path, "a.jsonl", line)) == (kept, [])


@pytest.mark.parametrize(
    "numbers", ["1 2 3 4 1 2", "0 1 2 3 0 1", "1 1 1 1 3 3", "2 2 2 2 1 1", "4 4 4 4 4 4", "1 2 3 4 5 6"]
)
def test_other_numbers_part_nothing(tmp_path: Path, numbers: str) -> None:
    rows = "".join(f"{number} w{at} O\n" for at, number in enumerate(numbers.split()))
    examples, notes = told(write(tmp_path, "a.conll", rows))
    assert len(examples) == 1
    assert len(notes) == 1


def test_sentences_of_one_word_are_numbered_too(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.conll", "1 Ada B-PER\n"), "ner") == [Example(("Ada",), ("B-PER",))]
    assert read(write(tmp_path, "b.conll", "1996 CD O\n"), "ner") == [Example(("1996",), ("O",))]


def test_a_word_that_is_a_number_stays_one(tmp_path: Path) -> None:
    examples, notes = told(write(tmp_path, "a.conll", "1996 CD O\n7 CD O\nAda NNP B-PER\n"))
    assert examples == [Example(("1996", "7", "Ada"), ("O", "O", "B-PER"))]
    assert notes == []


def test_numbers_without_words_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "1\tB-PER\n2\tI-PER\n3\tO\n\n1\tO\n2\tO\n")
    assert complaint(path) == "1: the first column counts the tokens, and no column holds the tokens"


def test_a_first_column_that_names_the_sentence_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"doc{at // 5}\tw{at}\tO\n" + "\n" * (at % 5 == 4) for at in range(10)) + "doc9\tAda\tB-PER\n"
    path = write(tmp_path, "a.conll", rows)
    assert "1: the first column holds 'doc0' in every row of a sentence: name the column of tokens" in complaint(path)
    assert read(path, "ner", Layout(token="2"))[2] == Example(("Ada",), ("B-PER",))


# Which column is the tags'.


def test_of_two_columns_of_tags_the_first_is_meant_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "Bank\tB-ORG\tO\nof\tI-ORG\tO\nRome\tI-ORG\tB-LOC\n")
    examples, (note,) = told(path)
    assert examples[0].label == ("B-ORG", "I-ORG", "I-ORG")
    assert note.startswith("the tags are read from column 2 of 3; so does column 3, such as inner entities")
    assert read(path, "ner", Layout(tag="3"))[0].label == ("O", "O", "B-LOC")
    assert read(path, "ner", Layout(tag="-1"))[0].label == ("O", "O", "B-LOC")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("Ada NNP B-NP B-PER\nspoke VBD B-VP O\n", ("B-PER", "O"), id="chunks-before"),
        pytest.param("Ada NE B-NC B-PER\nsprach VV B-VC O\n", ("B-PER", "O"), id="german-chunks"),
        pytest.param("Ada O B-PER\nspoke O O\n", ("B-PER", "O"), id="nothing-before"),
        pytest.param("Ada B-PER O\nspoke O O\n", ("B-PER", "O"), id="nothing-behind"),
        pytest.param("Ada NNP B-NP B-PER B-PER\nspoke VBD B-VP O B-LOC\n", ("B-PER", "O"), id="predictions-behind"),
        pytest.param("Ada NNP B-NP O\nspoke VBD B-VP O\n", ("O", "O"), id="chunks-and-no-entity"),
        pytest.param("Ada B-PER x\nspoke O y\n", ("B-PER", "O"), id="something-else-last"),
    ],
)
def test_the_column_of_entities_is_found(tmp_path: Path, content: str, expected: tuple[str, ...]) -> None:
    (example,) = read(write(tmp_path, "a.conll", content), "ner")
    assert example.label == expected
    assert example.value[0] == "Ada"


def test_a_tag_may_stand_first(tmp_path: Path) -> None:
    (example,) = read(write(tmp_path, "a.bio", "B-PER\tAda\nO\tspoke\n"), "ner")
    assert example == Example(("Ada", "spoke"), ("B-PER", "O"))


def test_one_wrong_tag_is_refused_and_no_other_column_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "Ada NNP B-NP B-PER\nspoke VBD B-VP O\nRome NNP B-NP B_LOC\n")
    assert complaint(path).startswith("3: 'B_LOC' is no tag")


def test_what_is_no_tag_names_the_option(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conllu", "1\tAda\t_\tPROPN\t_\n2\tspoke\t_\tVERB\t_\n")
    assert complaint(path).startswith("1: '_' is no tag; a tag is O, B-TYPE or I-TYPE")
    assert complaint(path).endswith("; --tag-column names another column")


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (Layout(token="3", tag="1"), Example(("a", "b"), ("B-X", "O"))),
        (Layout(token="-2", tag="-4"), Example(("a", "b"), ("B-X", "O"))),
        (Layout(token="2"), Example(("p", "q"), ("B-Y", "O"))),
    ],
)
def test_columns_by_number(tmp_path: Path, layout: Layout, expected: Example) -> None:
    assert read(write(tmp_path, "a.conll", "B-X p a B-Y\nO q b O\n"), "ner", layout) == [expected]


@pytest.mark.parametrize("wanted", ["0", "5", "-5", "Word", "1.0", ""])
def test_a_column_that_is_not_there(tmp_path: Path, wanted: str) -> None:
    path = write(tmp_path, "a.conll", "Ada\tN\tx\tB-PER\nspoke\tV\ty\tO\n")
    for layout, option in ((Layout(token=wanted), "--token-column"), (Layout(tag=wanted), "--tag-column")):
        expected = f" there is no column {wanted!r} ({option}); the file has 4 columns, without names"
        assert complaint(path, layout) == expected


def test_one_column_cannot_be_both(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "Ada\tN\tB-PER\n")
    assert "column 1 is said to hold both the tokens and their tags" in complaint(path, Layout(token="1", tag="1"))


# Headers and CSV.

KAGGLE = (
    "Sentence #,Word,POS,Tag\nSentence: 1,Ada,NNP,B-per\n,Lovelace,NNP,I-per\n,spoke,VBD,O\n,.,.,O\n"
    'Sentence: 2,London,NNP,B-geo\n,calls,VBZ,O\n,",",",",O\n'
)


def test_csv_with_a_column_of_sentences(tmp_path: Path) -> None:
    found = read(write(tmp_path, "ner_dataset.csv", KAGGLE), "ner")
    assert [each.value for each in found] == [("Ada", "Lovelace", "spoke", "."), ("London", "calls", ",")]
    assert [each.label for each in found] == [("B-per", "I-per", "O", "O"), ("B-geo", "O", "O")]
    assert found[1].lines == (6, 7, 8)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Ada,B-PER\nLovelace,I-PER\nspoke,O\n.,O\n\nLondon,B-LOC\ncalls,O\n"),
        ("a.csv", "word,tag\nAda,B-PER\nLovelace,I-PER\nspoke,O\n.,O\n,\nLondon,B-LOC\ncalls,O\n"),
        (
            "a.csv",
            ",sentence_idx,tag,word\n0,1,B-PER,Ada\n1,1,I-PER,Lovelace\n2,1,O,spoke\n3,1,O,.\n4,2,B-LOC,London\n5,2,O,calls\n",
        ),
        (
            "a.tsv",
            "Token\tPOS\tNER\nAda\tN\tB-PER\nLovelace\tN\tI-PER\nspoke\tV\tO\n.\t.\tO\n\nLondon\tN\tB-LOC\ncalls\tV\tO\n",
        ),
        ("a.txt", "word ner\nAda B-PER\nLovelace I-PER\nspoke O\n. O\n\nLondon B-LOC\ncalls O\n"),
    ],
)
def test_headers(tmp_path: Path, name: str, content: str) -> None:
    assert read(write(tmp_path, name, content), "ner") == TWO


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("sentence", ["Sentence #", "sentence_id", "Sent", "sentence idx"])
def test_csv_in_other_words(tmp_path: Path, separator: str, sentence: str) -> None:
    rows = [[sentence, "Word", "Tag"]]
    rows += [
        [f"{number}", word, tag]
        for number, each in enumerate(TWO)
        for word, tag in zip(each.value, each.label, strict=True)
    ]
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    assert read(path, "ner") == TWO
    with path.open("a", newline="") as file:
        csv.writer(file, delimiter=separator).writerow(["2", "x"])
    name = {";": "semicolons", "\t": "tabs", "|": "bars"}[separator]
    assert complaint(path) == f"8: 2 columns parted by {name}, but 3 in the lines before"


def test_columns_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "lemma\tsurface\tinner\touter\nbe\tAda\tO\tB-PER\n")
    assert read(path, "ner", Layout(token="surface", tag="outer")) == [Example(("Ada",), ("B-PER",))]
    assert read(path, "ner", Layout(token="lemma", tag="inner")) == [Example(("be",), ("O",))]
    missing = complaint(path, Layout(token="surface", tag="entity"))
    names = "named 'lemma', 'surface', 'inner', 'outer'"
    assert missing == f" there is no column 'entity' (--tag-column); the file has 4 columns, {names}"


def test_keys_of_json_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.jsonl", '{"words": ["Ada"], "ner_tags": ["S-PER"]}\n{"words": ["x"], "ner_tags": ["O"]}\n'
    )
    examples, notes = told(path)
    assert examples == [Example(("Ada",), ("B-PER",)), Example(("x",), ("O",))]
    assert notes == [
        "the tokens are read from 'words' (--token-column names another)",
        "the tags are read from 'ner_tags' (--tag-column names another)",
    ]
    other = write(tmp_path, "b.jsonl", '{"a": ["Ada"], "b": ["B-PER"], "tags": ["O"]}\n')
    assert read(other, "ner", Layout(token="a", tag="b")) == [Example(("Ada",), ("B-PER",))]
    assert complaint(other) == '1: no "tokens"; the object has: a, b, tags'


# Comments, line ends, blank lines.


@pytest.mark.parametrize(
    ("comment", "content"),
    [
        ("# sent_id = 1\n# text = Ada # O\n", "Ada\tB-PER\n#\tO\n"),
        ("#begin document (a/b); part 000\n", "Ada x B-PER\n# y O\n#end document\n"),
        ("# id 60b8\tdomain=en\n", "Ada _ _ B-PER\n# _ _ O\n"),
        ("#\n", "Ada B-PER\n# O\n"),
        ("# newpar\n", "Ada\tB-PER\n#\tO\n"),
        ("# a comment\n\n", "Ada B-PER\n# O\n\n# the end\n"),
        ("-DOCSTART- -X- O\n", "Ada N B-PER\n# N O\n"),
        ("0 -DOCSTART- -X- O\n\n", "1 Ada N B-PER\n2 # N O\n"),
    ],
)
def test_comments_are_skipped_and_a_token_is_not(tmp_path: Path, comment: str, content: str) -> None:
    (example,) = read(write(tmp_path, "a.conll", comment + content), "ner")
    assert example == Example(("Ada", "#"), ("B-PER", "O"))


def test_skipped_comments_are_counted(tmp_path: Path) -> None:
    _, notes = told(write(tmp_path, "a.conll", "# sent_id = 1\n# text = x\nAda\tB-PER\n\n# sent_id = 2\nx\tO\n"))
    assert notes == ["comments are skipped: 3 (lines 1, 2, 5)"]


def test_hashtags_are_tokens(tmp_path: Path) -> None:
    (example,) = read(write(tmp_path, "a.conll", "#Rome\tB-LOC\n#\tO\n# 5\tO\n#ok\tO\n"), "ner")
    assert example.value == ("#Rome", "#", "# 5", "#ok")
    assert complaint(write(tmp_path, "b.conll", "x\tO\n#Rome\tLOC\n")).startswith("2: 'LOC' is no tag")
    assert complaint(write(tmp_path, "c.conll", "x\tO\n#Rome\n")).startswith("2: no tag beside the token")


MARK = "-DOCSTART-"


@pytest.mark.parametrize(
    ("name", "content", "notes"),
    [
        pytest.param("a.conll", "-DOCSTART- -X- -X- O\n\nAda N B-NP B-PER\n-DOCSTART- -X- -X- O\n", [], id="conll2003"),
        pytest.param("a.conll", "-DOCSTART- O\n\nAda B-PER\n\n-DOCSTART- O\n", [], id="two-columns"),
        pytest.param("a.conll", "-DOCSTART- O\n\nAda\tN\tB-PER\n", [], id="other-columns"),
        pytest.param("a.conll", "-DOCSTART- O\n-DOCSTART- O\n\nAda B-PER\n", [], id="twice"),
        pytest.param("a.conll", "Ada\tN\tB-PER\n-DOCSTART-\t_\t_\n", [], id="no-tag"),
        pytest.param("a.csv", "Sentence #,Word,Tag\n1,-DOCSTART-,O\n2,Ada,B-PER\n", [], id="csv"),
        pytest.param(
            "a.conll",
            "-DOCSTART- O\nAda B-PER\n\n-DOCSTART- O\nAda B-PER\n",
            [f"{MARK} before the first token of a sentence is left out: 2 (lines 1, 4)"],
            id="tokens-behind-it",
        ),
    ],
)
def test_the_mark_of_a_document_is_left_out(tmp_path: Path, name: str, content: str, notes: list[str]) -> None:
    examples, told_ = told(write(tmp_path, name, content))
    assert {each.value for each in examples} == {("Ada",)}
    assert told_ == notes


@pytest.mark.parametrize(
    "content",
    [
        "The O\n-DOCSTART- O\nline O\n",
        "Ada B-PER\n\nThe O\n-DOCSTART- B-MISC\nline O\n\n",
        "Ada N B-NP B-PER\n\nThe DT B-NP O\n-DOCSTART- NN I-NP O\nline NN I-NP O\n",
    ],
)
def test_the_same_word_within_a_sentence_is_a_word(tmp_path: Path, content: str) -> None:
    examples, notes = told(write(tmp_path, "a.conll", content))
    assert examples[-1].value == ("The", MARK, "line")
    line = content.split("\n").index(next(row for row in content.split("\n") if MARK in row)) + 1
    assert f"{MARK} within a sentence is read as a word: 1 (line {line})" in notes


def test_an_entity_is_no_mark(tmp_path: Path) -> None:
    examples, notes = told(write(tmp_path, "a.conll", "-DOCSTART- B-MISC\n\nAda B-PER\n"))
    assert [each.value for each in examples] == [(MARK,), ("Ada",)]
    assert len(notes) == 1


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    content = "Ada\tB-PER\nLovelace\tI-PER\nspoke\tO\n.\tO\n\nLondon\tB-LOC\ncalls\tO\n"
    assert read(write(tmp_path, "a.conll", content.replace("\n", end)), "ner") == TWO
    assert read(write(tmp_path, "b.conll", content.replace("\t", " ").replace("\n", end)), "ner") == TWO


@pytest.mark.parametrize(
    "content", ["Ada\tB-PER\rspoke\tO\r\rx\tO\n", "Ada B-PER\rspoke O\r\rx O\n", "Ada\tO\r\r\nx\tO\r\r\n"]
)
def test_mixed_line_ends_are_refused(tmp_path: Path, content: str) -> None:
    found = complaint(write(tmp_path, "a.conll", content))
    assert found.startswith("1:")
    assert found.endswith(": a carriage return within the line: let all lines of the file end in one way")


def test_a_file_of_two_separators_is_refused(tmp_path: Path) -> None:
    found = complaint(write(tmp_path, "a.conll", "Ada NNP I-NP\tB-PER\n" * 10))
    assert found == "1: every token holds a space: columns are parted by spaces or by tabs, not by both in one file"
    assert len(read(write(tmp_path, "b.conll", "New York\tB-LOC\n" * 10 + "x\tO\n"), "ner")[0].value) == 11


def test_spaces_around_tokens_and_tags_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.conll", "Ada \t B-PER\nNew York\tB-LOC\nin\tO\n\u00a0x\u3000\tO \n")
    examples, notes = told(path)
    assert examples == [Example(("Ada", "New York", "in", "x"), ("B-PER", "B-LOC", "O", "O"))]
    assert notes == ["white space around tokens and tags is left out: 2 (lines 1, 4)"]
    lines = [{"tokens": ["Ada ", "left "], "tags": ["B-PER", "O"]}, {"tokens": ["a b"], "tags": ["O"]}]
    lines.append({"tokens": ["\u00a0Bob"], "tags": ["B-PER "]})
    examples, notes = told(write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines))))
    assert [each.value for each in examples] == [("Ada", "left"), ("a b",), ("Bob",)]
    assert examples[2].label == ("B-PER",)
    assert notes == ["white space around tokens and tags is left out: 2 (lines 1, 3)"]


def test_a_language_before_every_token_is_left_out(tmp_path: Path) -> None:
    note = ["every token begins with 'en:', which is left out"]
    content = "en:Ada\tB-PER\nen::\tO\n\n" + 8 * "en:en:x\tO\n"
    wanted = [Example(("Ada", ":"), ("B-PER", "O")), Example(8 * ("en:x",), 8 * ("O",))]
    assert told(write(tmp_path, "a.conll", content)) == (wanted, note)
    lines = [{"tokens": ["en:Ada", "en::"], "tags": ["B-PER", "O"]}, {"tokens": 8 * ["en:en:x"], "tags": 8 * ["O"]}]
    assert told(write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))) == (wanted, note)
    for other in ("fr:x\tO\n", "x\tO\n", "en:\tO\n"):
        examples, notes = told(write(tmp_path, "b.conll", content + other))
        assert examples[0].value == ("en:Ada", "en::")
        assert notes == []


def test_names_of_columns_in_other_capitals(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "Form\tEntity\nAda\tB-PER\n")
    assert read(path, "ner", Layout(token="form", tag="ENTITY")) == [Example(("Ada",), ("B-PER",))]


@pytest.mark.parametrize("layout", [Layout(text="1"), Layout(label="2"), Layout(token="1", label="2")])
def test_columns_of_the_other_task_are_refused(tmp_path: Path, layout: Layout) -> None:
    expected = " --text-column and --label-column are not for ner: --token-column and --tag-column are"
    assert complaint(write(tmp_path, "a.conll", "Ada\tB-PER\n"), layout) == expected


def test_mixed_separators_are_named(tmp_path: Path) -> None:
    found = complaint(write(tmp_path, "a.conll", "Ada\tB-PER\nspoke O\n"))
    no_tag = "no tag beside the token; a line is a token and its tag"
    assert found == f"2: {no_tag}, here parted by tabs; this line is parted by spaces"
    found = complaint(write(tmp_path, "b.conll", "Ada B-PER\nspoke\tO\n"))
    assert found.endswith("here parted by spaces; this line is parted by tabs")
    found = complaint(write(tmp_path, "c.conll", "Ada B-PER\nNew York B-LOC\n"))
    uneven = "3 columns parted by spaces, but 2 in the lines before"
    assert found == f"2: {uneven}; a token that holds a space needs columns parted by tabs"


def long(tokens: int) -> str:
    return "".join(f"w{at}\t{'B-PER' if at % 9 == 0 else 'O'}\n" for at in range(tokens))


def test_a_file_without_blank_lines(tmp_path: Path) -> None:
    found = complaint(write(tmp_path, "a.conll", "\n" + long(12_000) + "\n\n"))
    assert found == "2: no blank line parts the sentences, so that one has 12,000 tokens; put one after each sentence"
    examples, notes = told(write(tmp_path, "b.conll", long(101)))
    assert len(examples) == 1
    assert notes == ["no blank line parts the sentences, so that one has 101 tokens; put one after each sentence"]
    assert told(write(tmp_path, "c.conll", long(100)))[1] == []


def test_long_sentences_among_others_are_noted(tmp_path: Path) -> None:
    _, notes = told(write(tmp_path, "a.conll", "Ada\tB-PER\n\n" + long(513) + "\n" + long(512)))
    assert notes == [
        "1 of 3 sentences have more than 512 tokens (line 3), the longest 513; a blank line ends a sentence"
    ]


# Schemes.


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param("B-PER M-PER E-PER S-LOC", "B-PER I-PER I-PER B-LOC", id="bmes"),
        pytest.param("B-PER I-PER E-PER W-LOC W-LOC", "B-PER I-PER I-PER B-LOC B-LOC", id="bmewo"),
        pytest.param("B I O B B", "B-ENTITY I-ENTITY O B-ENTITY B-ENTITY", id="bare-bio"),
        pytest.param("O I I O I", "O B-ENTITY I-ENTITY O B-ENTITY", id="bare-iob1"),
        pytest.param("S B E O U L", "B-ENTITY B-ENTITY I-ENTITY O B-ENTITY B-ENTITY", id="bare-bioes"),
        pytest.param("B M E S O", "B-ENTITY I-ENTITY I-ENTITY B-ENTITY O", id="bare-bmes"),
    ],
)
def test_schemes(tmp_path: Path, tags: str, expected: str) -> None:
    rows = "".join(f"w{at}\t{tag}\n" for at, tag in enumerate(tags.split()))
    examples, notes = told(write(tmp_path, "a.bmes", rows))
    assert examples[0].label == tuple(expected.split())
    bare = ["the tags are bare letters: every entity gets the type ENTITY"] if "ENTITY" in expected else []
    assert notes == bare


def test_bare_tags_among_others_are_refused(tmp_path: Path) -> None:
    assert complaint(write(tmp_path, "a.conll", "Ada\tB-PER\nx\tB\ny\tO\n")).startswith("2: 'B' is no tag")
    lines = '{"tokens": ["a", "b"], "tags": ["B", "B-PER"]}'
    assert complaint(write(tmp_path, "a.jsonl", lines)).startswith("1: 'B' is no tag")
    rows = ['{"tokens": ["a", "b"], "tags": ["B", "O"]}', '{"tokens": ["a", "b"], "tags": ["B-PER", "O"]}']
    assert complaint(write(tmp_path, "b.jsonl", "\n".join(rows))).startswith("1: 'B' is no tag")
    assert complaint(write(tmp_path, "c.jsonl", "\n".join(rows[::-1]))).startswith("2: 'B' is no tag")
    examples, notes = told(write(tmp_path, "d.jsonl", rows[0]))
    assert examples[0].label == ("B-ENTITY", "O")
    assert notes == ["the tags are bare letters: every entity gets the type ENTITY"]


WORD = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t\n\r"), min_size=1, max_size=8)
    .map(str.strip)
    .filter(bool)
)
SENTENCE = st.lists(st.tuples(WORD, st.sampled_from(["O", "B-PER", "B-LOC"])), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(SENTENCE, min_size=1, max_size=5), st.sampled_from([0, 1]))
def test_numbers_comments_and_inner_tags_change_nothing(sentences: list[list[tuple[str, str]]], first: int) -> None:
    content = "".join(
        f"#\thttp://example.org/{number}\t[2008-10-03]\n# sent_id = {number}\n"
        + "".join(f"{at}\t{word}\t{tag}\tO\n" for at, (word, tag) in enumerate(sentence, first))
        + "\n"
        for number, sentence in enumerate(sentences)
    )
    expected = [Example(*zip(*sentence, strict=True)) for sentence in sentences]
    with TemporaryDirectory() as folder:
        found = read(write(Path(folder), "a.tsv", content), "ner")
    assert found == [each for each in expected if each.value != ("-DOCSTART-",)]
