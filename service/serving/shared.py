"""The data that the processes at one port share."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.observability.metrics import Metrics
from service.serving import answered, recent
from service.serving.decisions import Decisions
from service.serving.rates import Buckets
from service.serving.registry import Registry


@dataclass(frozen=True, slots=True)
class Remembered:
    """Memory of the last answers, with one place for each worker."""

    answered: memoryview
    fed: memoryview
    """Ids of the inputs with feedback."""
    disagreements: memoryview

    @classmethod
    def of(cls, workers: int) -> Remembered:
        return cls(answered.memory(workers), answered.memory(workers), recent.memory(workers))


@dataclass(frozen=True, slots=True)
class Shared:
    """The data that a worker shares with the others. Without arguments: of a process that is alone."""

    workers: int = 1
    metrics: Metrics = field(default_factory=Metrics)
    registry: Registry | None = None
    """The models loaded before the fork; None if a worker loads its own."""
    replaces: bool = False
    """True if another worker had this socket before. Then this worker loads its models before it answers."""
    loads: bool = True
    """False in a process that answers only while the models load."""
    worker: int = 0
    """This worker's number, from 0."""
    decisions: Decisions | None = None
    """Decisions about models, for all workers."""
    remembered: Remembered | None = None
    """The last answers of all workers; None without a fork: then each worker knows only its own."""
    rates: Buckets | None = None
    """Rate limits of API keys, requests and stream tokens, for all workers together; None without a fork: then each
    worker has its own."""
    accepted: Sequence[socket.socket] = ()
    """Connections accepted for this worker while the models loaded, which have sent nothing yet."""
    turn: Callable[[], None] = lambda: None
    """A sign of life. The event loop calls it more often than once in `LOOK_SECONDS`."""
