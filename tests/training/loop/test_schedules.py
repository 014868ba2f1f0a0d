"""Learning rates over a training, and what the optimisers are."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from training.loop.schedules import OPTIMISERS, SCHEDULES, OptimiserName, ScheduleName, factor, optimiser

STEPS = 200


def rates(name: ScheduleName, warm_up: float = 0.0) -> list[float]:
    return [factor(name, step / STEPS, warm_up) for step in range(STEPS)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warm_up", [0.0, 0.1])
def test_no_step_is_for_nothing_and_none_is_over_the_full_rate(name: ScheduleName, warm_up: float) -> None:
    assert all(0 < rate <= 1 for rate in rates(name, warm_up))
    assert max(rates(name, warm_up)) == pytest.approx(1, abs=0.01)


def test_shapes() -> None:
    assert rates("constant") == [1.0] * STEPS
    assert rates("linear")[:2] == [1.0, 1 - 1 / STEPS]
    assert rates("cosine")[STEPS // 2] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(rates("cosine")))
    assert rates("cosine")[-1] == pytest.approx(0.5 * (1 - torch.cos(torch.tensor(torch.pi / STEPS)).item()), rel=1e-3)
    cycle = rates("one-cycle")
    assert cycle[0] == pytest.approx(1 / 25)
    assert cycle.index(max(cycle)) == 0.3 * STEPS


def test_the_warm_up_rises_in_a_straight_line_to_the_full_rate() -> None:
    rising = rates("linear", warm_up=0.5)[: STEPS // 2]
    steps = [later - earlier for earlier, later in pairwise(rising)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert rates("linear", warm_up=0.5)[STEPS // 2] == 1.0
    assert rates("cosine", warm_up=0.5)[3 * STEPS // 4] == pytest.approx(0.5)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_goes_downhill(name: OptimiserName) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    steps = optimiser(name, [weight], 0.05, 0.0)
    for _ in range(200):
        steps.zero_grad()
        weight.square().sum().backward()
        steps.step()
    assert abs(float(weight.detach())) < 0.5


@pytest.mark.parametrize("name", OPTIMISERS)
def test_weights_decay_where_there_is_no_gradient(name: OptimiserName) -> None:
    weight = nn.Parameter(torch.tensor([3.0]))
    steps = optimiser(name, [weight], 0.01, 0.1)
    for _ in range(5):
        weight.grad = torch.zeros(1)
        steps.step()
    assert float(weight.detach()) < 3.0
