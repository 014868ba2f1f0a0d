"""The layer of minGRU and minLSTM: hand-written gradients, both directions at once, blocks, padding, precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck

from training.nets import minimal as pass_
from training.nets.minimal import minimal

INPUTS, UNITS = 4, 3
BLOCKS = {"mingru": 2, "minlstm": 3}


def by_autograd(inputs: Tensor, lengths: Tensor | None, hidden: Tensor, weights: list[Tensor]) -> Tensor:
    """The equations as they stand, one row and one step at a time."""
    time, batch, _ = inputs.shape
    ways = []
    for way, (w, b) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        rows = []
        for row in range(batch):
            length = time if lengths is None else int(lengths[row])
            h = torch.zeros_like(hidden[row]) if way else hidden[row]
            states: dict[int, Tensor] = {}
            for t in range(length - 1, -1, -1) if way else range(time):
                blocks = (w @ inputs[t, row] + b).chunk(len(w) // hidden.shape[1])
                if len(blocks) == 2:
                    z = torch.sigmoid(blocks[0])
                else:
                    f, i = torch.sigmoid(blocks[0]), torch.sigmoid(blocks[1])
                    z = i / (f + i)
                h = (1 - z) * h + z * torch.tanh(blocks[-1])
                states[t] = h
            rows.append(torch.stack([states.get(t, torch.zeros_like(h)) for t in range(time)]))
        ways.append(torch.stack(rows, dim=1))
    return torch.cat(ways, dim=2)


def arguments(
    blocks: int, ways: int, time: int, batch: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Random inputs, ragged lengths (the first row is the longest, the last of length 1), state and weights."""
    generator = torch.Generator().manual_seed(17 * time + batch)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    lengths = torch.linspace(time, 1, batch).round().long()
    weights = [random(*shape) for _ in range(ways) for shape in ((blocks * UNITS, INPUTS), (blocks * UNITS,))]
    return random(time, batch, INPUTS), lengths, random(batch, UNITS), weights


