"""A bundle's parity certificate, repeated without torch on this machine.

Both graphs are run on the same random batches. The fused graph's logits must be the trace graph's; each traced gate
must follow, in float64, from the cell's equations, its row's input and the states of the row before; and the logits
must follow from the traced states. A model that reads forward is also read token by token, as streams are. Only
training can compare the weights with torch's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.model.bundle import MODEL_GRAPH, Bundle, Feature, Manifest
from service.model.engine import Engine
from service.model.self_check import random_rows
from service.model.streams.comparing import differences, worse
from service.scoring import reference

LOGITS_TOLERANCE = 5e-5
"""Tolerance of a float32 graph's logits."""
GATES_TOLERANCE = 1e-5
"""Tolerance of gates, against the equations in float64."""
INT8_TOLERANCE = 0.5
"""Tolerance of logits, for a fused graph that rounds every input and state to 8 bits."""
BATCH_TOLERANCE = 5e-3
"""Tolerance on probabilities: an int8 model's answer depends on the batch by at most this."""
LENGTHS = (1, 2, 3, 7, 20, 64, 200, 400)
RAGGED = ((8, 40), (64, 30), (16, 200))
"""(rows, longest) of the ragged batches."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was held against another: the largest difference, and the most that it may be."""

    what: str
    found: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.found <= self.limit  # False for NaN


def check(bundle: Bundle, engine: Engine, seed: int = 0) -> tuple[list[Check], str | None]:
    """Every check of a bundle, and why the equations were not checked; None if they were."""
    manifest = bundle.manifest
    parity = manifest.parity
    network = reference.read(bundle)
    unknown = network.unknown()
    graphs = gates = logits = steps = step_gates = 0.0
    reads_streams, whole = unknown is None and manifest.reads_forward, manifest.precision == "int8"
    for rows in batches(manifest.features, np.random.default_rng(seed)):
        fused, traced = engine.predict(rows), engine.trace(rows)
        for number, row in enumerate(rows):
            ours, theirs = _of(manifest, fused, number, row), _of(manifest, traced.logits, number, row)
            graphs = worse(graphs, np.abs(ours - theirs).max())
            if unknown is None and number in (0, len(rows) - 1):
                difference, states = reference.deviation(network, row, traced.gates(number))
                gates = worse(gates, difference)
                logits = worse(logits, np.abs(reference.logits(network, states) - theirs).max())
        if reads_streams:
            # Streams of an int8 model round as model.onnx does; trace.onnx has the rounded weights in float32.
            of_logits, of_gates = differences(engine.network, rows, fused if whole else traced.logits, traced)
            steps, step_gates = worse(steps, of_logits), worse(step_gates, of_gates)
    # Both graphs are within the tolerance of torch, so they are within twice the tolerance of each other.
    both = "logits of model.onnx and of trace.onnx"
    if manifest.gates_graph == MODEL_GRAPH:
        both = "logits of model.onnx with the gates and without them"
    both_limit = 2 * parity.logits_tolerance
    checks = [Check(both, graphs, both_limit)]
    if unknown is None:
        checks.append(Check("gates and their equations in float64", gates, parity.gates_tolerance))
        checks.append(Check("logits and the traced states in float64", logits, LOGITS_TOLERANCE))
    if reads_streams:
        graph = MODEL_GRAPH if whole else manifest.gates_graph
        checks.append(Check(f"logits token by token, as streams are read, and of {graph}", steps, both_limit))
        if not whole:
            limit = 2 * parity.gates_tolerance
            checks.append(Check(f"gates token by token, and of {graph}", step_gates, limit))
    return checks, unknown


def batches(features: Sequence[Feature], generator: np.random.Generator) -> Iterator[list[NDArray[np.int32]]]:
    """Random inputs, each int32 [tokens, columns]: first single inputs of many lengths, then ragged batches."""
    counts = [[length] for length in LENGTHS]
    counts += [generator.integers(1, longest + 1, rows).tolist() for rows, longest in RAGGED]
    for lengths in counts:
        yield random_rows(features, lengths, generator)


def _of(manifest: Manifest, logits: NDArray[np.float32], number: int, row: NDArray[np.int32]) -> NDArray[np.float32]:
    return logits[number, : len(row)] if manifest.head == "tagger" else logits[number]
