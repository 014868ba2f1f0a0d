"""What the processes at one port have in common, as one of them sees it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.observability.metrics import Metrics
from service.serving import answered, recent
from service.serving.agreement import Agreement
from service.serving.registry import Registry


@dataclass(frozen=True, slots=True)
class Remembered:
    """Memory of what was answered, with one place for each worker."""

    answered: memoryview
    fed: memoryview
    """What had feedback."""
    disagreements: memoryview

    @classmethod
    def of(cls, workers: int) -> Remembered:
        return cls(answered.memory(workers), answered.memory(workers), recent.memory(workers))


@dataclass(frozen=True, slots=True)
class Shared:
    """What a worker has in common with the others."""

    workers: int
    metrics: Metrics
    registry: Registry | None = None
    """The models that all were forked with; None where a worker loads its own."""
    replaces: bool = False
    """Another worker had its socket before: it has models first, and then answers what waits there."""
    loads: bool = True
    """False in a process that answers while the models load, and ends before the workers begin."""
    worker: int = 0
    """This worker's number, from 0."""
    agreement: Agreement | None = None
    """What workers decide about models, for all of them."""
    remembered: Remembered | None = None
    """What all workers answered; None where they are not forked: then each knows its own answers alone."""
    accepted: Sequence[socket.socket] = ()
    """Connections that were accepted for this worker while the models loaded, and have sent nothing."""
    turn: Callable[[], None] = lambda: None
    """To be called by the event loop now and then, more often than once in `LOOK_SECONDS`: it turns."""
