"""What the processes at one port have in common, as one of them sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from service.observability.metrics import Metrics
from service.serving.agreement import Agreement
from service.serving.registry import Registry


@dataclass(frozen=True, slots=True)
class Shared:
    """What a worker has in common with the others."""

    workers: int
    metrics: Metrics
    registry: Registry | None = None
    """The models that all were forked with; None where a worker loads its own."""
    replaces: bool = False
    """Another worker had its socket before: it has models first, and then answers what waits there."""
    greets: Connection | None = None
    """Of the greeter, which says at all sockets that the models are loading: closed once it accepts no more."""
    worker: int = 0
    """This worker's number, from 0."""
    agreement: Agreement | None = None
    """What workers decide about models, for all of them."""
    turn: Callable[[], None] = lambda: None
    """To be called by the event loop now and then, more often than once in `LOOK_SECONDS`: it turns."""
