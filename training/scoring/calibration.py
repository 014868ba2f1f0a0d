"""Calibrated probabilities: the calibration error, and the temperature that lowers it (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from training.nets.networks import Network

BINS = 15
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 161))


def calibration_error(confidence: Sequence[float], right: Sequence[bool] | NDArray[np.bool_]) -> float:
    """The expected calibration error: how far confidence is from the share that is right, over `BINS` equal bins.

    Raises `ValueError` for nothing to measure.
    """
    if not len(confidence):
        raise ValueError("there is nothing to measure")
    scores, hits = np.asarray(confidence, float), np.asarray(right, float)
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, scores - hits, BINS)
    return float(np.abs(gaps).sum() / len(scores))


def error_by_chance(confidence: Sequence[float], draws: int = 200) -> float:
    """The calibration error that answers with these scores have on average when the scores are perfectly right.

    It is not 0: each bin's share of right answers strays from its mean, the more the fewer answers there are.
    """
    scores, generator = np.asarray(confidence, float), np.random.default_rng(0)
    return float(np.mean([calibration_error(confidence, generator.random(len(scores)) < scores) for _ in range(draws)]))


def temperature(loss: Callable[[float], float]) -> float:
    """The temperature of `TEMPERATURES` with the lowest loss. The search by thirds works because the loss has one
    minimum."""
    low, high = 0, len(TEMPERATURES) - 1
    known: dict[int, float] = {}

    def at(position: int) -> float:
        if position not in known:
            known[position] = loss(float(TEMPERATURES[position]))
        return known[position]

    while high - low > 3:
        third = (high - low) // 3
        if at(low + third) <= at(high - third):
            high -= third
        else:
            low += third
    return float(TEMPERATURES[min(range(low, high + 1), key=at)])


@torch.no_grad()
def fold(network: Network, by: float) -> None:
    """Divide the head's weights and the CRF's scores by a temperature: the logits, their softmax and each token's share
    of them all follow, and no answer's label changes."""
    for parameter in (network.head.weight, network.head.bias):
        parameter.div_(by)
    if network.crf is not None:
        for parameter in (network.crf.transitions, network.crf.start):
            parameter.div_(by)
