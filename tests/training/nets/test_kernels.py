"""Our own passes over time: their hand-written gradients against finite differences and against autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from training.nets.kernels import full_peephole, peephole, reset_before

UNITS = 3


def peephole_by_autograd(sums: Tensor, r: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor) -> Sequence[Tensor]:
    p_i, p_f, p_o = peepholes
    states = []
    for arrived in sums:
        i, f, candidate, o = (arrived + hidden @ r.T).chunk(4, 1)
        i, f = torch.sigmoid(i + p_i * cell), torch.sigmoid(f + p_f * cell)
        cell = f * cell + i * torch.tanh(candidate)
        hidden = torch.sigmoid(o + p_o * cell) * torch.tanh(cell)
        states.append(hidden)
    return torch.stack(states), cell


def full_peephole_by_autograd(
    sums: Tensor, r: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor
) -> Sequence[Tensor]:
    p_i, p_f, p_c, p_o = peepholes.chunk(4)
    states = []
    for arrived in sums:
        i, f, candidate, o = (arrived + hidden @ r.T).chunk(4, 1)
        i, f = torch.sigmoid(i + cell @ p_i.T), torch.sigmoid(f + cell @ p_f.T)
        cell = f * cell + i * torch.tanh(candidate + cell @ p_c.T)
        hidden = torch.sigmoid(o + cell @ p_o.T) * torch.tanh(cell)
        states.append(hidden)
    return torch.stack(states), cell


def reset_before_by_autograd(sums: Tensor, r: Tensor, hidden: Tensor) -> Sequence[Tensor]:
    of_reset, of_keep, of_candidate = r.chunk(3)
    states = []
    for arrived in sums:
        reset, keep, candidate = arrived.chunk(3, 1)
        reset, keep = torch.sigmoid(reset + hidden @ of_reset.T), torch.sigmoid(keep + hidden @ of_keep.T)
        candidate = torch.tanh(candidate + (reset * hidden) @ of_candidate.T)
        hidden = keep * hidden + (1 - keep) * candidate
        states.append(hidden)
    return (torch.stack(states),)


Pass = Callable[..., Tensor | Sequence[Tensor]]
CASES: dict[str, tuple[Pass, Pass, int]] = {
    "peephole": (peephole, peephole_by_autograd, 4),
    "full_peephole": (full_peephole, full_peephole_by_autograd, 4),
    "reset_before": (reset_before, reset_before_by_autograd, 3),
}


def arguments(name: str, time: int, batch: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random tensors in the order in which the pass takes them."""
    generator = torch.Generator().manual_seed(time + batch)
    blocks = CASES[name][2]
    shapes = [(time, batch, blocks * UNITS), (blocks * UNITS, UNITS), (batch, UNITS)]
    if name != "reset_before":
        seen = (3, UNITS) if name == "peephole" else (4 * UNITS, UNITS)
        shapes = [*shapes[:2], seen, (batch, UNITS), (batch, UNITS)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def listed(run: Callable[..., Tensor | Sequence[Tensor]], given: list[Tensor]) -> list[Tensor]:
    found = run(*given)
    return [found] if isinstance(found, Tensor) else list(found)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("time", "batch"), [(1, 1), (1, 3), (5, 2), (9, 1)])
def test_gradients_are_those_of_finite_differences(name: str, time: int, batch: int) -> None:
    assert gradcheck(CASES[name][0], arguments(name, time, batch))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("time", "batch"), [(1, 1), (2, 3), (40, 5)])
def test_states_and_gradients_are_those_of_autograd_over_the_equations(name: str, time: int, batch: int) -> None:
    own, plain, _ = CASES[name]
    given = arguments(name, time, batch)
    ours, theirs = listed(own, given), listed(plain, given)
    wanted = [torch.randn_like(each) for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(each, given, wanted) for each in (ours, theirs)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_two_halves_with_the_state_carried_over_are_the_whole(name: str) -> None:
    own = CASES[name][0]
    sums, *rest = arguments(name, 8, 2)
    weights, states = (rest[:1], rest[1:]) if name == "reset_before" else (rest[:2], rest[2:])
    whole = listed(own, [sums, *weights, *states])
    first = listed(own, [sums[:3], *weights, *states])
    second = listed(own, [sums[3:], *weights, first[0][-1], *first[1:]])
    torch.testing.assert_close(torch.cat([first[0], second[0]]), whole[0])
    given = [sums, *weights, *states]
    once, twice = (torch.autograd.grad(each.square().sum(), given) for each in (whole[0][-1], second[0][-1]))
    for one, other in zip(once, twice, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", CASES)
def test_under_mixed_precision_the_sums_over_time_stay_in_float32(name: str) -> None:
    own = CASES[name][0]
    given = [each.detach().to(torch.bfloat16).requires_grad_() for each in arguments(name, 6, 2, torch.float32)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = listed(own, given)
    wide = listed(own, [each.detach().float() for each in given])
    for one, other in zip(found, wide, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
    gradients = torch.autograd.grad(found[0].sum(), given)
    assert [each.dtype for each in gradients] == [torch.bfloat16] * len(given)


@pytest.mark.parametrize("name", CASES)
def test_no_operation_is_recorded_step_by_step(name: str) -> None:
    found = listed(CASES[name][0], arguments(name, 50, 2))[0]
    assert found.grad_fn is not None
    seen, todo = set(), [found.grad_fn]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [after for after, _ in node.next_functions if after is not None]
    assert len(seen) < 15
