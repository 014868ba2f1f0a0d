"""A linear-chain conditional random field at work: the best label sequence, and how probable its parts are.

All rows of a batch and all labels at a time; one step of a loop a token. Forward and backward sums are scaled to 1 at
each token (Rabiner 1989), which keeps them in range at any length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FAINTEST = -60.0
"""Emissions this far below a token's best (natural logarithms) count as no less: so no sum is ever 0."""
_STRONGEST = 100.0
"""Learned scores beyond this, either way, count as this in the sums, so that none overflows."""


def viterbi(scores: Floats, lengths: NDArray[np.intp], transitions: Floats, start: Floats) -> NDArray[np.intp]:
    """The best label sequence of each row.

    `scores` [B, T, L] are log-probabilities or emissions, `transitions` [L, L] scores from label to label, `start` [L]
    of the first label; -inf forbids. Returns label numbers [B, T]; those from a row's length on mean nothing.
    """
    batch, steps, labels = scores.shape
    rows, stay = np.arange(batch), np.arange(labels)
    arriving = np.ascontiguousarray(transitions.T)
    best = start + scores[:, 0]
    came_from = np.empty((steps, batch, labels), np.intp)
    shortest = int(lengths.min())
    for step in range(1, steps):
        candidates = best[:, None, :] + arriving
        np.argmax(candidates, axis=2, out=came_from[step])
        reached = candidates.max(axis=2)
        reached += scores[:, step]
        if step >= shortest:
            # Past its end a row's scores stand still, and each label came from itself: the walk back starts at the end.
            going = (step < lengths)[:, None]
            came_from[step] = np.where(going, came_from[step], stay)
            reached = np.where(going, reached, best)
        best = reached
    paths = np.empty((batch, steps), np.intp)
    label = paths[:, -1] = best.argmax(axis=1)
    for step in range(steps - 1, 0, -1):
        label = paths[:, step - 1] = came_from[step, rows, label]
    return paths


@dataclass(frozen=True, slots=True)
class Marginals:
    """What the field makes of label sequences `paths` [B, T], all [B, T]; nothing past a row's length means anything.

    `tokens`: the probability of the token's label. The probability of a span of labels from s to e, and of no
    continuation behind it, is ``begins[s] * product of steps[s+1 … e] * ends[e]``.
    """

    tokens: Floats
    begins: Floats
    steps: Floats
    ends: Floats

    def span(self, row: int, first: int, end: int) -> float:
        """The probability of the labels of tokens first to end - 1, and that the entity ends there."""
        steps = self.steps[row, first + 1 : end]
        return min(1.0, float(self.begins[row, first] * steps.prod() * self.ends[row, end - 1]))


def marginals(
    scores: Floats,
    lengths: NDArray[np.intp],
    transitions: Floats,
    start: Floats,
    continues: NDArray[np.bool_],
    paths: NDArray[np.intp],
) -> Marginals:
    """Probabilities by forward-backward; arguments as of `viterbi`. (einsum and not @, whose last digits depend on how
    many rows it is given at once.)

    `continues` [L, L] is true where the second label goes on with the first one's entity.
    """
    batch, steps, _ = scores.shape
    moves = np.exp(np.minimum(transitions, _STRONGEST))
    moves[transitions > -np.inf] = np.maximum(moves[transitions > -np.inf], np.exp(-_STRONGEST))
    emitted = np.exp(np.maximum(scores - scores.max(axis=2, keepdims=True), _FAINTEST)).transpose(1, 0, 2).copy()
    going = (np.arange(steps)[:, None] < lengths)[:, :, None]
    forward, scale = np.empty_like(emitted), np.ones((steps, batch, 1))
    alpha = np.exp(np.clip(start, -np.inf, _STRONGEST)) * emitted[0]
    alpha /= alpha.sum(axis=1, keepdims=True)
    forward[0] = alpha
    shortest = int(lengths.min())
    for step in range(1, steps):
        alpha = np.einsum("bi,ij->bj", alpha, moves)
        alpha *= emitted[step]
        total = scale[step] = alpha.sum(axis=1, keepdims=True)
        alpha /= total
        if step >= shortest:
            alpha = np.where(going[step], alpha, forward[step - 1])
        forward[step] = alpha
    emitted /= scale
    backward, ends = np.ones_like(emitted), np.ones((steps, batch))
    weighted = np.empty_like(emitted)
    leaving = np.ascontiguousarray(moves.T)
    for step in range(steps - 1, 0, -1):
        onward = weighted[step] = emitted[step] * backward[step]
        np.einsum("bj,ji->bi", onward, leaving, out=backward[step - 1])
        if step >= shortest:
            backward[step - 1][~going[step, :, 0]] = 1.0
    labels = paths.T[:, :, None]
    stopping = np.where(continues, 0.0, moves)
    ends[:-1] = np.where(going[1:, :, 0], (weighted[1:] * stopping[paths.T[:-1]]).sum(axis=2), 1.0)
    begins = np.take_along_axis(forward, labels, axis=2)[:, :, 0]
    taken = np.ones((steps, batch))
    taken[1:] = moves[paths.T[:-1], paths.T[1:]] * np.take_along_axis(emitted, labels, axis=2)[1:, :, 0]
    tokens = begins * np.take_along_axis(backward, labels, axis=2)[:, :, 0]
    return Marginals(np.minimum(tokens.T, 1.0), begins.T, taken.T, ends.T)