@pytest.fixture(params=[2, 32], ids=["blocks-of-2", "blocks-of-32"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks shorter than the sequence, that do not divide it, and longer ones."""
    monkeypatch.setattr(pass_, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("cell", BLOCKS)
@pytest.mark.parametrize(("time", "batch"), [(1, 1), (1, 3), (5, 2), (6, 1)])
def test_gradients_are_those_of_finite_differences(cell: str, ways: int, time: int, batch: int) -> None:
    inputs, lengths, hidden, weights = arguments(BLOCKS[cell], ways, time, batch)

    def run(inputs: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        return minimal(inputs, lengths, hidden, weights)

    assert gradcheck(run, (inputs, hidden, *weights))


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("cell", BLOCKS)
@pytest.mark.parametrize(("time", "batch"), [(1, 2), (40, 5)])
def test_states_and_gradients_are_those_of_autograd_over_the_equations(
    cell: str, ways: int, time: int, batch: int
) -> None:
    inputs, lengths, hidden, weights = arguments(BLOCKS[cell], ways, time, batch)
    wanted = torch.randn(time, batch, ways * UNITS, dtype=torch.float64)
    found = []
    for run in (minimal, by_autograd):
        states = run(inputs, lengths, hidden, weights)
        found.append([states, *torch.autograd.grad(states, [inputs, hidden, *weights], wanted)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_backward_readers_states_are_zero_in_the_padding() -> None:
    inputs, lengths, hidden, weights = arguments(2, 2, 9, 4)
    states = minimal(inputs, lengths, hidden, weights)[..., UNITS:]
    for row, length in enumerate(lengths.tolist()):
        assert not states[length:, row].any()
        assert states[:length, row].all()


@pytest.mark.parametrize("cell", BLOCKS)
def test_a_padded_batch_gives_each_row_what_it_gets_alone(cell: str) -> None:
    inputs, lengths, hidden, weights = arguments(BLOCKS[cell], 2, 70, 6)
    wanted = torch.randn(70, 6, 2 * UNITS, dtype=torch.float64)
    wanted *= (torch.arange(70)[:, None] < lengths)[..., None]
    together = minimal(inputs, lengths, hidden, weights)
    gradients = torch.autograd.grad(together, [inputs, hidden], wanted)
    for row, length in enumerate(lengths.tolist()):
        one, own = inputs[:length, row : row + 1], hidden[row : row + 1]
        alone = minimal(one, lengths[row : row + 1], own, weights)
        torch.testing.assert_close(together[:length, row], alone[:, 0], rtol=0, atol=1e-14)
        mine = torch.autograd.grad(alone, [one, own], wanted[:length, row : row + 1])
        torch.testing.assert_close(gradients[0][:length, row], mine[0][:, 0], rtol=0, atol=1e-13)
        torch.testing.assert_close(gradients[1][row], mine[1][0], rtol=0, atol=1e-13)
        assert not gradients[0][length:, row].any(), "no gradient reaches the padding"


def test_a_state_carried_over_is_the_whole_and_its_gradient_too() -> None:
    inputs, _, hidden, weights = arguments(3, 1, 50, 2)
    whole = minimal(inputs, None, hidden, weights)
    first = minimal(inputs[:17], None, hidden, weights)
    second = minimal(inputs[17:], None, first[-1], weights)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    given = [inputs, hidden, *weights]
    once, twice = (torch.autograd.grad(each[-1].square().sum(), given, retain_graph=True) for each in (whole, second))
    for one, other in zip(once, twice, strict=True):
        torch.testing.assert_close(one, other)


def test_a_backward_reader_needs_the_lengths() -> None:
    inputs, _, hidden, weights = arguments(2, 2, 3, 1)
    with pytest.raises(ValueError, match="lengths"):
        minimal(inputs, None, hidden, weights)


def test_two_gates_that_are_both_shut_share_what_there_is_to_share() -> None:
    # sigmoid(-200) is 0 in float32: the quotient would be 0 / 0.
    inputs = torch.ones(4, 1, 1)
    weights = [torch.tensor([[-200.0], [-200.0], [1.0]]), torch.zeros(3)]
    states = minimal(inputs, None, torch.zeros(1, 1), weights)[:, 0, 0]
    assert states.numpy() == pytest.approx(np.tanh(1) * np.array([1 / 2, 3 / 4, 7 / 8, 15 / 16]), rel=1e-6)


def test_under_mixed_precision_the_sums_over_time_stay_in_float32() -> None:
    inputs, lengths, hidden, weights = arguments(2, 2, 6, 2, torch.float32)
    low = [each.detach().to(torch.bfloat16).requires_grad_() for each in (inputs, hidden, *weights)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = minimal(low[0], lengths, low[1], low[2:])
    assert found.dtype == torch.float32
    wide = minimal(low[0].float(), lengths, low[1].float(), [each.float() for each in low[2:]])
    assert torch.equal(found, wide)
    assert {each.dtype for each in torch.autograd.grad(found.sum(), low)} == {torch.bfloat16}


# Precision over 2,000 steps: the largest error over the largest value, against float64.

STEPS, MANY = 2000, 64
LIMIT = 2e-6


def exact(
    x: NDArray[np.float64], w: NDArray[np.float64], b: NDArray[np.float64], arriving: NDArray[np.float64], blocks: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """States [time, units] and the gradient at the inputs [time, inputs] in float64, from the equations alone."""
    units = len(w) // blocks
    sums = (x @ w.T + b).reshape(len(x), blocks, units)
    gates = 1 / (1 + np.exp(-sums[:, :-1]))
    z = gates[:, 0] if blocks == 2 else gates[:, 1] / gates.sum(1)
    c = np.tanh(sums[:, -1])
    h, before = np.zeros((len(x), units)), np.zeros((len(x), units))
    for t in range(len(x)):
        before[t] = h[t - 1] if t else 0
        h[t] = before[t] + z[t] * (c[t] - before[t])
    g, after = np.zeros_like(h), np.zeros(units)
    for t in range(len(x) - 1, -1, -1):
        g[t] = arriving[t] + after
        after = (1 - z[t]) * g[t]
    d_z = g * (c - before)
    d_sums = np.zeros_like(sums)
    d_sums[:, -1] = g * z * (1 - c * c)
    if blocks == 2:
        d_sums[:, 0] = d_z * z * (1 - z)
    else:
        d_sums[:, 1] = d_z * z * (1 - z) * (1 - gates[:, 1])
        d_sums[:, 0] = -d_z * z * (1 - z) * (1 - gates[:, 0])
    return h, d_sums.reshape(len(x), -1) @ w


@pytest.mark.parametrize("cell", BLOCKS)
@pytest.mark.parametrize("bias", [0.0, -4.6, -9.0, 4.6])
def test_float32_keeps_its_precision_over_2000_steps(cell: str, bias: float) -> None:
    """At memories of two steps, of 100 and of 8,000."""
    generator, blocks = np.random.default_rng(5), BLOCKS[cell]
    x = generator.normal(size=(STEPS, MANY)) / 8
    w, b = generator.normal(size=(blocks * MANY, MANY)), np.zeros(blocks * MANY)
    b[MANY * (blocks - 2) : MANY * (blocks - 1)] = bias  # of the gate that takes in
    x, w, b = (each.astype(np.float32).astype(np.float64) for each in (x, w, b))
    arriving = generator.normal(size=(STEPS, MANY)).astype(np.float32)
    inputs = torch.from_numpy(x).float()[:, None].requires_grad_()
    weights = [torch.from_numpy(each).float() for each in (w, b)]
    states = minimal(inputs, None, torch.zeros(1, MANY), weights)
    (d_x,) = torch.autograd.grad(states, inputs, torch.from_numpy(arriving)[:, None])
    h, expected = exact(x, w, b, arriving.astype(np.float64), blocks)
    assert np.abs(states.detach()[:, 0].numpy() - h).max() / np.abs(h).max() < LIMIT
    assert np.abs(d_x[:, 0].numpy() - expected).max() / np.abs(expected).max() < LIMIT
