"""Sentences of a text as inputs of their own, and their results joined to those of the text.

A tagger's text runs as one row for each of its sentences (`Encoded.sentences`); any other input is one row. Results
come as a flat list, one for each row, in the order of the inputs and of their sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.model.contributions import Contributions
from service.model.decoding import Prediction
from service.model.faithfulness import DeletionEffects
from service.model.gates import HORIZON, LayerGates
from service.model.tokenizer import Encoded

Logits = NDArray[np.float32]
"""One input's: [labels], or [tokens, labels] for a tagger."""
Array = NDArray[np.float32]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Traced:
    """The results of one input's trace. The arrays are the input's own."""

    logits: Logits
    layers: list[LayerGates]
    contributions: Contributions | None
    deletion: DeletionEffects | None = None
    """Deletion effects in closed form, if they were wanted and the cell has such a form."""


def bounds(source: Encoded) -> Sequence[tuple[int, int]]:
    """(first token, end) of each of an input's rows."""
    return source.sentences or [(0, len(source))]


def parts(encoded: Sequence[Encoded]) -> list[Encoded]:
    """The rows of inputs. A sentence's spans are those in the whole text, so that its offsets are, too."""
    found: list[Encoded] = []
    for source in encoded:
        if source.sentences is None or len(source.sentences) == 1:
            found.append(source)
        else:
            spans = source.spans
            found += [
                Encoded(source.text, spans[first:end], source.rows[first:end], source.truncated)
                for first, end in source.sentences
            ]
    return found


def cut(encoded: Sequence[Encoded], logits: Sequence[Logits]) -> list[Logits]:
    """Each row's part of the inputs' logits [tokens, labels]."""
    pairs = zip(encoded, logits, strict=True)
    return [whole[first:end] for source, whole in pairs for first, end in bounds(source)]


def logits_of(encoded: Sequence[Encoded], rows: Sequence[Logits]) -> list[Logits]:
    """The inputs' logits."""
    return [each[0] if len(each) == 1 else np.concatenate(each) for _, each in _grouped(encoded, rows)]


def predictions_of(encoded: Sequence[Encoded], rows: Sequence[Prediction]) -> list[Prediction]:
    """The inputs' predictions; token numbers are those of the whole text."""
    return [each[0] if len(each) == 1 else _prediction(source, each) for source, each in _grouped(encoded, rows)]


def traces_of(encoded: Sequence[Encoded], rows: Sequence[Traced]) -> list[Traced]:
    """The inputs' traces. Row t of each array belongs to token t of the text.

    A token outside of the explained token's sentence has no effect on it: its contributions are 0.
    """
    return [each[0] if len(each) == 1 else _trace(source, each) for source, each in _grouped(encoded, rows)]


def _grouped(encoded: Sequence[Encoded], rows: Sequence[_Result]) -> Iterator[tuple[Encoded, list[_Result]]]:
    """Each input, and the results of its rows."""
    following = iter(rows)
    for source in encoded:
        yield source, list(islice(following, len(bounds(source))))


def _prediction(source: Encoded, sentences: Sequence[Prediction]) -> Prediction:
    entities: list[dict[str, Any]] = []
    tokens: list[object] = []
    for (first, _), sentence in zip(bounds(source), sentences, strict=True):
        found: Any = sentence
        tokens += found.get("tokens", ())
        entities += (
            {**each, "token_start": each["token_start"] + first, "token_end": each["token_end"] + first}
            for each in found["entities"]
        )
    labelled = {"tokens": tokens} if "tokens" in sentences[0] else {}
    return {"entities": entities, "truncated": source.truncated, **labelled}


def _trace(source: Encoded, sentences: Sequence[Traced]) -> Traced:
    lengths = np.array([end - first for first, end in bounds(source)], np.float64)
    layers = [_layer(each, lengths) for each in zip(*(sentence.layers for sentence in sentences), strict=True)]
    contributions: Contributions | None = None
    effects: DeletionEffects | None = None
    for (first, end), sentence in zip(bounds(source), sentences, strict=True):
        if sentence.contributions is not None:
            tokens = np.zeros((len(source), len(sentence.contributions["labels"])))
            tokens[first:end] = sentence.contributions["tokens"]
            contributions = {**sentence.contributions, "tokens": tokens}
        if sentence.deletion is not None:
            # A token of another sentence changes nothing.
            rows: list[list[float] | None] = [[0.0] * len(sentence.deletion["labels"]) for _ in range(len(source))]
            rows[first:end] = sentence.deletion["tokens"]
            effects = {**sentence.deletion, "tokens": rows}
    return Traced(np.concatenate([sentence.logits for sentence in sentences]), layers, contributions, effects)


def _layer(sentences: Sequence[LayerGates], lengths: NDArray[np.float64]) -> LayerGates:
    first = sentences[0]
    gates = {gate: _rows([each.gates[gate] for each in sentences]) for gate in first.gates}
    statistics = None
    if first.statistics is not None:
        columns = {name: np.stack([(each.statistics or {})[name] for each in sentences]) for name in first.statistics}
        statistics = {name: _statistic(name, column, lengths) for name, column in columns.items()}
    return LayerGates(first.layer, first.direction, gates, statistics)


def _rows(sentences: Sequence[Any]) -> Any:
    """Arrays with a row for each token, or dictionaries of them, one after the other."""
    if isinstance(sentences[0], dict):
        return {name: np.concatenate([each[name] for each in sentences]) for name in sentences[0]}
    return np.concatenate(sentences)


def _statistic(name: str, sentences: Array, lengths: NDArray[np.float64]) -> Array:
    """Combine each unit's statistic of every sentence [sentences, units] into one over all sentences [units].

    A mean weights a sentence by its tokens, a `.change` by its steps between tokens (tokens - 1). A horizon is
    -1 / mean(log of the gate), so sentences join by the token-weighted mean of 1 / horizon.
    """
    values = sentences.astype(np.float64)
    if name == HORIZON:
        with np.errstate(divide="ignore"):
            joined: NDArray[np.float64] = lengths.sum() / (lengths[:, None] / values).sum(axis=0)
    else:
        weights = lengths - 1 if name.endswith(".change") else lengths
        joined = weights @ values / max(1.0, weights.sum())
    return joined.astype(np.float32)
