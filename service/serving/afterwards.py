"""Work beside an answer: remember it for feedback; once it is sent, log it and run it again by a shadow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import time
from typing import Any

from service.cpus import usable_cpus
from service.observability.payload_log import (
    FEEDBACK,
    LOST,
    PREDICTION,
    Event,
    PayloadLog,
    event,
    path_of,
    read_redact,
)
from service.rollout import position
from service.serving.answered import Answered
from service.serving.exchange import Exchange
from service.serving.feedback import Feedback, Span, Taken
from service.serving.recent import Recent
from service.serving.sampling import Sampler
from service.serving.served import Served
from service.serving.shadowing import Shadowing
from service.serving.shared import Remembered, Shared
from service.settings import Settings

SAMPLING = "payload"
"""Salt of the hash that samples requests by their ids."""


class Afterwards:
    """Is called with every answer, in the event loop, before and after it is sent. Nothing here blocks.

    `busy` returns True while the batcher has work. Raises `StartupError` if the redaction hook is missing.
    """

    def __init__(self, settings: Settings, shared: Shared, busy: Callable[[], bool], sampler: Sampler) -> None:
        worker, metrics = shared.worker, shared.metrics
        remembered = shared.remembered or Remembered.of(worker + 1)
        self._share, self._texts = settings.payload_sample, settings.payload_text
        self._log: PayloadLog | None = None
        if settings.payload_log is not None:
            self._log = PayloadLog(
                path_of(settings.payload_log, worker if shared.workers > 1 else None),
                most_bytes=settings.payload_bytes,
                kept=settings.payload_files,
                redact=read_redact(settings.payload_redact),
            )
        self._metrics = metrics
        self.feedback = Feedback(metrics, Answered(remembered.answered, worker), Answered(remembered.fed, worker))
        # Where a hook redacts the log, a report has no texts: the hook would have to see them first.
        told = self._log is not None and settings.payload_text and not settings.payload_redact
        logged = settings.log_text or told
        recent = Recent(remembered.disagreements, worker)
        spare = usable_cpus() > shared.workers
        self.shadowing = Shadowing(metrics, busy, sampler, recent, spare=spare, texts=logged)

    def start(self) -> None:
        """Begin to write the payload log."""
        if self._log is None:
            return
        board, log = self._metrics.board, self._log
        for why in LOST:
            board.track("payload_lost_total", why, read=partial(log.lost.__getitem__, why))
        for kind, name in ((PREDICTION, "prediction"), (FEEDBACK, "feedback")):
            board.track("payload_events_total", name, read=partial(log.written.__getitem__, kind))
        log.start()

    async def close(self) -> None:
        """Drop the requests that wait for shadows, and give the payload log a short time to finish."""
        await self.shadowing.close()
        if self._log is not None:
            await asyncio.to_thread(self._log.close)

    def follows(self, served: Served | None) -> bool:
        """True if `note` may do something for an answer of a model with these versions."""
        return self._log is not None or (served is not None and served.shadow is not None)

    def note(self, exchange: Exchange, served: Served | None) -> None:
        """Note an answered request. `served` are the current versions of its model."""
        if self._log is not None and position(SAMPLING, exchange.request_id) < self._share:
            canary = served is not None and any(model is exchange.model for model, _ in served.canary)
            characters = sum(len(source.text) for source in exchange.encoded)
            build = partial(prediction_event, exchange, canary=canary, texts=self._texts)
            self._log.offer(PREDICTION, build, characters)
        if served is not None:
            shadow = served.shadow_of(exchange.model, exchange.request_id)
            if shadow is not None:
                self.shadowing.offer(exchange, shadow)

    def take_feedback(
        self, identity: str, request_id: str, number: int, label: str | None, entities: Sequence[Span] | None
    ) -> Taken:
        """Judge, count and log feedback that came with the request id `identity`. Raises the errors of
        `Feedback.take`."""
        taken = self.feedback.take(request_id, number, label, entities)
        if self._log is not None:
            of = {"inferenceservicename": taken.model, "modelversion": taken.version}
            right: Event = (
                {"label": label}
                if entities is None
                else {"entities": [{"start": start, "end": end, "label": kind} for start, end, kind in entities]}
            )
            data = {"request_id": request_id, "input": number, **right, "outcome": taken.outcome}
            extensions = {name: value for name, value in of.items() if value is not None}
            build = partial(event, FEEDBACK, identity, "/feedback", time(), data, **extensions)
            self._log.offer(FEEDBACK, build, 0)
        return taken


def prediction_event(exchange: Exchange, *, canary: bool, texts: bool) -> Event:
    """A request and its answer as one CloudEvent. Without `texts` it holds the lengths of the texts instead."""
    model = exchange.model
    inputs: list[Any] = (
        list(exchange.inputs())
        if texts
        else [{"characters": len(source.text), "tokens": len(source)} for source in exchange.encoded]
    )
    tagger = model.bundle.manifest.head == "tagger"
    predictions: list[Any] = list(exchange.predictions)
    if not texts and tagger:
        predictions = [
            {
                **{name: value for name, value in prediction.items() if name != "tokens"},
                "entities": [{k: v for k, v in each.items() if k != "text"} for each in prediction["entities"]],
            }
            for prediction in predictions
        ]
    answer = {"model": model.name, "version": model.version, "task": model.task, "predictions": predictions}
    data: Event = {
        "request": {"route": exchange.route, "inputs": inputs, "truncate": exchange.truncate, "split": exchange.split},
        "answer": answer,
        "status": 200,
    }
    if texts and tagger:
        # Offsets of the tokens, which carry the labels, and of the sentences, which are read one by one.
        data["spans"] = [source.spans for source in exchange.encoded]
        data["sentences"] = [source.sentences or [(0, len(source))] for source in exchange.encoded]
    return event(
        PREDICTION,
        exchange.request_id,
        f"/models/{model.name}",
        exchange.then,
        data,
        inferenceservicename=model.name,
        modelversion=model.version,
        endpoint="canary" if canary else "default",
    )
