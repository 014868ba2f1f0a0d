"""The words that get a row of the embedding table, and the first values of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.model.tokenizer import UNKNOWN
from training.data.vectors import Vectors


def choose(tokens: Iterable[str], vectors: Vectors | None, most: int, reserve: float = 0.2) -> list[str]:
    """The vocabulary, at most `most` normalised words, row 0 the unknown word.

    First come the words of the training data by falling frequency; a word that occurs once needs a vector, unless all
    words fit. The rest, at least a share of `reserve`, gets the first words of `vectors`: users write words that the
    training data does not have.
    """
    counts = Counter(tokens)
    counts.pop(UNKNOWN, None)
    known = set(vectors.words) if vectors else set()
    seen = sorted(counts, key=lambda word: (-counts[word], word))
    if known:
        seen = [word for word in seen if counts[word] > 1 or word in known]
        seen = seen[: int((most - 1) * (1 - reserve))]
    words = dict.fromkeys([UNKNOWN, *seen[: most - 1]])
    for word in vectors.words if vectors else ():
        if len(words) >= most:
            break
        words.setdefault(word)
    return list(words)


def initial_table(words: Sequence[str], vectors: Vectors, generator: np.random.Generator) -> NDArray[np.float32]:
    """Starting rows [words, size]: the word's vector if there is one, else normal noise of the vectors' spread."""
    row = {word: number for number, word in enumerate(vectors.words)}
    table = generator.normal(0.0, float(vectors.matrix.std()), (len(words), vectors.size)).astype(np.float32)
    for number, word in enumerate(words):
        if word in row:
            table[number] = vectors.matrix[row[word]]
    return table
