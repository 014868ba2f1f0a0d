"""Share of decoding in a tagger's prediction: Viterbi, marginals and entities, beside the whole prediction.

Sentences of 20 tokens with names in them, from ``examples/ner``, through the default tagger, on one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Row, interleaved, row
from benchmarks.serving import ROOT
from service.model.loading import loader
from service.model.tokenizer import Encoded
from training.data.corpora import read
from training.export.restore import opened

SUBJECT, BASELINE = "decoding", "network and decoding"
TOKENS = 20
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Size:
    """Rows of the batches, rounds, and seconds of a turn."""

    rows: tuple[int, ...] = (1, 8, 32)
    rounds: int = 9
    seconds: float = 0.5


FULL = Size()
QUICK = Size(rows=(2,), rounds=1, seconds=0.01)


def measure(size: Size = FULL) -> Iterator[Row]:
    """For each batch the milliseconds of decoding, and of the whole prediction."""
    model = loader("cpu", 1, _LIMIT)(opened(ROOT / "models" / "ner-bilstm"))
    inputs = [model.encode(tokens, truncate=True) for tokens in sentences(max(size.rows))]

    def decode(logits: NDArray[np.float32], encoded: list[Encoded]) -> None:
        model.decoder.decode(logits, encoded)

    def predict(encoded: list[Encoded]) -> None:
        decode(model.engine.predict([each.rows for each in encoded]), encoded)

    for number in size.rows:
        batch = inputs[:number]
        logits = model.engine.predict([each.rows for each in batch])
        pairs = interleaved(partial(decode, logits, batch), partial(predict, batch), size.rounds, size.seconds)
        yield row(f"{number} × {TOKENS} tokens", "ms", [(1000 * mine, 1000 * whole) for mine, whole in pairs])


def sentences(number: int) -> list[list[str]]:
    """Runs of tokens that hold a name each; the same ones again where there are not enough."""
    examples = read(ROOT / "examples" / "ner" / "train.conll", "ner")
    tokens = [token for each in examples if any(tag != "O" for tag in each.label) for token in each.value]
    runs = [tokens[start : start + TOKENS] for start in range(0, len(tokens) - TOKENS, TOKENS)]
    return [runs[place % len(runs)] for place in range(number)]
