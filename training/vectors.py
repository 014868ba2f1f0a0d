"""Pretrained word vectors: GloVe and word2vec text, plain or ``.gz``, or an ``.npz`` of `words` and `vectors`."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.corpora import CorpusError


@dataclass(frozen=True, slots=True)
class Vectors:
    """Words in the file's order, which is by falling frequency in all that are published, and their vectors.

    `matrix` is float32 [words, size].
    """

    words: list[str]
    matrix: NDArray[np.float32]

    @property
    def size(self) -> int:
        return int(self.matrix.shape[1])

    def merged(self, normalize: Callable[[str], str]) -> Vectors:
        """One row for each normalised form: the mean of the words that share it, where the first of them stood.

        The tokenizer maps 1996 and 2004 to one form; this gives that form what is common to them.
        """
        rows: dict[str, int] = {}
        into = np.array([rows.setdefault(normalize(word), len(rows)) for word in self.words])
        sums = np.zeros((len(rows), self.size), np.float64)
        np.add.at(sums, into, self.matrix)
        counts = np.bincount(into, minlength=len(rows))
        return Vectors(list(rows), (sums / counts[:, None]).astype(np.float32))


def load(path: Path) -> Vectors:
    """Read word vectors. Raises `CorpusError` that names the file, and the line in a text file."""
    try:
        if path.suffix == ".npz":
            vectors = _load_npz(path)
        else:
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                vectors = _load_text(path, iter(file))
    except OSError as error:
        raise CorpusError(path, f"it cannot be read: {error.strerror or error}") from error
    except (EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise CorpusError(path, f"it cannot be read: {error}") from error
    if not np.isfinite(vectors.matrix).all():
        raise CorpusError(path, "it holds a number that is not finite")
    return vectors


def _load_npz(path: Path) -> Vectors:
    # Opened here, because NumPy leaves a file open that turns out to be no archive.
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise CorpusError(path, "holds one array; expected the arrays words and vectors")
        if not {"words", "vectors"} <= set(archive.files):
            raise CorpusError(path, f"holds {', '.join(archive.files)}; expected the arrays words and vectors")
        words, matrix = archive["words"], archive["vectors"].astype(np.float32)
    names = words.tobytes().decode().split("\n") if words.dtype == np.uint8 else [str(word) for word in words]
    if matrix.ndim != 2 or not matrix.size or len(names) != len(matrix):
        raise CorpusError(path, f"{len(names)} words and vectors of shape {matrix.shape}; expected one row a word")
    return Vectors(names, matrix)


def _load_text(path: Path, lines: Iterator[bytes]) -> Vectors:
    words: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for number, line in enumerate(lines, 1):
        # Split from the right, once the size is known: some words of GloVe 840B hold spaces.
        size = len(rows[0]) if rows else line.count(b" ")
        word, *numbers = line.rstrip(b"\r\n ").rsplit(b" ", size)
        if number == 1 and word.isdigit() and len(numbers) == 1 and numbers[0].isdigit():
            continue  # word2vec's text format starts with "COUNT SIZE"
        try:
            row = np.array(numbers, dtype=np.float32)
            words.append(word.decode())
        except ValueError as error:
            raise CorpusError(path, f"expected WORD NUMBER NUMBER …: {error}", number) from error
        found = len(row) + (b" " in word and _is_number(word.rpartition(b" ")[2]))
        if not found or (rows and found != len(rows[0])):
            raise CorpusError(path, f"{found} numbers; the first line has {size}", number)
        rows.append(row)
    if not rows:
        raise CorpusError(path, "the file is empty")
    return Vectors(words, np.stack(rows))


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
