"""The training loop: batches, loss, clipping, schedule, early stopping on dev; the best epoch's weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from training.averaging import Average
from training.batches import IGNORED, Batch, Sample, batched, windows
from training.networks import Network


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: every setting of the loop, with the value that suits both tasks."""

    epochs: int = 10
    patience: int = 3
    """Stop after this many epochs without a better dev score."""
    learning_rate: float = 1e-3
    """Adam's (Kingma and Ba 2015); it falls to zero along half a cosine over all epochs."""
    clip: float = 1.0
    """Largest global norm of the gradient (Pascanu et al. 2013)."""
    batch_rows: int = 32
    batch_tokens: int = 8192
    """Padded tokens of a batch, at most."""
    window: int = 0
    """Cut training texts to a random run of this many tokens, anew each epoch; 0 for whole texts. Sentiment only."""
    label_smoothing: float = 0.0
    average: float = 0.0
    """Score and keep a running mean of the weights, with this share of the old mean at each step; 0 for none."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """What the loop reports after each batch and, with a `score`, after each epoch."""

    epoch: int
    batch: int
    batches: int
    loss: float
    score: float | None = None
    best: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How training ended; the network holds the weights of the best epoch."""

    epochs: int
    best: float | None
    interrupted: bool
    diverged: bool = False


class _Diverged(Exception):
    """The loss, or the network's answers, are no numbers any more."""


def seed_everything(seed: int) -> None:
    """The same seed gives the same model on one machine with the same number of threads."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def fit(
    network: Network,
    samples: Sequence[Sample],
    recipe: Recipe,
    score: Callable[[Network], float],
    report: Callable[[Progress], None],
    device: torch.device,
) -> Outcome:
    """Train in place. `score` measures the network on dev, higher is better, and raises `ValueError` for answers that
    are no numbers. That, a loss that is none, and KeyboardInterrupt end the training early and keep the best epoch so
    far (or the weights as they are, when no epoch was finished)."""
    generator = np.random.default_rng(recipe.seed)
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    average = Average(network, recipe.average) if recipe.average else None
    best: float | None = None
    kept: dict[str, torch.Tensor] = {}
    epoch = since = 0
    interrupted = diverged = False
    try:
        for epoch in range(1, recipe.epochs + 1):
            _epoch(network, samples, recipe, epoch, optimizer, average, report, generator, device)
            with average.applied() if average else nullcontext():
                reached = _measured(score, network)
                since += 1
                if best is None or reached > best:
                    best, since = reached, 0
                    kept = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
            report(Progress(epoch, 0, 0, 0.0, reached, best))
            if since >= recipe.patience:
                break
    except KeyboardInterrupt:
        interrupted = True
    except _Diverged:
        diverged = True
    if kept:
        network.load_state_dict(kept)
    network.eval()
    return Outcome(epoch, best, interrupted, diverged)


def _measured(score: Callable[[Network], float], network: Network) -> float:
    try:
        return score(network)
    except ValueError as error:
        raise _Diverged from error


def _epoch(
    network: Network,
    samples: Sequence[Sample],
    recipe: Recipe,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    report: Callable[[Progress], None],
    generator: np.random.Generator,
    device: torch.device,
) -> None:
    task = network.architecture.task
    seen = windows(samples, recipe.window, generator) if recipe.window and task == "sentiment" else samples
    batches = list(batched(seen, task, recipe.batch_rows, recipe.batch_tokens, device, generator))
    network.train()
    mean = 0.0
    for number, batch in enumerate(batches, 1):
        progress = (epoch - 1 + number / len(batches)) / recipe.epochs
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        loss = _step(network, batch, recipe, optimizer)
        if average:
            average.update()
        mean += (loss - mean) / number
        report(Progress(epoch, number, len(batches), mean))


def _step(network: Network, batch: Batch, recipe: Recipe, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss = _loss(network, batch, recipe.label_smoothing)
    if not math.isfinite(loss.item()):
        raise _Diverged
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
    optimizer.step()
    return float(loss.detach())


def _loss(network: Network, batch: Batch, smoothing: float) -> torch.Tensor:
    """The mean negative log-likelihood: of each target, or of whole label sequences under a CRF."""
    logits = network(batch.tokens, batch.lengths)
    if network.crf is not None:
        return network.crf.loss(logits, batch.targets, batch.lengths)
    return nn.functional.cross_entropy(
        logits.flatten(0, -2), batch.targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )
