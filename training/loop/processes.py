"""One training in several processes, on one machine or more, as ``torchrun`` starts them.

Every process reads the same data and plans the same batches; each learns from its share of the batches of a step, and
the gradients are summed over all of them (torch's own distributed engine: gloo on CPUs, NCCL on GPUs). So all hold the
same weights at every step, and N processes make the steps of one that adds up the gradients of N times as many batches.
The first one alone scores, logs and writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from training.errors import TrainingError

_T = TypeVar("_T")
_PATIENCE = timedelta(hours=2)
"""How long the others wait for one: the first scores a whole dev set while they do."""


class ProcessesError(TrainingError):
    """Several processes that cannot work together."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among `count` of them. One that is alone has nobody to talk to, and all of this costs nothing."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batches: Sequence[_T]) -> Sequence[_T]:
        """This process's part of a step's batches; none if there are fewer batches than processes."""
        return batches[self.rank :: self.count]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes, in place. They are of one type and device."""
        if self.count == 1:
            return
        together = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(together)
        parts = torch.split(together, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def from_first(self, value: _T) -> _T:
        """The value of the first process. The values of the others are ignored."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def alike(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the first one's numbers, in place."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gathered(self, value: _T) -> list[_T]:
        """The value of each process, by rank."""
        if self.count == 1:
            return [value]
        found: list[_T] = [value] * self.count
        distributed.all_gather_object(found, value)
        return found


ALONE = Processes()


def started() -> Processes:
    """Rank of this process among those of ``torchrun``. Without ``torchrun`` it is alone."""
    if not distributed.is_torchelastic_launched():
        return ALONE
    return Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def device_of(kind: str) -> torch.device:
    """The device of this process: with several on a machine, a GPU for each. Raises `ProcessesError` for too few."""
    if kind != "cuda" or started().count == 1:
        return torch.device(kind)
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise ProcessesError(
            f"this machine has {there} CUDA devices, fewer than --nproc-per-node: start as many processes, or use "
            "--device cpu"
        )
    return torch.device(kind, local)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the other processes of ``torchrun``, if any. If one fails, ``torchrun`` ends the others."""
    if (here := started()).count == 1:
        yield here
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield here
    finally:
        distributed.destroy_process_group()
