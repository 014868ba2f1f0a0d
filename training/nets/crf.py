"""A linear-chain conditional random field over legal IOB2 sequences (Lafferty et al. 2001; Lample et al. 2016).

The score of a label sequence is the sum of its emissions, of the transitions between neighbours and of the first
label's start; its probability is the softmax over all legal sequences. Decoding is the service's
(`service.model.decoding`).

The sum over all sequences and its gradient are written out by hand, as the forward-backward algorithm over all rows at
a time: autograd would keep ten nodes a step. They are in float64, in probabilities that are scaled to 1 at each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from service.model.bundle import Crf
from service.model.decoding import legal

FORBIDDEN = -1e4
"""Score of a transition that IOB2 does not allow. Its exponential is exactly 0; -inf would give NaN gradients."""
_FAINTEST = -150.0
"""Emissions this far below a token's best (natural logarithms) count as no less in the sum, so that it is never 0."""
_STRONGEST = 100.0
"""Learned scores beyond this, either way, count as this. With both limits nothing leaves float64's range: O
and B-X may stand anywhere, so from any label the best sequence is joined within two steps."""


class CRF(nn.Module):
    """Learned `transitions` [labels, labels], from row to column, and `start` [labels], both from 0."""

    allowed: Tensor
    allowed_start: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        moves, begins = legal(labels)
        self.register_buffer("allowed", torch.from_numpy(moves == 0), persistent=False)
        self.register_buffer("allowed_start", torch.from_numpy(begins == 0), persistent=False)
        self.transitions = nn.Parameter(torch.zeros(len(labels), len(labels)))
        self.start = nn.Parameter(torch.zeros(len(labels)))

    def scores(self, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """transitions and start divided by a temperature, `FORBIDDEN` for sequences that IOB2 does not allow."""
        transitions, start = (
            (learned / temperature).clamp(-_STRONGEST, _STRONGEST) for learned in (self.transitions, self.start)
        )
        return transitions.masked_fill(~self.allowed, FORBIDDEN), start.masked_fill(~self.allowed_start, FORBIDDEN)

    def loss(self, emissions: Tensor, targets: Tensor, lengths: Tensor, temperature: float = 1.0) -> Tensor:
        """The mean over tokens of the negative log-likelihood; `temperature` divides the CRF's own scores
        (transitions and start), not the emissions.

        emissions [batch, time, labels], targets int [batch, time] (any value past a row's length), lengths [batch].
        """
        transitions, start = self.scores(temperature)
        logs = self._sequence(emissions, targets, lengths, transitions, start)
        total = self._partition(emissions, lengths, transitions, start)
        return (total - logs).sum() / lengths.sum()

    def partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """The logarithm of the sum over all legal sequences of each row: [batch]; its gradient with respect to the
        emissions is the marginal probability of each label. Arguments as of `loss`."""
        transitions, start = self.scores()
        return self._partition(emissions, lengths, transitions.to(emissions), start.to(emissions))

    def _sequence(
        self, emissions: Tensor, targets: Tensor, lengths: Tensor, transitions: Tensor, start: Tensor
    ) -> Tensor:
        """The scores of the target sequences: [batch]."""
        valid = torch.arange(targets.shape[1], device=targets.device) < lengths[:, None]  # (B, T)
        labels = targets.masked_fill(~valid, 0)
        emitted = emissions.gather(2, labels[..., None])[..., 0]  # (B, T)
        moved = transitions[labels[:, :-1], labels[:, 1:]]  # (B, T - 1)
        return start[labels[:, 0]] + (emitted * valid).sum(1) + (moved * valid[:, 1:]).sum(1)

    def _partition(self, emissions: Tensor, lengths: Tensor, transitions: Tensor, start: Tensor) -> Tensor:
        """The logarithm of the sum over all legal sequences: [batch], of the type of the emissions."""
        factors = transitions.double().exp(), start.double().exp()
        found: Tensor = _Partition.apply(emissions, lengths, *factors)  # type: ignore[no-untyped-call]  # torch has none
        return found

    def as_manifest(self, temperature: float = 1.0) -> Crf:
        """The scores as the bundle keeps them, divided by a temperature; 0 if there is none to learn."""
        transitions, start = (scores.detach() for scores in self.scores(temperature))
        transitions, start = transitions.masked_fill(~self.allowed, 0.0), start.masked_fill(~self.allowed_start, 0.0)
        return Crf(start=tuple(start.tolist()), transitions=tuple(map(tuple, transitions.tolist())))


class _Partition(Function):
    """emissions [batch, time, labels], lengths [batch], and the factors (exponentials) of the transitions
    [labels, labels] and of the first label [labels] → the logarithm of the sum over all sequences [batch].

    Going forward no row ends: the steps behind its end are left out of the logarithm. Time is the first axis inside.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, lengths: Tensor, moves: Tensor, first: Tensor) -> Tensor:
        wide = emissions.double().transpose(0, 1)  # (T, B, L)
        highest = wide.amax(2, keepdim=True)  # (T, B, 1)
        emitted = (wide - highest).clamp_(min=_FAINTEST).exp_()
        forward, totals = torch.empty_like(emitted), torch.empty_like(highest)
        alphas, sums = forward.unbind(0), totals.unbind(0)
        alpha = first
        for step, factors in enumerate(emitted.unbind(0)):
            reached = torch.mul(alpha @ moves if step else alpha, factors, out=alphas[step])  # (B, L)
            alpha = reached.div_(torch.sum(reached, 1, keepdim=True, out=sums[step]))
        there = torch.arange(len(wide), device=lengths.device)[:, None] < lengths  # (T, B)
        ctx.save_for_backward(emitted, forward, totals, moves, there)
        logs = (totals.log() + highest)[..., 0]
        return torch.where(there, logs, 0.0).sum(0).to(emissions.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        emitted, forward, totals, moves, there = ctx.saved_tensors
        onward = emitted / totals  # (T, B, L): times the sum over what follows, step by step
        backward = torch.ones_like(emitted)
        betas, leaving, shortest = backward.unbind(0), moves.t().contiguous(), int(there.sum(0).min())
        arriving = onward.unbind(0)
        for step in range(len(emitted) - 1, 0, -1):
            arriving[step].mul_(betas[step])
            if step >= shortest:  # nothing follows a row's end
                arriving[step].mul_(there[step, :, None])
                torch.addmm((~there[step, :, None]).double(), arriving[step], leaving, out=betas[step - 1])
            else:
                torch.mm(arriving[step], leaving, out=betas[step - 1])
        weights = gradient.double()[:, None]  # (B, 1)
        marginals = forward * backward * (weights * there[..., None])  # (T, B, L)
        moved = forward[:-1].flatten(0, 1).t() @ (onward[1:] * weights).flatten(0, 1)  # (L, L)
        begun = (onward[0] * backward[0] * weights).sum(0)  # (L,)
        return marginals.transpose(0, 1).to(gradient.dtype), None, moved, begun
