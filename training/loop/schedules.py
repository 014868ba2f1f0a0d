"""Optimisers and learning rates, by the names that people know."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

OptimiserName = Literal["adam", "adamw", "nadam", "sgd"]
ScheduleName = Literal["constant", "linear", "cosine", "one-cycle"]
OPTIMISERS: tuple[OptimiserName, ...] = get_args(OptimiserName)
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)

_RISE, _START, _END = 0.3, 1 / 25, 1e-4
_MOMENTUM = 0.9


def optimiser(name: OptimiserName, parameters: ParamsT, rate: float, decay: float) -> Optimizer:
    """Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), NAdam (Dozat 2016), or SGD with momentum 0.9.

    `decay` shrinks the weights: for AdamW by that share of the rate at each step, for the others as an L2 term.
    """
    match name:
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
        case "nadam":
            return torch.optim.NAdam(parameters, lr=rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=_MOMENTUM, weight_decay=decay)


def factor(name: ScheduleName, done: float, warm_up: float = 0.0) -> float:
    """The share of the full learning rate for a step before which `done` of the training, 0 to under 1, has passed.

    During the first `warm_up` of the training the rate rises in a straight line (Goyal et al. 2017); one-cycle has a
    rise of its own. No step has a rate of 0, the last neither: a batch is never read for nothing.
    """
    if name == "one-cycle":
        return _one_cycle(done)
    if done < warm_up:
        # Counted from a little above 0, so that the first step moves too.
        return (done + 0.01 * warm_up) / (1.01 * warm_up)
    shapes: dict[ScheduleName, Callable[[float], float]] = {
        "constant": lambda _: 1.0,
        "linear": lambda share: 1 - share,
        "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    }
    return shapes[name]((done - warm_up) / (1 - warm_up))


def _one_cycle(done: float) -> float:
    """Up from 1/25 along half a cosine over the first 0.3, then down towards 1/10,000 (Smith and Topin 2019)."""
    if done < _RISE:
        return _START + (1 - _START) * 0.5 * (1 - math.cos(math.pi * done / _RISE))
    return _END + (1 - _END) * 0.5 * (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE)))
