"""Distributions of what gates do: how they are counted, kept, and held against each other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.model.engine import GateKey
from service.model.gate_drift import BOUNDS, ENOUGH_TEXTS, Tally, drift, drifts, figures, observe, restored
from training.scoring.gate_drift import stored


def gates(value: float, tokens: int = 4, units: int = 5) -> dict[GateKey, NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.02, (tokens, units))
    names = ("forget", "input", "output", "candidate", "cell", "hidden")
    return {(0, "forward", name): (value + noise).astype(np.float32) for name in names}


def tally(value: float, texts: int = ENOUGH_TEXTS) -> Tally:
    made = Tally()
    for _ in range(texts):
        made.add(observe("lstm", gates(value)), 4)
    return made


def test_every_unit_of_every_text_is_one_observation() -> None:
    made = tally(0.95, texts=3)
    assert (made.texts, made.tokens) == (3, 12)
    for (_, _, gate, what), counts in made.counts.items():
        assert len(counts.bins) == len(BOUNDS[what]) + 1
        assert counts.bins.sum() == 3 * 5
        assert what == "activation" or (what == "horizon") is (gate == "forget" and what == "horizon")
    assert made.counts[0, "forward", "forget", "above"].mean == pytest.approx(1.0, abs=0.11)
    assert made.counts[0, "forward", "forget", "activation"].mean == pytest.approx(0.95, abs=0.02)
    assert made.counts[0, "forward", "forget", "horizon"].mean == pytest.approx(-1 / np.log(0.95), rel=0.4)
    assert (0, "forward", "cell", "below") not in made.counts


def test_an_observation_on_a_bound_belongs_below_it() -> None:
    exact: dict[GateKey, NDArray[np.float32]] = {(0, "forward", "forget"): np.full((2, 1), 0.5, np.float32)}
    bins = observe("lstm", exact)[0, "forward", "forget", "activation"].bins
    assert bins.argmax() == BOUNDS["activation"].index(0.5)


def test_a_manifest_keeps_a_tally() -> None:
    made = tally(0.6)
    back = restored(stored("dev", made))
    assert (back.texts, back.tokens, back.counts.keys()) == (made.texts, made.tokens, made.counts.keys())
    for key, counts in made.counts.items():
        assert back.counts[key].bins.tolist() == counts.bins.tolist()
        assert back.counts[key].sum == pytest.approx(counts.sum)
    assert figures(back) == figures(made)


def test_drift_is_zero_for_the_same_and_large_for_others() -> None:
    same = np.array([10.0, 30.0, 5.0])
    assert drift(same, same) == 0
    assert drift(same, same[::-1].copy()) > 0.1
    assert drift(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(np.log(3))  # (3/4 - 1/4) ln 3, twice
    assert max(drifts(tally(0.6), tally(0.6)).values()) == 0
    assert drifts(tally(0.6), tally(0.3))[0, "forward", "forget"] > 0.25


def test_few_texts_say_nothing_of_drift() -> None:
    assert drifts(tally(0.6), tally(0.3, texts=ENOUGH_TEXTS - 1)) == {}
