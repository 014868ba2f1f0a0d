"""The running mean of a network's weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.bundles import architecture, network
from training.loop.averaging import Average
from training.nets.networks import Table


def test_the_mean_follows_slowly_and_is_lent_only() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    average = Average(layer, 0.9)
    layer.weight.data.fill_(1.0)
    expected = 0.0
    for step in range(1, 200):
        average.update()
        expected += (1 - min(0.9, step / (step + 9))) * (1 - expected)
    layer.weight.data.fill_(5.0)
    with average.applied():
        assert layer.weight.item() == pytest.approx(expected, abs=1e-5)
    assert layer.weight.item() == 5.0


def test_the_first_steps_keep_less_of_the_old_mean() -> None:
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(0.0)
    average = Average(layer, 0.5)
    expected = 0.0
    for step, kept in enumerate([1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5, 0.5], 1):
        layer.weight.data.fill_(float(step))
        average.update()
        expected = kept * expected + (1 - kept) * step
        with average.applied():
            assert layer.weight.item() == pytest.approx(expected, rel=1e-6), step
        if step == 3:  # a mean from a checkpoint counts its steps on
            resumed = Average(nn.Linear(1, 1, bias=False), 0.5)
            resumed._parameters = average._parameters
            resumed.restore(average.state())
            average = resumed


def test_rows_that_do_not_learn_are_left_alone() -> None:
    net = network(architecture())
    net.learn(5)
    table = net.embeddings["word"]
    assert isinstance(table, Table)
    before = table.weight.detach().clone()
    net.train()
    loss = net(torch.tensor([[[1], [4]]]), torch.tensor([2])).sum()
    torch.autograd.backward(loss)
    assert table.weight.grad is None
    assert table.learned.grad is not None
    torch.optim.SGD([table.learned], 0.5).step()
    assert not torch.equal(table.weight[:5], before[:5]), "in the same memory"
    assert torch.equal(table.weight[5:], before[5:])
    net.to(torch.float64)
    assert table.learned.data_ptr() == table.weight.data_ptr()
