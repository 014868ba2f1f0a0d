"""Forward and backward passes over time for the cells that torch has no fused kernel for, written out by hand.

The input's product is one matrix product over all steps. A forward step is the recurrent product and a few element-wise
operations on all gates at once. Going back, everything that does not depend on the arriving gradient is computed for
all steps together, so that a step costs again one product and four or five operations; the gradients of the weights are
one product over all steps. Autograd itself would keep a node for every operation of every step.

Shapes: time first, [time, batch, …]; blocks of units are stacked in the order that each function names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_Context = Any


def peephole(sums: Tensor, r: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM with peepholes (Gers and Schmidhuber 2000); blocks input, forget, candidate, output.

    sums [time, batch, 4 * units] are ``W x + b``, r [4 * units, units], peepholes [3, units] of the input, forget and
    output gate, hidden and cell [batch, units] the states to begin with. Returns all hidden states
    [time, batch, units] and the last cell state [batch, units].
    """
    states: tuple[Tensor, Tensor] = _full_precision(_Peephole, sums, r, peepholes, hidden, cell)
    return states


def full_peephole(sums: Tensor, r: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """An LSTM with gates and candidate that see the whole cell through matrices; blocks input, forget, candidate,
    output.

    As `peephole`, with peepholes [4 * units, units], rows in the order of the blocks. The first three blocks see the
    cell state before the step, the output gate the one after it.
    """
    states: tuple[Tensor, Tensor] = _full_precision(_FullPeephole, sums, r, peepholes, hidden, cell)
    return states


def reset_before(sums: Tensor, r: Tensor, hidden: Tensor) -> Tensor:
    """Cho's GRU, its reset gate applied before the product (Cho et al. 2014); blocks reset, keep, candidate.

    sums [time, batch, 3 * units] are ``W x + b``, r [3 * units, units], hidden [batch, units] the state to begin with.
    Returns all hidden states [time, batch, units].
    """
    states: Tensor = _full_precision(_ResetBefore, sums, r, hidden)
    return states


def _full_precision(steps: type[Function], *tensors: Tensor) -> Any:
    """Under mixed precision too, sums over many steps are in float32."""
    wide = torch.promote_types(tensors[0].dtype, torch.float32)
    with torch.autocast(tensors[0].device.type, enabled=False):
        return steps.apply(*(tensor.to(wide) for tensor in tensors))  # type: ignore[no-untyped-call]  # torch has none


class _Peephole(Function):
    @staticmethod
    def forward(
        ctx: _Context, sums: Tensor, r: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        time, batch, _ = sums.shape
        units = hidden.shape[1]
        gates = torch.empty_like(sums)  # (T, B, 4H)
        cells = sums.new_empty(time + 1, batch, units)  # (T + 1, B, H), row 0 is the state before
        squashed, states = sums.new_empty(time, batch, units), sums.new_empty(time + 1, batch, units)
        cells[0], states[0] = cell, hidden
        turned, early, late = (
            r.t(),
            peepholes[:2],
            peepholes[2],
        )  # (H, 4H), (2, H) for input and forget, (H,) for output
        blocks = gates.view(time, batch, 4, units)  # (T, B, 4, H)
        # Views are made all at once: in the loop each would cost as much as a small operation.
        pairs = blocks[:, :, :2].unbind(0)  # T of (B, 2, H): input and forget gate
        i, f, candidate, o = (block.unbind(0) for block in blocks.unbind(2))
        before, after = cells.unsqueeze(2).unbind(0), cells.unbind(0)
        hiddens, tanhs = states.unbind(0), squashed.unbind(0)
        for t, (arrived, all_) in enumerate(zip(sums.unbind(0), gates.unbind(0), strict=True)):
            torch.addmm(arrived, hiddens[t], turned, out=all_)
            pairs[t].addcmul_(before[t], early).sigmoid_()
            candidate[t].tanh_()
            torch.mul(f[t], after[t], out=after[t + 1]).addcmul_(i[t], candidate[t])
            o[t].addcmul_(after[t + 1], late).sigmoid_()
            torch.mul(o[t], torch.tanh(after[t + 1], out=tanhs[t]), out=hiddens[t + 1])
        ctx.save_for_backward(r, peepholes, gates, cells, squashed, states)
        return states[1:], cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, d_states: Tensor, d_cell: Tensor) -> tuple[Tensor, ...]:
        r, peepholes, gates, cells, squashed, states = ctx.saved_tensors
        time, batch, units = squashed.shape
        f = gates.view(time, batch, 4, units)[:, :, 1]  # (T, B, H)
        to_sums, into_cell = _passed_on(gates, cells, squashed)  # (T, B, 4, H), (T, B, H)
        into_cell += to_sums[:, :, 3] * peepholes[2]  # (T, B, H): the output gate sees C_t
        through = f + to_sums[:, :, 0] * peepholes[0] + to_sums[:, :, 1] * peepholes[1]  # (T, B, H): dC_t / dC_{t-1}
        d_sums = torch.empty_like(gates)  # (T, B, 4H)
        blocks = d_sums.view(time, batch, 4, units)
        of_cell, of_output = blocks[:, :, :3].unbind(0), blocks[:, :, 3].unbind(0)
        factors, factor_o = to_sums[:, :, :3].unbind(0), to_sums[:, :, 3].unbind(0)
        arriving, whole = d_states.unbind(0), d_sums.unbind(0)
        into_cell_at, through_at = into_cell.unbind(0), through.unbind(0)
        d_hidden, d_cell = arriving[-1], d_cell.clone()
        for t in range(time - 1, -1, -1):
            d_cell.addcmul_(d_hidden, into_cell_at[t])
            torch.mul(d_hidden, factor_o[t], out=of_output[t])
            torch.mul(d_cell.unsqueeze(1), factors[t], out=of_cell[t])
            d_cell.mul_(through_at[t])
            d_hidden = torch.addmm(arriving[t - 1], whole[t], r) if t else whole[0] @ r  # (B, H)
        flat = d_sums.flatten(0, 1)  # (T · B, 4H)
        d_r = flat.t() @ states[:-1].flatten(0, 1)  # (4H, H)
        d_peepholes = torch.stack(
            [
                (blocks[:, :, 0] * cells[:-1]).sum((0, 1)),
                (blocks[:, :, 1] * cells[:-1]).sum((0, 1)),
                (blocks[:, :, 3] * cells[1:]).sum((0, 1)),
            ]
        )
        return d_sums, d_r, d_peepholes, d_hidden, d_cell


class _FullPeephole(Function):
    @staticmethod
    def forward(
        ctx: _Context, sums: Tensor, r: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor]:
        time, batch, _ = sums.shape
        units = hidden.shape[1]
        gates = torch.empty_like(sums)
        # h and C side by side: one product a step serves all blocks, except for the output gate's C_t.
        both = sums.new_empty(time + 1, batch, 2 * units)
        both[0, :, :units], both[0, :, units:] = hidden, cell
        squashed = sums.new_empty(time, batch, units)
        early, late = _early(r, peepholes).t(), peepholes[3 * units :].t()
        i, f, candidate, o = (block.unbind(0) for block in gates.view(time, batch, 4, units).unbind(2))
        pairs, pair_of_states, tanhs = gates[:, :, : 2 * units].unbind(0), both.unbind(0), squashed.unbind(0)
        hiddens, cells = both[:, :, :units].unbind(0), both[:, :, units:].unbind(0)
        for t, (arrived, all_) in enumerate(zip(sums.unbind(0), gates.unbind(0), strict=True)):
            torch.addmm(arrived, pair_of_states[t], early, out=all_)
            pairs[t].sigmoid_()
            candidate[t].tanh_()
            torch.mul(f[t], cells[t], out=cells[t + 1]).addcmul_(i[t], candidate[t])
            o[t].addmm_(cells[t + 1], late).sigmoid_()
            torch.mul(o[t], torch.tanh(cells[t + 1], out=tanhs[t]), out=hiddens[t + 1])
        ctx.save_for_backward(r, peepholes, gates, both, squashed)
        return both[1:, :, :units], both[-1, :, units:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, d_states: Tensor, d_cell: Tensor) -> tuple[Tensor, ...]:
        r, peepholes, gates, both, squashed = ctx.saved_tensors
        time, batch, units = squashed.shape
        cells = both[:, :, units:]
        f = gates.view(time, batch, 4, units)[:, :, 1]  # (T, B, H)
        to_sums, into_cell = _passed_on(gates, cells, squashed)  # (T, B, 4, H), (T, B, H)
        early, late = _early(r, peepholes), peepholes[3 * units :]
        d_sums = torch.empty_like(gates)
        blocks = d_sums.view(time, batch, 4, units)
        of_cell, of_output = blocks[:, :, :3].unbind(0), blocks[:, :, 3].unbind(0)
        factors, factor_o = to_sums[:, :, :3].unbind(0), to_sums[:, :, 3].unbind(0)
        arriving, whole, into, kept = d_states.unbind(0), d_sums.unbind(0), into_cell.unbind(0), f.unbind(0)
        d_hidden, d_cell = arriving[-1], d_cell.clone()
        for t in range(time - 1, -1, -1):
            torch.mul(d_hidden, factor_o[t], out=of_output[t])
            d_cell.addcmul_(d_hidden, into[t]).addmm_(of_output[t], late)
            torch.mul(d_cell.unsqueeze(1), factors[t], out=of_cell[t])
            d_both = whole[t] @ early
            d_cell.mul_(kept[t]).add_(d_both[:, units:])
            d_hidden = d_both[:, :units] + arriving[t - 1] if t else d_both[:, :units]
        flat = d_sums.flatten(0, 1)
        d_early = flat.t() @ both[:-1].flatten(0, 1)
        d_late = flat[:, 3 * units :].t() @ cells[1:].flatten(0, 1)
        d_peepholes = torch.cat([d_early[: 3 * units, units:], d_late])
        return d_sums, d_early[:, :units], d_peepholes, d_hidden, d_cell


def _passed_on(gates: Tensor, cells: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients that the steps of an LSTM pass on: each pre-activation's share of the gradient at the cell (input,
    forget, candidate) or at h (output), [time, batch, 4, units], and the cell's share of that at h, [time, batch,
    units].

    gates [time, batch, 4 * units], cells [time + 1, batch, units], squashed (tanh C) [time, batch, units].
    """
    blocks = gates.view(*squashed.shape[:2], 4, -1)
    i, f, candidate, o = blocks.unbind(2)
    passed = torch.empty_like(blocks)
    torch.mul(candidate * i, 1 - i, out=passed[:, :, 0])
    torch.mul(cells[:-1] * f, 1 - f, out=passed[:, :, 1])
    torch.mul(i, 1 - candidate * candidate, out=passed[:, :, 2])
    torch.mul(squashed * o, 1 - o, out=passed[:, :, 3])
    return passed, o * (1 - squashed * squashed)


def _early(r: Tensor, peepholes: Tensor) -> Tensor:
    """The matrix over [h_{t-1}, C_{t-1}], [4 * units, 2 * units]: the output gate does not see C_{t-1}."""
    units = r.shape[1]
    seen = torch.cat([peepholes[: 3 * units], torch.zeros_like(peepholes[3 * units :])])
    return torch.cat([r, seen], dim=1)


class _ResetBefore(Function):
    @staticmethod
    def forward(ctx: _Context, sums: Tensor, r: Tensor, hidden: Tensor) -> Tensor:
        time, batch, _ = sums.shape
        units = hidden.shape[1]
        gates = sums.new_empty(time, batch, 2 * units)
        candidates, resets = sums.new_empty(time, batch, units), sums.new_empty(time, batch, units)
        states = sums.new_empty(time + 1, batch, units)
        states[0] = hidden
        of_gates, of_candidate = r[: 2 * units].t(), r[2 * units :].t()
        arrived, arrived_last = sums[:, :, : 2 * units].unbind(0), sums[:, :, 2 * units :].unbind(0)
        both = gates.unbind(0)
        reset, keep = (block.unbind(0) for block in gates.view(time, batch, 2, units).unbind(2))
        candidate, left, hiddens = candidates.unbind(0), resets.unbind(0), states.unbind(0)
        for t in range(time):
            torch.addmm(arrived[t], hiddens[t], of_gates, out=both[t]).sigmoid_()
            torch.mul(reset[t], hiddens[t], out=left[t])
            torch.addmm(arrived_last[t], left[t], of_candidate, out=candidate[t]).tanh_()
            torch.lerp(candidate[t], hiddens[t], keep[t], out=hiddens[t + 1])
        ctx.save_for_backward(r, gates, candidates, resets, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, d_states: Tensor) -> tuple[Tensor, ...]:
        r, gates, candidates, resets, states = ctx.saved_tensors
        time, batch, units = candidates.shape
        reset, keep = gates.view(time, batch, 2, units).unbind(2)
        before = states[:-1]
        to_reset = before * reset * (1 - reset)
        to_sums = torch.empty(time, batch, 2, units, dtype=gates.dtype, device=gates.device)
        torch.mul((before - candidates) * keep, 1 - keep, out=to_sums[:, :, 0])
        torch.mul(1 - keep, 1 - candidates * candidates, out=to_sums[:, :, 1])
        d_sums = gates.new_empty(time, batch, 3 * units)
        blocks = d_sums.view(time, batch, 3, units)
        of_reset, of_rest = blocks[:, :, 0].unbind(0), blocks[:, :, 1:].unbind(0)
        of_candidate = blocks[:, :, 2].unbind(0)
        of_gates, factors, factor_r = d_sums[:, :, : 2 * units].unbind(0), to_sums.unbind(0), to_reset.unbind(0)
        resets_at, keeps = reset.unbind(0), keep.unbind(0)
        arriving = d_states.unbind(0)
        gate_rows, candidate_rows = r[: 2 * units], r[2 * units :]
        d_hidden = arriving[-1]
        for t in range(time - 1, -1, -1):
            torch.mul(d_hidden.unsqueeze(1), factors[t], out=of_rest[t])
            d_left = of_candidate[t] @ candidate_rows
            torch.mul(d_left, factor_r[t], out=of_reset[t])
            d_hidden = torch.addcmul(arriving[t - 1], d_hidden, keeps[t]) if t else d_hidden * keeps[0]
            d_hidden.addcmul_(d_left, resets_at[t]).addmm_(of_gates[t], gate_rows)
        flat = d_sums.flatten(0, 1)
        products = (flat[:, : 2 * units].t() @ before.flatten(0, 1), flat[:, 2 * units :].t() @ resets.flatten(0, 1))
        d_r = torch.cat(products)
        return d_sums, d_r, d_hidden
