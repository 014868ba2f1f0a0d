"""One of several processes that predict on the same device, for `benchmarks.cuda`: it imports no torch.

``python -m benchmarks.cuda_share BUNDLE PROVIDER ROWS TOKENS SECONDS`` prints ``ready``, waits for a line, and prints
how many texts a second it has predicted.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import Bundle, load
from service.model.engine import Engine, Provider
from service.model.self_check import random_rows

Rows = list[NDArray[np.int32]]


def batch_of(bundle: Bundle, rows: int, tokens: int, *, ragged: bool) -> Rows:
    """Inputs of random ids, the first of `tokens` tokens, the others as long or, `ragged`, of any length up to that."""
    generator = np.random.default_rng(tokens * 1000 + rows)
    lengths = generator.integers(1, tokens + 1, rows) if ragged else np.full(rows, tokens)
    lengths[0] = tokens
    return random_rows(bundle.manifest.features, lengths.tolist(), generator)


def _share(path: Path, provider: Provider, rows: int, tokens: int, seconds: float) -> None:
    bundle = load(path)
    engine, batch = Engine(bundle, provider=provider), batch_of(bundle, rows, tokens, ragged=False)
    for _ in range(3):
        engine.predict(batch)
    print("ready", flush=True)
    sys.stdin.readline()
    texts, passed, started = 0, 0.0, time.perf_counter()
    while not texts or passed < seconds:
        engine.predict(batch)
        texts += rows
        passed = time.perf_counter() - started
    print(texts / passed, flush=True)


if __name__ == "__main__":
    _path, _provider, _rows, _tokens, _seconds = sys.argv[1:]
    _share(Path(_path), "cuda" if _provider == "cuda" else "cpu", int(_rows), int(_tokens), float(_seconds))
