"""The cost of gates: `Engine.trace`, which returns every gate, against `Engine.predict` with fused operators.

Both get the same rows. The networks have one layer, two directions and random weights: weights do not change the time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Row, interleaved, row
from service.model.bundle import Bundle, Feature, Origin
from service.model.engine import Engine
from service.model.equations import CellName
from service.model.tokenizer import UNKNOWN, build
from training.export.bundle import export
from training.nets.networks import Architecture, Network

SUBJECT, BASELINE = "trace graph", "fused graph"
CELLS: tuple[CellName, ...] = ("lstm", "gru", "peephole")
_WORDS = 1000


@dataclass(frozen=True, slots=True)
class Size:
    """Units of each network, (rows, tokens) of each batch, rounds, and seconds of a turn."""

    hidden: tuple[int, ...] = (128, 256)
    batches: tuple[tuple[int, int], ...] = ((1, 20), (8, 20), (32, 20), (1, 200))
    rounds: int = 25
    seconds: float = 0.03


FULL = Size()
QUICK = Size(hidden=(8,), batches=((2, 5),), rounds=1, seconds=0.001)


def measure(size: Size = FULL) -> Iterator[Row]:
    """A row for each cell, number of units and batch: milliseconds a batch."""
    generator = np.random.default_rng(0)
    for cell, hidden in product(CELLS, size.hidden):
        engine = random_engine(cell, hidden)
        for rows, tokens in size.batches:
            batch = [generator.integers(0, _WORDS, (tokens, 1)).astype(np.int32) for _ in range(rows)]
            calls = (partial(engine.trace, batch), partial(engine.predict, batch))
            seconds = interleaved(*calls, rounds=size.rounds, seconds=size.seconds)
            milliseconds = [(trace * 1000, predict * 1000) for trace, predict in seconds]
            case = f"Bi{cell.upper()} {hidden}, {rows} × {tokens} tokens"
            yield row(case, "ms", milliseconds)


def random_engine(cell: CellName, hidden: int) -> Engine:
    """A bidirectional classifier with random weights, on one thread."""
    torch.manual_seed(0)
    features = (Feature(name="word", size=_WORDS),)
    labels = ("negative", "positive")
    network = Network(Architecture("sentiment", cell, ("forward", "backward"), 1, hidden, "max", labels, features))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        return Engine(exported(network, Path(folder) / "random"))


def exported(network: Network, folder: Path) -> Bundle:
    """A network of words alone, with random weights, exported and certified like any other."""
    (feature,) = network.architecture.features
    words = [UNKNOWN, *(f"word-{number}" for number in range(1, feature.size))]
    origin = Origin(data=("random weights",), command="none", seed=0, epochs=0, versions={})
    return export(network, build(words, (feature,)), origin, "none", folder, lambda _: [])
