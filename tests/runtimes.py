"""Stand-ins for the runtimes of `python -m benchmarks runtimes`, and the graphs that real ones may refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.runtimes.subjects import Graph, Subject
from benchmarks.runtimes.workers import Answered, Batch

CELLS_OF_PLAIN_OPERATORS = ("peephole", "min")
"""Their portable graphs have a Scan."""


def may_refuse(runtime: str, subject: str, graph: str) -> bool:
    """True where a portable graph needs what a runtime has not."""
    scan = any(cell in subject for cell in CELLS_OF_PLAIN_OPERATORS)
    # ONNX Runtime 1.6 infers the types of a Scan in float16 wrongly where the body has no product.
    old = runtime.endswith("oldest for opset 13") and "min" in subject and graph.endswith("float16")
    return old or (runtime == "MNN" and scan) or runtime in ("Apache TVM", "ncnn")


OFF = {("tract", "ner-bimingru-window", "portable, float16"): 0.02}
"""Graphs whose logits a runtime has off by more than the tolerance, and by how much at most."""
CHANGING = {("MNN", "portable, float16")}
"""Graphs with other answers in the next run, on some CPUs; `docs/how-to/elsewhere.md` warns of them."""
UNSAFE = {"IREE"}
"""Runtimes that take portable graphs and get some of them wrong; the page says which."""


class Answers:
    """A worker that gives the same logits to everything."""

    version = "1"

    def __init__(self, answered: Answered) -> None:
        self._answered = answered

    def ask(self, graph: Path, batch: Batch, seconds: float = 0.0) -> Answered:
        return self._answered


def subject(expected: NDArray[np.float32], lengths: tuple[int, ...] = (2, 1)) -> Subject:
    batch = Batch(np.zeros((len(lengths), 2, 1), np.int32), np.array(lengths, np.int32))
    return Subject("one", {"served": Graph(Path("g"), 1e-4)}, ((batch, expected),), {})
