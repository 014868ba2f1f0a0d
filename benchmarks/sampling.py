"""The cost of sampling the gates of live traffic: `python -m benchmarks.sampling`.

Milliseconds of a CPU for a prediction and for a sample (a trace, and counting it), and the cost for each text at the
service's default share of samples. It is CPU time, which a busy machine changes little, and the lowest of several
rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.model.gate_drift import observe
from service.settings import Settings
from training.export.restore import opened
from training.scoring.evaluate import Subject

MODEL = Path(__file__).resolve().parents[1] / "models" / "sentiment-bilstm"
SHORT = "A slow start, but the ending is wonderful and I was moved."
TEXTS = (SHORT, " ".join([SHORT] * 17))
ROUNDS, CALLS = 7, 40


def milliseconds(act: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            act()
        found.append((time.process_time() - started) / CALLS)
    return 1000 * min(found)


def sample(subject: Subject, row: NDArray[np.int32]) -> object:
    """The service's work for a sampled input."""
    return observe(subject.manifest.cell, subject.engine.trace([row]).gates(0))


def main() -> None:
    """Measure, and print a line for each text."""
    subject = Subject(opened(MODEL))
    share = float(Settings.model_fields["gate_sample"].default)
    for text in TEXTS:
        row = subject.tokenizer.encode(text, subject.manifest.token_limit).rows
        predicted, sampled = (
            milliseconds(act) for act in (partial(subject.engine.predict, [row]), partial(sample, subject, row))
        )
        print(
            f"{len(row):4} tokens: prediction {predicted:.2f} ms, sample {sampled:.2f} ms; "
            f"at {share:g} of the texts {1000 * share * sampled:.0f} microseconds a text"
        )


if __name__ == "__main__":
    main()
