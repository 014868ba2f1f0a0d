"""A bundle's parity certificate, done again without torch: what can be held against what, on this machine.

Both graphs are run on the same random batches. The fused graph's logits must be the trace graph's; each traced gate
must follow, in float64, from the cell's equations, its row's input and the states of the row before; and the logits
must follow from the traced states. The weights are read from the bundle's file in ONNX's layout, so this is independent
of the graphs' operators. That the weights are those that were trained, only training can say: it compared with torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from service.bundle import WEIGHTS, Bundle, Manifest
from service.engine import Engine, GateKey
from service.equations import Direction
from service.scoring import reference
from service.scoring.reference import Float64, Stored

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
    """Every check of a bundle, and why the equations were not checked; None where they were."""
    manifest = bundle.manifest
    parity = manifest.parity
    stored = load_file(bundle.file(WEIGHTS))
    unknown = _unknown(manifest, stored)
    generator = np.random.default_rng(seed)
    graphs = gates = logits = 0.0
    for rows in _batches(manifest, generator):
        fused, traced = engine.predict(rows), engine.trace(rows)
        for number, row in enumerate(rows):
            ours, theirs = _of(manifest, fused, number, row), _of(manifest, traced.logits, number, row)
            graphs = _worse(graphs, np.abs(ours - theirs))
            if unknown is None and number in (0, len(rows) - 1):
                found = {key: array.astype(np.float64) for key, array in traced.gates(number).items()}
                states, difference = _gates(manifest, stored, row, found)
                gates = _worse(gates, np.array(difference))
                logits = _worse(logits, np.abs(reference.head(manifest, stored, states) - theirs))
    # Both graphs were within the tolerance of torch: of each other they are within twice that.
    checks = [Check("logits of model.onnx and of trace.onnx", graphs, 2 * parity.logits_tolerance)]
    if unknown is None:
        checks.append(Check("gates and their equations in float64", gates, parity.gates_tolerance))
        checks.append(Check("logits and the traced states in float64", logits, parity.logits_tolerance))
    return checks, unknown


def _unknown(manifest: Manifest, stored: Stored) -> str | None:
    """Why `reference` cannot follow a network; None when it can."""
    extra = sorted(set(stored) - reference.names(manifest))
    return f"the network has parts that have no reference here: {', '.join(extra)}" if extra else None


def _batches(manifest: Manifest, generator: np.random.Generator) -> Iterator[list[NDArray[np.int32]]]:
    sizes = [feature.size for feature in manifest.features for _ in range(feature.columns)]
    counts = [[length] for length in LENGTHS]
    counts += [generator.integers(1, longest + 1, rows).tolist() for rows, longest in RAGGED]
    for lengths in counts:
        yield [generator.integers(0, sizes, (length, len(sizes))).astype(np.int32) for length in lengths]


def _of(manifest: Manifest, logits: NDArray[np.float32], number: int, row: NDArray[np.int32]) -> NDArray[np.float32]:
    return logits[number, : len(row)] if manifest.head == "tagger" else logits[number]


def _worse(worst: float, differences: NDArray[np.floating]) -> float:
    """The larger; NaN where there is one."""
    return float(np.maximum(worst, differences.max()))


def _gates(
    manifest: Manifest, stored: Stored, row: NDArray[np.int32], found: Mapping[GateKey, Float64]
) -> tuple[Float64, float]:
    """The top layer's traced states [tokens, units of all directions], and how far any gate is from its equation,
    relative to values over 1."""
    inputs = reference.embed(manifest, stored, row)
    weights = {name: array.astype(np.float64) for name, array in stored.items() if name.startswith("recurrent.")}
    worst = 0.0
    for layer in range(manifest.layers):
        states = []
        for way, direction in enumerate(manifest.directions):
            rows = {gate: array for (n, d, gate), array in found.items() if (n, d) == (layer, direction)}
            before: dict[str, Float64] = {
                name: _before(rows[name], direction) for name in ("hidden", "cell") if name in rows
            }
            parts = {part: weights[name][way] for part in "WRBP" if (name := f"recurrent.{layer}.{part}") in weights}
            expected = reference.step(manifest, parts, inputs, before)
            for gate, array in rows.items():
                difference = np.abs(expected[gate] - array) / np.maximum(1, np.abs(expected[gate]))
                worst = _worse(worst, difference)
            states.append(rows["hidden"])
        inputs = np.concatenate(states, axis=1)
    return inputs, worst


def _before(states: Float64, direction: Direction) -> Float64:
    """The states that each row began with: those of the row read before it, zero for the first."""
    shifted = np.zeros_like(states)
    if direction == "forward":
        shifted[1:] = states[:-1]
    else:
        shifted[:-1] = states[1:]
    return shifted


def lines(checks: Sequence[Check]) -> Iterator[str]:
    """The checks for people."""
    for each in checks:
        yield f"{'ok  ' if each.ok else 'FAIL'}  {each.what}: {each.found:.1e}, the limit is {each.limit:.0e}"
