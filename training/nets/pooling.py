"""Pooling of a text's states to the vector of a classifier's head, window by window if the text is read in windows.

Each way of pooling is a running statistic: with that of the windows before, a window's states give the pooled vector of
all that was read so far. Shapes: states [batch, time, width], lengths [batch] of the window, from 1; padding is on the
right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from service.model.bundle import Head

Statistics = tuple[Tensor, ...]
"""Statistics that pooling carries from one window to the next; each has the rows of the batch first. Empty at first."""
_LEAST = -2.0
"""Less than any hidden state."""


def pool(
    head: Head, states: Tensor, lengths: Tensor, units: int, query: Tensor | None, before: Statistics = ()
) -> tuple[Tensor, Statistics]:
    """The pooled vector [batch, width] of all states so far (under a tagging head the states themselves), and the
    statistics to go on with. The first `units` of a state are the forward reader's; `query` [width] is the vector that
    attention compares with each state."""
    valid = torch.arange(states.shape[1], device=states.device) < lengths[:, None]  # (B, T)
    match head:
        case "tagger":
            return states, ()
        case "max":
            return _max(states, valid, before)
        case "mean":
            return _mean(states, lengths, valid, before)
        case "attention":
            assert query is not None
            return _attention(states, (states @ query).masked_fill(~valid, -torch.inf), before)
        case "last":
            last = states[torch.arange(len(states), device=states.device), lengths - 1]  # (B, width)
            return torch.cat([last[:, :units], states[:, 0, units:]], dim=1), ()


def _max(states: Tensor, valid: Tensor, before: Statistics) -> tuple[Tensor, Statistics]:
    largest = states.masked_fill(~valid[..., None], _LEAST).amax(1)  # (B, width)
    if before:
        largest = torch.maximum(largest, before[0])
    return largest, (largest,)


def _mean(states: Tensor, lengths: Tensor, valid: Tensor, before: Statistics) -> tuple[Tensor, Statistics]:
    total, count = states.masked_fill(~valid[..., None], 0.0).sum(1), lengths  # (B, width), (B,)
    if before:
        total, count = total + before[0], count + before[1]
    return total / count[:, None], (total, count)


def _attention(states: Tensor, scores: Tensor, before: Statistics) -> tuple[Tensor, Statistics]:
    """Softmax over all steps so far: the pooled vector before and that of the window, by their shares of its sum."""
    pooled = (scores.softmax(1)[:, None] @ states)[:, 0]  # (B, 1, T) @ (B, T, width) → (B, width)
    weight = scores.logsumexp(1)  # (B,)
    if before:
        together = torch.logaddexp(weight, before[1])
        pooled = (weight - together).exp()[:, None] * pooled + (before[1] - together).exp()[:, None] * before[0]
        weight = together
    return pooled, (pooled, weight)
