"""Encoded examples, and batches of them: rows of like length together, bounded in rows and in padded tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.model.bundle import Task
from service.model.engine import pad
from service.model.tokenizer import Tokenizer
from training.data.corpora import Example

IGNORED = -100
"""The target of padding: torch's cross-entropy passes over it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One example in numbers: rows int32 [tokens, features], targets int64 [1] or [tokens].

    `soft` are a teacher's logits float32 [labels] for a text; None if no teacher was asked."""

    rows: NDArray[np.int32]
    targets: NDArray[np.int64]
    soft: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """tokens [batch, time, features], lengths [batch], targets [batch] or [batch, time], and the rows' positions.

    `soft` [batch, labels] are a teacher's logits, NaN in rows that have none; None if no row has any."""

    tokens: Tensor
    lengths: Tensor
    targets: Tensor
    positions: list[int]
    soft: Tensor | None = None


def encode(examples: Sequence[Example], tokenizer: Tokenizer, labels: Sequence[str]) -> list[Sample]:
    """Examples in numbers. Texts take the tokenizer's path for raw text, tokens the path for tokens."""
    number = {label: position for position, label in enumerate(labels)}
    samples = []
    for example in examples:
        if isinstance(example.label, str):
            targets = np.array([number[example.label]], np.int64)
        else:
            targets = np.array([number[label] for label in example.label], np.int64)
        if len(rows := tokenizer.rows(example.value)):
            samples.append(Sample(rows, targets))
    return samples


def windows(samples: Sequence[Sample], width: int, generator: np.random.Generator) -> list[Sample]:
    """Each sample of one label cut to a random run of at most `width` tokens: another view of it every epoch."""
    cut = []
    for sample in samples:
        start = int(generator.integers(0, max(1, len(sample.rows) - width + 1)))
        cut.append(replace(sample, rows=sample.rows[start : start + width]))
    return cut


def plan(lengths: Sequence[int], rows: int, tokens: int, generator: np.random.Generator | None) -> list[list[int]]:
    """Positions cut into batches of at most `rows` rows and `tokens` padded tokens, rows of like length together.

    With a generator the order is random: within a length, and of the batches; without, ascending by length.
    """
    noise = generator.random(len(lengths)) if generator else np.zeros(len(lengths))
    # Lengths within a tenth of each other count as alike, so that batches differ from epoch to epoch.
    like = np.floor(np.log(np.asarray(lengths, float)) * 10) if generator else np.asarray(lengths, float)
    batches: list[list[int]] = []
    longest = 0
    for position in np.lexsort((noise, like)).tolist():
        longest = max(longest, lengths[position])
        if not batches or len(batches[-1]) >= rows or longest * (len(batches[-1]) + 1) > tokens:
            batches.append([])
            longest = lengths[position]
        batches[-1].append(position)
    if generator:
        generator.shuffle(batches)
    return batches


def batched(
    samples: Sequence[Sample],
    task: Task,
    rows: int,
    tokens: int,
    device: torch.device,
    generator: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """The samples as batches on a device, in the order of `plan`."""
    for positions in plan([len(sample.rows) for sample in samples], rows, tokens, generator):
        chosen = [samples[position] for position in positions]
        padded, lengths = pad([sample.rows for sample in chosen])
        if task == "sentiment":
            targets = np.concatenate([sample.targets for sample in chosen])
        else:
            targets = np.full(padded.shape[:2], IGNORED, np.int64)
            for row, sample in enumerate(chosen):
                targets[row, : len(sample.targets)] = sample.targets
        inputs, ends, wanted = (
            torch.from_numpy(array).to(device) for array in (padded, lengths.astype(np.int64), targets)
        )
        yield Batch(inputs, ends, wanted, positions, _soft(chosen, device))


def _soft(samples: Sequence[Sample], device: torch.device) -> Tensor | None:
    """[batch, labels], or None."""
    size = next((len(each.soft) for each in samples if each.soft is not None), 0)
    if not size:
        return None
    unknown = np.full(size, np.nan, np.float32)
    return torch.from_numpy(np.stack([unknown if each.soft is None else each.soft for each in samples])).to(device)
