"""Word vectors in every format, and what is said of files that hold none."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.tokenizer import UNKNOWN, build
from training.data.corpora import CorpusError
from training.data.vectors import Vectors, load

TEXT = "the 0.5 -1 2e-1\nfilm 1 2 3\n"
MATRIX = np.array([[0.5, -1, 0.2], [1, 2, 3]], np.float32)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert "\n" not in message
    return message.removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("glove.txt", TEXT, id="glove"),
        pytest.param("glove.txt.gz", TEXT, id="gz"),
        pytest.param("word2vec.txt", "2 3\n" + TEXT, id="word2vec-header"),
        pytest.param("glove.txt", TEXT.replace("\n", "\r\n"), id="crlf"),
        pytest.param("glove.txt", TEXT.replace("\n", " \n").rstrip("\n"), id="spaces-at-the-ends"),
        pytest.param("vectors", TEXT, id="no-ending"),
    ],
)
def test_text(tmp_path: Path, name: str, content: str) -> None:
    found = load(write(tmp_path, name, content))
    assert found.words == ["the", "film"]
    assert found.size == 3
    assert found.matrix.dtype == np.float32
    np.testing.assert_array_equal(found.matrix, MATRIX)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_archive_of_strings(tmp_path: Path, dtype: type) -> None:
    np.savez(tmp_path / "v.npz", words=np.array(["the", "l'été"]), vectors=MATRIX.astype(dtype))
    found = load(tmp_path / "v.npz")
    assert found.words == ["the", "l'été"]
    assert found.matrix.dtype == np.float32
    assert found.matrix == pytest.approx(MATRIX, abs=1e-3)


def test_an_archive_of_bytes(tmp_path: Path) -> None:
    words = np.frombuffer("the\nl'été".encode(), np.uint8)
    np.savez_compressed(tmp_path / "v.npz", words=words, vectors=MATRIX.astype(np.float16))
    assert load(tmp_path / "v.npz").words == ["the", "l'été"]


def test_words_that_are_not_ascii_keep_every_character(tmp_path: Path) -> None:
    assert load(write(tmp_path, "v.txt", "\u00a0 1\n☃\u2028x 2\n")).words == ["\u00a0", "☃\u2028x"]


def test_a_number_that_is_a_word_is_no_header_further_down(tmp_path: Path) -> None:
    assert load(write(tmp_path, "v.txt", "a 1\n7 2\n")).words == ["a", "7"]


def test_a_word_may_hold_spaces(tmp_path: Path) -> None:
    assert load(write(tmp_path, "v.txt", "the 1 2\n. . . 3 4\n")).words == ["the", ". . ."]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", " the file is empty", id="empty"),
        pytest.param("2 3\n", " the file is empty", id="header-alone"),
        pytest.param("the 1 2\nfilm 1 x\n", "2: expected WORD NUMBER NUMBER", id="no-number"),
        pytest.param("the 1 2\nfilm 1\n", "2: 1 numbers; the first line has 2", id="too-short"),
        pytest.param("the 1 2\nfilm 1 2 3\n", "2: 3 numbers; the first line has 2", id="too-long"),
        pytest.param("the\n", "1: 0 numbers", id="word-alone"),
        pytest.param(b"the 1\n\xff 2\n", "2: expected WORD NUMBER", id="not-utf-8"),
        pytest.param("the 1 2\n\nfilm 1 nan\n", "3: the vector of 'film' holds nan; expected numbers", id="nan"),
        pytest.param("the 1 -inf\n", "1: the vector of 'the' holds -inf; expected numbers", id="infinite"),
        pytest.param("1 2\nthe 1 1e300\n", "2: the vector of 'the' holds 1e300; expected numbers up", id="large"),
        pytest.param("the 1+2j 1\n", "1: expected WORD NUMBER NUMBER", id="complex"),
        pytest.param("2 0\nthe\nfilm\n", "2: 0 numbers", id="of-no-numbers"),
    ],
)
def test_text_that_is_wrong(tmp_path: Path, content: str | bytes, expected: str) -> None:
    assert complaint(write(tmp_path, "v.txt", content)).startswith(expected)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.txt") == " it cannot be read: No such file or directory"
    assert complaint(tmp_path / "none.npz") == " it cannot be read: No such file or directory"
    assert complaint(tmp_path).startswith(" it cannot be read: ")
    whole = gzip.compress(TEXT.encode() * 100)
    for name, content in (("cut.gz", whole[:-20]), ("no.gz", b"plain"), ("broken.gz", whole[:12] + b"\xff" * 30)):
        (tmp_path / name).write_bytes(content)
        assert complaint(tmp_path / name).startswith(" it cannot be read: ")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 and no more"])
def test_an_archive_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.npz").write_bytes(content)
    assert complaint(tmp_path / "v.npz").startswith(" it cannot be read: ")


def test_an_archive_without_what_it_must_hold(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, words=np.array(["a"]), table=MATRIX)
    assert complaint(path) == " holds words, table; expected the arrays words and vectors"
    for words, matrix in ((["a"], MATRIX), (["a", "b"], MATRIX[0]), ([], MATRIX[:0])):
        np.savez(path, words=np.array(words, str), vectors=matrix)
        assert "expected one row a word" in complaint(path)
    np.savez(path, words=np.array(["a", None], object), vectors=MATRIX)
    assert "the words cannot be read: they are Python objects" in complaint(path), "pickles are not opened"
    np.savez(path, words=np.frombuffer(b"\xff\n", np.uint8), vectors=MATRIX)
    assert "it cannot be read" in complaint(path)


def test_one_array_is_no_archive(tmp_path: Path) -> None:
    with (tmp_path / "v.npz").open("wb") as file:
        np.save(file, MATRIX)
    assert complaint(tmp_path / "v.npz") == " holds one array; expected the arrays words and vectors"


def test_words_of_one_form_are_merged_where_the_first_of_them_stood() -> None:
    matrix = np.array([[1, 1], [2, 0], [3, 5], [4, 4], [6, 1]], np.float32)
    merged = Vectors(["1996", "The", "2004", "film", "the"], matrix).merged(build([UNKNOWN], []).normalize)
    assert merged.words == ["0000", "the", "film"]
    np.testing.assert_array_equal(merged.matrix, np.array([[2, 3], [4, 0.5], [4, 4]], np.float32))
    assert merged.matrix.dtype == np.float32


BINARY = b"2 3\nthe " + MATRIX[0].tobytes() + b"\nfilm " + MATRIX[1].tobytes() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("the\t0.5\t-1\t2e-1\nfilm\t1\t2\t3\n", id="tabs"),
        pytest.param("the\t0.5 -1 2e-1\nfilm\t1 2 3\n", id="tab-after-the-word"),
        pytest.param("2\t3\nthe\t0.5 -1 2e-1\nfilm\t1 2 3\n", id="header-with-tab"),
        pytest.param("the  0.5  -1   2e-1\nfilm 1  2 3\t\n", id="several-spaces"),
        pytest.param("\ufeffthe 0.5 -1 2e-1\nfilm 1 2 3\n", id="bom"),
        pytest.param("the 0.5 -1 2e-1\n\nfilm 1 2 3\n\n", id="blank-lines"),
        pytest.param("\ufeff2 3\nthe 0.5 -1 2e-1\nfilm 1 2 3\n", id="bom-and-header"),
        pytest.param(" 2 3 \r\nthe 0.5 -1 2e-1\r\nfilm 1 2 3\r\n", id="header-with-spaces"),
    ],
)
def test_text_in_every_shape(tmp_path: Path, content: str) -> None:
    found = load(write(tmp_path, "v.vec", content))
    assert found.words == ["the", "film"]
    np.testing.assert_array_equal(found.matrix, MATRIX)


def test_words_with_spaces_after_a_header(tmp_path: Path) -> None:
    found = load(write(tmp_path, "v.txt", "2 2\nNew York\t1 2\n. . . 3 4\n"))
    assert found.words == ["New York", ". . ."]
    np.testing.assert_array_equal(found.matrix, np.array([[1, 2], [3, 4]], np.float32))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("3 3\n" + TEXT, "1: the header says 3 words, but 2 follow: fetch the file again, or correct its first line"),
        ("1 3\n" + TEXT, "1: the header says 1 words, but 2 follow: fetch the file again, or correct its first line"),
        ("2 4\n" + TEXT, "2: 3 numbers; the header says 4"),
        ("2 2\n" + TEXT, "2: 3 numbers; the header says 2"),
        (TEXT.encode("utf-16"), "1: the file is UTF-16; save it as UTF-8"),
        ("the,1,2\n", "1: 0 numbers after the word; expected WORD NUMBER …, parted by spaces or tabs"),
        ("the 1 2\n\nfilm 1\n", "3: 1 numbers; the first line has 2"),
    ],
)
def test_a_header_or_a_line_that_contradicts(tmp_path: Path, content: str | bytes, expected: str) -> None:
    assert complaint(write(tmp_path, "v.txt", content)) == expected


@pytest.mark.parametrize("name", ["v.bin", "v.txt", "v.vec.gz"])
def test_binary_files_are_told_what_to_do(tmp_path: Path, name: str) -> None:
    found = complaint(write(tmp_path, name, BINARY))
    assert "a binary file" in found
    assert found.endswith("save them as text, a word and its numbers a line")


def test_the_first_vector_of_a_word_counts(tmp_path: Path) -> None:
    found = load(write(tmp_path, "v.txt", TEXT + "the 9 9 9\nthe 8 8 8\n"))
    assert found.words == ["the", "film"]
    np.testing.assert_array_equal(found.matrix, MATRIX)
    assert found.repeated == 2


@pytest.mark.parametrize(
    ("number", "dtype", "shown"),
    [
        (1e300, np.float64, "1e+300"),
        (-1e39, np.float64, "-1e+39"),
        (np.nan, np.float16, "nan"),
        (np.inf, np.float32, "inf"),
    ],
)
def test_a_number_of_an_archive_that_does_not_fit_is_named(
    tmp_path: Path, number: float, dtype: type, shown: str
) -> None:
    matrix: NDArray[Any] = MATRIX.astype(dtype)
    matrix[1, 2] = number
    np.savez(tmp_path / "v.npz", words=np.array(["the", "film"]), vectors=matrix)
    assert complaint(tmp_path / "v.npz") == (
        f" row 2: the vector of 'film' holds {shown}; expected numbers up to 3.4e+38 (float32)"
    )


@pytest.mark.parametrize(
    ("words", "matrix", "said"),
    [
        (["a", "b"], MATRIX + 1j, "the vectors are of type complex64; expected real numbers, such as float32"),
        (["a", "b"], MATRIX.astype(object), "the vectors cannot be read: they are Python objects; save strings"),
        (["a", "b"], MATRIX > 0, "the vectors are of type bool; expected real"),
        (["a", "b"], MATRIX.astype(str), "the vectors are of type <U32; expected real"),
        (["a", "b"], MATRIX[:, :0], "2 words and vectors of shape (2, 0); expected one row a word, of one number"),
        (["a", "b"], MATRIX[0], "2 words and vectors of shape (3,); expected one row"),
        ([3, 4], MATRIX, "the words are of type int64 and shape (2,); expected a list of strings"),
        ([["a"], ["b"]], MATRIX, "the words are of type <U1 and shape (2, 1); expected a list of strings"),
        ("a", MATRIX[:1], "the words are of type <U1 and shape (); expected a list of strings"),
    ],
)
def test_an_archive_of_other_types(tmp_path: Path, words: object, matrix: NDArray[Any], said: str) -> None:
    np.savez(tmp_path / "v.npz", words=np.array(words), vectors=matrix)
    assert complaint(tmp_path / "v.npz").startswith(f" {said}")


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.float16, ">f8"])
def test_real_numbers_of_every_type_are_converted(tmp_path: Path, dtype: Any) -> None:
    np.savez(tmp_path / "v.npz", words=np.array([b"the", "l'été".encode()]), vectors=np.array([[1, 2], [3, 4]], dtype))
    found = load(tmp_path / "v.npz")
    assert found.words == ["the", "l'été"]
    assert found.matrix.dtype == np.float32
    np.testing.assert_array_equal(found.matrix, [[1, 2], [3, 4]])


def test_compressed_files_whatever_their_names(tmp_path: Path) -> None:
    (tmp_path / "glove.txt").write_bytes(gzip.compress(TEXT.encode()))
    assert load(tmp_path / "glove.txt").words == ["the", "film"]
    with zipfile.ZipFile(tmp_path / "one.vec.zip", "w") as archive:
        archive.writestr("one.vec", TEXT)
    assert load(tmp_path / "one.vec.zip").words == ["the", "film"]
    with zipfile.ZipFile(tmp_path / "glove.zip", "w") as archive:
        archive.writestr("glove.50d.txt", TEXT)
        archive.writestr("glove.100d.txt", TEXT)
    found = complaint(tmp_path / "glove.zip")
    assert found == " an archive of glove.50d.txt, glove.100d.txt; unpack it, and name one file"
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    assert complaint(tmp_path / "broken.zip").startswith(" it cannot be read: ")
