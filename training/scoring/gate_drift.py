"""Gate statistics of a bundle over a corpus, from the runtime that serves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import Bundle, GateDistributions, GateStatistics, Spread
from service.model.engine import Engine
from service.model.equations import Direction
from service.model.gate_drift import Tally, What, observe
from training.data.corpora import CorpusError

MAX_TEXTS = 2000
"""Texts of a corpus that are traced; more of them move no distribution."""
MAX_TOKENS = 512
"""The statistics of one text, as the service samples them."""


def measure(bundle: Bundle, engine: Engine, rows: Sequence[NDArray[np.int32]], name: str) -> GateStatistics:
    """The gate statistics of a bundle over encoded texts, each int32 [tokens, features], evenly picked from all of
    them.

    `name` names the corpus. Raises `CorpusError` where there is no text.
    """
    tally = Tally()
    for row in _spread(rows):
        head = row[:MAX_TOKENS]
        tally.add(observe(bundle.manifest.cell, engine.trace([head]).gates(0)), len(head))
    if not tally.texts:
        raise CorpusError(name, "there is no text whose gates could be traced")
    return stored(name, tally)


def stored(data: str, tally: Tally) -> GateStatistics:
    """A tally as the manifest keeps it. `data` names the corpus."""
    spreads: dict[tuple[int, Direction, str], dict[What, Spread]] = {}
    for (layer, direction, gate, what), counts in tally.counts.items():
        spread = Spread(counts=tuple(int(count) for count in counts.bins), sum=counts.sum)
        spreads.setdefault((layer, direction, gate), {})[what] = spread
    gates = [
        GateDistributions(layer=layer, direction=direction, gate=gate, **found)
        for (layer, direction, gate), found in spreads.items()
    ]
    return GateStatistics(data=data, texts=tally.texts, tokens=tally.tokens, gates=tuple(gates))


def _spread(rows: Sequence[NDArray[np.int32]]) -> Iterable[NDArray[np.int32]]:
    step = max(1, -(-len(rows) // MAX_TEXTS))
    return (row for row in islice(rows, 0, None, step) if len(row))
