"""Calibration: the error's definition, and the temperature that mends it."""

from __future__ import annotations

import numpy as np
import pytest

from service.model.decoding import log_softmax
from training.scoring.calibration import calibration_error, error_by_chance, temperature


def test_the_error_is_the_mean_gap_over_bins() -> None:
    assert calibration_error([1.0, 1.0, 0.5, 0.5], [True, True, True, False]) == 0.0
    assert calibration_error([0.9, 0.9], [True, False]) == pytest.approx(0.4)
    assert calibration_error([0.9, 0.1], [False, True]) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="nothing"):
        calibration_error([], [])


@pytest.mark.parametrize("made", [0.4, 1.0, 2.5])
def test_logits_get_back_the_temperature_that_made_them(made: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3))
    targets = np.array([generator.choice(3, p=row) for row in np.exp(log_softmax(logits))])

    def loss(by: float) -> float:
        return -float(log_softmax(made * logits / by)[np.arange(len(targets)), targets].mean())

    assert temperature(loss) == pytest.approx(made, rel=0.05)


def test_perfect_scores_have_an_error_too_and_the_smaller_the_more_there_are() -> None:
    few, many = (error_by_chance(np.linspace(0.3, 0.99, count).tolist()) for count in (300, 30_000))
    assert 0.03 < few < 0.12
    assert many < few / 5
    assert error_by_chance([1.0, 1.0]) == 0.0
