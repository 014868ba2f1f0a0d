"""A linear-chain conditional random field over legal IOB2 sequences (Lafferty et al. 2001; Lample et al. 2016).

The score of a label sequence is the sum of its emissions, of the transitions between neighbours and of the first
label's start; its probability is the softmax over all legal sequences. Decoding is the service's
(`service.model.decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from service.model.bundle import Crf
from service.model.decoding import legal

FORBIDDEN = -1e4
"""Score of a transition that IOB2 does not allow. Its exponential is exactly 0; -inf would give NaN gradients."""


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

    def scores(self) -> tuple[Tensor, Tensor]:
        """transitions and start, `FORBIDDEN` for sequences that IOB2 does not allow."""
        return (
            self.transitions.masked_fill(~self.allowed, FORBIDDEN),
            self.start.masked_fill(~self.allowed_start, FORBIDDEN),
        )

    def loss(self, emissions: Tensor, targets: Tensor, lengths: Tensor, temperature: float = 1.0) -> Tensor:
        """The mean over tokens of the negative log-likelihood; `temperature` divides the CRF's own scores
        (transitions and start), not the emissions.

        emissions [batch, time, labels], targets int [batch, time] (any value past a row's length), lengths [batch].
        """
        transitions, start = (scores / temperature for scores in self.scores())
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
        """The logarithm of the sum over all legal sequences: [batch]. The forward algorithm, all rows at a time."""
        weights = transitions.exp()
        alpha = start + emissions[:, 0]  # (B, L)
        for step in range(1, emissions.shape[1]):
            largest = alpha.amax(1, keepdim=True).detach()  # (B, 1), against overflow of exp
            # A label that no legal sequence reaches has a sum of 0; the tiny addend keeps its logarithm finite.
            reached = ((alpha - largest).exp() @ weights + 1e-30).log() + largest + emissions[:, step]
            alpha = torch.where((step < lengths)[:, None], reached, alpha)  # a row that has ended keeps its sum
        return alpha.logsumexp(1)

    def as_manifest(self, temperature: float = 1.0) -> Crf:
        """The scores as the bundle keeps them, divided by a temperature; 0 if there is none to learn."""
        transitions = (self.transitions.detach().masked_fill(~self.allowed, 0.0) / temperature).tolist()
        start = (self.start.detach().masked_fill(~self.allowed_start, 0.0) / temperature).tolist()
        return Crf(start=tuple(start), transitions=tuple(map(tuple, transitions)))
