"""A running mean of a network's weights (Polyak and Juditsky 1992), which is less noisy than any one step's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Average:
    """The exponential mean of every trained parameter, updated once a step."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """`decay` is the share of the old mean that a step keeps, below 1; less of it over the first steps."""
        self._decay, self._steps = decay, 0
        self._parameters = [each for each in network.parameters() if each.requires_grad]
        self._means = [each.detach().clone() for each in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        self._steps += 1
        kept = min(self._decay, self._steps / (self._steps + 9))
        torch._foreach_lerp_(self._means, [each.detach() for each in self._parameters], 1 - kept)

    def state(self) -> dict[str, object]:
        """The state of the mean, for a checkpoint."""
        return {"steps": self._steps, "means": self._means}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state`."""
        self._steps = state["steps"]
        for mean, kept in zip(self._means, state["means"], strict=True):
            mean.copy_(kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the mean weights inside the block, and its own again behind it."""
        own = [each.detach().clone() for each in self._parameters]
        self._set(self._means)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)
