"""Pretrained word vectors: the text of GloVe, word2vec or fastText, plain, ``.gz`` or in a ``.zip`` of one file, or an
``.npz`` of `words` and `vectors`."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from training.data.corpora import CorpusError
from training.data.sources import few


@dataclass(frozen=True, slots=True)
class Vectors:
    """Words in the file's order, which is by falling frequency in all that are published, and their vectors.

    `matrix` is float32 [words, size]. `repeated` counts the lines that were left out: their words came before.
    """

    words: list[str]
    matrix: NDArray[np.float32]
    repeated: int = 0

    @property
    def size(self) -> int:
        return int(self.matrix.shape[1])

    def merged(self, normalize: Callable[[str], str]) -> Vectors:
        """Merge words with the same normalised form into one row, their mean, at the place of the first. The tokenizer
        maps 1996 and 2004 to one form, for example.
        """
        rows: dict[str, int] = {}
        into = np.array([rows.setdefault(normalize(word), len(rows)) for word in self.words])
        sums = np.zeros((len(rows), self.size), np.float64)
        np.add.at(sums, into, self.matrix)
        counts = np.bincount(into, minlength=len(rows))
        return Vectors(list(rows), (sums / counts[:, None]).astype(np.float32), self.repeated)


_File = IO[bytes] | gzip.GzipFile
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_LARGEST = float(np.finfo(np.float32).max)
_SAVE = "save them as text, a word and its numbers a line"


def load(path: Path) -> Vectors:
    """Read word vectors. Raises `CorpusError` that names the file, and the line in a text file."""
    try:
        with ExitStack() as closing:
            closing.enter_context(np.errstate(over="ignore"))  # such numbers become infinite, which is an error below
            if path.suffix == ".npz":
                vectors = _load_npz(path)
            else:
                file = _opened(path, closing)
                closing.callback(file.close)
                vectors = _load_text(path, file)
    except OSError as error:
        raise CorpusError(path, f"it cannot be read: {error.strerror or error}") from error
    except (EOFError, ValueError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise CorpusError(path, f"it cannot be read: {error}") from error
    return _distinct(vectors)


def _opened(path: Path, closing: ExitStack) -> _File:
    """The text file, unpacked. Raises `CorpusError` for an archive of several files."""
    if path.suffix == ".bin":
        raise CorpusError(path, f"a binary file of word vectors is not read; {_SAVE}")
    with path.open("rb") as file:
        begins = file.read(4)
    if path.suffix == ".gz" or begins.startswith(_GZIP):
        return gzip.open(path, "rb")
    if path.suffix == ".zip" or begins == _ZIP:
        archive = closing.enter_context(zipfile.ZipFile(path))
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise CorpusError(path, f"an archive of {few(names) or 'nothing'}; unpack it, and name one file")
        return archive.open(names[0])
    return path.open("rb")


def _distinct(vectors: Vectors) -> Vectors:
    """Each word once, with its first vector: the more frequent word stands first."""
    first: dict[str, int] = {}
    for row, word in enumerate(vectors.words):
        first.setdefault(word, row)
    if len(first) == len(vectors.words):
        return vectors
    return Vectors(list(first), vectors.matrix[list(first.values())], len(vectors.words) - len(first))


def _load_npz(path: Path) -> Vectors:
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise CorpusError(path, "holds one array; expected the arrays words and vectors")
        if not {"words", "vectors"} <= set(archive.files):
            raise CorpusError(path, f"holds {few(archive.files)}; expected the arrays words and vectors")
        names = _names(path, _array(path, archive, "words"))
        found = _array(path, archive, "vectors")
    if found.dtype.kind not in "fiu":
        raise CorpusError(path, f"the vectors are of type {found.dtype}; expected real numbers, such as float32")
    if found.ndim != 2 or not found.size or len(names) != len(found):
        shape = f"{len(names):,} words and vectors of shape {found.shape}"
        raise CorpusError(path, f"{shape}; expected one row a word, of one number at least")
    matrix = found.astype(np.float32)
    unfit = np.argwhere(~np.isfinite(matrix))
    if len(unfit):
        row, column = unfit[0]
        raise CorpusError(path, f"row {row + 1:,}: {_unfit(names[row], found[row, column])}")
    return Vectors(names, matrix)


def _array(path: Path, archive: Any, name: str) -> NDArray[Any]:
    try:
        found: NDArray[Any] = archive[name]
    except ValueError as error:
        objects = "they are Python objects; save strings, and numbers such as float32"
        reason = objects if str(error).startswith("Object arrays") else str(error)
        raise CorpusError(path, f"the {name} cannot be read: {reason}") from error
    return found


def _names(path: Path, words: NDArray[Any]) -> list[str]:
    """The words: strings, bytes of UTF-8, or one text in bytes with a word a line."""
    if words.ndim == 1:
        if words.dtype == np.uint8:
            return words.tobytes().decode().split("\n")
        if words.dtype.kind == "U":
            return [str(word) for word in words]
        if words.dtype.kind == "S":
            return [word.decode() for word in words]
    raise CorpusError(path, f"the words are of type {words.dtype} and shape {words.shape}; expected a list of strings")


def _unfit(word: str, number: object) -> str:
    return f"the vector of {word!r} holds {number}; expected numbers up to {_LARGEST:.1e} (float32)"


def _load_text(path: Path, file: _File) -> Vectors:
    words: list[str] = []
    rows: list[NDArray[np.float32]] = []
    start = file.readline()
    if start.startswith(_UTF16):
        raise CorpusError(path, "the file is UTF-16; save it as UTF-8", 1)
    start = start.removeprefix(_BOM)
    header = _header(start)
    lines: Iterator[bytes] = file if header else chain([start] if start else [], file)
    for number, line in enumerate(lines, 2 if header else 1):
        if not line.strip():
            continue
        # Split from the right, once the size is known: some words of GloVe 840B hold spaces.
        size = header[1] if header else len(rows[0]) if rows else len(line.split()) - 1
        fields = line.rsplit(None, size) if size > 0 else [line]
        word, *numbers = [b"", *fields] if line[:1].isspace() and len(fields) == size else fields
        try:
            row = np.array(numbers, dtype=np.float32)
            words.append(word.decode().rstrip("\t "))
        except ValueError as error:
            binary = f"; a binary file is not read: {_SAVE}" if b"\0" in line or not rows else ""
            raise CorpusError(path, f"expected WORD NUMBER NUMBER …: {error}{binary}", number) from error
        found = len(row) + (b" " in word.rstrip() and _is_number(word.split()[-1]))
        if not rows and not size:
            raise CorpusError(
                path, "0 numbers after the word; expected WORD NUMBER …, parted by spaces or tabs", number
            )
        if not found or found != size:
            says = f"the header says {size}" if header else f"the first line has {size}"
            raise CorpusError(path, f"{found} numbers; {says}", number)
        if not np.isfinite(row).all():
            bad = int(np.argmin(np.isfinite(row)))
            raise CorpusError(path, _unfit(words[-1], numbers[bad].decode()), number)
        rows.append(row)
    if not rows:
        raise CorpusError(path, "the file is empty")
    if header and header[0] != len(rows):
        found_words = f"the header says {header[0]:,} words, but {len(rows):,} follow"
        raise CorpusError(path, f"{found_words}: fetch the file again, or correct its first line", 1)
    return Vectors(words, np.stack(rows))


def _header(line: bytes) -> tuple[int, int] | None:
    """``COUNT SIZE``, with which word2vec's text format starts; None for a word and its vector."""
    fields = line.split()
    return (int(fields[0]), int(fields[1])) if len(fields) == 2 and all(map(bytes.isdigit, fields)) else None


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
