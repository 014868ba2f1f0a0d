"""Word vectors from two sources side by side, for words that either of them knows.

    python -m recipes.vectors $DATA/vectors

reads ``glove.6B.100d.npz`` and ``minilm-words.128d.{1,2}.npz`` (each word alone through a sentence encoder) and writes

    glove-more.100d.npz    GloVe's vectors, and for words that GloVe lacks a linear guess from the encoder's
    both.152d.npz          the principal components of both side by side

A word that one source lacks gets the guess of a linear map from the other, fitted by ridge regression on the words that
both know. Both sources know the sentiment of words: an average of both over a text tells it better than either does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.vectors import Vectors, load

Matrix = NDArray[np.float32]
COLUMNS = 152
"""Columns of both side by side. A network of a quarter more arithmetic than one with GloVe's 100 has room for them."""
_RIDGE = 1.0
_WEIGHT = 0.8
"""The weight of the encoder's vectors beside GloVe's, both scaled to a mean length of 1."""


def guess(known: Matrix, wanted: Matrix, inputs: Matrix) -> Matrix:
    """`inputs` [n, a] through the linear map that takes `known` [m, a] to `wanted` [m, b], by ridge regression."""
    gram = known.T @ known + _RIDGE * np.eye(known.shape[1], dtype=np.float32)
    answer: Matrix = (inputs @ np.linalg.solve(gram, known.T @ wanted)).astype(np.float32)
    return answer


def merged(first: Vectors, second: Vectors) -> tuple[list[str], Matrix, Matrix]:
    """The words of both, those of `first` in front, and their vectors in either source, guessed where it lacks them."""
    there = {word: row for row, word in enumerate(second.words)}
    mine = set(first.words)
    words = [*first.words, *(word for word in second.words if word not in mine)]
    left = np.zeros((len(words), first.size), np.float32)
    right = np.zeros((len(words), second.size), np.float32)
    left[: len(first.words)] = first.matrix
    has = np.array([word in there for word in words])
    right[has] = second.matrix[[there[word] for word in words if word in there]]
    shared = np.flatnonzero(has[: len(first.words)])
    right[~has] = guess(left[shared], right[shared], left[~has])
    left[len(first.words) :] = guess(right[shared], left[shared], right[len(first.words) :])
    return words, left, right


def side_by_side(left: Matrix, right: Matrix, columns: int, common: int = 60_000) -> Matrix:
    """Both [words, a] and [words, b], scaled alike, as `columns` principal components of the first `common` words."""
    scaled = [each / np.linalg.norm(each[:common], axis=1).mean() for each in (left, right)]
    both = np.hstack([scaled[0], _WEIGHT * scaled[1]])
    both -= both[:common].mean(0)
    _, _, axes = np.linalg.svd(both[:common], full_matrices=False)
    answer: Matrix = (both @ axes[:columns].T).astype(np.float32)
    return answer


def write(path: Path, words: list[str], matrix: Matrix) -> None:
    """As `training.data.vectors` reads it: float16, the words joined by line ends."""
    names = np.frombuffer("\n".join(words).encode(), np.uint8)
    np.savez(path, words=names, vectors=matrix.astype(np.float16))


def main(folder: Path) -> None:
    glove = load(folder / "glove.6B.100d.npz")
    parts = [load(folder / f"minilm-words.128d.{part}.npz") for part in (1, 2)]
    encoder = Vectors([word for part in parts for word in part.words], np.vstack([part.matrix for part in parts]))
    words, left, right = merged(glove, encoder)
    write(folder / "glove-more.100d.npz", words, left)
    both = side_by_side(left, right, COLUMNS)
    # The spread of GloVe's numbers, which the networks' other settings were chosen for.
    write(folder / "both.152d.npz", words, both * (left.std() / both.std()))
    print(f"{len(words):,} words, {len(words) - len(glove.words):,} of them not in GloVe's file")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m recipes.vectors $DATA/vectors")
    main(Path(sys.argv[1]))
