"""One layer of minGRU or minLSTM (Feng et al. 2024, arXiv:2410.01201), both directions in one pass, gradients by hand.

No gate sees the state: ``h_t = (1 - z_t) * h_{t-1} + z_t * h~_t``. A minGRU has ``z_t = sigmoid(W_z x_t + b_z)`` and
``h~_t = tanh(W_h x_t + b_h)``; a minLSTM is this with ``z_t = i_t / (f_t + i_t)``. The recurrence is computed as it
stands, one operation a step. The paper trains in log space, which is slower on a CPU and loses up to 15 % of the
gradients at 2,000 steps to cancellation.

The pass works in blocks of `BLOCK` steps: the products with the input, the gates, the steps and, going back, the
gradients of a block are computed while the block lies in the processor's cache. The backward reader runs over the rows
as they lie, from the last column to the first. In the padding its z is 0, so that its state stays 0 until the row's
last token: no row is turned round.

Shapes: time first, inputs [time, batch, inputs]; weights [blocks * units, inputs] and biases [blocks * units] of each
direction, blocks update, candidate (minGRU) or forget, input, candidate (minLSTM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

BLOCK = 32
"""Steps that are computed together: 32 x 32 x 128 floats are 0.5 MB."""
LEAST = -80.0
"""The least pre-activation of a minLSTM's two gates: below it both sigmoids would leave float32's range, and their
quotient would be 0 / 0."""

_Context = Any


def minimal(inputs: Tensor, lengths: Tensor | None, hidden: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Hidden states [time, batch, units of all directions], the forward reader's first.

    `weights` are W and b of the forward reader, then of the backward one if there is one. `lengths` [batch] are
    read for a backward reader only, which needs them. `hidden` [batch, units] is the state that the forward reader
    begins with. W has 2 * units rows for minGRU and 3 * units rows for minLSTM.
    """
    tensors = (inputs.contiguous(), hidden, *weights)
    wide = torch.promote_types(inputs.dtype, torch.float32)
    if len(weights) > 2 and lengths is None:
        raise ValueError("a backward reader needs the lengths of the rows")
    with torch.autocast(inputs.device.type, enabled=False):
        # Under mixed precision too, sums over many steps are in float32.
        states: Tensor = _Minimal.apply(lengths, *(each.to(wide) for each in tensors))  # type: ignore[no-untyped-call]  # torch has none
    return states


