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
    best = np.empty((steps, batch, labels))  # best score of all sequences that end in a label, [B, L]
    best[0] = start + scores[:, 0]
    going = np.arange(steps)[:, None] < lengths  # (T, B)
    shortest = int(lengths.min())
    leaving, candidates = transitions[:, None, :], np.empty((labels, batch, labels))  # (L, 1, L), (L from, B, L to)
    for step in range(1, steps):
        # Labels that come from are the first axis: the maximum over them is taken for all rows and labels together.
        np.add(best[step - 1].T[:, :, None], leaving, out=candidates)
        np.max(candidates, axis=0, out=best[step])
        best[step] += scores[:, step]
        if step >= shortest:  # past its end a row's scores stand still
            ended = ~going[step]
            best[step, ended] = best[step - 1, ended]
    arriving = np.ascontiguousarray(transitions.T)
    paths = np.empty((batch, steps), np.intp)
    label = paths[:, -1] = best[-1].argmax(axis=1)
    for step in range(steps - 1, 0, -1):
        before = (best[step - 1] + arriving[label]).argmax(axis=1)  # (B,)
        label = paths[:, step - 1] = before if step < shortest else np.where(going[step], before, label)
    return paths


@dataclass(frozen=True, slots=True)
class Marginals:
    """The field's probabilities for label sequences `paths` [B, T], all [B, T]. Values past a row's length are
    undefined.

    `tokens`: the probability of the token's label. The probability of a span of labels from s to e, and of no
    continuation behind it, is ``begins[s] * product of steps[s+1 … e] * ends[e]``.
    """

    tokens: Floats
    begins: Floats
    steps: Floats
    ends: Floats

    def spans(self, rows: NDArray[np.intp], firsts: NDArray[np.intp], ends: NDArray[np.intp]) -> Floats:
        """For each span of tokens (first to end - 1 of a row) the probability of its labels with the entity ending
        there, [spans]."""
        inside = products(self.steps, rows, firsts + 1, ends)
        return np.minimum(self.begins[rows, firsts] * inside * self.ends[rows, ends - 1], 1.0)


def products(factors: Floats, rows: NDArray[np.intp], firsts: NDArray[np.intp], ends: NDArray[np.intp]) -> Floats:
    """The product of each row's factors [B, T] from first to end - 1: [spans]; 1 for an empty span."""
    found = np.ones(len(rows))
    for ahead in range(int((ends - firsts).max(initial=0))):
        there = firsts + ahead < ends
        found[there] *= factors[rows[there], firsts[there] + ahead]
    return found


def marginals(
    scores: Floats,
    lengths: NDArray[np.intp],
    transitions: Floats,
    start: Floats,
    continues: NDArray[np.bool_],
    paths: NDArray[np.intp],
) -> Marginals:
    """Probabilities by forward-backward; arguments as of `viterbi`. (einsum, not @: the last digits of @ depend on the
    number of rows.) `continues` [L, L] is true if the second label continues the entity of the first.
    """
    batch, steps, _ = scores.shape
    moves = _moves(transitions)
    emitted = np.exp(np.maximum(scores - scores.max(axis=2, keepdims=True), _FAINTEST)).transpose(1, 0, 2).copy()
    going = (np.arange(steps)[:, None] < lengths)[:, :, None]  # (T, B, 1)
    forward, scale = np.empty_like(emitted), np.ones((steps, batch, 1))  # (T, B, L), (T, B, 1)
    alpha = np.exp(np.clip(start, -np.inf, _STRONGEST)) * emitted[0]  # (B, L)
    alpha /= alpha.sum(axis=1, keepdims=True)
    forward[0] = alpha
    shortest = int(lengths.min())
    for step in range(1, steps):
        alpha = np.einsum("bi,ij->bj", alpha, moves)
        alpha *= emitted[step]
        total = scale[step] = alpha.sum(axis=1, keepdims=True)  # (B, 1); rescaled at each step against underflow
        alpha /= total
        if step >= shortest:
            alpha = np.where(going[step], alpha, forward[step - 1])
        forward[step] = alpha
    emitted /= scale
    backward, ends = np.ones_like(emitted), np.ones((steps, batch))  # (T, B, L), (T, B)
    weighted = np.empty_like(emitted)
    leaving = np.ascontiguousarray(moves.T)
    for step in range(steps - 1, 0, -1):
        onward = weighted[step] = emitted[step] * backward[step]
        np.einsum("bj,ji->bi", onward, leaving, out=backward[step - 1])
        if step >= shortest:
            backward[step - 1][~going[step, :, 0]] = 1.0
    labels = paths.T[:, :, None]  # (T, B, 1)
    stopping = np.where(continues, 0.0, moves)  # (L, L): moves that end the entity
    ends[:-1] = np.where(going[1:, :, 0], (weighted[1:] * stopping[paths.T[:-1]]).sum(axis=2), 1.0)
    begins = np.take_along_axis(forward, labels, axis=2)[:, :, 0]  # (T, B)
    taken = np.ones((steps, batch))
    taken[1:] = moves[paths.T[:-1], paths.T[1:]] * np.take_along_axis(emitted, labels, axis=2)[1:, :, 0]  # (T - 1, B)
    tokens = begins * np.take_along_axis(backward, labels, axis=2)[:, :, 0]
    return Marginals(np.minimum(tokens.T, 1.0), begins.T, taken.T, ends.T)


def forwarded(scores: Floats, transitions: Floats, start: Floats, forward: Floats | None) -> Floats:
    """The weights that a row's tokens, log-probabilities or emissions [T, L], give to the labels of the next token.
    Returns logarithms [L], up to a constant. `forward` is the same for the tokens before; None at the start."""
    moves = _moves(transitions)
    emitted = np.exp(np.maximum(scores - scores.max(axis=1, keepdims=True), _FAINTEST))
    arriving = np.exp(np.clip(start if forward is None else forward, -np.inf, _STRONGEST))
    for step in emitted:
        alpha = arriving * step
        arriving = np.einsum("i,ij->j", alpha / alpha.sum(), moves)  # (L,)
    with np.errstate(divide="ignore"):  # a label that may not stand there
        found: Floats = np.log(arriving)
    return found


def _moves(transitions: Floats) -> Floats:
    """The factors of transitions. None overflows, and only a forbidden transition has 0."""
    moves: Floats = np.exp(np.minimum(transitions, _STRONGEST))
    moves[transitions > -np.inf] = np.maximum(moves[transitions > -np.inf], np.exp(-_STRONGEST))
    return moves
