"""The steps of streams compared with the graphs: the same texts, read token by token, must give the same numbers.

The step is code of its own, so it is certified like the graphs: at every export, by ``check``, and on a short text
before a bundle serves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.model.engine import Trace
from service.model.network import Network
from service.model.reference import difference
from service.model.streams.stepping import StepJob, Stepper


def differences(
    network: Network, rows: Sequence[NDArray[np.int32]], logits: NDArray[np.float32], trace: Trace
) -> tuple[float, float]:
    """Read a batch as streams, each in two pieces. Returns the largest differences of logits and of gates.

    They are relative to values over 1, and NaN if a number is NaN.
    `rows` are int32 [tokens, columns of all features]; `logits` [batch, labels], or [batch, time, labels] for a tagger;
    `trace` has the batch's gates. The network must read forward only.
    """
    stepper = Stepper(network)
    tagger = network.manifest.head == "tagger"
    of_logits = of_gates = 0.0
    tokens = [[token.tobytes() for token in row] for row in rows]
    halves = [(len(row) + 1) // 2 for row in rows]  # the second piece begins from the state of the first
    firsts = stepper.run([StepJob(row[:half], stepper.start, True) for row, half in zip(tokens, halves, strict=True)])
    longer = [number for number, row in enumerate(tokens) if len(row) > 1]
    pieces = [[first] for first in firsts]
    seconds = [StepJob(tokens[number][halves[number] :], firsts[number].state, True) for number in longer]
    for number, second in zip(longer, stepper.run(seconds) if longer else (), strict=True):
        pieces[number].append(second)
    for number, parts in enumerate(pieces):
        found = np.array([each for part in parts for each in part.logits], np.float32)  # [tokens, labels]
        expected = logits[number, : len(found)] if tagger else logits[number]
        of_logits = worse(of_logits, difference(expected, found if tagger else found[-1]))
        steps = [(each, part.place) for part in parts for each in (part.gates or ())[: len(part.logits)]]
        for (layer, gate), emitted in trace.emitted.items():  # [time, directions, batch, units]
            own = np.stack([layers[layer][gate][place] for layers, place in steps])
            of_gates = worse(of_gates, difference(emitted[: len(own), 0, number], own))
    return of_logits, of_gates


def worse(one: float, other: float) -> float:
    """The larger; NaN if one is NaN, which Python's maximum would drop."""
    return float(np.maximum(one, other))