class _Minimal(Function):
    @staticmethod
    def forward(ctx: _Context, lengths: Tensor | None, x: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        time, batch, _ = x.shape
        units = hidden.shape[1]
        ways = len(weights) // 2
        rows = weights[0].shape[0]
        states = x.new_empty(time, batch, ways * units)
        gates = [x.new_empty(time, batch, rows) for _ in range(ways)]
        updates = gates if rows == 2 * units else [x.new_empty(time, batch, units) for _ in range(ways)]
        zero = torch.zeros_like(hidden)
        shortest = time if lengths is None else int(lengths.min())
        for way in range(ways):
            w, b = weights[2 * way : 2 * way + 2]
            z, candidate = updates[way][..., :units], gates[way][..., -units:]
            own = states[..., way * units : (way + 1) * units]
            hiddens, zs, candidates = own.unbind(0), z.unbind(0), candidate.unbind(0)
            before = zero if way else hidden
            for steps in _blocks(time, backward=way == 1):
                _gates(x[steps], w, b, gates[way][steps], updates[way][steps], units)
                if way and steps.stop > shortest:
                    z[steps].masked_fill_(_padding(steps, lengths), 0.0)
                for t in _order(steps, backward=way == 1):
                    before = torch.lerp(before, candidates[t], zs[t], out=hiddens[t])
        ctx.save_for_backward(x, hidden, states, *gates, *(updates if updates is not gates else ()), *weights)
        ctx.ways = ways
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, d_states: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, states, *rest = ctx.saved_tensors
        ways: int = ctx.ways
        weights = rest[-2 * ways :]
        gates = rest[:ways]
        time, batch, _ = x.shape
        units = hidden.shape[1]
        rows = weights[0].shape[0]
        updates = gates if rows == 2 * units else rest[ways : 2 * ways]
        d_x = torch.empty_like(x)
        d_weights = [torch.zeros_like(each) for each in weights]
        d_before = zero = torch.zeros_like(hidden)
        # one block: the gradient at each state, the factor to the state before, and the order of the states
        arrived, passed, moves = x.new_empty(3, min(BLOCK, time), batch, units).unbind(0)
        d_sums = x.new_empty(min(BLOCK, time), batch, rows)
        for way in reversed(range(ways)):
            w, backward = weights[2 * way], way == 1
            own = slice(way * units, (way + 1) * units)
            z, h = updates[way][..., :units], states[..., own]
            arriving, zs, at, goes_on = d_states[..., own].unbind(0), z.unbind(0), arrived.unbind(0), passed.unbind(0)
            first, d_before = zero if backward else hidden, zero
            for steps in reversed(_blocks(time, backward=backward)):
                here = slice(0, steps.stop - steps.start)
                for t in reversed(_order(steps, backward=backward)):
                    one = at[t - steps.start]
                    torch.add(arriving[t], d_before, out=one)
                    d_before = torch.addcmul(one, one, zs[t], value=-1, out=goes_on[t - steps.start])
                _moves(h, steps, first, moves[here], backward=backward)
                _to_sums(gates[way][steps], z[steps], arrived[here], passed[here], moves[here], d_sums[here])
                flat, read = d_sums[here].view(-1, rows), x[steps].view(-1, x.shape[2])
                d_weights[2 * way].addmm_(flat.t(), read)
                d_weights[2 * way + 1] += flat.sum(0)
                into = d_x[steps].view(-1, x.shape[2])
                if way == ways - 1:
                    torch.mm(flat, w, out=into)
                else:
                    into.addmm_(flat, w)
        return None, d_x, d_before.clone(), *d_weights


def _blocks(time: int, *, backward: bool) -> list[slice]:
    """The blocks of steps in the order in which a direction reads them."""
    found = [slice(start, min(start + BLOCK, time)) for start in range(0, time, BLOCK)]
    return found[::-1] if backward else found


def _order(steps: slice, *, backward: bool) -> range:
    """The steps of a block in the order in which a direction reads them."""
    return range(steps.stop - 1, steps.start - 1, -1) if backward else range(steps.start, steps.stop)


def _padding(steps: slice, lengths: Tensor | None) -> Tensor:
    """[steps, batch, 1], true past a row's end."""
    assert lengths is not None
    return (torch.arange(steps.start, steps.stop, device=lengths.device)[:, None] >= lengths)[..., None]


def _gates(x: Tensor, w: Tensor, b: Tensor, gates: Tensor, updates: Tensor, units: int) -> None:
    """The gates and candidates of a block, in place: gates [steps, batch, blocks * units] as W and b have them, and
    update [steps, batch, units]."""
    torch.addmm(b, x.flatten(0, 1), w.t(), out=gates.view(-1, w.shape[0]))
    gates[..., -units:].tanh_()
    if gates is updates or w.shape[0] == 2 * units:
        gates[..., :units].sigmoid_()
        return
    both = gates[..., : 2 * units].clamp_min_(LEAST).sigmoid_()
    f, i = both[..., :units], both[..., units:]
    torch.add(f, i, out=updates)
    torch.div(i, updates, out=updates)


def _to_sums(gates: Tensor, z: Tensor, arrived: Tensor, passed: Tensor, moves: Tensor, out: Tensor) -> None:
    """The gradients of a block's pre-activations, [steps, batch, blocks * units]; `arrived` and `moves` are used up."""
    units = z.shape[2]
    # Neither h~ nor 1 - z is needed for z's gradient: z (h~ - h_{t-1}) is h_t - h_{t-1}.
    if gates.shape[2] == 2 * units:
        torch.mul(passed, moves, out=out[..., :units])
    else:
        q, f, i = moves.mul_(passed), gates[..., :units], gates[..., units : 2 * units]
        torch.addcmul(q, q, f, value=-1, out=out[..., :units]).neg_()
        torch.addcmul(q, q, i, value=-1, out=out[..., units : 2 * units])
    torch.ops.aten.tanh_backward.grad_input(arrived.mul_(z), gates[..., -units:], grad_input=out[..., -units:])


def _moves(h: Tensor, steps: slice, first: Tensor, out: Tensor, *, backward: bool) -> None:
    """How far each state of a block is from the one before it, in the order of reading: [steps, batch, units]."""
    start, stop, time = steps.start, steps.stop, len(h)
    if backward:
        inner = min(stop, time - 1)  # the reader begins at the last column
        torch.sub(h[start:inner], h[start + 1 : inner + 1], out=out[: inner - start])
        if stop == time:
            torch.sub(h[-1], first, out=out[-1])
    else:
        inner = max(start, 1)
        torch.sub(h[inner:stop], h[inner - 1 : stop - 1], out=out[inner - start :])
        if start == 0:
            torch.sub(h[0], first, out=out[0])
